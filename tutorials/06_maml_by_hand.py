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
# # Lesson 6: MAML by hand
#
# MAML looks for parameters from which a few steps of gradient descent solve a new task. Its gradient goes *through* those
# steps. Most networks hide what that means, so here is a model with one weight. Every derivative in it fits on a line, and we
# shall see a popular shortcut walk in the wrong direction.
#
# **You will**
# - derive MAML's meta-gradient in closed form, for any number of steps;
# - compare the exact gradient, the first-order one, and finite differences, side by side;
# - train with both, on three tasks;
# - make two common mistakes on purpose, and see how each is caught.
#
# **You need** lesson 5: inner and outer loss, support and query set, $\theta$ and $\phi$. Half an hour.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save

# %% [markdown]
# ## 1. The smallest few-shot problem
#
# A task is a line through the origin, $y = \phi x$, of which some points are given and others are asked. The model has one
# parameter, the slope $\phi$. MAML (Finn et al. 2017) does four things over and over:
#
# 1. draw a batch of tasks;
# 2. for each, start at $\phi_0 = \theta$ and make $K$ steps of gradient descent on the *support* loss, then take the *query*
#    loss at $\phi_K$;
# 3. average the query losses over the tasks;
# 4. change $\theta$ by a step against the gradient of that average.
#
# Both losses are half the mean squared error. Write a bar for a mean over the points, *expand* the square and *complete* it
# again:
#
# $$ \tfrac12 \overline{(\phi x - y)^2} = \tfrac12 \big( \overline{x^2}\, \phi^2 - 2\, \overline{xy}\, \phi + \overline{y^2} \big)
#    = \tfrac{a}{2} (\phi - s)^2 + \text{const}, \qquad a = \overline{x^2}, \quad s = \overline{xy} \,/\, \overline{x^2} . $$
#
# So $a$ is the curvature of the support loss and $s$ is where its minimum lies. For the
# query set we call the same two numbers $c$ and $d$:
#
# $$ L(\phi) = \tfrac{a}{2} (\phi - s)^2 + \text{const}, \qquad f(\phi) = \tfrac{c}{2} (\phi - d)^2 + \text{const}. \tag{1} $$


# %%
def half_squared_error(phi, x, y):
    return np.mean((phi * x - y) ** 2) / 2


problem = tm.Bilevel(
    inner=lambda phi, theta, task: half_squared_error(phi, *task["support"]),
    outer=lambda phi, theta, task: half_squared_error(phi, *task["query"]),
)


# %%
def draw(rng, slope, curvature, noise, points=10):
    x = rng.standard_normal(points)
    x = x * np.sqrt(curvature / np.mean(x**2))  # now the mean of x^2 is the curvature that we want
    return x, slope * x + noise * rng.standard_normal(points)


def numbers(x, y):
    """Curvature and minimum: a and s of a support set, c and d of a query set."""
    return np.mean(x**2), np.mean(x * y) / np.mean(x**2)


# %% [markdown]
# ## 2. The closed form
#
# The slope of $L$ is $a(\phi - s)$, so a step of gradient descent is
#
# $$ \phi_{t+1} = \phi_t - \alpha\, a\, (\phi_t - s) . $$
#
# *Subtract* $s$ from both sides and *collect*: each step multiplies the distance to the minimum by the same number.
#
# $$ \phi_{t+1} - s = (1 - \alpha a)(\phi_t - s) . $$
#
# *Repeat* from $\phi_0 = \theta$:
#
# $$ \phi_K - s = r^K (\theta - s), \qquad r = 1 - \alpha a . \tag{2} $$
#
# *Differentiate* with respect to $\theta$:
#
# $$ \frac{d\phi_K}{d\theta} = r^K . \tag{3} $$
#
# And by the *chain rule* of lesson 5, where $f$ has no direct part, with $f'(\phi_K) = c\,(\phi_K - d)$ from (1):
#
# $$ \boxed{\; \frac{dF}{d\theta} = r^K\, c\,(\phi_K - d) \;} \tag{4} $$
#
# **The shortcut.** *First-order* MAML pretends that the inner gradients $a(\phi_t - s)$ are constants. Then
# $d\phi_{t+1} = d\phi_t$, step after step, $d\phi_K / d\theta$ becomes 1 in place of $r^K$, and what is left of (4) is the
# plain query gradient at the adapted point:
#
# $$ \text{first order:} \qquad c\,(\phi_K - d) . \tag{5} $$
#
# It saves the second derivative $a = L''$. But it isn't the derivative of $F$.


# %%
def by_hand(theta, task, steps, alpha):
    """The exact gradient (4) and the first-order one (5)."""
    (a, s), (c, d) = numbers(*task["support"]), numbers(*task["query"])
    r = 1 - alpha * a
    phi = s + r**steps * (theta - s)
    return r**steps * c * (phi - d), c * (phi - d)


# %% [markdown]
# ## 3. Check
#
# Here are (4), the library's two orders, and central differences of $F$, which know neither formula. `tm.maml.objective`
# makes $F$ as a function of `(theta, task)`. **Predict:** at $\alpha a = 1.6$, for which $K$ will the first-order gradient
# have the wrong sign?

# %%
rng = np.random.default_rng(6)
task, theta = {"support": draw(rng, 2, 1.0, noise=0.3), "query": draw(rng, 2, 1.5, noise=0.3)}, 3.0


def differences(F, theta, task, h=1e-5):
    return (F(theta + h, task) - F(theta - h, task)) / (2 * h)


# %%
print(f"{'αa':>4}{'K':>3}{'exact, by (4)':>18}{'order=2':>18}{'approximate':>18}{'difference':>12}{'order=1':>12}")
for alpha, K in ((0.1, 1), (0.1, 5), (1.0, 1), (1.6, 1), (1.6, 2), (1.6, 3)):  # a is 1, so alpha is alpha a
    exact, first = by_hand(theta, task, K, alpha)
    second_order, first_order = (tm.maml.meta_gradient(problem, theta, task, steps=K, lr=alpha, order=k).grad for k in (2, 1))
    measured = differences(tm.maml.objective(problem, steps=K, lr=alpha), theta, task)
    shown = "".join(f"{round(float(x), 12) + 0.0:>18.12f}" for x in (exact, second_order, measured))  # the 0.0 turns a -0 into a 0
    print(f"{alpha:>4}{K:>3}{shown}{exact - measured:>12.1e}{first_order:>12.6f}")
    assert abs(exact - second_order) < 1e-12 and abs(first - first_order) < 1e-12 and abs(exact - measured) < 1e-9

# %% [markdown]
# The first three numbers agree in each row. The last is another number: near the others while $\alpha a$ and $K$ are small;
# not zero at $\alpha a = 1$, where one step reaches $s$ from anywhere and $\theta$ has no effect at all; and of the wrong
# sign where $r^K < 0$.
#
# **Predict.** For which $\alpha a$ is $r^K$ negative? Gradient descent converges for $0 < \alpha a < 2$: how much of this
# range is it for odd $K$, for even $K$? Then, on the right: $F$ at $\alpha a = 1.6$ and $K = 1$. Which way do the two
# gradients send $\theta$?


# %%
def draw_factor(ax):
    x = np.linspace(0, 2, 200)
    for K, color in ((1, "C0"), (2, "C1"), (3, "C5"), (10, "C4")):
        ax.plot(x, (1 - x) ** K, color, label=f"K = {K}")
    ax.axhspan(-1, 0, color="C3", alpha=0.1, label="first order has the wrong sign")
    ax.axvline(1.6, color="grey", linestyle="--", label="αa = 1.6")
    ax.set(title="What first order forgets", xlabel="αa", ylabel="$(1 - αa)^K$", ylim=(-1, 1))


# %%
def draw_directions(ax, F):
    ax.plot(np.linspace(-2, 6, 100), [F(t, task) for t in np.linspace(-2, 6, 100)])
    for name, i, lower in (("exact", 0, 0.0), ("first-order", 1, 0.15)):
        for t in (-1.0, 5.0):
            end = t - 0.9 * np.sign(by_hand(t, task, 1, 1.6)[i])
            ax.annotate("", (end, F(t, task) - lower), (t, F(t, task) - lower), arrowprops={"color": f"C{2 + i}", "arrowstyle": "-|>"})
        ax.plot([], [], f"C{2 + i}", label=f"against the {name} gradient")
    ax.set(title="The outer loss at αa = 1.6, K = 1", xlabel="θ", ylabel="F")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.4), layout="constrained")
draw_factor(left)
draw_directions(right, tm.maml.objective(problem, steps=1, lr=1.6))
left.legend()
right.legend(loc="upper center")
save(figure, "06_wrong_sign")

# %% [markdown]
# See on the left that for odd $K$ the sign is wrong in half of the range in which gradient descent converges; for even $K$
# never, though the size may be off by any factor. On the right the green arrows point to where $F$ is smaller, the red ones
# to where it is larger. Why? At $\alpha a = 1.6$ a step *overshoots*: move $\theta$ to the right, and $\phi_1$ lands
# farther to the left. First order believes that $\phi_1$ moves along with $\theta$.
#
# ## 4. Training on three tasks
#
# Three lines now, without noise, of slopes 1, 2 and 5 and with different curvatures. The four steps of section 1 stand in the
# comments (our batch is always the same three tasks). With `order=1`, $F$ has the same value, but its gradient is (5).
# `tm.vmap(F, (None, 0))` takes $F$ along the first axis of the stacked tasks, all with one $\theta$:


# %%
def line(slope, a, c):
    return {"support": draw(rng, slope, a, noise=0), "query": draw(rng, slope, c, noise=0)}


def mean_loss(order, alpha, steps=1):
    F = tm.maml.objective(problem, steps=steps, lr=alpha, order=order)  # 2: adapt, then judge
    return lambda theta: np.mean(tm.vmap(F, (None, 0))(theta, tasks))  # 1 and 3: F of each task; their mean


# %%
# `tm.tree.map` goes through the dictionaries and stacks their arrays.
tasks = tm.tree.map(lambda *parts: np.stack(parts), line(1, 1.2, c=0.8), line(2, 1.6, c=1.0), line(5, 1.9, c=1.5))


def train(order, alpha, theta=3.0, iterations=30):
    path, gradient = [theta], tm.grad(mean_loss(order, alpha))
    for _ in range(iterations):
        path.append(path[-1] - gradient(path[-1]))  # 4, with the outer learning rate 1
    return np.array(path)


# %% [markdown]
# **Predict.** With $\alpha = 0.4$ all three $r$ lie between 0 and 1, with $\alpha = 1$ between $-1$ and 0. Sketch $\theta$
# against the iterations, from $\theta = 3$: four curves, two orders at two learning rates. Where does each end?

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
paths = {(alpha, order): train(order, alpha) for alpha in (0.4, 1.0) for order in (2, 1)}
for (alpha, order), path in paths.items():
    ax = axes[int(alpha)]
    ax.plot(path, "C2-" if order == 2 else "C3--", label="exact" if order == 2 else "first order")
    ax.set(title=f"Training with α = {alpha}", xlabel="iteration", ylabel="θ", ylim=(0, 5))
    ax.legend(loc="lower right")
save(figure, "06_training")

# %%
for (alpha, order), path in paths.items():
    losses = [mean_loss(2, alpha)(theta) for theta in path]
    print(f"α = {alpha}, order {order}: θ ends at {path[-1]:>14.6g}, the mean query loss goes from {losses[0]:.4f} to {losses[-1]:.6g}")
ends = [mean_loss(2, 0.4)(paths[0.4, order][-1]) for order in (2, 1)]
assert ends[0] < ends[1] < mean_loss(2, 0.4)(3.0)

# %% [markdown]
# See on the left the trap: both curves settle, both losses fall, and nothing tells you that the dashed one has stopped at
# another place, where the loss is higher. On the right it runs away. Where each must end you will work out in exercise 6.3.
#
# ## 5. Two common mistakes
#
# **First order by accident.** Nobody has to write `order=1` to get it. It is enough that the inner gradient loses its graph
# on the way: an array taken out of a Tensor with `.value`, a `stop_gradient` for speed, a forgotten flag in another library.
# The value of $F$ stays right, the loss falls, and only a check of the derivative can tell:


# %%
def careless(theta):
    g = tm.stop_gradient(tm.grad(problem.inner)(theta, theta, task))
    return problem.outer(theta - 1.6 * g, theta, task)


careful = lambda theta: tm.maml.objective(problem, steps=1, lr=1.6)(theta, task)
print("the same value:", careless(theta) == careful(theta))
print(tm.check_grad(careful, theta, order=1))
print(tm.check_grad(careless, theta, order=1))

# %% [markdown]
# The two values of the last report differ by the factor $1/r = -1/0.6$. (The report multiplies both by one random number, as
# lesson 1 said.) First order on purpose is another matter: where $\alpha a$ is small it costs little accuracy, and Finn et
# al. report as much for their networks. But know which of the two you run.
#
# **Evaluation at another learning rate.** A $\theta$ is good for the $\alpha$ and the $K$ that it was trained with. We take
# the one trained with $\alpha = 0.4$ and $K = 1$ and evaluate it at others. **Predict:** with $K = 1$, at which $\alpha$
# will it be worse than a $\theta$ trained for that $\alpha$? Above $\alpha = 2 / 1.9$, what do more steps do?

# %%
trained = paths[0.4, 2][-1]
print(f"{'α':>4}{'trained for it, K = 1':>24}" + "".join(f"{f'trained at 0.4, K = {K}':>24}" for K in (1, 3, 10)))
for alpha in (0.1, 0.4, 0.7, 1.0, 1.3):
    losses = [mean_loss(2, alpha, K)(trained) for K in (1, 3, 10)]
    print(f"{alpha:>4}" + "".join(f"{loss:>24.4g}" for loss in (mean_loss(2, alpha)(train(2, alpha)[-1]), *losses)))
assert losses[2] > losses[1] > losses[0]  # at 1.3 the loss grows with the steps

# %% [markdown]
# With $K = 1$ all rows but that of 0.4 are worse than they need be: compare the first two columns of losses. Where the rate
# suits all tasks, more steps hide it. Beyond $\alpha a = 2$ for the most curved task, each step makes it worse. With every
# number state $\alpha$, $K$, and whether the loss is a sum or a mean: that changes $a$, and only $\alpha a$ matters.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_6_1(first_order_is_exact)`.
#
# **Exercise 6.1: when is first order exact?** Return whether the first-order gradient equals the exact one for *every* task
# and every $\theta$, given $\alpha a$ and $K$. What does gradient descent do in those cases?


# %%
def first_order_is_exact(alpha_a, steps):
    raise NotImplementedError("exercise 6.1")


# %%
def check_6_1(first_order_is_exact):
    for alpha_a in (0.0, 0.5, 1.0, 1.5, 2.0):
        truth = [bool(np.isclose(*by_hand(theta, task, K, alpha_a))) for K in range(5)]  # a is 1
        assert [bool(first_order_is_exact(alpha_a, K)) for K in range(5)] == truth, f"think again about αa = {alpha_a}"
        print(f"αa = {alpha_a}, exact for K =", [K for K in range(5) if truth[K]])


# %% tags=["solution"]
# By (4) and (5), where r^K = 1: for no step, for steps of length 0, and at alpha a = 2 for even K, where gradient descent jumps
# from one side of the minimum to the other and back. In short: where phi_K = theta, and nothing has been learned.
def first_order_is_exact(alpha_a, steps):
    return (1 - alpha_a) ** steps == 1


check_6_1(first_order_is_exact)

# %% [markdown]
# **Exercise 6.2: learn the learning rate.** Differentiate (2) with respect to $\alpha$, and return $dF / d\alpha$ after
# $K \ge 1$ steps. If $d = s$ and $0 < r < 1$, which sign has it, and why? (In the library, $\theta$ may contain both:
# `init` picks the start out of it, `lr` the rate.)


# %%
def rate_gradient(theta, task, steps, alpha):
    raise NotImplementedError("exercise 6.2")


# %%
def check_6_2(rate_gradient):
    both = tm.Bilevel(problem.inner, problem.outer, init=lambda theta, task: theta["start"])
    task = {"support": draw(rng, 2, 0.7, noise=0.3), "query": draw(rng, 2, 1.5, noise=0.3)}
    for alpha, K in ((0.1, 1), (0.3, 5), (1.6, 3)):
        result = tm.maml.meta_gradient(both, {"start": theta, "rate": alpha}, task, steps=K, lr=lambda theta: theta["rate"])
        found = rate_gradient(theta, task, K, alpha)
        print(f"by hand {found:.12f}, by the library {result.grad['rate']:.12f}")
        assert np.isclose(found, result.grad["rate"], rtol=1e-10)


# %% tags=["solution"]
# dphi_K / dalpha = -K a r^(K - 1) (theta - s), times f'(phi_K) = c (phi_K - d). If d = s, then phi_K - d = r^K (theta - s), and
# the product is -K a c r^(2K - 1) (theta - s)^2: negative for r > 0, since longer steps would come closer.
def rate_gradient(theta, task, steps, alpha):
    (a, s), (c, d) = numbers(*task["support"]), numbers(*task["query"])
    r = 1 - alpha * a
    return -steps * a * r ** (steps - 1) * (theta - s) * c * (s + r**steps * (theta - s) - d)


check_6_2(rate_gradient)

# %% [markdown]
# **Exercise 6.3: where does training end?** For tasks with $s = d$ and $K = 1$, find the $\theta$ at which the mean of (4)
# over the tasks is zero, and the one for the mean of (5), from arrays of $a$, $s$ and $c$. Both are weighted means of the
# $s$. What are the weights? When does training with the outer learning rate 1 approach the second, when does it run away?


# %%
def where_training_ends(a, s, c, alpha):
    """The end by the exact gradient, and the end by the first-order one."""
    raise NotImplementedError("exercise 6.3")


# %%
def check_6_3(where_training_ends):
    a, s, c = np.array([1.2, 1.6, 1.9]), np.array([1.0, 2.0, 5.0]), np.array([0.8, 1.0, 1.5])
    for alpha in (0.4, 1.0):
        exact, first = where_training_ends(a, s, c, alpha)
        print(f"α = {alpha}: exact ends at {exact:.4f}, trained {train(2, alpha, iterations=99)[-1]:.4f}; first order {first:.4f}")
        assert np.isclose(exact, train(2, alpha, iterations=99)[-1])
        assert np.isclose(first, train(1, alpha, theta=first, iterations=3)[-1])  # whoever starts there stays there


# %% tags=["solution"]
# The mean of c r^2 (theta - s), or of c r (theta - s), is zero at the mean of s with the weights c r^2, or c r. A first-order step
# with the rate 1 multiplies the distance to that point by 1 - mean(c r): it comes closer for 0 < mean(c r) < 2, and else runs away.
def where_training_ends(a, s, c, alpha):
    r = 1 - alpha * a
    return np.average(s, weights=c * r**2), np.average(s, weights=c * r)


check_6_3(where_training_ends)

# %% [markdown]
# ## Symbols
#
# The paper is Finn, Abbeel and Levine, *Model-agnostic meta-learning for fast adaptation of deep networks* (2017).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $\theta$ | $\theta$ | `theta` | () |
# | $\theta_i'$ | $\phi_K$ | `phi` | () |
# | $\alpha$ | $\alpha$ | `alpha`, `lr` | () |
# | | $K$ | `K`, `steps` | () |
# | $\mathcal L_{\mathcal T_i}$ on the support set | $L$ | `problem.inner` | () |
# | $\mathcal L_{\mathcal T_i}(f_{\theta_i'})$ | $f(\phi_K)$ | `problem.outer` | () |
# | | $F$ | `tm.maml.objective(problem, steps=K, lr=alpha)` | () |
# | | $a$, $s$ and $c$, $d$ | `numbers(*task["support"])`, `numbers(*task["query"])` | () each |
# | | $r = 1 - \alpha a$ | `r` | () |
#
# **Next:** many weights, where $1 - \alpha a$ becomes a matrix that we never form.
