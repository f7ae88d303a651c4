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
# # Lesson 8: The implicit function theorem
#
# Lesson 7 went back through every step of the adaptation. If the adaptation runs to its *end*, that is not necessary: the end
# is a point where the inner gradient is zero, and this equation alone says how the point moves with $\theta$: no steps, no memory.
#
# **You will**
# - derive $y' = -F_x / F_y$, and see where it fails;
# - do the same for vectors, and find the order in which one solve is enough;
# - learn what the end has forgotten, and how iMAML makes it remember;
# - watch the gradient through the steps tend to the gradient at the end.
#
# **You need** lesson 5 (direct part, part through the adaptation, solving again) and lesson 7 (a vector goes backwards, no
# matrix). Half an hour. The very first run compiles the library's machine.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save
from tinymeta.tasks import quadratics, sinusoids

# %% [markdown]
# ## 1. One equation
#
# The points with $F(x, y) = 0$ form a curve. Follow it from one of its points: as $x$ moves, $y$ must move along. So $y$
# is a function of $x$, though we may have no formula for it. What is its slope? On the curve
#
# $$ F(x, y(x)) = 0 \quad \text{for all } x \text{ nearby}. $$
#
# *Differentiate* both sides by the *chain rule*. What is zero all along has the derivative zero:
#
# $$ F_x + F_y\, y' = 0 . $$
#
# *Move* $F_x$ to the right and *divide* by $F_y$:
#
# $$ \boxed{\; y' = -\frac{F_x}{F_y} \qquad \text{where } F_y \ne 0 \;} \tag{1} $$
#
# We have assumed that $y(x)$ exists and has a derivative. The **theorem** says that we may: if $F$ has continuous derivatives
# and $F_y \ne 0$ at a point of the curve, then near it the curve is the graph of exactly one such function.


# %%
def slope(F, x, y):
    F_x, F_y = tm.grad(F, argnums=(0, 1))(x, y)
    return -F_x / F_y


def solve_again(F, x, y):
    for _ in range(20):  # Newton's method in y, from a y nearby
        y = y - F(x, y) / tm.grad(F, argnums=1)(x, y)
    return y


# %%
curves = {  # F, and y' by hand
    "x² + y² = 25": (lambda x, y: x**2 + y**2 - 25, lambda x, y: -x / y),
    "x²/9 + y²/4 = 1": (lambda x, y: x**2 / 9 + y**2 / 4 - 1, lambda x, y: -4 * x / (9 * y)),
    "y⁵ + y = x": (lambda x, y: y**5 + y - x, lambda x, y: 1 / (5 * y**4 + 1)),
}
points = [[(3.0, 4.0), (-4.0, 3.0), (4.8, -1.4)], [(1.8, 1.6), (-2.4, 1.2), (0.0, -2.0)], [(0.0, 0.0), (2.0, 1.0), (-3.68832, -1.2)]]

# %% [markdown]
# For the third curve nobody has a formula for $y(x)$ in roots. **Check** (1) all the same. The judge moves $x$ by $\pm h$ and
# **solves again** for $y$:

# %%
print(f"{'':>16}{'x':>10}{'y':>6}{'by hand':>16}{'exact, by (1)':>16}{'approximate':>16}{'difference':>12}")
for (name, (F, by_hand)), chosen in zip(curves.items(), points, strict=True):
    for x, y in chosen:
        exact, approximate = slope(F, x, y), (solve_again(F, x + 1e-5, y) - solve_again(F, x - 1e-5, y)) / 2e-5
        print(f"{name:>16}{x:>10}{y:>6}{by_hand(x, y):>16.11f}{exact:>16.11f}{approximate:>16.11f}{exact - approximate:>12.1e}")
        assert abs(exact - by_hand(x, y)) < 1e-14 and abs(exact - approximate) < 1e-8

# %% [markdown]
# **Predict.** We draw the curves with the tangents of the table. At which points of each will (1) fail? How many functions
# $y(x)$ meet there?


# %%
def draw_curve(ax, name, chosen, width, height):
    F, _ = curves[name]
    x, y = np.meshgrid(np.linspace(-width, width, 300), np.linspace(-height, height, 300))
    ax.contour(x, y, F(x, y), [0], colors="C0")
    for x, y in chosen:
        ax.axline((x, y), slope=slope(F, x, y), color="C1", linewidth=1)
        ax.plot(x, y, "C1o")
    ax.set(title=name, xlabel="x", ylabel="y", xlim=(-width, width), ylim=(-height, height), aspect="equal" if width == height else "auto")


# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
for ax, name, chosen, size in zip(axes, curves, points, ((7, 7), (4.2, 4.2), (6, 2)), strict=True):
    draw_curve(ax, name, chosen, *size)
for ax, end in zip(axes[:2], (5, 3), strict=True):
    ax.plot([-end, end], [0, 0], "C3x", markersize=10, label="$F_y = 0$")
    ax.legend(loc="upper right")
save(figure, "08_curves")

# %% [markdown]
# See the tangents touch. At the crosses the tangent would be vertical: two functions meet, and beyond them there is no $y$ at
# all. The third curve has no such point, for $F_y = 5y^4 + 1$ is never 0. In the library the unknown comes first, $g(y, x)$, and
# at a cross you are told:

# %%
g = lambda y, x: curves["x² + y² = 25"][0](x, y)
print("at (3, 4):", tm.implicit.root_jacobian(g, 4.0, 3.0))
try:
    tm.implicit.root_jacobian(g, 0.0, 5.0)
except np.linalg.LinAlgError as error:
    print("at (5, 0):", error)

# %% [markdown]
# ## 2. Many equations
#
# Now $\phi$ has $n$ elements and $\theta$ has $p$. We need as many equations as unknowns: $n$ of them, $g(\phi, \theta) = 0$.
# Near a solution
#
# $$ g(\phi^\star(\theta), \theta) = 0 \quad \text{for all } \theta \text{ nearby}. $$
#
# *Differentiate* by the *chain rule*; $\partial g / \partial\phi$ is $(n, n)$, and the other two are $(n, p)$:
#
# $$ \frac{\partial g}{\partial\phi}\, \frac{d\phi^\star}{d\theta} + \frac{\partial g}{\partial\theta} = 0 . $$
#
# *Move* the second term to the right, and *multiply* by the inverse from the left:
#
# $$ \boxed{\; \frac{d\phi^\star}{d\theta} = -\Big(\frac{\partial g}{\partial\phi}\Big)^{\!-1} \frac{\partial g}{\partial\theta}
#    \qquad \text{where } \frac{\partial g}{\partial\phi} \text{ is regular (invertible)} \;} \tag{2} $$
#
# Try it where a pencil is enough: a circle meets a hyperbola, $\phi_1^2 + \phi_2^2 = \theta_1$ and $\phi_1 \phi_2 = \theta_2$.
# For $\theta = (5, 2)$ they do so at $\phi = (2, 1)$, and (2) is
# $-\begin{pmatrix} 4 & 2 \\ 1 & 2 \end{pmatrix}^{-1} (-I) = \tfrac16 \begin{pmatrix} 2 & -2 \\ -1 & 4 \end{pmatrix}$.
#
# And lesson 5's warning: a condition that is written $g(\phi, \mathcal T) = 0$ has $\partial g / \partial\theta = 0$. Its solution
# never moves with $\theta$.


# %%
def meet(phi, theta):
    return np.stack([phi[0] ** 2 + phi[1] ** 2 - theta[0], phi[0] * phi[1] - theta[1]])


phi, theta = np.array([2.0, 1.0]), np.array([5.0, 2.0])
print("6 dφ/dθ =", (6 * tm.implicit.root_jacobian(meet, phi, theta)).tolist())
print("without θ in g:", np.abs(tm.implicit.root_jacobian(lambda phi, theta: meet(phi, np.array([5.0, 2.0])), phi, theta)).tolist())
assert np.allclose(6 * tm.implicit.root_jacobian(meet, phi, theta), [[2, -2], [-1, 4]])

# %% [markdown]
# ## 3. The end of an adaptation
#
# At a minimum of the inner loss the gradient is zero. So take $g = \nabla_\phi L(\phi, \theta)$. Its derivatives are second
# derivatives of $L$, and we *name* them
#
# $$ \frac{\partial g}{\partial\phi} = \nabla^2_{\phi\phi} L = H, \qquad \frac{\partial g}{\partial\theta} = \nabla^2_{\phi\theta} L = M,
#    \qquad \text{so by (2)} \qquad \frac{d\phi^\star}{d\theta} = -H^{-1} M . \tag{3} $$
#
# *Put* (3) into the chain rule of lesson 5 ($F(\theta) = f(\phi^\star(\theta), \theta)$ again),
# $\frac{dF}{d\theta} = f_\theta + \big(\frac{d\phi}{d\theta}\big)^{\!\top} f_\phi$, and *transpose* the product; $H$ is symmetric:
#
# $$ \frac{dF}{d\theta} = f_\theta - M^\top H^{-1} f_\phi . \tag{4} $$
#
# Where do you put the brackets? In $(M^\top H^{-1}) f_\phi$ there are $p$ systems to solve, one for each column of $M$. In
# $M^\top (H^{-1} f_\phi)$ there is *one*, for a vector $v$. This is the *adjoint order*, lesson 7's "begin where there is a
# vector":
#
# $$ \boxed{\; H v = f_\phi, \qquad \frac{dF}{d\theta} = f_\theta - M^\top v \;} \tag{5} $$
#
# And $M$ need not be formed. $\langle \nabla_\phi L(\phi^\star, \theta), v \rangle$ with a constant $v$ is a number, and its gradient
# by $\theta$ is $M^\top v$: lesson 4's product with a Hessian, for another block.


# %%
def columns_first(problem, phi, theta, task):
    H, M = tm.jacobian(tm.grad(problem.inner), argnums=(0, 1))(phi, theta, task)
    f_phi, f_theta = tm.grad(problem.outer, argnums=(0, 1))(phi, theta, task)
    return f_theta - np.linalg.solve(H, M).T @ f_phi


# %%
def vector_first(problem, phi, theta, task, loss_of_H=None):
    f_phi, f_theta = tm.grad(problem.outer, argnums=(0, 1))(phi, theta, task)
    v = np.linalg.solve(tm.hessian(loss_of_H or problem.inner)(phi, theta, task), f_phi)
    M_product = tm.grad(lambda theta: tm.grad(problem.inner)(phi, theta, task) @ v)(theta)
    return f_theta - M_product


# %% [markdown]
# `tm.implicit.meta_gradient` does the second. It also solves the inner problem, and says where the theorem doesn't hold.
#
# ## 4. Check
#
# Lesson 5's regression with a penalty for each of four weights, $\theta = (\lambda_1, \dots, \lambda_4, b)$, and $n = 10$ points:
#
# $$ L = \tfrac{1}{2n} |X\phi + b\mathbf 1 - y|^2 + \tfrac12 \textstyle\sum_j \lambda_j \phi_j^2, \qquad
#    \phi^\star = A^{-1} X^\top (y - b\mathbf 1), \qquad A = X^\top X + n \operatorname{diag}(\lambda) . $$


# %%
def on_support(phi, theta, task):
    X, y = task["support"]
    return np.mean((X @ phi + theta[4] - y) ** 2) / 2


ridge = tm.Bilevel(
    inner=lambda phi, theta, task: on_support(phi, theta, task) + np.sum(theta[:4] * phi**2) / 2,
    outer=lambda phi, theta, task: on_support(phi, theta, {"support": task["query"]}),
    init=lambda theta, task: np.zeros(4),
)

# %%
rng = np.random.default_rng(8)
X, y = rng.uniform(0, 2, (30, 4)), rng.standard_normal(30)
y = X @ rng.standard_normal(4) + 2 + 0.5 * y
task, theta = {"support": (X[:10], y[:10]), "query": (X[10:], y[10:])}, np.array([0.1, 0.2, 0.3, 0.4, 1.0])


def solve_ridge(theta):
    A, right = X[:10].T @ X[:10] + 10 * np.diag(theta[:4]), X[:10].T @ (y[:10] - theta[4])
    return np.linalg.solve(A, right), A


# %% [markdown]
# Lesson 5 and its exercise 5.2 differentiated the closed form: the columns of the Jacobian are $-n A^{-1} e_j\, \phi_j$ for
# $\lambda_j$, and $-A^{-1} X^\top \mathbf 1$ for $b$. Does (3) give the same? And does (5) agree with solving again? The table's
# last two columns are mistakes: $+M^\top v$ in place of $-M^\top v$, and for $H$ the Hessian of the *data's* part of $L$, without
# the penalty. **Predict** which of the two you would notice sooner.

# %%
phi, A = solve_ridge(theta)
closed = -np.linalg.solve(A, np.column_stack([10 * np.diag(phi), X[:10].sum(axis=0)]))
by_theorem = tm.implicit.root_jacobian(lambda phi, theta: tm.grad(ridge.inner)(phi, theta, task), phi, theta)
print("dφ/dθ by (3) and from the closed form: largest difference", np.max(np.abs(by_theorem - closed)))
assert np.allclose(by_theorem, closed, rtol=1e-12, atol=1e-12)

# %%
F = lambda theta: ridge.outer(solve_ridge(theta)[0], theta, task)
direct, exact = tm.grad(ridge.outer, argnums=1)(phi, theta, task), vector_first(ridge, phi, theta, task)
# The wrong sign is f_theta + M'v, and M'v = direct - exact.
library, no_penalty = tm.implicit.meta_gradient(ridge, theta, task).grad, vector_first(ridge, phi, theta, task, on_support)
print(f"{'':>2}{'exact, by (5)':>17}{'library':>17}{'approximate':>17}{'difference':>12}{'wrong sign':>13}{'without penalty':>17}")
for name, e, *row in zip(("λ₁", "λ₂", "λ₃", "λ₄", "b"), np.eye(5), exact, library, 2 * direct - exact, no_penalty, strict=True):
    approximate = (F(theta + 1e-5 * e) - F(theta - 1e-5 * e)) / 2e-5
    print(f"{name:>2}{row[0]:>17.12f}{row[1]:>17.12f}{approximate:>17.12f}{row[0] - approximate:>12.1e}{row[2]:>13.6f}{row[3]:>17.6f}")
    assert abs(row[0] - row[1]) < 1e-12 and abs(row[0] - approximate) < 1e-9

# %%
print("columns first and vector first differ by", np.max(np.abs(columns_first(ridge, phi, theta, task) - exact)))
assert np.allclose(columns_first(ridge, phi, theta, task), exact, rtol=1e-12, atol=1e-12)
assert np.all(np.sign(no_penalty) == np.sign(exact)) and np.all(np.abs(no_penalty) > 1.5 * np.abs(exact))

# %% [markdown]
# With the wrong sign training walks uphill, and you notice soon. Without the penalty in $H$ all signs are right and all
# sizes wrong: the loss falls, and nobody looks. $H$ belongs to the *whole* inner loss.
#
# ## 5. What the end has forgotten
#
# In MAML $\theta$ is the *start*, and $L(\phi)$ doesn't contain it. Then $M = 0$, and (5) leaves nothing: the minimum doesn't
# depend on where you set out. *iMAML* (Rajeswaran et al. 2019) ties $\phi$ to the start, and minimises
#
# $$ L(\phi) + \tfrac{\lambda}{2} |\phi - \theta|^2 . $$
#
# For $L = \tfrac12 \phi^\top A \phi - b^\top \phi$ the gradient is zero where $A\phi - b + \lambda (\phi - \theta) = 0$.
# *Collect* what multiplies $\phi$; *solve and differentiate*; use the *chain rule*, where the matrix crosses transposed, and is
# symmetric:
#
# $$ (A + \lambda I)\, \phi^\star = b + \lambda\theta, \qquad \frac{d\phi^\star}{d\theta} = \lambda (A + \lambda I)^{-1}, \qquad
#    \frac{dF}{d\theta} = \lambda (A + \lambda I)^{-1} f_\phi . \tag{6} $$
#
# First without the term, on a quadratic. **Predict** what is left of $dF/d\theta$ after 10, 100, 1000 steps.


# %%
quadratic = tm.Bilevel(quadratics.inner, quadratics.outer)
# And, for later, a network that is given ten points of a sine wave.
sine = tm.tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
start, unravel = tm.ravel(tm.nn.initialize_mlp(rng, (1, 8, 1)))


def error(phi, data):
    return tm.nn.mean_squared_error(tm.nn.mlp(unravel(phi), data.x, np.tanh), data.y)


# %%
network = tm.Bilevel(lambda phi, theta, task: error(phi, task.support), lambda phi, theta, task: error(phi, task.query))
bowl, ones = quadratics.draw(rng, 4), np.ones(4)
for K in (1, 10, 100, 1000):
    through = tm.maml.meta_gradient(quadratic, ones, bowl, steps=K, lr=1.0, by="recursion").grad
    print(f"through {K:>4} steps from θ, without the term: |dF/dθ| = {np.linalg.norm(through):.1e}")
at_the_end = vector_first(quadratic, np.linalg.solve(bowl.A, bowl.b), ones, bowl)
print("at the end, by (5):", at_the_end)
assert not np.any(at_the_end)

# %% [markdown]
# **Check** with the term, which `tm.implicit.proximal` adds to any problem. Along a random unit vector $u$: the library, the judge,
# who solves again with the start at $\theta \pm hu$, and (6) for the quadratic.

# %%
cases = {f"quadratic, λ = {x}": (tm.implicit.proximal(quadratic, x), ones, bowl) for x in (0.1, 1.0, 10.0)}
cases["network, λ = 1.0"] = tm.implicit.proximal(network, 1.0), start, sine
results = {name: tm.implicit.meta_gradient(*case) for name, case in cases.items()}


def by_six(x, phi):
    return x * np.linalg.solve(bowl.A + x * np.eye(4), tm.grad(quadratic.outer)(phi, None, bowl))


# %%
def solve_again_along(u, problem, at, given, h=1e-4):
    plus, minus = (problem.outer(tm.implicit.solve_inner(problem, at + s * h * u, given), None, given) for s in (1, -1))
    return (plus - minus) / (2 * h)


# %%
print(f"{'':<19}{'exact, library':>17}{'approximate':>17}{'difference':>12}{'by (6)':>17}")
for (name, case), x in zip(cases.items(), (0.1, 1.0, 10.0, None), strict=True):
    u = rng.standard_normal(case[1].size)
    u = u / np.linalg.norm(u)
    exact_along, again = results[name].grad @ u, solve_again_along(u, *case)
    by_hand = f"{by_six(x, results[name].phi) @ u:>17.12f}" if x else ""
    print(f"{name:<19}{exact_along:>17.12f}{again:>17.12f}{exact_along - again:>12.1e}{by_hand}")
    assert abs(exact_along - again) < 1e-8 and (not x or np.allclose(by_six(x, results[name].phi), results[name].grad, rtol=1e-10))

# %% [markdown]
# ## 6. The steps tend to it
#
# *Differentiate* a step $\phi_{t+1} = \phi_t - \alpha \nabla_\phi L(\phi_t, \theta)$, as in lesson 7, with
# $P_t = d\phi_t / d\theta$, and $H_t$, $M_t$ at $\phi_t$:
#
# $$ P_{t+1} = (I - \alpha H_t)\, P_t - \alpha M_t . $$
#
# Let $P = -H^{-1} M$ be what (3) says. *Subtract* it from both sides, and *add and subtract* $(I - \alpha H_t) P$ on the right:
#
# $$ P_{t+1} - P = (I - \alpha H_t)(P_t - P) \;-\; \alpha\, (H_t P + M_t) . \tag{7} $$
#
# Let the steps converge, $\phi_t \to \phi^\star$. Then $H_t P + M_t \to HP + M = 0$, the last step by (3). And if all eigenvalues
# $h$ of $H$ are positive and $\alpha \le 1 / h_{\max}$, the factor in front shrinks what is there, in the end to
# $r = 1 - \alpha h_{\min}$ of it or less. So the error dies out: the derivative of the steps tends to (3). Learning rate and start
# have dropped out.
#
# How fast? $\phi_t - \phi^\star$ falls like $r^t$, and with it $H_t P + M_t$. So the error that step $s$ adds is of the size
# $r^s$, and the later steps shrink it to $r^t$. There are $t$ of them: together $t\, r^t$.
#
# **Predict** and sketch: on the left, the entries of the ridge regression's gradient for the penalties, through $K$ steps from two starts;
# on the right, the relative distance to (5), on a logarithmic axis, for two learning rates and for the network.


# %%
def through_steps(problem, at, given, K, lr):
    return tm.maml.meta_gradient(problem, at, given, steps=K, lr=lr, by="recursion").grad


# %%
def draw_entries(ax, lr, steps=range(1, 31)):
    for value, style in ((0.0, "-"), (2.0, "--")):
        problem = tm.Bilevel(ridge.inner, ridge.outer, lambda theta, task, value=value: np.full(4, value))
        entries = np.array([through_steps(problem, theta, task, K, lr)[:4] for K in steps])
        for j, name in enumerate("₁₂₃₄"):
            ax.plot(steps, entries[:, j], f"C{j}{style}", label=f"λ{name}" if value == 0 else None)
    ax.hlines(exact[:4], 1, 33, "k", ":", label="the end, by (5)")
    ax.set(title="dF/dλ through K steps, from 0 and (dashed) from 2", xlabel="steps K", ylabel="entry of the gradient")


# %%
def draw_distance(ax, name, color, case, factor):
    end, K = tm.implicit.meta_gradient(*case), np.arange(1, 251, 24)
    h, lr = end.info["eigenvalues"], factor / end.info["eigenvalues"][-1]
    distances = [np.linalg.norm(through_steps(*case, k, lr) - end.grad) / np.linalg.norm(end.grad) for k in K]
    ax.semilogy(K, distances, color + "o-", label=f"{name}, α = {factor} / $h_{{max}}$")
    expected = K * (1 - lr * h[0]) ** K
    ax.semilogy(K, expected * distances[-1] / expected[-1], color + ":")
    ax.set(title="The steps' gradient tends to the end's (dotted: $K r^K$)", xlabel="steps K", ylabel="relative distance")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
draw_entries(left, lr=1 / np.linalg.eigvalsh(A / 10)[-1])
draw_distance(right, "ridge", "C0", (ridge, theta, task), 1)
draw_distance(right, "ridge", "C1", (ridge, theta, task), 0.5)
draw_distance(right, "network with iMAML's term", "C2", cases["network, λ = 1.0"], 1)
left.legend(loc="lower right", ncols=2, fontsize=9)
right.legend()
save(figure, "08_steps_tend_to_the_end")

# %% [markdown]
# See on the left all lines run to the dotted ones, from either start, though from 0 the first steps give $\lambda_1$ and $\lambda_2$
# the wrong sign. On the right the errors fall like $K r^K$ (scaled to the last point). What the steps tell with hundreds of vectors
# in memory, the end tells from one.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_8_1(imaml)`.
#
# **Exercise 8.1: iMAML's proximal term.** For *any* loss $L(\phi)$ with the term $\frac\lambda2 |\phi - \theta|^2$, find $H$ and $M$
# of the whole inner loss, and from (5) both $dF/d\theta$ and $dF/d\lambda$ ($f$ contains neither). Given is
# $B = \nabla^2 L(\phi^\star)$, without the term. Bring the first into the paper's form $(I + B/\lambda)^{-1} f_\phi$. What is it for
# $\lambda \to \infty$, and for $\lambda \to 0$?


# %%
def imaml(B, f_phi, lambda_, theta, phi):
    """dF/d theta and dF/d lambda."""
    raise NotImplementedError("exercise 8.1")


# %%
def check_8_1(imaml):
    both = tm.Bilevel(network.inner, network.outer, init=lambda theta, task: theta["start"])
    for x in (0.5, 1.0, 100.0):
        result = tm.implicit.meta_gradient(tm.implicit.proximal(both, lambda theta: theta["λ"]), {"start": start, "λ": x}, sine)
        B, f_phi = tm.hessian(network.inner)(result.phi, None, sine), tm.grad(network.outer)(result.phi, None, sine)
        found = imaml(B, f_phi, x, start, result.phi)
        print(f"λ = {x:>5}: |dF/dθ| = {np.linalg.norm(found[0]):.9f}, dF/dλ = {found[1]:.9f}, |f_φ| = {np.linalg.norm(f_phi):.9f}")
        assert np.allclose(found[0], result.grad["start"], rtol=1e-8) and np.isclose(found[1], result.grad["λ"], rtol=1e-8)


# %% tags=["solution"]
# The gradient of the whole is grad L + lambda (phi - theta), so H = B + lambda I; M is -lambda I for theta, phi - theta for lambda.
# dF/dtheta = lambda inv(B + lambda I) f_phi = inv(I + B / lambda) f_phi, and dF/dlambda = -(phi - theta)' inv(B + lambda I) f_phi.
# For lambda to infinity phi sticks to theta, and the plain f_phi is left. For lambda to 0 (and a regular B) the limit is 0.
def imaml(B, f_phi, lambda_, theta, phi):
    v = np.linalg.solve(B + lambda_ * np.eye(len(B)), f_phi)
    return lambda_ * v, -(phi - theta) @ v


check_8_1(imaml)

# %% [markdown]
# **Exercise 8.2: which point would you rather not have?** Give each support point a weight,
# $L = \tfrac12 \sum_i s_i (x_i^\top \phi - y_i)^2 + \tfrac\rho2 |\phi|^2$. Find $H$, $M$, and all of $dF/ds$ with one solve. What
# does a positive entry mean?


# %%
def weight_gradient(X, y, s, rho, f_phi, phi):
    """dF/ds, shape (number of points,)."""
    raise NotImplementedError("exercise 8.2")


# %%
def query(phi):
    return np.mean((X[10:] @ phi - y[10:]) ** 2) / 2


# %%
def check_8_2(weight_gradient, rho=0.3):
    s = np.linspace(0.5, 1.5, 10)
    solve = lambda s: np.linalg.solve((X[:10].T * s) @ X[:10] + rho * np.eye(4), X[:10].T @ (s * y[:10]))
    found = weight_gradient(X[:10], y[:10], s, rho, tm.grad(query)(solve(s)), solve(s))
    again = [(query(solve(s + 1e-5 * e)) - query(solve(s - 1e-5 * e))) / 2e-5 for e in np.eye(10)]
    print("dF/ds:", *found.round(4), f"largest difference from solving again: {np.max(np.abs(found - again)):.1e}")
    print(f"query loss {query(solve(s)):.4f}, without point {np.argmax(found)} {query(solve(s * (found < np.max(found)))):.4f}")
    assert np.allclose(found, again, rtol=1e-6, atol=1e-9)


# %% tags=["solution"]
# H = X' S X + rho I, and column i of M is the derivative of the gradient by s_i, x_i (x_i' phi - y_i). So dphi/ds_i is
# inv(H) x_i (y_i - x_i' phi), and dF/ds_i = (y_i - x_i' phi) x_i' v with H v = f_phi. Where it is positive, more weight means a
# larger query loss: one would rather do without that point.
def weight_gradient(X, y, s, rho, f_phi, phi):
    v = np.linalg.solve((X.T * s) @ X + rho * np.eye(len(phi)), f_phi)
    return (y - X @ phi) * (X @ v)


check_8_2(weight_gradient)

# %% [markdown]
# **Exercise 8.3: no minimum at all.** A recurrent layer that has come to rest, $x = \tanh(W x + u)$, minimises nothing, but it
# fulfils a condition. The unknown is now $x$. Find $dx/du$ by (2), with $D = \operatorname{diag}(1 - x^2)$.


# %%
def rest_jacobian(W, x):
    raise NotImplementedError("exercise 8.3")


# %%
def check_8_3(rest_jacobian):
    W, u, x = 0.4 * np.random.default_rng(3).standard_normal((3, 3)), np.array([0.5, -1.0, 0.2]), np.zeros(3)
    for _ in range(300):
        x = np.tanh(W @ x + u)
    library = tm.implicit.root_jacobian(lambda x, u: x - np.tanh(W @ x + u), x, u)
    print(rest_jacobian(W, x), f"\nlargest difference from the library's: {np.max(np.abs(rest_jacobian(W, x) - library)):.1e}")
    assert np.allclose(rest_jacobian(W, x), library, rtol=1e-10)


# %% tags=["solution"]
# g = x - tanh(W x + u). tanh' = 1 - tanh^2, which at the point of rest is 1 - x^2: dg/dx = I - D W and dg/du = -D.
def rest_jacobian(W, x):
    D = np.diag(1 - x**2)
    return np.linalg.solve(np.eye(len(x)) - D @ W, D)


check_8_3(rest_jacobian)

# %% [markdown]
# ## Symbols
#
# The paper is Rajeswaran et al., *Meta-learning with implicit gradients* (2019). Bengio, *Gradient-based optimization of
# hyperparameters* (2000), has (5) for hyperparameters.
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $\theta$ | $\theta$ | `theta`, `start` | (p,) |
# | $\mathcal{A}lg^\star(\theta)$ | $\phi^\star(\theta)$ | `phi` | (n,) |
# | $\hat{\mathcal L}$ | $L$ | `problem.inner` | () |
# | $\mathcal L$ | $f$ | `problem.outer` | () |
# | $\lambda$ | $\lambda$ | `lambda_`, `x` | () |
# | $d\mathcal{A}lg^\star / d\theta$ | $d\phi^\star / d\theta$ | `by_theorem` | (n, p) |
# | $g_i$ | $dF / d\theta = \lambda v$ | `result.grad` | (p,) |
# | | $H$, $M$, $v = H^{-1} f_\phi$ | `H`, `M`, `v` | (n, n), (n, p), (n,) |
#
# **Next:** the one solve that is left: with the matrix, without it, and what it looks like when it fails.
