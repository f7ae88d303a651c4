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
# # Lesson 5: The two-level problem
#
# Learning to learn is one optimisation inside another. The inner one adapts a model to a task, the outer one improves the way
# in which this is done. The outer one wants a gradient, and that gradient has to pass through the inner one. Here we meet it
# on a problem whose inner level we can solve with a pencil, so that nothing stays hidden.
#
# **You will**
# - name the parts of a two-level problem, and write one down as a `tm.Bilevel`;
# - derive its meta-gradient, one direct part and one through the adaptation, and check it by solving again;
# - see which inner optimisations have a derivative, and which don't;
# - read three common statements about meta-learning with care.
#
# **You need** lesson 3 (the pairing $\langle \cdot, \cdot \rangle$, and how a factor crosses it) and least squares. Half an
# hour.

# %%
import zlib

import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save

# %% [markdown]
# ## 1. Two levels
#
# A *task* $\mathcal T$ comes in two parts: the *support set*, which is given, and the *query set*, which is asked. Our tasks
# are small regressions with three features: five noisy points are given, twenty are asked. All tasks share an offset, and
# each has weights of its own:


# %%
def draw_task(rng, points):
    w, X = rng.standard_normal(3), rng.uniform(0, 2, (points, 3))
    return X, X @ w + 2 + 0.5 * rng.standard_normal(points)


def split(X, y):
    return {"support": (X[:5], y[:5]), "query": (X[5:], y[5:])}


# %% [markdown]
# The **inner** level adapts parameters $\phi$, here the three weights, to the support set. The **outer** level judges the
# result on the query set. It owns the *meta-parameters* $\theta$, which say how to adapt. Ours are two numbers: how much the
# weights are held back, $\lambda$, and the offset $b$ that all tasks share: $\theta = (\lambda, b)$. With the $n$ support
# points in the rows of $X$, the $m$ query points in the rows of $X_q$, and a vector $\mathbf 1$ of ones, the two losses are
#
# $$ L(\phi, \theta) = \tfrac{1}{2n} |X\phi + b\mathbf 1 - y|^2 + \tfrac{\lambda}{2} |\phi|^2, \qquad
#    f(\phi, \theta) = \tfrac{1}{2m} |X_q\phi + b\mathbf 1 - y_q|^2 . $$
#
# These two functions of `(phi, theta, task)` are what a `tm.Bilevel` holds.


# %%
def squared_error(phi, b, X, y):
    return np.mean((X @ phi + b - y) ** 2) / 2


problem = tm.Bilevel(
    inner=lambda phi, theta, task: squared_error(phi, theta[1], *task["support"]) + theta[0] / 2 * np.sum(phi**2),
    outer=lambda phi, theta, task: squared_error(phi, theta[1], *task["query"]),
)

# %% [markdown]
# Adapting makes a function $\phi(\theta)$ of the inner level, and the outer level minimises
#
# $$ F(\theta) = f(\phi(\theta), \theta). \tag{1} $$
#
# ## 2. The chain rule for two levels
#
# In (1), $\theta$ stands in two places. Let it move by $d\theta$. To first order $f$ changes by one pairing for each
# argument, with the *partial* derivatives $f_\theta$ and $f_\phi$, and $\phi$ itself follows by its Jacobian:
#
# $$ \begin{aligned}
# dF &= \langle f_\theta, d\theta \rangle + \langle f_\phi, d\phi \rangle && \text{chain rule} \\
#    &= \langle f_\theta, d\theta \rangle + \big\langle f_\phi, \tfrac{d\phi}{d\theta}\, d\theta \big\rangle && \text{Jacobian} \\
#    &= \big\langle f_\theta + \big(\tfrac{d\phi}{d\theta}\big)^{\!\top} f_\phi,\; d\theta \big\rangle && \text{crosses transposed.}
# \end{aligned} $$
#
# This holds for every $d\theta$, so
#
# $$ \boxed{\; \frac{dF}{d\theta} = f_\theta + \Big(\frac{d\phi}{d\theta}\Big)^{\!\top} f_\phi \;} \tag{2} $$
#
# a *direct* part, and one *through the adaptation*. All methods of meta-learning agree on (2). They differ in what they do
# about $d\phi / d\theta$.
#
# ## 3. An inner level with a closed form
#
# The inner minimum is where the inner gradient vanishes. *Differentiate* $L$ with respect to $\phi$ and *multiply* by $n$:
#
# $$ X^\top (X\phi + b\mathbf 1 - y) + n\lambda\phi = 0 . $$
#
# *Collect* what multiplies $\phi$, and *move* the rest to the right:
#
# $$ A\phi = X^\top (y - b\mathbf 1), \qquad A = X^\top X + n\lambda I . \tag{3} $$
#
# For $\lambda > 0$ the matrix is positive definite, so there is exactly one solution, and it is a minimum. *Differentiate*
# (3) by the *product rule*, with respect to $\lambda$, where $dA / d\lambda = nI$ and the right side is constant, and then with
# respect to $b$, where $A$ is constant:
#
# $$ n\phi + A\,\frac{d\phi}{d\lambda} = 0, \qquad A\,\frac{d\phi}{db} = -X^\top \mathbf 1 . $$
#
# *Solve* each for its derivative. The two columns of the Jacobian, with one matrix:
#
# $$ \frac{d\phi}{d\theta} = -A^{-1} \big[\, n\phi, \; X^\top \mathbf 1 \,\big] . \tag{4} $$


# %%
def system(theta, task):
    (lambda_, b), (X, y) = theta, task["support"]
    return X.T @ X + len(X) * lambda_ * np.eye(3), X.T @ (y - b)


def adapt(theta, task):
    A, right = system(theta, task)
    return np.linalg.solve(A, right)


# %%
def jacobian_by_hand(theta, task):
    X, _ = task["support"]
    columns = np.stack([len(X) * adapt(theta, task), np.sum(X, axis=0)], axis=1)
    return -np.linalg.solve(system(theta, task)[0], columns)


def meta_gradient(theta, task):
    phi = adapt(theta, task)
    f_phi, f_theta = tm.grad(problem.outer, argnums=(0, 1))(phi, theta, task)
    return f_theta + jacobian_by_hand(theta, task).T @ f_phi


# %% [markdown]
# **Predict.** We are about to draw $F$ against $\lambda$ (with $b = 1$) and against $b$ (with $\lambda = 0.3$), for one task,
# with tangents whose slope is (2), and dashed ones whose slope is the direct part alone. What is the direct part for
# $\lambda$? Which tangents will touch? Where $b$ is too small, the weights make up for some of it: is the full slope steeper
# than the direct one, or flatter?

# %%
rng = np.random.default_rng(10)
task, theta = split(*draw_task(rng, 25)), np.array([0.3, 1.0])


def F(theta, task):
    return problem.outer(adapt(theta, task), theta, task)


# %%
def at(i, value):
    """theta with its entry i replaced."""
    return np.array([value if j == i else theta[j] for j in range(2)])


def tangent(ax, i, x, half):
    phi, value = adapt(at(i, x), task), F(at(i, x), task)
    direct = tm.grad(problem.outer, argnums=1)(phi, at(i, x), task)
    for slope, style in ((meta_gradient(at(i, x), task)[i], "C1-"), (direct[i], "C3--")):
        ax.plot([x - half, x + half], [value - half * slope, value + half * slope], style)


# %%
def draw(ax, i, name, grid, points):
    ax.plot(grid, [F(at(i, x), task) for x in grid], "C0")
    for x in points:
        tangent(ax, i, x, half=np.ptp(grid) / 12)
    ax.set(title=f"The outer loss against {name}", xlabel=name, ylabel="F")
    ax.legend(["F, adapted anew at each point", "slope (2)", "direct part alone"])


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
draw(left, 0, "λ", np.linspace(0.02, 2, 200), points=(0.15, 0.35, 0.75, 1.5))
draw(right, 1, "b", np.linspace(-0.5, 3.5, 200), points=(0, 1, 2, 3))
save(figure, "05_tangents")

# %% [markdown]
# See the orange lines lie along the curve, and the dashed ones cut it, except where both are nearly level. $f$ doesn't mention
# $\lambda$, so its direct part says "no effect" everywhere; all that we know about $\lambda$ comes through the adaptation. For
# $b$ the direct part is too steep: our features are positive, so where $b$ is too small the weights grow and make up for some
# of it.
#
# ## 4. Check
#
# The judge of a meta-gradient takes $\theta \pm h$, **solves the inner problem again** at both, and compares the two outer
# losses. Below it judges (2) with the matrix (4), and `tm.grad(F)`, for which `np.linalg.solve` is an operation like any
# other. The first column is what one gets for holding $\phi$ constant, by accident or because it is easier:

# %%
direct = tm.grad(problem.outer, argnums=1)(adapt(theta, task), theta, task)
print(f"{'':>2} {'direct alone':>15} {'exact, by (2)':>15} {'tm.grad(F)':>15} {'approximate':>15} {'difference':>11}")
for name, e, row in zip("λb", np.eye(2), zip(direct, meta_gradient(theta, task), tm.grad(F)(theta, task), strict=True), strict=True):
    approximate = (F(theta + 1e-5 * e, task) - F(theta - 1e-5 * e, task)) / 2e-5
    print(f"{name:>2}", *(f"{number:>15.11f}" for number in (*row, approximate)), f"{row[1] - approximate:>11.1e}")
    assert abs(row[1] - row[2]) < 1e-12 and abs(row[1] - approximate) < 1e-9

# %% [markdown]
# ## 5. Which inner optimisations are differentiable?
#
# The first statement: the inner optimisation has no derivative, since it is an algorithm such as gradient descent. That isn't
# so. A step $\phi - \alpha \nabla L(\phi, \theta)$ is a formula in $\phi$ and $\theta$, and if $L$ has two continuous
# derivatives, the formula has one. Several steps are the formula put into itself, and the chain rule does the rest. (What is
# hard is the *cost*: memory grows with the steps, and each brings a Hessian. Lesson 7.) But there are adaptations without a
# derivative, or with one that misleads.
#
# **Predict.** One inner loss, $L = \tfrac12 (\phi - \theta)^2 + \tfrac14 \phi^4$ with $\phi_0 = 0$, adapted in four ways: by
# three steps of gradient descent; by steps until $|L'| < 0.1$; by the best of nine candidates from $-1$ to 1, an *arg min*; with an added
# $\tfrac12 |\phi|$, to the minimum. Sketch $\phi$ against $\theta$ for each.


# %%
def descend(theta, steps=50, tolerance=0.0, phi=0.0):
    for _ in range(steps):
        slope = phi - theta + phi**3
        if abs(slope) < tolerance:
            break
        phi = phi - 0.3 * slope
    return phi


# %%
# Added to L, |phi| / 2 adds 1/2 to its slope where phi > 0 and -1/2 where phi < 0. So the minimum lies where it would lie for a
# theta nearer to 0 by 1/2; and it lies in the kink, at 0, while |theta| is less than that.
candidates = np.arange(9) / 4 - 1
ways = {
    "three steps": lambda theta: descend(theta, 3),
    "until the slope is below 0.1": lambda theta: descend(theta, tolerance=0.1),
    "the best of nine candidates": lambda theta: np.argmin((candidates - theta) ** 2 / 2 + candidates**4 / 4) / 4 - 1,
    "with a kink in the loss": lambda theta: descend(np.sign(theta) * np.maximum(abs(theta) - 0.5, 0)),
}

# %%
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharey=True, layout="constrained")
for ax, (name, way) in zip(axes, ways.items(), strict=True):
    grid = np.linspace(-1.5, 1.5, 601)
    phi = np.array([way(t) for t in grid])
    phi[1:][np.abs(np.diff(phi)) > 0.02] = np.nan  # leave a gap where it jumps
    ax.plot(grid, phi)
    ax.set(title=name, xlabel="θ", ylabel="adapted φ")
save(figure, "05_four_ways")

# %% [markdown]
# See that only the first is smooth. The second is smooth in pieces: while $\theta$ moves, the number of steps changes, and
# $\phi$ jumps. The third is flat and jumps; so does whatever is drawn at random with a probability that depends on $\theta$.
# The fourth has two corners. An engine differentiates the piece that it stands on. It can't see a jump, and on the steps of
# the third it says, correctly and uselessly, zero. At $\theta = 0.9$:

# %%
print(f"{'':<29} {'tm.grad':>8} {'differences':>12} {'over a width of 1':>18}")
for name, way in ways.items():
    wide, narrow = ((way(0.9 + h) - way(0.9 - h)) / (2 * h) for h in (0.5, 1e-5))
    slope = tm.grad(way)(0.9)
    print(f"{name:<29} {slope:>8.4f} {narrow:>12.4f} {wide:>18.4f}")

# %% [markdown]
# ## 6. A condition must contain $\theta$
#
# The second statement: the adapted parameters solve an equation $g(\phi, \mathcal T) = 0$. Differentiated, and solved for the
# Jacobian, it gives (the implicit function theorem, lesson 8)
#
# $$ \frac{d\phi}{d\theta} = -\Big(\frac{\partial g}{\partial\phi}\Big)^{\!-1} \frac{\partial g}{\partial\theta} . \tag{5} $$
#
# The formula is right, and we have used it: (4) is (5) for $g = n \nabla_\phi L$ (the $n$ cancels). But a $g$ without $\theta$ has
# $\partial g / \partial\theta = 0$, and so $d\phi/d\theta = 0$. Write $g(\phi, \theta, \mathcal T)$. The case is real: in
# MAML $\theta$ is only where the steps *start*, and a unique minimum doesn't know from where it was reached. What depends on
# the start is the result of *few* steps. (Without `init=`, a `tm.Bilevel` starts them at its meta-parameter.)

# %%
condition = tm.grad(problem.inner)
J_phi, J_theta = tm.jacobian(condition, argnums=(0, 1))(adapt(theta, task), theta, task)
difference = -np.linalg.solve(J_phi, J_theta) - jacobian_by_hand(theta, task)
print(f"theta in g: (5) and (4) differ by {np.max(np.abs(difference)):.1e}")


# %%
def from_start(loss):
    return lambda phi, start, task: loss(phi, theta, task)  # theta stays; the meta-parameter is the start


only_start = tm.Bilevel(from_start(problem.inner), from_start(problem.outer))
for steps in (1, 10, 100, 1000):
    by_start = tm.jacobian(lambda start, k=steps: tm.maml.adapt(only_start, start, task, steps=k, lr=0.1))(np.zeros(3))
    print(f"theta as the start, {steps:>4} steps: the largest |d phi / d theta| is {np.max(np.abs(by_start)):.1e}")

# %% [markdown]
# ## 7. Sum or mean
#
# There are many tasks, and the outer level minimises their mean, $\mathbb E_{\mathcal T} F(\theta; \mathcal T)$. The third
# statement promises the mean of the query losses, and the formula below it is a sum, $\sum_i$. The two have the same minimum,
# but the sum's gradient is larger by the number of tasks, and so is the step. **Predict** what a learning rate that suits the
# mean does to the sum of twenty.

# %%
tasks = [split(*draw_task(rng, 25)) for _ in range(20)]


def learn_b(reduce, lr, steps=20):
    path = [theta]
    for _ in range(steps):  # b alone; λ stays
        path.append(path[-1] - lr * reduce([meta_gradient(path[-1], t) for t in tasks], axis=0) * [0, 1])
    return np.array(path)[:, 1]


# %%
for reduce, lr in ((np.mean, 2.0), (np.sum, 2.0), (np.sum, 2.0 / 20)):
    shown = "".join(f"{b:>11.4g}" for b in learn_b(reduce, lr)[[0, 1, 2, 20]])
    print(f"{reduce.__name__:<4} with learning rate {lr}: b after 0, 1, 2, 20 steps {shown}")
assert np.allclose(learn_b(np.mean, 2.0), learn_b(np.sum, 2.0 / 20))
assert abs(learn_b(np.sum, 2.0)[-1]) > 1e6

# %% [markdown]
# The mean goes towards 2, where the offset is; the sum explodes; a twentieth of the rate heals it. The same holds inside:
# were $L$ the *sum* over the support set, then $n\lambda$ in (3) would be $\lambda$, and the inner learning rate would mean
# another thing. State with every number which of the two it belongs to.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_5_1(name_the_levels)`.
#
# **Exercise 5.1: outer and inner in five papers.** In each, the inner $\phi$ are the weights of a model.
#
# | key | paper | what it does |
# |---|---|---|
# | `maml` | Finn et al. 2017 | a few gradient steps on a new task; learns from where they should start |
# | `penalties` | Lorraine et al. 2020 | trains to the end with a penalty for each weight, tuned for a small error on validation data |
# | `darts` | Liu et al. 2019 | mixes operations in a network; the mixing is tuned on validation data while the weights are trained |
# | `distillation` | Wang et al. 2018 | makes a few synthetic images, so that training on them does well on real ones |
# | `learned` | Andrychowicz et al. 2016 | an LSTM reads each gradient and proposes the step |
#
# For each, where does $\theta$ enter the adaptation: by the `"start"`, the inner `"loss"` or the `"step"`? And has $F$ a
# direct part $f_\theta$? Return a dictionary of pairs, in the form `{"maml": ("loss", True), ...}` (this pair is
# made up; the check knows only checksums).


# %%
def name_the_levels():
    raise NotImplementedError("exercise 5.1")


# %%
def check_5_1(name_the_levels):
    answer = name_the_levels()
    papers = "maml", "penalties", "darts", "distillation", "learned"
    print({paper: answer[paper] for paper in papers})
    for paper, checksum in zip(papers, (3217118683, 2864272113, 2240318888, 3742298597, 4049258306), strict=True):
        assert zlib.crc32(f"{paper} {tuple(answer[paper])}".encode()) == checksum, f"think again about {paper}"


# %% tags=["solution"]
# Only DARTS judges by a network that the mixing weights are part of. The others have done their work once the weights are adapted.
def name_the_levels():
    return {
        "maml": ("start", False), "penalties": ("loss", False), "darts": ("loss", True),
        "distillation": ("loss", False), "learned": ("step", False),
    }  # fmt: skip


check_5_1(name_the_levels)

# %% [markdown]
# **Exercise 5.2: a penalty for each weight.** Replace $\frac{\lambda}{2} |\phi|^2$ by $\frac12 \sum_j \lambda_j \phi_j^2$.
# Derive the Jacobian $\partial \phi_i / \partial \lambda_j$ (row $i$, column $j$) from the equation that takes the place of (3),
# and write it with one solve. The offset stays at 2, as in `adapt_each`. Whose penalty moves a weight that is 0?


# %%
def adapt_each(penalties, task):
    X, y = task["support"]
    return np.linalg.solve(X.T @ X + len(X) * np.diag(penalties), X.T @ (y - 2))


def each_jacobian(penalties, task):
    raise NotImplementedError("exercise 5.2")


# %%
def check_5_2(each_jacobian):
    penalties = np.array([0.1, 0.3, 0.5])
    exact = each_jacobian(penalties, task)
    columns = [adapt_each(penalties + 1e-5 * e, task) - adapt_each(penalties - 1e-5 * e, task) for e in np.eye(3)]
    print(exact, "\nlargest difference from solving again:", np.max(np.abs(exact - np.stack(columns, axis=1) / 2e-5)))
    assert np.allclose(exact, np.stack(columns, axis=1) / 2e-5, rtol=1e-6, atol=1e-9)


# %% tags=["solution"]
# A = X'X + n diag(penalties), and dA / d penalty_j = n e_j e_j'. The product rule: n e_j phi_j + A dphi / d penalty_j = 0.
# So column j is -n inv(A) e_j phi_j. A weight that is 0 makes its own column 0: only the other penalties move it.
def each_jacobian(penalties, task):
    X, _ = task["support"]
    return -np.linalg.solve(X.T @ X + len(X) * np.diag(penalties), len(X) * np.diag(adapt_each(penalties, task)))


check_5_2(each_jacobian)

# %% [markdown]
# ## Symbols
#
# The paper is Franceschi et al., *Bilevel programming for hyperparameter optimization and meta-learning* (2018). A ridge
# regression as the inner level of meta-learning is in Bertinetto et al., *Meta-learning with differentiable closed-form
# solvers* (2019).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $w$ | $\phi$ | `phi` | (3,) |
# | $\lambda$ | $\theta = (\lambda, b)$ | `theta` | (2,) |
# | $L_\lambda(w)$ | $L(\phi, \theta)$ | `problem.inner(phi, theta, task)` | () |
# | $E(w, \lambda)$ | $f(\phi, \theta)$ | `problem.outer(phi, theta, task)` | () |
# | $w_\lambda$ | $\phi(\theta)$ | `adapt(theta, task)` | (3,) |
# | $f(\lambda)$ | $F(\theta)$ | `F(theta, task)` | () |
# | $D_{tr}$, $D_{val}$ | support, query | `task["support"]`, `task["query"]` | (5, 3) and (5,); (20, 3) and (20,) |
# | $dw_\lambda / d\lambda$ | $d\phi / d\theta$ | `jacobian_by_hand(theta, task)` | (3, 2) |
# | | $A$ | `system(theta, task)[0]` | (3, 3) |
#
# **Next:** the simplest two-level problem that is still MAML, with every number worked out by hand.
