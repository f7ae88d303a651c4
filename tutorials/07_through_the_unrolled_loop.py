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
# # Lesson 7: Through the unrolled loop
#
# In lesson 6 each step of gradient descent multiplied the derivative by $1 - \alpha a$. With many weights the number $a$
# becomes a Hessian, another one at each step. We shall carry a vector backwards through all of them, and never hold a matrix.
# The few lines that do it are the heart of `tinymeta/maml.py`.
#
# **You will**
# - derive $d\phi_K / d\phi_0$ as a product of matrices $I - \alpha H_t$;
# - turn it into a recursion for one vector, and compare it with the engine's sweep over the graph;
# - measure what the two keep in memory, and what is lost by going back a few steps only;
# - see gradient descent and its derivative as two ends of a differential equation.
#
# **You need** lesson 4 ($Hv$ without $H$), lesson 5 (direct part and the part through the adaptation), lesson 6. Half an
# hour.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import save
from tinymeta.tasks import quadratics, sinusoids

# %% [markdown]
# ## 1. The problem
#
# A small tanh network with its $n$ weights in one vector $\phi$, ten support points of a sine wave, ten query points. The inner
# loss has a weight decay $\rho$, so $\theta$ enters in two ways, as the *start* and through the *loss*:
# $\theta = (\phi_0, \rho)$.
#
# $$ L(\phi, \rho) = \text{mean squared error on the support set} + \tfrac{\rho}{2} |\phi|^2, \qquad
#    f(\phi) = \text{mean squared error on the query set} . $$
#
# As in lesson 6, $F(\theta) = f(\phi_K)$ after $K$ steps of gradient descent. Three tools of the library help: `sinusoids.draw`
# draws a batch of tasks, `tm.tree.map` applies a function to each array in it (here: take the first), and `tm.ravel` puts the
# network's arrays into one vector, with a function that takes it apart again.


# %%
rng = np.random.default_rng(2)
task = tm.tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
start, unravel = tm.ravel(tm.nn.initialize_mlp(rng, (1, 8, 1)))


def error(phi, data):
    return tm.nn.mean_squared_error(tm.nn.mlp(unravel(phi), data.x, np.tanh), data.y)


# %%
problem = tm.Bilevel(
    inner=lambda phi, theta, task: error(phi, task.support) + theta["decay"] / 2 * np.sum(phi**2),
    outer=lambda phi, theta, task: error(phi, task.query),
    init=lambda theta, task: theta["start"],
)
theta, alpha = {"start": start, "decay": 0.03}, 0.1

# %% [markdown]
# ## 2. A product of matrices
#
# A step is $\phi_{t+1} = \phi_t - \alpha \nabla L(\phi_t, \rho)$. *Differentiate* it. The gradient changes by
# $H_t\, d\phi_t$, with the Hessian $H_t$ of $L$ at $\phi_t$, and by $\phi_t\, d\rho$, since $\rho$ stands in it as
# $\rho \phi_t$:
#
# $$ d\phi_{t+1} = (I - \alpha H_t)\, d\phi_t - \alpha\, \phi_t\, d\rho . \tag{1} $$
#
# Hold $\rho$ for now. *Put* the steps into one another, the last one on the left:
#
# $$ d\phi_K = P\, d\phi_0, \qquad P = (I - \alpha H_{K-1}) \cdots (I - \alpha H_1)(I - \alpha H_0) . \tag{2} $$
#
# And with the query gradient $f_\phi$ at $\phi_K$, by the *chain rule*, by (2), and since *a factor crosses transposed*:
#
# $$ dF = \langle f_\phi, d\phi_K \rangle = \langle f_\phi, P\, d\phi_0 \rangle = \langle P^\top f_\phi, d\phi_0 \rangle
#    \quad\Longrightarrow\quad \frac{dF}{d\phi_0} = P^\top f_\phi . \tag{3} $$


# %%
def descent(theta, task, steps):
    phis = [theta["start"]]
    for _ in range(steps):
        phis.append(phis[-1] - alpha * tm.grad(problem.inner)(phis[-1], theta, task))
    return phis


# %%
def by_product(phis):
    P = np.eye(len(start))
    for phi in phis[:-1]:
        P = (np.eye(len(start)) - alpha * tm.hessian(problem.inner)(phi, theta, task)) @ P
    return P.T @ tm.grad(problem.outer)(phis[-1], theta, task)


# %% [markdown]
# ## 3. The adjoint recursion
#
# *Transpose* the product: the order turns round, and each factor stays as it is, for $H_t$ is symmetric:
#
# $$ P^\top f_\phi = (I - \alpha H_0)(I - \alpha H_1) \cdots (I - \alpha H_{K-1})\, f_\phi . $$
#
# Nobody has to multiply the matrices. *Begin on the right*, where there is a vector, and each factor makes a vector of a
# vector. Call them
#
# $$ \lambda_K = f_\phi, \qquad \lambda_t = (I - \alpha H_t)\, \lambda_{t+1} = \lambda_{t+1} - \alpha H_t \lambda_{t+1} . \tag{4} $$
#
# Then $dF / d\phi_0 = \lambda_0$, for the price of $K$ Hessian products. In general $\lambda_t = dF / d\phi_t$: how $F$
# changes if you move $\phi_t$ and make the later steps as before. Now let $\rho$ move as well. As $f$ doesn't contain it,
# still $dF = \langle \lambda_K, d\phi_K \rangle$. *Pair* (1) with $\lambda_{t+1}$:
#
# $$ \begin{aligned}
# \langle \lambda_{t+1}, d\phi_{t+1} \rangle
#    &= \langle \lambda_{t+1}, (I - \alpha H_t)\, d\phi_t \rangle - \alpha \langle \lambda_{t+1}, \phi_t \rangle\, d\rho && \text{pair} \\
#    &= \langle (I - \alpha H_t)\, \lambda_{t+1}, d\phi_t \rangle - \alpha \langle \lambda_{t+1}, \phi_t \rangle\, d\rho && \text{cross} \\
#    &= \langle \lambda_t, d\phi_t \rangle - \alpha \langle \lambda_{t+1}, \phi_t \rangle\, d\rho && \text{by (4).}
# \end{aligned} $$
#
# *Add* these equations for $t = 0, \dots, K - 1$. What stands on the left of one stands on the right of the next, and
# *cancels*; on the left only $dF$ remains:
#
# $$ dF = \langle \lambda_0, d\phi_0 \rangle - \alpha \sum_{t=0}^{K-1} \langle \lambda_{t+1}, \phi_t \rangle\, d\rho . \tag{5} $$


# %%
def by_recursion(phis):
    loss = lambda phi: problem.inner(phi, theta, task)
    lambda_, rho_bar = tm.grad(problem.outer)(phis[-1], theta, task), 0.0
    for phi in phis[-2::-1]:  # from phi_{K-1} back to phi_0
        rho_bar = rho_bar - alpha * (lambda_ @ phi)
        lambda_ = lambda_ - alpha * tm.hvp(loss, phi, lambda_)
    return {"start": lambda_, "decay": rho_bar}


# %%
phis = descent(theta, task, steps=20)
by_matrices, by_vectors = by_product(phis), by_recursion(phis)["start"]
print("largest difference between (3) and (4):", np.max(np.abs(by_matrices - by_vectors)))
assert np.allclose(by_matrices, by_vectors, rtol=1e-12, atol=1e-12)

# %% [markdown]
# `tm.maml.meta_gradient(..., by="recursion")` is this function for any $\theta$ and any containers. With `by="graph"` it
# writes $F$ down and lets the engine sweep (the adaptation as one function of $\theta$, the outer loss on top, one pass
# backwards): the same rule, applied one operation at a time in place of one step at a time.
#
# ## 4. Check
#
# The judge knows none of this: central differences of $F$, along a random unit vector $v$ of starts, and along $\rho$. The
# last two rows are mistakes. One is a step late, with $\phi_{t+1}$ for $\phi_t$, also in the Hessians; the other drops the
# Hessians, and with them everything that goes through a gradient. **Predict** the order of magnitude of each difference,
# and what first order says about $\rho$.

# %%
estimates = {
    "adjoint recursion": by_recursion(phis),
    "tm.maml, by graph": tm.maml.meta_gradient(problem, theta, task, steps=20, lr=alpha).grad,
    "tm.maml, by recursion": tm.maml.meta_gradient(problem, theta, task, steps=20, lr=alpha, by="recursion").grad,
    "one step late": by_recursion([*phis[1:], phis[-1]]),
    "first order": tm.maml.meta_gradient(problem, theta, task, steps=20, lr=alpha, order=1).grad,
}

# %%
F, v = tm.maml.objective(problem, steps=20, lr=alpha), rng.standard_normal(len(start))
for name, move in {"v": {"start": v / np.linalg.norm(v), "decay": 0.0}, "ρ": {"start": 0 * v, "decay": 1.0}}.items():
    print(f"{f'along {name}':<24}{'estimate':>18}{'approximate':>18}{'difference':>12}")
    plus, minus = (F(tm.tree.map(lambda x, dx, h=h: x + h * dx, theta, move), task) for h in (1e-5, -1e-5))
    for estimate, gradient in estimates.items():
        found, approximate = gradient["start"] @ move["start"] + gradient["decay"] * move["decay"], (plus - minus) / 2e-5
        print(f"{estimate:<24}{found:>18.12f}{approximate:>18.12f}{found - approximate:>12.1e}")
        assert (abs(found - approximate) < 1e-9) == (estimate in list(estimates)[:3])

# %% [markdown]
# The three that should agree do. The late one is off by less than ten percent, which no training curve would show. First
# order says that the weight decay has no effect at all: $\rho$ acts through the inner gradients only, and those it takes
# for constants.
#
# ## 5. Memory, and going back a few steps only
#
# The sweep needs what was computed on the way forward. *By graph* that is every node of every step. *By recursion* it is the
# vectors $\phi_t$, and the graph of one Hessian product at a time, built, used and dropped.
#
# One can also stop early. *Truncated* backpropagation takes $\phi_{K-k}$ for a constant, which keeps the last $k$ terms of
# the sum in (5). The terms that it loses have passed through the last $k$ factors. If all eigenvalues of the Hessians lie
# between $\mu > 0$ and $1/\alpha$, those of $I - \alpha H_t$ lie between 0 and $1 - \alpha\mu$. So each factor shrinks a
# vector to at most $1 - \alpha\mu$ of its length, and what is lost falls like $(1 - \alpha\mu)^k$. (And $\lambda_0$? Going
# back never gets there: the truncated gradient for the start is 0, and a MAML trained with it would learn nothing.)
#
# **Predict.** On the left, nodes against $K$: how does each curve grow? On the right, the relative error of $dF/d\rho$ at
# $K = 100$, against $k$, for two random quadratics with $\mu = 0.1$ and $\mu = 0.3$ (with $\alpha = 1$ and largest eigenvalue
# 1), and for our network: which slopes do you expect on a logarithmic axis? Where is the network, whose Hessians have
# eigenvalues near 0 and below?


# %%
def decaying_quadratic(mu):
    """A two-level problem with a quadratic inner loss, eigenvalues from mu to 1, plus a weight decay; its theta and its task."""
    inner = lambda phi, theta, task: quadratics.inner(phi, None, task) + theta["decay"] / 2 * np.sum(phi**2)
    problem = tm.Bilevel(inner, quadratics.outer, lambda theta, task: theta["start"])
    return problem, {"start": np.ones(10), "decay": 0.0}, quadratics.draw(rng, 10, condition=1 / mu)


def decay_gradient(problem, theta, task, lr, steps=100, truncate=None):
    return tm.maml.meta_gradient(problem, theta, task, steps=steps, lr=lr, by="recursion", truncate=truncate).grad["decay"]


# %%
def draw_memory(ax, steps=(1, 2, 5, 10, 20, 40)):
    for by, style in (("graph", "o-"), ("recursion", "s-")):
        nodes = [tm.maml.meta_gradient(problem, theta, task, steps=K, lr=alpha, by=by).info["nodes"] for K in steps]
        ax.loglog(steps, nodes, style, label=f"nodes, by {by}")
    ax.loglog(steps, np.add(steps, 1), "k:", label="vectors $φ_t$, needed by both")
    ax.set(title="What is kept for the sweep", xlabel="inner steps K", ylabel="how many")
    ax.legend()


# %%
def draw_truncation(ax, name, color, lr, *what):
    ks, exact = np.arange(1, 90, 8), decay_gradient(*what, lr)
    ax.semilogy(ks, [abs(decay_gradient(*what, lr, truncate=k) / exact - 1) for k in ks], color + "o-", label=name)
    ax.set(title="What truncation loses, of K = 100 steps", xlabel="steps differentiated, k", ylabel="relative error of dF/dρ")
    ax.set_ylim(1e-13, 10)
    ax.legend(loc="lower left")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
draw_memory(left)
draw_truncation(right, "the network", "C3", alpha, problem, theta, task)
for mu, color in ((0.1, "C0"), (0.3, "C1")):
    right.semilogy([1, 89], [1 - mu, (1 - mu) ** 89], color + ":", label=f"$(1 - {mu})^k$")
    draw_truncation(right, f"quadratic, μ = {mu}", color, 1.0, *decaying_quadratic(mu))
save(figure, "07_memory_and_truncation")

# %%
spectrum = np.linalg.eigvalsh(tm.hessian(problem.inner)(phis[-1], theta, task))
print(f"eigenvalues of the network's Hessian after 20 steps: {spectrum[0]:.3f} to {spectrum[-1]:.1f}")
seen = {}
for K, k in ((20, 5), (20, 20), (100, 50), (100, 100)):
    seen[K, k] = float(decay_gradient(problem, theta, task, alpha, steps=K, truncate=k))
    print(f"dF/dρ through the last {k:>3} of {K:>3} steps: {seen[K, k]:>6.3f}")
assert spectrum[0] < 0 and seen[20, 5] < 0 < seen[20, 20] and 0.6 < seen[100, 50] / seen[100, 100] < 0.7

# %% [markdown]
# See on the left that the graph grows with every step. The recursion's stays as it is, and what grows is a list of
# vectors. On the right the quadratics run parallel to the dotted lines, until few of the 100 steps are left to lose. The
# network hardly forgets: where $H_t$ has an eigenvalue near 0 or below, its factor doesn't shrink. The last 50 of 100
# steps see two thirds of the effect, and the last 5 of 20 see the wrong *sign*: what a decay does at once is not what it
# does in the end. This is the *short-horizon bias* of truncation. And where $\alpha$ times an eigenvalue exceeds 2,
# factors *grow*, and meta-gradients explode.
#
# ## 6. Small steps: a differential equation
#
# *Divide* the step by $\alpha$, and (4) as well:
#
# $$ \frac{\phi_{t+1} - \phi_t}{\alpha} = -\nabla L(\phi_t), \qquad \frac{\lambda_{t+1} - \lambda_t}{\alpha} = H_t\, \lambda_{t+1} . $$
#
# Let $\alpha \to 0$, with a clock $s$ that advances by $\alpha$ at each step. The left sides become derivatives:
# $\frac{d\phi}{ds} = -\nabla L$ is the *gradient flow*, and $\frac{d\lambda}{ds} = H \lambda$, solved from the end to the
# start, is its *adjoint equation*. The sum in (5), with its strips of width $\alpha$, becomes an integral. Gradient descent
# is Euler's method for the one, and our recursion is Euler's method for the other. The error of Euler's method is
# proportional to $\alpha$. Now we halve $\alpha$ again and again, always up to $s = \alpha K = 2$, and print by how much
# $dF/d\rho$ changes each time. **Predict** the last column: a change, divided by the next one.

# %%
rates = 0.1 / 2 ** np.arange(5)
values = [float(decay_gradient(problem, theta, task, a, steps=round(2 / a))) for a in rates]
changes = np.diff(values, prepend=np.nan)
print(f"{'α':>8}{'K':>6}{'dF/dρ':>12}{'change':>12}{'change before / change':>25}")
for a, value, change, before in zip(rates, values, changes, (np.nan, *changes[:-1]), strict=True):
    print(f"{a:>8}{round(2 / a):>6}{value:>12.6f}{change:>12.6f}{before / change:>25.3f}")
assert np.allclose(changes[1:-1] / changes[2:], 2, rtol=0.01)

# %% [markdown]
# Half the rate halves the change: the ratio is 2. Both loops have a limit, and it is the same calculus, without a step in it.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_7_1(truncated)`.
#
# **Exercise 7.1: truncate.** Go back $k \le K$ steps only. For $k < K$ that takes $\phi_{K-k}$ for a constant; with $k = K$
# nothing is cut. Return a dictionary like `by_recursion`. Take care of the start: when does anything reach it?


# %%
def truncated(phis, k):
    raise NotImplementedError("exercise 7.1")


# %%
def check_7_1(truncated):
    for k in (1, 5, 19, 20):
        found = truncated(phis, k)
        theirs = tm.maml.meta_gradient(problem, theta, task, steps=20, lr=alpha, truncate=k).grad
        print(f"k = {k:>2}: dF/dρ {found['decay']:>13.10f}, the library's {theirs['decay']:>13.10f}")
        assert np.isclose(found["decay"], theirs["decay"], rtol=1e-10)
        assert np.allclose(found["start"], theirs["start"], rtol=1e-10, atol=1e-12), "what reaches the start?"


# %% tags=["solution"]
# The recursion on the last k + 1 vectors, phi_{K-k} to phi_K. Only for k = K is the first of them the start.
def truncated(phis, k):
    gradient = by_recursion(phis[-k - 1 :])
    return gradient if k == len(phis) - 1 else gradient | {"start": np.zeros_like(start)}


check_7_1(truncated)

# %% [markdown]
# **Exercise 7.2: Reptile.** Reptile (Nichol et al. 2018) sweeps through nothing: it takes $\theta - \phi_K$ for the gradient,
# so a step against it goes towards the adapted parameters. Find this direction for the quadratic
# $L = \tfrac12 \phi^\top A \phi - b^\top \phi$ in closed form, without a loop: by lesson 6 with a matrix for $a$. What is it
# for $K = 1$? What for $K \to \infty$, if the steps converge? Which of the two sets of a task does it never look at?


# %%
def reptile_direction(theta, A, b, steps, alpha):
    raise NotImplementedError("exercise 7.2")


# %%
def check_7_2(reptile_direction):
    plain, its_task, theta = tm.Bilevel(quadratics.inner, quadratics.outer), quadratics.draw(rng, 4), np.ones(4)
    for K in (1, 3, 10):
        found = reptile_direction(theta, its_task.A, its_task.b, K, 0.5)
        walked = theta - tm.maml.adapt(plain, theta, its_task, steps=K, lr=0.5)
        print(f"K = {K:>2}: {found}, largest difference {np.max(np.abs(found - walked)):.1e}")
        assert np.allclose(found, walked, rtol=1e-10)


# %% tags=["solution"]
# With the minimum m = inv(A) b, phi_K - m = (I - alpha A)^K (theta - m), so theta - phi_K = (I - (I - alpha A)^K) (theta - m).
# For K = 1 that is alpha A (theta - m), alpha times the gradient of L; for many steps it is theta - m. It never asks the query set.
def reptile_direction(theta, A, b, steps, alpha):
    distance = theta - np.linalg.solve(A, b)
    return distance - np.linalg.matrix_power(np.eye(len(b)) - alpha * A, steps) @ distance


check_7_2(reptile_direction)

# %% [markdown]
# **Exercise 7.3: forwards.** For one hyperparameter there is a way without memory. Let $p_t = d\phi_t / d\rho$. Read its
# recursion off (1), with $p_0 = 0$, carry it along with the steps, and pair it with $f_\phi$ at the end. Keep no list. What
# would it cost for the gradient of the start?


# %%
def forwards(theta, task, steps):
    """dF/d rho, with two vectors in memory: phi and p."""
    raise NotImplementedError("exercise 7.3")


# %%
def check_7_3(forwards):
    found, backwards = forwards(theta, task, 20), by_recursion(phis)["decay"]
    print(f"forwards {found:.15f}, backwards {backwards:.15f}, difference {found - backwards:.1e}")
    assert np.isclose(found, backwards, rtol=1e-12)


# %% tags=["solution"]
# p_{t+1} = (I - alpha H_t) p_t - alpha phi_t. For the start there would be n such vectors, a matrix, and n Hessian products a step.
def forwards(theta, task, steps):
    loss = lambda phi: problem.inner(phi, theta, task)
    phi, p = theta["start"], np.zeros_like(theta["start"])
    for _ in range(steps):
        p = p - alpha * tm.hvp(loss, phi, p) - alpha * phi
        phi = phi - alpha * tm.grad(loss)(phi)
    return tm.grad(problem.outer)(phi, theta, task) @ p


check_7_3(forwards)

# %% [markdown]
# ## Symbols
#
# The papers are Franceschi et al., *Forward and reverse gradient-based hyperparameter optimization* (2017), whose symbols
# these are, and Nichol et al., *On first-order meta-learning algorithms* (2018).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $s_t$ | $\phi_t$ | `phis[t]` | (n,) |
# | $\lambda$ | $\theta = (\phi_0, \rho)$ | `theta` | a dictionary: (n,), () |
# | $\alpha_t$ | $\lambda_t$ | `lambda_` | (n,) |
# | $A_{t+1}$ | $I - \alpha H_t$ | never formed; `tm.hvp` | (n, n) |
# | $B_{t+1}$ | $-\alpha \phi_t$, for $\rho$ | `-alpha * phi` | (n,) |
# | $g$ | $d F / d\rho$, as it grows | `rho_bar` | () |
# | $Z_t$ | $p_t$ | `p` | (n,) |
# | | $P$ | `P` | (n, n) |
#
# **Next:** what if the adaptation runs to its end? Then the way there doesn't matter, and there is no loop to go back
# through.
