# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lesson 4: Higher order
#
# MAML differentiates through steps of gradient descent, and a step contains a gradient. Its derivative contains a second
# derivative. So all of meta-learning in `tinymeta` stands on this lesson.
#
# **You will**
# - multiply a Hessian by a vector without ever holding the Hessian;
# - watch a graph grow by its own derivative;
# - measure what the whole Hessian costs beside one product;
# - find out which check sees which mistake.
#
# **You need** lesson 1 (the step of a central difference), lesson 2 (the reverse sweep) and lesson 3 (the pairing
# $\langle \cdot, \cdot \rangle$, and how a factor crosses it). Half an hour.

# %%
import timeit

import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.autodiff import view
from tinymeta.plots import save

# %% [markdown]
# ## 1. One product
#
# Let $g(x) = \nabla f(x)$ be the gradient of a scalar function of $n$ numbers, and let $H$ be the Hessian, $H_{ij} = \partial g_i /
# \partial x_j$. If $x$ moves by $dx$, then by the chain rule
#
# $$ dg_i = \sum_j H_{ij}\, dx_j, \qquad \text{that is,} \qquad dg = H\, dx . $$
#
# Now make a scalar of the gradient: choose a vector $v$, hold it constant, and let $s(x) = \langle g(x), v \rangle$. Its change is
#
# $$ \begin{aligned}
# ds &= \langle dg, v \rangle && v \text{ is constant} \\
#    &= \langle H\, dx, v \rangle && \text{put in } dg = H\,dx \\
#    &= \langle dx, H^\top v \rangle && \text{a factor crosses transposed} \\
#    &= \langle dx, H v \rangle && H \text{ is symmetric: } \partial^2 f / \partial x_i \partial x_j \text{ in either order.}
# \end{aligned} $$
#
# But $ds = \langle dx, \nabla s \rangle$ for every $dx$: this is what a gradient is. So
#
# $$ \boxed{\; H v = \nabla \langle g(x), v \rangle \;} $$
#
# Two gradients, one after the other, and $H$ is nowhere to be seen. The code is the formula. `tm.hvp` does the same in one
# call, and `tm.hessian` makes the whole matrix, to compare with.


# %%
rng = np.random.default_rng(4)
A, (x, v) = rng.standard_normal((6, 4)), rng.standard_normal((2, 4))


def f(x):
    return np.sum(np.tanh(A @ x) ** 2)


# %%
def hessian_product(f, x, v):
    return tm.grad(lambda x: np.sum(tm.grad(f)(x) * v))(x)


H = tm.hessian(f)(x)
print("two gradients    ", hessian_product(f, x, v))
print("tm.hvp           ", tm.hvp(f, x, v))
print("the whole H, @ v ", H @ v)

# %% [markdown]
# There is a fourth way, *forwards*. Where `tm.vjp` (lesson 3) pulls a cotangent of the result back to the inputs,
# `tm.jvp(function, inputs, changes)` pushes a change of the inputs on to the result: it returns the value and the Jacobian
# times the change. The inputs and their changes are tuples. The Jacobian of $g$ is $H$:

# %%
value, change = tm.jvp(tm.grad(f), (x,), (v,))
print("change of g by v ", change)

# %% [markdown]
# ## 2. A graph that grows
#
# How can a gradient be differentiated again? Rules are written in NumPy, like any model. The rule of $y = \tanh x$ is
# `y_bar * (1 - y**2)`. If its arguments are Tensors, then this line makes nodes: a square, a subtraction, a
# multiplication. So a sweep *lengthens the graph* by the computation of the gradient, and what comes out is a Tensor like any
# other. Sweep again, and the graph gets longer again. There is no second mechanism.
#
# **Predict:** by the rule above, $y'$ hangs on $x$ through $\tanh$ and three more nodes. Write down $y''$ by hand. How many
# nodes will the second sweep add? Then draw it.

# %%
x0 = tm.tensor(0.5)
y = np.tanh(x0)
[dy] = tm.gradients(y, [x0])
[ddy] = tm.gradients(dy, [x0])
print("nodes made by the first sweep:", dy.index - y.index, "  by the second:", ddy.index - dy.index)
ax = view.draw([y, dy, ddy], names={"x": x0, "y": y, "y'": dy, "y''": ddy})
ax.set_title("tanh, its derivative, and the derivative of that: one graph")
save(ax.figure, "04_graph")

# %% [markdown]
# Read it from the top (grey boxes are constants). On the left hangs the first sweep: $y' = 1 \cdot (1 - y^2)$. The second
# sweep runs that part backward. The subtraction hands $-1$ on to the square. The rule of the square multiplies that by $2y$,
# which makes two nodes, and $-2y$ is the cotangent of $y$. Now it is the turn of $\tanh$, and its rule makes three nodes for
# a second time, on the right, with $-2y$ instead of $1$. Hence $y'' = -2y\,(1 - y^2)$, which is what your hand found.
#
# Each sweep visits a node once and adds a few nodes for it. For $x \sin x$ in lesson 2 that came to little. But $\tanh$ feeds on
# its own result: $y$ comes back in every derivative, each time with nodes of its own. Then "a few" is a factor, and the graph
# grows exponentially with the order. Count the nodes that each derivative hangs on. (Not every node of the picture counts:
# $y''$ doesn't need $y'$.)


# %%
def nodes(*outputs):
    """The nodes that some outputs were computed from, the outputs included."""
    found, waiting = set(), list(outputs)
    for node in waiting:  # the list grows while we walk along it
        if isinstance(node, tm.Tensor) and node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return found


# %%
derivative = np.tanh(x0)
for order in range(7):
    print(f"order {order}: value {derivative.value:>12.6f}, {len(nodes(derivative)):>4} nodes")
    [derivative] = tm.gradients(derivative, [x0])

# %% [markdown]
# Two or three orders are cheap; ten would not be, by this road. Meta-learning needs two, sometimes three.
#
# A graph is only kept if somebody can ask for more. `tm.grad` returns a plain array when nothing outside of it is being
# differentiated, and then its rules run on plain arrays and make no nodes. Inside another `tm.grad` the same call
# returns a Tensor:


# %%
def slope(x):
    g = tm.grad(f)(x)
    print(f"x is {type(x).__name__:<8} its gradient is {type(g).__name__}")
    return np.sum(g * v)


value, product = slope(x), tm.grad(slope)(x)

# %% [markdown]
# ## 3. What it costs
#
# Let a rule cost at most $c$ times its forward operation (for a matrix product, $c = 2$: one product for each factor). A sweep
# applies each rule once, so a gradient costs at most $1 + c$ times $f$. And $Hv$ is again a gradient, that of
# $\langle g, v \rangle$, so it costs about $1 + c$ times the gradient. The dimension $n$ is in neither factor.
#
# The whole Hessian has $n$ columns. Column $j$ is $H e_j$, with the unit vector $e_j$: $n$ products, and room for $n^2$ numbers.
# (`tm.hessian` shares the forward pass and the first sweep among them; the $n$ second sweeps remain.)
#
# Let us measure both, on a function with an $n \times n$ matrix in it: the seconds, which tremble (the best of several rounds
# trembles least), and the nodes of the graph, which don't.


# %%
def layer(n):
    A, x, v = rng.standard_normal((n, n)) / np.sqrt(n), *rng.standard_normal((2, n))
    return lambda x: np.sum(np.tanh(A @ x) ** 2), x, v


def seconds_in_dimension(n):
    f, x, v = layer(n)
    calls = lambda: tm.grad(f)(x), lambda: tm.hvp(f, x, v), lambda: tm.hessian(f)(x)
    rounds = [[min(timeit.repeat(call, number=1, repeat=5)) for call in calls] for _ in range(4)]
    return np.min(rounds, axis=0)


# %%
def nodes_in_dimension(n):
    f, x, v = layer(n)
    x = tm.tensor(x)
    [g] = tm.gradients(f(x), [x])
    [product] = tm.gradients(np.sum(g * v), [x])
    rows = [tm.gradients(g[i], [x])[0] for i in range(n)]
    return [len(nodes(g)), len(nodes(product)), len(nodes(*rows))]


# %% [markdown]
# **Predict:** draw the cost of $Hv$ and of $H$ against $n$, both divided by the cost of one gradient, on logarithmic axes.
# What is the slope of each line?

# %%
sizes = 2 ** np.arange(2, 9)
costs_in = {"seconds": np.array([seconds_in_dimension(n) for n in sizes]), "nodes": np.array([nodes_in_dimension(n) for n in sizes])}
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
for ax, (unit, costs) in zip(axes, costs_in.items(), strict=True):
    ax.loglog(sizes, costs / costs[:, :1], "o-", label=["gradient", "Hv", "H"])
    ax.loglog(sizes, sizes, "k:", label="slope 1")
    ax.set(title=f"Measured in {unit}", xlabel="dimension n", ylabel="cost in gradients")
    ax.legend()

# %%
save(figure, "04_cost")
print("   n   seconds of: gradient        Hv         H   nodes of: gradient   Hv      H")
for n, times, counts in zip(sizes, *costs_in.values(), strict=True):
    print(f"{n:>4} {times[0]:>20.6f} {times[1]:>9.6f} {times[2]:>9.6f} {counts[0]:>20} {counts[1]:>4} {counts[2]:>6}")
print(f"in dimension {n}, Hv takes the time of {times[1] / times[0]:.1f} gradients, and H of {times[2] / times[0]:.0f}")
print(f"the Hessian of a million weights would take {8 * 1e6**2 / 1e12:.0f} terabytes")

# %% [markdown]
# See the two slopes: $Hv$ stays flat at a few gradients, while $H$ runs along the dotted line (in nodes closely; in seconds as
# closely as the machine's caches and its other work allow). Double the dimension, and each
# product still costs a few gradients, but the matrix needs twice as many products. A network with a million weights has no
# Hessian that you could hold; its Hessian products are all yours.
#
# ## 4. Check
#
# **Differences of gradients.** From $dg = H\,dx$ with $dx = h v$: central differences of $g$ along $v$ must give $Hv$. The
# step is $h = \varepsilon^{1/3}$, with the gap $\varepsilon$ of lesson 1. The factor $(3S/M)^{1/3}$ that stands before it there
# is left out: it differs from function to function, the cube root brings it near to 1, and the bottom of the V is flat.
#
# **Symmetry.** $H_{ij}$ and $H_{ji}$ come from different sweeps, and no law of the engine makes them equal; only calculus does.
# This check needs no step $h$, so it has no truncation error. Nor does it need $H$: for any $u$ and $v$,
# $\langle u, Hv \rangle = \langle Hu, v \rangle$.


# %%
step = np.cbrt(np.finfo(float).eps)


def along(function, x, v, h=step):
    """The derivative of a function along v, by central differences."""
    return (function(x + h * v) - function(x - h * v)) / (2 * h)


# %%
for rule, measured in zip(tm.hvp(f, x, v), along(tm.grad(f), x, v), strict=True):
    print(f"by the rules {rule:>19.15f}   measured {measured:>19.15f}   difference {rule - measured:>8.1e}")
u = rng.standard_normal(4)
print(f"<u, Hv> = {u @ tm.hvp(f, x, v):.15f}, <Hu, v> = {v @ tm.hvp(f, x, u):.15f}")
print(f"largest |H_ij - H_ji| = {np.max(np.abs(H - H.T)):.1e}")

# %% [markdown]
# How much can each of them see? Put three wrong rules for the sine into $s(x) = \langle w, \sin(Bx) \rangle$: one that is 1 %
# too large; one that holds its cosine constant, by `tm.stop_gradient`; and one that mixes in a little of the neighbouring input.
# Ask three questions. Does the gradient agree with differences of $s$? Does $Hv$ agree with differences of the gradient? Is $H$
# symmetric?
#
# **Predict** the nine answers.

# %%
rules = {
    "right": lambda y_bar, y, x: (y_bar * np.cos(x),),
    "1 % too large": lambda y_bar, y, x: (1.01 * y_bar * np.cos(x),),
    "cosine held constant": lambda y_bar, y, x: (y_bar * tm.stop_gradient(np.cos(x)),),
    "a neighbour mixed in": lambda y_bar, y, x: (y_bar * (np.cos(x) + 0.01 * np.roll(x, 1)),),
}
B, w = rng.standard_normal((4, 4)), rng.standard_normal(4)


# %%
def scalar(rule):
    return lambda x: np.sum(w * tm.custom_vjp(np.sin, rule)(B @ x))


print(f"{'errors of':<22}  gradient        Hv  symmetry")
for name, rule in rules.items():
    s, matrix = scalar(rule), tm.hessian(scalar(rule))(x)
    errors = tm.grad(s)(x) @ v - along(s, x, v), matrix @ v - along(tm.grad(s), x, v), matrix - matrix.T
    print(f"{name:<22}", *(f"{np.max(np.abs(error)):>9.1e}" for error in errors))

# %% [markdown]
# No question finds all three. Differences of gradients trust the gradient: one that is 1 % too large everywhere has a Hessian that
# is 1 % too large, and the two agree. Symmetry asks only whether the gradient is the gradient of *something*. So check the
# chain link by link: $f$ against $g$, then $g$ against $H$. `tm.check_grad(f, x, order=2)` does both, with random cotangents.
#
# ## On your own
#
# Each stub raises until you write it. Write your answer in the stub's cell, then call the check with it, for instance
# `check_4_1(gauss_newton_product)`. It compares with differences, by `along`.
#
# **Exercise 4.1: Gauss-Newton.** Let $f(x) = \tfrac12 |r(x)|^2$ with residuals $r$ and Jacobian $J = \partial r / \partial x$. Show that
# $\nabla f = J^\top r$ and $H = J^\top J + \sum_i r_i H_i$, with the Hessian $H_i$ of each $r_i$. The first term alone is the
# Gauss-Newton matrix: it has no negative eigenvalue, and near a perfect fit it is all that is left. Write its product with $v$
# with one `tm.jvp` and one `tm.vjp`, and no matrix.


# %%
def residuals(x):
    return np.tanh(A @ x) - 0.5


def gauss_newton_product(r, x, v):
    """J' J v, a vector like x, where J is the Jacobian of the function r at x."""
    raise NotImplementedError("exercise 4.1")


# %%
def check_4_1(gauss_newton_product):
    J = np.stack([along(residuals, x, e) for e in np.eye(4)], axis=1)
    found, measured = gauss_newton_product(residuals, x, v), J.T @ (J @ v)
    print("Gauss-Newton product", found, "largest difference", np.max(np.abs(found - measured)))
    assert np.shape(found) == np.shape(x), "a vector like x, please: a pullback returns a tuple"
    assert np.max(np.abs(found - measured)) < 1e-8


# %% tags=["solution"]
# df = <r, dr> = <r, J dx> = <J' r, dx>, so g = J' r. Then dg = J' dr + dJ' r = J' J dx + sum_i r_i d(grad r_i).
def gauss_newton_product(r, x, v):
    _, pullback = tm.vjp(r, x)
    _, change = tm.jvp(r, (x,), (v,))
    return pullback(change)[0]


check_4_1(gauss_newton_product)

# %% [markdown]
# **Exercise 4.2: the best step.** Along the gradient,
# $f(x - \alpha g) \approx f(x) - \alpha \langle g, g \rangle + \tfrac12 \alpha^2 \langle g, Hg \rangle$. Find the step $\alpha$
# with the smallest right-hand side, where the curvature $\langle g, Hg \rangle$ is positive, and compute it with one Hessian product.
# Careful: here $v = g$ depends on $x$. What would $\nabla \langle g(x), g(x) \rangle$ be? (The check takes the point $x / 20$,
# near the minimum at 0, where the curvature is positive. At $x$ itself it isn't. What would your formula do there?)


# %%
def best_step(f, x):
    """The step along the gradient at x that minimises the parabola."""
    raise NotImplementedError("exercise 4.2")


# %%
def check_4_2(best_step):
    near = x / 20
    g, alpha = tm.grad(f)(near), best_step(f, near)
    curvature = g @ along(tm.grad(f), near, g)
    print(f"curvature {curvature:.2f}, so alpha should be {g @ g / curvature:.6f}; it is {alpha:.6f}")
    print(f"f goes from {f(near):.4f} to {f(near - alpha * g):.4f}")
    assert abs(alpha * curvature / (g @ g) - 1) < 1e-8
    assert f(near - alpha * g) < f(near)


# %% tags=["solution"]
# The derivative of the right-hand side is zero at alpha = <g, g> / <g, Hg>. With g not held constant one gets 2 Hg.
def best_step(f, x):
    g = tm.grad(f)(x)
    return g @ g / (g @ tm.hvp(f, x, g))


check_4_2(best_step)

# %% tags=["solution"]
# At x the parabola opens downwards: its one flat point is its top, and the formula, with alpha < 0, climbs towards it.
g, alpha = tm.grad(f)(x), best_step(f, x)
print(f"curvature {g @ tm.hvp(f, x, g):.2f}, alpha {alpha:.4f}: f goes from {f(x):.4f} to {f(x - alpha * g):.4f}")

# %% [markdown]
# **Exercise 4.3: one order more.** The third derivatives
# $T_{ijk} = \partial^3 f / \partial x_i\, \partial x_j\, \partial x_k$ form an array with $n^3$ elements. Compute the vector
# $t_i = \sum_{jk} T_{ijk} v_j v_k$ for the price of a few gradients: it is the gradient of a scalar that you know how to make.


# %%
def third_derivative(f, x, v):
    """The vector of the sums over j and k of T_ijk v_j v_k, at x."""
    raise NotImplementedError("exercise 4.3")


# %%
def check_4_3(third_derivative):
    found, measured = third_derivative(f, x, v), along(lambda x: tm.hvp(f, x, v), x, v)
    print("third derivative", found, "largest difference", np.max(np.abs(found - measured)))
    assert np.max(np.abs(found - measured)) < 1e-7


# %% tags=["solution"]
# <v, Hv> = sum_jk H_jk v_j v_k, and its derivative by x_i is t_i. As T is symmetric, t is also the change of Hv along v.
def third_derivative(f, x, v):
    return tm.grad(lambda x: np.sum(tm.hvp(f, x, v) * v))(x)


check_4_3(third_derivative)

# %% [markdown]
# ## Symbols
#
# The papers are Pearlmutter, *Fast exact multiplication by the Hessian* (1994), and for 4.1 Schraudolph, *Fast curvature
# matrix-vector products* (2002).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $w$ | $x$ | `x` | (n,) |
# | $E(w)$ | $f(x)$ | `f(x)` | () |
# | $\nabla_w E$ | $g$ | `tm.grad(f)(x)` | (n,) |
# | $v$ | $v$ | `v` | (n,) |
# | $H$ | $H$ | `H` | (n, n) |
# | $\mathcal R_v \{ \nabla_w E \} = Hv$ | $\nabla \langle g, v \rangle$ | `tm.hvp(f, x, v)` | (n,) |
# | $J$ | $J$ | `J` | (m, n) |
# | | $T$, $t$ | `third_derivative(f, x, v)` | (n, n, n), (n,) |
#
# **Next:** you now have all that MAML needs. We put one optimisation inside another, and ask for its derivative.
