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
# # Lesson 9: Solving it, and failing
#
# Lesson 8 left one linear system, $Hv = f_\phi$, with the Hessian $H$ of the inner loss. For a network with a million weights
# $H$ has $10^{12}$ entries, so we had better not write it down. And the theorem can fail, in six ways, each of which should be
# loud.
#
# **You will**
# - solve the system with the matrix, and by two iterations that only ask for products $Hp$;
# - prove that truncated backpropagation *is* one of these iterations, stopped early;
# - compare what a product buys, at condition number 71;
# - see the theorem fail in six ways, and hear what the library says.
#
# **You need** lesson 8 (the theorem, and iMAML's term), lesson 7 (the adjoint recursion, truncation), lesson 4 ($Hp$ without
# $H$). Half an hour.

# %%
import textwrap
import warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import solve_triangular

# %%
import tinymeta as tm
from tinymeta.comparison import angle
from tinymeta.plots import save
from tinymeta.tasks import quadratics, sinusoids

# %% [markdown]
# ## 1. The system
#
# The *condition number* $\kappa = h_{\max} / h_{\min}$, from the largest and the smallest eigenvalue of $H$, says how hard the
# system is. We take a quadratic $L = \frac12 \phi^\top A \phi - b^\top \phi$ whose $A$ has eigenvalues from $1/\kappa^2$ to 1,
# and add iMAML's term $\frac\lambda2|\phi-\theta|^2$ with $\lambda=1/\kappa$: then $H=A+\lambda I$ has the condition number
# $\frac{1+1/\kappa}{1/\kappa^2+1/\kappa}=\frac{\kappa(\kappa+1)}{1+\kappa}=\kappa$. The gradient contains $-\lambda\theta$, so
# $M=-\lambda I$; and $f$ contains no $\theta$. By lesson 8 $dF/d\theta=-M^\top v=\lambda v$, `v / kappa` in the code.

# %%
kappa, rng = 71, np.random.default_rng(9)
problem = tm.implicit.proximal(tm.Bilevel(quadratics.inner, quadratics.outer), 1 / kappa)
task, theta = quadratics.draw(rng, 20, condition=kappa**2), rng.standard_normal(20)
phi = tm.implicit.solve_inner(problem, theta, task, method="quadratic")  # one Newton step
H, f_phi = tm.hessian(problem.inner)(phi, theta, task), tm.grad(problem.outer)(phi, theta, task)
h = np.linalg.eigvalsh(H)
print(f"eigenvalues from {h[0]:.4f} to {h[-1]:.4f}, condition number {h[-1] / h[0]:.10f}")


# %%
def product(p):
    return tm.hvp(lambda phi: problem.inner(phi, theta, task), phi, p)


# %% [markdown]
# ## 2. With the matrix
#
# With $n$ unknowns, $n$ products make the columns of $H$. A positive definite matrix, and no other, is $H = RR^\top$ with a
# lower triangular $R$ of positive diagonal: Cholesky's factorisation. *Put* it in, and *name* what stands right of the first
# factor:
#
# $$ R\,(R^\top v) = f_\phi \qquad\Longrightarrow\qquad R w = f_\phi, \qquad R^\top v = w . $$
#
# Every line of each has one unknown more, so both are solved line by line. If there is no factor, along some direction $L$
# doesn't curve upwards.


# %%
def by_cholesky(H, f_phi):
    R = np.linalg.cholesky(H)
    return solve_triangular(R.T, solve_triangular(R, f_phi, lower=True))


# %% [markdown]
# ## 3. Conjugate gradients
#
# $Hv = f_\phi$ says that $q(v) = \frac12 v^\top H v - f_\phi^\top v$ has the gradient zero. The *residual* $r = f_\phi - Hv$ is
# minus that gradient. So go down on $q$. Along a direction $p$, $q(v + ap)$ is a parabola in $a$; *differentiate* it and *set to
# zero*:
#
# $$ -p^\top r + a\, p^\top H p = 0 \qquad\Longrightarrow\qquad a = \frac{p^\top r}{p^\top H p} . $$
#
# There is a lowest point only if $p^\top H p > 0$: CG needs a positive definite $H$. *Multiply* the step $v + ap$ by $-H$ and
# *add* $f_\phi$: the residual becomes $r - a Hp$. The next direction is downhill, along $r$, with so much of the old one,
# $p' = r + \beta p$, that it doesn't spoil what $p$ has achieved. A step along $p'$ changes the slope along $p$ by a multiple of
# $p^\top H p'$. *Set* that to zero; $H$ is symmetric:
#
# $$ p^\top H r + \beta\, p^\top H p = 0 \qquad\Longrightarrow\qquad \beta = - \frac{r^\top H p}{p^\top H p} . $$
#
# One thing we take from Hestenes and Stiefel (1952): $p'$ spoils none of the earlier directions either. So after $n$ steps the
# slope is zero along $n$ independent directions, and $v$ is the solution.


# %%
def conjugate_gradients(product, f_phi, steps):
    v, r, p = 0 * f_phi, f_phi, f_phi
    for _ in range(steps):
        Hp = product(p)
        a = (p @ r) / (p @ Hp)
        v, r = v + a * p, r - a * Hp
        p = r - (r @ Hp) / (p @ Hp) * p
    return v


# %% [markdown]
# ## 4. The Neumann series is truncated backpropagation
#
# Let $B = I - \alpha H$ and $S_k = I + B + \dots + B^{k-1}$. *Multiply* by $I - B = \alpha H$. All but two terms *cancel*:
#
# $$ \alpha H S_k = I - B^k . $$
#
# Take $v_k = \alpha S_k f_\phi$ for an answer. *Multiply* the line by $H^{-1}$, which *commutes* with $B$, and by $f_\phi$:
#
# $$ v_k = \alpha \sum_{j<k} B^j f_\phi = v - B^k v . \tag{1} $$
#
# The error is known exactly. In an eigenvector's direction each step multiplies it by $1 - \alpha h$. It dies out in all of them
# if and only if $0 < \alpha h < 2$ for every eigenvalue.
#
# Now lesson 7. A step of gradient descent moves by $d\phi_{t+1} = B_t\, d\phi_t - \alpha M_t\, d\theta$, with
# $B_t = I - \alpha H_t$. Its recursion ($\lambda_t$ is the adjoint, not iMAML's $\lambda$), with the general $M_t$ where it
# had $\phi_t$, and with a direct part, truncated to the last $k$ of $K$ steps, is
#
# $$ \lambda_K = f_\phi, \qquad \lambda_t = B_t\, \lambda_{t+1}, \qquad
#    \frac{dF}{d\theta} \approx f_\theta - \alpha \sum_{t=K-k}^{K-1} M_t^\top \lambda_{t+1} . $$
#
# *Let* the steps have arrived: $B_t = B$ and $M_t = M$. *Put* the recursion into itself, $\lambda_{K-j} = B^j f_\phi$, and *put*
# that into the sum, from its end, $t + 1 = K - j$:
#
# $$ \boxed{\; f_\theta - \alpha \sum_{j<k} M^\top B^j f_\phi = f_\theta - M^\top v_k \;} \tag{2} $$
#
# Truncated backpropagation at the end of the adaptation *is* the implicit gradient with the series cut after $k$ terms. By (1)
# it is off by $M^\top B^k v$. (And $k = 1$ is the one-step gradient of DARTS.)


# %%
def neumann(product, f_phi, terms, alpha):
    v, power = alpha * f_phi, f_phi
    for _ in range(terms - 1):
        power = power - alpha * product(power)
        v = v + alpha * power
    return v


# %%
alpha, v = 2 / (h[0] + h[-1]), by_cholesky(H, f_phi)  # section 6 says why this α
descent = partial(tm.maml.meta_gradient, problem, theta, task, lr=alpha, by="recursion")

# %%
for k in (1, 10, 100):
    series = neumann(product, f_phi, k, alpha) / kappa
    truncated = descent(steps=1500, truncate=k).grad
    by_remainder = (v - np.linalg.matrix_power(np.eye(20) - alpha * H, k) @ v) / kappa
    gaps = [np.max(np.abs(series - other)) for other in (truncated, by_remainder)]
    print(f"k = {k:>3}: the series differs from the last k of 1500 steps by {gaps[0]:.1e}, and from (1) by {gaps[1]:.1e}")
    assert max(gaps) < 1e-12

# %% [markdown]
# ## 5. Check
#
# Every way against the explicit solve, and against the judge, who moves $\theta$ along a random unit vector $u$ and solves the
# inner problem again. The last three rows are no solutions: CG stopped early; no solve at all, $v = f_\phi$; the series with
# $\alpha$ forgotten. **Predict** which of them you would notice while training, and which the *relative residual*
# $|Hv - f_\phi| / |f_\phi|$ tells, for one more product and without a judge.

# %%
ways = {
    "Cholesky, by hand": v,
    "CG, by hand, 20 products": conjugate_gradients(product, f_phi, 20),
    "Neumann, by hand, 1500 terms": neumann(product, f_phi, 1500, alpha),
}
for name in ("cholesky", "lu", "cg", "minres", "gmres", "neumann"):
    ways[f"tm, {name}"] = tm.implicit.solve(H, f_phi, name).v
ways |= {"CG, 10 products": conjugate_gradients(product, f_phi, 10), "no solve": f_phi, "Neumann without α": v / alpha}


# %%
def solve_again(theta):
    return problem.outer(tm.implicit.solve_inner(problem, theta, task, method="quadratic"), theta, task)


u = rng.standard_normal(20)
u = u / np.linalg.norm(u)
approximate = (solve_again(theta + 0.1 * u) - solve_again(theta - 0.1 * u)) / 0.2  # F is quadratic: no need for a small h


# %%
explicit = np.linalg.solve(H, f_phi)


def measure(found):
    error, residual = np.linalg.norm(found - explicit) / np.linalg.norm(explicit), np.linalg.norm(H @ found - f_phi) / np.linalg.norm(f_phi)
    return found @ u / kappa, found @ u / kappa - approximate, error, angle(found, explicit), residual


# %%
print(f"{'along u':<30}{'exact':>15}{'approximate':>15}{'difference':>12}{'from explicit':>15}{'degrees':>9}{'residual':>10}")
for name, found in ways.items():
    slope, difference, error, degrees, residual = measure(found)
    print(f"{name:<30}{slope:>15.11f}{approximate:>15.11f}{difference:>12.1e}{error:>15.1e}{degrees:>9.1f}{residual:>10.1e}")
    assert (abs(difference) < 1e-9) == (error < 1e-8) == (residual < 1e-9) == (name in list(ways)[:9])

# %% [markdown]
# The nine that should agree do. You would notice none of the last three while training: the angle to the gradient is small.
# The residual tells all, and is always in `.info["residual"]`.
#
# ## 6. What a product buys
#
# How fast? For Neumann, by (1), the worst of $|1 - \alpha h|$ counts. It is smallest where both ends are alike,
# $1 - \alpha h_{\min} = \alpha h_{\max} - 1$; *solve* for $\alpha$ and *put* it back:
#
# $$ \alpha = \frac{2}{h_{\min} + h_{\max}}, \qquad 1 - \alpha h_{\min} = \frac{\kappa - 1}{\kappa + 1} . $$
#
# CG's error, by another theorem, falls at least as fast as Neumann's would with $\sqrt\kappa$ in place of $\kappa$.
#
# **Predict.** On the left, the error of $dF/d\theta$ against Hessian products, for CG, Neumann, the last $k$ of 1500 steps, and
# $k$ steps from $\theta$. Which lie on one another? On the right, for 2000 unknowns, the products until the residual is $10^{-6}$,
# against $\kappa$: which slopes?

# %%
exact = tm.implicit.meta_gradient(problem, theta, task, phi=phi)
implicit, counts = partial(tm.implicit.meta_gradient, problem, theta, task, phi=phi), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
methods = {
    "CG": (lambda k: implicit(solver="cg", iterations=k), range(1, 21), "C0o-"),
    "k steps from θ": (lambda k: descent(steps=k), counts, "C2s-"),
    "Neumann": (lambda k: implicit(solver="neumann", iterations=k, alpha=alpha), counts, "C1-"),
    "last k of 1500 steps": (lambda k: descent(steps=1500, truncate=k), counts[::2], "kx"),
}


# %%
def draw_errors(ax):
    for name, (estimate, counts, style) in methods.items():
        results = [estimate(k) for k in counts]
        errors = [np.linalg.norm(result.grad - exact.grad) / np.linalg.norm(exact.grad) for result in results]
        ax.loglog([result.info["hessian_products"] for result in results], errors, style, label=name)
    ax.set(title=f"Condition number {kappa}, {len(phi)} unknowns", xlabel="Hessian products", ylabel="relative error of dF/dθ")
    ax.legend()


# %%
def draw_conditions(ax, kappas=(3, 10, 30, 100, 300, 1000)):
    for name, color, slope in (("CG", "C0", 0.5), ("Neumann", "C1", 1.0)):
        spectra = [np.linspace(1 / k, 1, 2000) for k in kappas]
        settings = [{"tolerance": 1e-6, "alpha": 2 / (h[0] + h[-1])} for h in spectra]  # CG has no use for α
        found = [tm.implicit.solve(lambda p, h=h: h * p, 0 * h + 1, name.lower(), **s) for h, s in zip(spectra, settings, strict=True)]
        ax.loglog(kappas, [solution.hessian_products for solution in found], color + "o-", label=name)
        ax.loglog(kappas, found[0].hessian_products * np.divide(kappas, 3) ** slope, color + ":", label=f"slope {slope}")
    ax.set(title="Until the residual is 1e-6", xlabel="condition number", ylabel="Hessian products")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
draw_errors(left)
draw_conditions(right)
right.legend()
save(figure, "09_what_a_product_buys")
assert np.allclose(implicit(solver="cg", iterations=20).grad, exact.grad, rtol=1e-9)
assert not np.allclose(implicit(solver="neumann", iterations=500, alpha=alpha).grad, exact.grad, rtol=1e-9, atol=1e-9)

# %% [markdown]
# See the crosses on the orange line, as (2) says, and the steps from $\theta$, which haven't arrived, hardly above it. CG needs 20
# products for 20 unknowns (and one for the residual); Neumann isn't there after 500. On the right, ten times the condition
# number costs Neumann ten times the products, and CG about three times.
#
# ## 7. Failing
#
# `tell` prints what the library says. **Predict** before each: an error, a warning, or nothing?


# %%
def listen(*problem, **options):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            said = f"a gradient of norm {np.linalg.norm(tm.ravel(tm.implicit.meta_gradient(*problem, **options).grad)[0]):.4g}"
        except (ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
            said = f"{type(error).__name__}: {error}"
    return [said, *(f"RuntimeWarning: {warning.message}" for warning in heard)]


# %%
def tell(name, words, *problem, **options):
    said = listen(*problem, **options)
    print(name, *(textwrap.indent(textwrap.fill(text, 116), "    ") for text in said), sep="\n")
    assert words in " ".join(said) and (words or len(said) == 1), words  # no words: it should have no complaints


# %% [markdown]
# **A singular $H$.** Three points, four weights: $L$ has a valley with a level floor, and no reason to prefer one of its points.
# The message offers *damping*, which solves $(H + \delta I)\, \tilde v = f_\phi = Hv$. *Subtract* $(H + \delta I)\, v$ from both
# sides, and *solve*:
#
# $$ \tilde v - v = -\delta\, (H + \delta I)^{-1} v . $$
#
# In the direction of an eigenvalue $h$ the share $\delta / (h + \delta)$ is lost: an easier system, and another answer.

# %%
X, y = rng.standard_normal((3, 4)), rng.standard_normal(3)
valley = tm.Bilevel(
    inner=lambda phi, theta, task: np.mean((X @ phi + theta - y) ** 2) / 2,
    outer=lambda phi, theta, task: np.sum(phi**2) / 2,
    init=lambda theta, task: np.ones(4),
)
tell("a valley", "not positive definite", valley, 1.0, None)

# %%
for damping in (0, 0.001, 0.01, 0.1):
    bias = implicit(damping=damping).info["damping_bias"]
    print(f"section 1 with δ = {damping:<5}: condition number {(h[-1] + damping) / (h[0] + damping):>4.1f}, v is off by {bias:>5.1%}")

# %% [markdown]
# **An indefinite $H$.** $L = \frac14 \phi^4 - \frac12 \phi^2 - \theta\phi$ has two wells and a hill between. The theorem holds on
# the hill as well, but no descent stays there.

# %%
wells = tm.Bilevel(lambda phi, theta, task: phi**4 / 4 - phi**2 / 2 - theta * phi, lambda phi, theta, task: phi)
right_well, left_well, hill = np.roots([1, 0, -1, -0.1])  # where L' = phi^3 - phi - theta is 0, for theta = 0.1
tell("a well, Cholesky", "", wells, 0.1, None, phi=right_well)
for solver, words in (("cholesky", "not positive definite"), ("cg", "met a direction"), ("lu", "saddle point or a maximum")):
    tell(f"the hill, {solver}", words, wells, 0.1, None, phi=hill, solver=solver)

# %% [markdown]
# **A point that is not the end.** Lesson 7's network with iMAML's term, after ten steps. What comes out is the gradient of no
# algorithm: not of the ten steps, nor of the end.

# %%
rng = np.random.default_rng(2)
sine = tm.tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
start, unravel = tm.ravel(tm.nn.initialize_mlp(rng, (1, 8, 1)))


def error(phi, data):
    return tm.nn.mean_squared_error(tm.nn.mlp(unravel(phi), data.x, np.tanh), data.y)


# %%
free = tm.Bilevel(lambda phi, theta, task: error(phi, task.support), lambda phi, theta, task: error(phi, task.query))
network = tm.implicit.proximal(free, 1.0)
phis = tm.maml.inner_steps(network, start, sine, steps=200, lr=0.08)[0]
tell("after 10 steps", "phi does not solve", network, start, sine, phi=phis[10])
tell("after 200 steps", "", network, start, sine, phi=phis[200])


# %%
def early_gradient(phi):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tm.implicit.meta_gradient(network, start, sine, phi=phi).grad


of_the_end = tm.implicit.meta_gradient(network, start, sine).grad
of_the_steps = tm.maml.meta_gradient(network, start, sine, steps=10, lr=0.08).grad
for name, gradient in (("steps", of_the_steps), ("end", of_the_end)):
    print(f"after 10 steps it is {angle(early_gradient(phis[10]), gradient):.1f} degrees from the gradient of the {name}")

# %% [markdown]
# **A learning rate.** The end doesn't depend on how it is reached. The zero is right, and useless: differentiate the steps.

# %%
starts = tm.Bilevel(free.inner, free.outer, init=lambda theta, task: theta["start"])
tell("a rate", "theta['rate'] enters neither", tm.implicit.proximal(starts, 1.0), {"start": start, "rate": 0.08}, sine)

# %% [markdown]
# **A solver that doesn't arrive.** With $\kappa = 10^8$, rounding spoils CG's directions; with too large an $\alpha$ the series
# explodes. (Five iterations that you *ask* for are no failure: read the residual.)

# %%
steep = tm.implicit.proximal(tm.Bilevel(quadratics.inner, quadratics.outer), 1e-8), theta, quadratics.draw(rng, 20, condition=1e16)
tell("condition number 1e8", "not converged", *steep, solver="cg", phi=tm.implicit.solve_inner(*steep, method="quadratic"))
tell("α = 2.1 / h_max", "diverges", problem, theta, task, phi=phi, solver="neumann", alpha=2.1 / h[-1])
tell("five iterations of CG", "", problem, theta, task, phi=phi, solver="cg", iterations=5)
print("    and its residual:", implicit(solver="cg", iterations=5).info["residual"])

# %% [markdown]
# **A kink.** $L = \frac12 (\phi - \theta)^2 + \max(\phi, 0)$ has its minimum at $\theta$ for $\theta < 0$, at $\theta - 1$ for
# $\theta > 1$, and in between *in the kink*, at 0, where $L'$ jumps over zero. There $d\phi^\star / d\theta = 0$. The theorem's
# formula, with $H = 1$ and $M = -1$, says 1.

# %%
kink = tm.Bilevel(lambda phi, theta, task: (phi - theta) ** 2 / 2 + tm.relu(phi), lambda phi, theta, task: phi)
tell("left of the kink", "", kink, -0.7, None)
tell("in the kink", "no stationary point", kink, 0.5, None)
tell("in the kink, with phi given", "phi does not solve", kink, 0.5, None, phi=0.0)

# %% [markdown]
# **Predict** three pictures: where $L' = 0$ for the wells, against $\theta$; the network's error against $|\nabla L|$, after 2 to
# 200 steps; $\phi^\star$ with the kink. Where is the theorem's slope vertical, where does it cut?


# %%
def slopes(ax, problem, *points):
    for theta, phi in points:
        H, M = tm.jacobian(tm.grad(problem.inner), argnums=(0, 1))(phi, theta, None)
        half = 0.3 / np.hypot(1, M / H)
        ax.plot([theta - half, theta + half], [phi + half * M / H, phi - half * M / H], "C1", linewidth=2, zorder=3)
        ax.plot(theta, phi, "C1o", zorder=3)
    ax.plot([], [], "C1o-", linewidth=2, label="the theorem's slope")


# %%
def draw_wells(ax):
    phi = np.linspace(-1.4, 1.4, 401)
    for kind, chosen, style in (("a well", 3 * phi**2 > 1, "C0"), ("the hill", 3 * phi**2 < 1, "C3--")):
        ax.plot(np.where(chosen, phi**3 - phi, np.nan), phi, style, label=kind)
    slopes(ax, wells, (0.1, right_well), (0.1, hill), (0.1, left_well), (0.6**3 - 0.6, 0.6))
    ax.set(title="Two wells and a hill", xlabel="θ", ylabel="φ where L' = 0")
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.62), fontsize=8)


# %%
def draw_distance(ax):
    steps, size = np.geomspace(2, 200, 12).astype(int), np.linalg.norm(of_the_end)
    g = [np.linalg.norm(tm.grad(network.inner)(phis[k], start, sine)) for k in steps]
    errors = [np.linalg.norm(early_gradient(phis[k]) - of_the_end) / size for k in steps]
    ax.loglog(g, errors, "C0o-", label="error of the formula")
    ax.loglog(g, np.multiply(g, errors[-1] / g[-1]), "k:", label="slope 1")
    ax.set(title="The network, after 2 to 200 steps", xlabel="|∇L| where it is applied", ylabel="relative error")
    ax.legend()


# %%
def draw_kink(ax):
    ax.plot([-1.2, 0, 1, 2.2], [-1.2, 0, 0, 1.2], "C0")
    slopes(ax, kink, (-0.7, -0.7), (0.5, 0.0), (1.6, 0.6))
    ax.set(title="A minimum in a kink", xlabel="θ", ylabel="φ*")
    ax.legend()


# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
for ax, draw_panel in zip(axes, (draw_wells, draw_distance, draw_kink), strict=True):
    draw_panel(ax)
save(figure, "09_failing")

# %% [markdown]
# See on the left that where a well meets the hill, $H = 0$ and the slope is vertical. Beyond, the well is gone, and
# $\phi^\star$ jumps. In the middle, near the end a tenth of $|\nabla L|$ is a tenth of the error. On the right, the formula
# cuts the curve in the kink.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_9_1(memory)`.
#
# **Exercise 9.1: a singular $H$.** On $L = \frac12 \phi^\top A \phi - b^\top \phi$ with a singular $A$ ($b$ in its range) the
# theorem refuses. Gradient descent doesn't. Which matrix is $\lim (I - \alpha A)^K$ for small $\alpha$, the Jacobian of its
# end by its start? And iMAML's $\lim_{\lambda \to 0} \lambda (A + \lambda I)^{-1}$? (`np.linalg.pinv` helps.)


# %%
def memory(A):
    """The matrix that both limits are."""
    raise NotImplementedError("exercise 9.1")


# %%
def limits(A):
    """Both limits, nearly."""
    plain, its_task = tm.Bilevel(quadratics.inner, quadratics.outer), quadratics.Quadratic(A, A @ np.ones(4), np.eye(4), np.zeros(4))
    end = lambda start: tm.maml.adapt(plain, start, its_task, steps=1000, lr=1 / np.linalg.norm(A, 2))
    return tm.jacobian(end)(np.ones(4)), 1e-8 * np.linalg.inv(A + 1e-8 * np.eye(4))


# %%
def check_9_1(memory):
    for points in (3, 1):
        A = X[:points].T @ X[:points] / points
        by_steps, by_imaml = (np.max(np.abs(memory(A) - limit)) for limit in limits(A))
        print(f"A from {points} of the points: your matrix differs from 1000 steps by {by_steps:.1e}, from iMAML by {by_imaml:.1e}")
        assert by_steps < 1e-9 and by_imaml < 1e-6


# %% tags=["solution"]
# In an eigenvector's direction the powers are (1 - alpha h)^K, and lambda / (h + lambda): both tend to 0 for h > 0, and are 1 for
# h = 0. So both limits are the projector on the null space. The floor of the valley remembers where one set out.
def memory(A):
    return np.eye(len(A)) - np.linalg.pinv(A) @ A


check_9_1(memory)

# %% [markdown]
# **Exercise 9.2: an inexact inner solution.** You have a $\phi$ near the end, and may form $H$ there. The error of
# `early_gradient(phi)` is proportional to the distance $|\phi - \phi^\star|$. Make it proportional to its *square*. (Near
# $\phi^\star$, $\nabla L(\phi) \approx H (\phi - \phi^\star)$.)


# %%
def corrected(phi):
    """dF/d theta of `network` at its end, for `start` and `sine`, from a phi nearby."""
    raise NotImplementedError("exercise 9.2")


# %%
def check_9_2(corrected):
    for k in (10, 20, 50, 100):
        gradients = early_gradient(phis[k]), corrected(phis[k])
        before, after = (np.linalg.norm(gradient - of_the_end) / np.linalg.norm(of_the_end) for gradient in gradients)
        print(f"{k:>3} steps: the error was {before:.1e}, is {after:.1e}; is / was² = {after / before**2:.2f}")
        assert after < before**2


# %% tags=["solution"]
# A Newton step, phi - inv(H) grad L, is at the end up to the square of the distance: what Taylor's formula leaves out.
def corrected(phi):
    H, g = tm.hessian(network.inner)(phi, start, sine), tm.grad(network.inner)(phi, start, sine)
    return early_gradient(phi - np.linalg.solve(H, g))


check_9_2(corrected)

# %% [markdown]
# **Exercise 9.3: a kink.** $L = \frac{1}{2n} |X\phi - y|^2 + \theta \sum_j |\phi_j|$ sets some weights exactly to 0, in their
# kinks. For a small move of $\theta$ those stay there, and for the others the condition is an equation. Find
# $d\phi^\star / d\theta$.


# %%
def lasso(X, y, theta, steps=5000):
    phi, alpha = np.zeros(X.shape[1]), len(X) / np.linalg.norm(X, 2) ** 2
    for _ in range(steps):  # a step on the square, then towards 0
        phi = phi - alpha * X.T @ (X @ phi - y) / len(X)
        phi = np.sign(phi) * np.maximum(np.abs(phi) - alpha * theta, 0)
    return phi


# %%
def lasso_slope(X, phi):
    """The derivative of phi by theta, at the end phi."""
    raise NotImplementedError("exercise 9.3")


# %%
def check_9_3(lasso_slope):
    X = np.random.default_rng(5).standard_normal((12, 5))
    y = X @ np.array([1.0, -2.0, 0.0, 0.0, 0.5])
    found = lasso_slope(X, lasso(X, y, 0.3))
    again = (lasso(X, y, 0.3 + 1e-5) - lasso(X, y, 0.3 - 1e-5)) / 2e-5
    print("dφ/dθ:", found.round(4), "largest difference from solving again:", np.max(np.abs(found - again)))
    assert np.allclose(found, again, atol=1e-8) and 0 < np.sum(again == 0) < 5


# %% tags=["solution"]
# For the weights S that are not 0: X_S' (X_S phi_S - y) / n + theta sign(phi_S) = 0, so dphi_S = -inv(X_S' X_S / n) sign(phi_S).
# For the others: 0. The theorem holds on each piece; between the pieces phi* has corners.
def lasso_slope(X, phi):
    kept, slope = phi != 0, np.zeros(len(phi))
    slope[kept] = -np.linalg.solve(X[:, kept].T @ X[:, kept] / len(X), np.sign(phi[kept]))
    return slope


check_9_3(lasso_slope)

# %% [markdown]
# ## Symbols
#
# The papers are Lorraine et al., *Optimizing millions of hyperparameters by implicit differentiation* (2020), and Hestenes and
# Stiefel, *Methods of conjugate gradients for solving linear systems* (1952). On (2) see Shaban et al., *Truncated
# back-propagation for bilevel optimization* (2019).
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $\mathbf v_1$; $k$ in 1952 | $f_\phi$ | `f_phi` | (n,) |
# | $\mathbf v_2$; $x$ in 1952 | $v$ | `v` | (n,) |
# | $\mathbf v_3$ | $M^\top v = -\lambda v$ | `-v / kappa` | (p,) |
# | $p_i$, $r_i$ | $p$, $r$ | `p`, `r` | (n,) |
# | $a_i$, $b_i$ | $a$, $\beta$ | `a` | () |
# | | $\kappa$, $h$, $B$ | `kappa`, `h`, not formed | (), (n,), (n, n) |
#
# **Next:** an adaptation whose steps are themselves learned, by an LSTM.
