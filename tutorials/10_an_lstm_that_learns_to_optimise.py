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
# # Lesson 10: An LSTM that learns to optimise
#
# Gradient descent is a rule that somebody invented. A small recurrent network can learn one of its own. To train it we
# differentiate through all that it did: the steps it made, and the memory it kept. Then we let it run for longer than it was
# trained for.
#
# **You will**
# - derive backpropagation through two loops at once, the inner steps and the network's recurrence;
# - follow the two ways in which a weight acts, and see what is lost if one is dropped;
# - train the network in seconds, and race it against tuned SGD, momentum, RMSProp and Adam;
# - watch it fail past its horizon, and find out why.
#
# **You need** lesson 7 (pair, cross, add up: the adjoint recursion) and lesson 4 ($Hv$ without $H$). Half an hour.

# %%
import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.plots import learning_curves, save
from tinymeta.tasks import quadratics

# %% [markdown]
# ## 1. The tasks
#
# As in Andrychowicz et al. (2016), a task is a quadratic in ten dimensions, with standard normal elements of $W$ and $y$, and
# a start $\phi_0$ near 0:
#
# $$ L(\phi) = |W\phi - y|^2 . $$
#
# It is the inner and the outer loss at once. What has to generalise is the rule, to unseen tasks.

# %%
problem = tm.Bilevel(inner=quadratics.distance, outer=quadratics.distance, init=quadratics.start)
draw = lambda rng, count: quadratics.draw_distances(rng, count, distribution="normal")
rng = np.random.default_rng(10)
task = tm.tree.map(lambda x: x[0], draw(rng, 1))

# %% [markdown]
# ## 2. A rule with weights
#
# In each step the rule $U_\theta$ is shown where it stands, the loss and the gradient. It answers with an update, and with a
# state $s$ that it will get back in the next step:
#
# $$ L_t = L(\phi_t), \quad g_t = \nabla L(\phi_t), \qquad (\Delta_t, s_{t+1}) = U_\theta(\phi_t, L_t, g_t, s_t), \qquad
#    \phi_{t+1} = \phi_t - \Delta_t . \tag{1} $$
#
# $U_\theta$ treats each coordinate of $\phi$ by itself, with the same weights for all and a state for each. So it fits any
# number of parameters. It is an LSTM (Hochreiter and Schmidhuber 1997): its state is $(h, c)$, 20 numbers each, the
# next one $(h', c')$. With $x = (\phi_j, L, g_j)$ for coordinate $j$, and $\sigma(a) = 1/(1+e^{-a})$,
#
# $$ \begin{aligned}
# [\,i, f, o, u\,] &= [x, h]\, W + b , \\
# c' &= \sigma(f)\, c + \sigma(i) \tanh u && \text{forget a part, add a part,} \\
# h' &= \sigma(o) \tanh c' && \text{show a part,} \\
# \Delta &= \tfrac{1}{10}(h'w+\beta) && \text{begin with small steps.}
# \end{aligned} $$
#
# $\theta$ is all of $W$ (not the task's), $b$, $w$ and $\beta$.


# %%
def rule(theta, phi, loss, g, state):
    x = np.stack([phi, loss * np.ones_like(phi), g], axis=1)  # a row for each coordinate
    h, c = tm.nn.lstm_cell(theta["lstm"][0], x, state)
    return 0.1 * (h @ theta["output"]["W"] + theta["output"]["b"])[:, 0], (h, c)


# %%
def descend(theta, task, steps):
    """phi_K, and what the rule was shown on the way there."""
    phi, state, seen = task.phi_0, (np.zeros((10, 20)), np.zeros((10, 20))), []
    for _ in range(steps):
        seen.append((phi, *tm.value_and_grad(problem.inner)(phi, None, task), state))
        delta, state = rule(theta, *seen[-1])
        phi = phi - delta
    return phi, seen


# %% [markdown]
# A rule is judged by all losses on the way, so that it learns to be quick:
#
# $$ F(\theta) = \sum_{t=1}^{K} L(\phi_t(\theta)) . \tag{2} $$
#
# ## 3. Back through two loops
#
# Let $\theta$ move. *Differentiate* (2), with $g_K = \nabla L(\phi_K)$. Then *differentiate* (1): the loss changes by the
# gradient, the gradient by the Hessian $H_t$ at $\phi_t$, and the step is linear.
#
# $$ dF = \sum_{t=1}^{K} \langle g_t, d\phi_t\rangle, \qquad dL_t = \langle g_t, d\phi_t\rangle, \qquad
#    dg_t = H_t\, d\phi_t, \qquad d\phi_{t+1} = d\phi_t - d\Delta_t . \tag{3} $$
#
# $U$ has five arguments and two results. *Pair* the results with cotangents $a$ and $b$. The sweep through $U$, `tm.vjp`,
# returns a cotangent for each argument, so that for all changes
#
# $$ \langle a, d\Delta_t\rangle + \langle b, ds_{t+1}\rangle = \langle \bar\theta_t, d\theta\rangle
#    + \langle \bar\phi_t, d\phi_t\rangle + \bar L_t\, dL_t + \langle \bar g_t, dg_t\rangle
#    + \langle \bar s_t, ds_t\rangle . \tag{4} $$
#
# A step hands two things on, so we carry two adjoints: $\lambda$ for $\phi$, as in lesson 7, and $\mu$ for the state.
#
# $$ \begin{aligned}
# &\langle \lambda_{t+1}, d\phi_{t+1}\rangle + \langle \mu_{t+1}, ds_{t+1}\rangle \\
# &= \langle \lambda_{t+1}, d\phi_t\rangle - \langle \lambda_{t+1}, d\Delta_t\rangle + \langle \mu_{t+1}, ds_{t+1}\rangle
#    && \text{by (3)} \\
# &= \langle \lambda_{t+1} + \bar\phi_t, d\phi_t\rangle + \bar L_t\, dL_t + \langle \bar g_t, dg_t\rangle
#    + \langle \bar s_t, ds_t\rangle + \langle \bar\theta_t, d\theta\rangle
#    && \text{by (4), } a = -\lambda_{t+1},\; b = \mu_{t+1} \\
# &= \langle \lambda_{t+1} + \bar\phi_t + \bar L_t\, g_t, d\phi_t\rangle + \langle \bar g_t, H_t\, d\phi_t\rangle
#    + \langle \bar s_t, ds_t\rangle + \langle \bar\theta_t, d\theta\rangle && \text{by (3)} \\
# &= \langle \lambda_{t+1} + \bar\phi_t + \bar L_t\, g_t + H_t\, \bar g_t, d\phi_t\rangle
#    + \langle \bar s_t, ds_t\rangle + \langle \bar\theta_t, d\theta\rangle && \text{cross, } H_t \text{ symmetric.}
# \end{aligned} $$
#
# *Name* what stands before $d\phi_t$ and $ds_t$, with an extra $g_t$ for the term of (2) that $\phi_t$ has itself:
#
# $$ \boxed{\; \lambda_t = g_t + \lambda_{t+1} + \bar\phi_t + \underbrace{\bar L_t\, g_t + H_t\, \bar g_t}_{\text{by } L_t,\, g_t},
#    \qquad \mu_t = \bar s_t, \qquad \lambda_K = g_K, \quad \mu_K = 0 \;} \tag{5} $$
#
# In these names the first line above equals the last:
#
# $$ \langle \lambda_{t+1}, d\phi_{t+1}\rangle + \langle \mu_{t+1}, ds_{t+1}\rangle
#    = \langle \lambda_t - g_t, d\phi_t\rangle + \langle \mu_t, ds_t\rangle + \langle \bar\theta_t, d\theta\rangle . $$
#
# *Add* this for $t = 0, \dots, K - 1$. Except for a $g_t$, the left of one equation stands on the right of the next, and
# *cancels*. $\phi_0$ and $s_0$ don't move, and $\mu_K$ is 0:
#
# $$ \langle g_K, d\phi_K\rangle = -\sum_{t=1}^{K-1} \langle g_t, d\phi_t\rangle
#    + \sum_{t=0}^{K-1} \langle \bar\theta_t, d\theta\rangle . $$
#
# *Move* the first sum to the left, where it completes the $dF$ of (3). All this holds for every $d\theta$:
#
# $$ \frac{dF}{d\theta} = \sum_{t=0}^{K-1} \bar\theta_t . \tag{6} $$


# %%
def back(theta, task, seen, lambda_, mu, keep):
    """From t + 1 to t: lambda_t, mu_t, and this step's share of (6). Without `keep` the underbraced part is left out."""
    phi, _, g, _ = seen
    _, sweep = tm.vjp(rule, theta, *seen)
    theta_bar, phi_bar, L_bar, g_bar, s_bar = sweep((-lambda_, mu))
    shown = L_bar * g + tm.hvp(lambda phi: problem.inner(phi, None, task), phi, g_bar) if keep else 0
    return g + lambda_ + phi_bar + shown, s_bar, theta_bar


# %%
def by_recursion(theta, task, steps, keep=True):
    phi, seen = descend(theta, task, steps)
    lambda_, mu = tm.grad(problem.outer)(phi, None, task), (np.zeros((10, 20)), np.zeros((10, 20)))
    total = tm.tree.map(np.zeros_like, theta)
    for step in reversed(seen):
        lambda_, mu, theta_bar = back(theta, task, step, lambda_, mu, keep)
        total = tm.tree.map(np.add, total, theta_bar)
    return total


# %% [markdown]
# $\mu$ alone is backpropagation through time, as in any recurrent network, and $\lambda$ alone is lesson 7. They meet in $U$,
# since the network sees what its own steps have done. So a weight acts in two ways: through the *updates*, which move all
# later $\phi$, and through the losses and *gradients* that the rule is then shown. The second way brings the Hessian.
# Andrychowicz et al. *drop* it: they take $L_t$ and $g_t$ for constants, and (5) loses its underbraced part. That saves the
# second derivatives. It isn't the derivative of $F$.
#
# ## 4. Check
#
# The judge is central differences of $F$, along single weights and a random direction. **Predict:** for which $K$ does
# dropping make no difference? How large is the angle between the two gradients at $K = 20$?

# %%
theta = tm.learned_optimizer.initialize(rng, hidden=20, layers=1)
options = {"steps": 20, "losses": "sum"}
gradients = {}
for keep in (True, False):
    result = tm.learned_optimizer.meta_gradient(problem, theta, task, second_derivatives=keep, **options)
    gradients[keep], by_graph = (tm.ravel(tree)[0] for tree in (by_recursion(theta, task, 20, keep), result.grad))
    print(f"second_derivatives={keep}: {result.info['hessian_products']} Hessian products, {result.info['nodes']} graph nodes,")
    print(f"    largest difference between the library and (5), (6): {np.max(np.abs(gradients[keep] - by_graph)):.1e}")

# %%
vector, unravel = tm.ravel(theta)  # one vector: the 23 rows of W (φ, L, g, h) with 20 numbers each for i, f, o, u; then b, w, β
single = {"W, from φ to i": 5, "W, from g to u": 225, "W, from h to f": 425, "b, of o": 1885, "w": 1920, "β": 1940}
v = rng.standard_normal(len(vector))
print(len(vector), "weights")
moves = {name: np.eye(1, len(vector), i)[0] for name, i in single.items()} | {"a random direction": v / np.linalg.norm(v)}
F = tm.learned_optimizer.objective(problem, second_derivatives=True, **options)

# %%
print(f"{'':<19}{'exact, by (6)':>18}{'approximate':>18}{'difference':>12}{'dropped':>18}")
for name, move in moves.items():
    plus, minus = (F(unravel(vector + h * move), task) for h in (1e-6, -1e-6))
    exact, dropped, approximate = gradients[True] @ move, gradients[False] @ move, (plus - minus) / 2e-6
    print(f"{name:<19}{exact:>18.9f}{approximate:>18.9f}{exact - approximate:>12.1e}{dropped:>18.9f}")
    assert abs(exact - approximate) < 1e-5 < abs(dropped - approximate)
assert gradients[True][5] > 0 > gradients[False][5]


# %%
def angle(theta, task, steps):
    """Between the gradient and the dropped one, in degrees."""
    a, b = (tm.ravel(by_recursion(theta, task, steps, keep))[0] for keep in (True, False))
    return np.degrees(np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1)))


print("the angle between the two:", ", ".join(f"{angle(theta, task, K):.1f}° for K = {K}" for K in (1, 2, 5, 20)))

# %% [markdown]
# The exact gradient passes. The dropped one is another number everywhere, in the first row with the wrong sign. With $K = 1$
# it is the same, for $\phi_0$ is a constant.
#
# ## 5. Training, and the race
#
# Each iteration draws 16 new tasks, and Adam moves $\theta$ against the gradient of their mean $F$.

# %%
LSTM = tm.learned_optimizer.LSTM  # the library's name for the rule of section 2


def learn(rule, keep=True, seed=0):
    start, optimizer = rule.initialize(np.random.default_rng(seed), hidden=20, layers=1), tm.optim.adam(0.01)
    F = tm.learned_optimizer.objective(problem, second_derivatives=keep, rule=rule, **options)
    return tm.fit(F, start, draw, optimizer, iterations=1000, meta_batch=16, seed=seed + 1, quiet=True)


# %%
training = learn(LSTM)
first, last = training.losses[:20].mean(), training.losses[-20:].mean()
print(f"mean F of the first 20 iterations {first:.1f}, of the last 20 {last:.1f}")

# %%
others = draw(np.random.default_rng(3), 16)
angles = [angle(training.theta, tm.tree.map(lambda x, i=i: x[i], others), 20) for i in range(16)]
print(f"the angle between the two gradients is now {np.median(angles):.0f}° in the median of 16 other tasks;")
print(f"for {np.sum(np.greater(angles, 90))} of them it is beyond 90°, where the dropped one leads uphill")

# %% [markdown]
# To be fair, each classical optimizer learns from tasks too. It has one weight, its learning rate: we try 31 of them on 512
# tasks, with the same objective (2), and keep the best. (Its other constants keep their usual values.)

# %%
tasks, unseen = draw(rng, 512), draw(rng, 128)
rules = {"learned": (LSTM, training.theta)}
for name, optimizer in tm.baselines.BASELINES.items():
    tuned = tm.baselines.tune(optimizer, problem, tasks, np.logspace(-3, 0, 31), **options)
    rules[name] = tm.learned_optimizer.classical(optimizer), tuned.rate
    print(f"{name}: learning rate {tuned.rate:.3f}")

# %% [markdown]
# **Predict.** The mean loss on 128 unseen tasks, against the steps: when is the learned rule best? What do the five do in the
# 180 steps after their 20?

# %%
curves = tm.baselines.learning_curves(problem, rules, unseen, steps=200)
figure, ticks = learning_curves(curves, horizon=20), (1, 2, 5, 10, 20, 50, 100, 200)
figure.axes[0].set(xscale="log", xlim=(1, 200), xticks=ticks, xticklabels=ticks, xlabel="steps made")
save(figure, "10_within_and_past_the_horizon")

# %%
print(f"{'':<10}{'F':>8}" + "".join(f"{f'step {t}':>10}" for t in (1, 5, 20, 100, 200)) + "   learned is lower at")
for name, curve in curves.items():
    lost = [t for t in range(1, 21) if curves["learned"][t] >= curve[t]]
    wins = f"   {20 - len(lost)} of 20 steps" + (f", not at {lost}" if lost else "") if name != "learned" else ""
    print(f"{name:<10}{np.sum(curve[1:21]):>8.2f}" + "".join(f"{curve[t]:>10.3f}" for t in (1, 5, 20, 100, 200)) + wins)
assert all(np.all(curves["learned"][2:21] < curves[name][2:21]) for name in tm.baselines.BASELINES)
assert curves["learned"][200] > max(min(curves["learned"]), curves["momentum"][200], curves["Adam"][200])

# %% [markdown]
# See the learned rule below all others from the second step to the twentieth. Past its horizon it falls for a while, then
# turns round, and momentum and Adam pass it. Nothing in (2) asked what happens there.
#
# ## 6. What has it learned, and why does it fail?
#
# A suspicion: the rule is shown $\phi$. All tasks start near 0, and 20 steps don't go far. Past the horizon the network sees
# places where it has never been. So we train a second one in the very same way, but shown 0 instead.
#
# **Predict.** On the left, the first update of a coordinate at 0, against its gradient: for SGD a straight line. For the
# network? On the right, both networks: will the *blind* one be worse within the horizon, and past it?

# %%
blind = LSTM._replace(update=lambda theta, phi, *seen: LSTM.update(theta, 0 * phi, *seen))
both = {"learned": rules["learned"], "blind": (blind, learn(blind).theta)}
blind_curve = tm.baselines.learning_curves(problem, {"blind": both["blind"]}, unseen, steps=200)["blind"]
print(f"F within the horizon: shown φ {np.sum(curves['learned'][1:21]):.2f}, blind {np.sum(blind_curve[1:21]):.2f}")
reach = tm.Bilevel(problem.inner, lambda phi, theta, task: np.max(np.abs(phi)), problem.init)
for name, size in tm.baselines.learning_curves(reach, both, unseen, steps=200).items():
    print(f"{name}, mean over the tasks of the largest |φ_j|:" + ", ".join(f"{size[t]:>5.2f} after {t} steps" for t in (5, 20, 200)))


# %%
def draw_first_update(ax):
    g, at_rest = np.linspace(-50, 50, 201), np.zeros((201, 20))
    for loss, style in ((10.0, "C0-"), (1.0, "C0--")):
        ax.plot(g, rule(training.theta, 0 * g, loss, g, (at_rest, at_rest))[0], style, label=f"learned, at L = {loss:.0f}")
    ax.plot(g, rules["SGD"][1] * g, "C1", label="SGD")
    ax.set(title="The first update of a coordinate", xlabel="its gradient g", ylabel="Δ", ylim=(-0.5, 0.5))


# %%
def draw_blind(ax):
    for name, style in (("learned", "C0-"), ("blind", "C0--"), ("momentum", "C2-"), ("Adam", "C4-")):
        ax.loglog(range(1, 201), (curves | {"blind": blind_curve})[name][1:], style, label=name)
    ax.axvline(20, color="black", linestyle=":", linewidth=1, label="trained up to here")
    losses = (0.2, 0.5, 1, 2, 5)
    ax.set(title="Shown φ, and not shown φ", xlabel="steps made", ylabel="mean loss", xticks=ticks, xticklabels=ticks)
    ax.set(yticks=losses, yticklabels=losses)
    ax.minorticks_off()


# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for panel, ax in zip((draw_first_update, draw_blind), axes, strict=True):
    panel(ax)
    ax.legend()
save(figure, "10_what_it_learned")
assert blind_curve[200] < curves["learned"][200]

# %% [markdown]
# See on the left gradient descent with a steeper slope near 0, and *clipped*: a large gradient tells the direction, not how
# far to go.
#
# See on the right that the blind rule is about as good within the horizon, and better past it: what it was shown led it
# astray. (Andrychowicz et al. show their network the gradient alone.) But this is one training of each: with another `seed`
# the curve may rise much less. A learned rule knows the tasks, the steps and the places that it was trained on, and promises
# nothing about others. Ask of each comparison how long it ran, and how often.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_10_1(log_and_sign)`.
#
# **Exercise 10.1: preprocessing.** Gradients differ by powers of ten, and a network sees little of a tiny number.
# Andrychowicz et al. show it two numbers for each: $\big(\frac1p \log|x|, \operatorname{sign} x\big)$ if
# $|x| \ge e^{-p}$, else $(-1, e^p x)$. Write it without a case distinction, by `np.maximum` and `np.clip`, with a derivative
# that is finite everywhere. What goes wrong with `np.where`?


# %%
def log_and_sign(x, p=10.0):
    """The two numbers for each number in x: two arrays."""
    raise NotImplementedError("exercise 10.1")


# %%
def by_cases(x, p):
    return np.transpose([(np.log(abs(t)) / p, np.sign(t)) if abs(t) >= np.exp(-p) else (-1, np.exp(p) * t) for t in x])


# %%
def check_10_1(log_and_sign):
    x = np.array([-3e5, 1.0, -1e-3, 1e-5, 0.0])
    for p in (4.0, 10.0):
        found = log_and_sign(x, p)
        slopes = [np.diag(tm.jacobian(lambda x, k=k, p=p: log_and_sign(x, p)[k])(x)) for k in (0, 1)]
        for name, row in zip((f"x, p = {p:.0f}", "size", "sign", "d size", "d sign"), (x, *found, *slopes), strict=True):
            print(f"{name:<10}" + "".join(f"{number + 0.0:>12.5g}" for number in row))  # the 0.0 turns a -0 into a 0
        assert np.allclose(found, by_cases(x, p)) and np.all(np.isfinite(slopes))


# %% tags=["solution"]
# At |x| = exp(-p) both cases give (-1, sign x), so a maximum and a clip say the same. np.where computes both cases and then chooses. In
# the sweep the one that wasn't chosen gets the cotangent 0, and for x = 0 the logarithm multiplies it by 1 / 0: the result is not a number.
def log_and_sign(x, p=10.0):
    return np.log(np.maximum(np.abs(x), np.exp(-p))) / p, np.clip(np.exp(p) * x, -1, 1)


check_10_1(log_and_sign)

# %% [markdown]
# **Exercise 10.2: the dropped second derivative.** The smallest learned optimizer has one weight, $\Delta_t = \alpha g_t$.
# Take $L = \phi^2$ and $\phi_0 = 1$. Lesson 6 gives $\phi_t$ as a power of $r = 1 - 2\alpha$. Find $dF/d\alpha$, and what
# becomes of it if each $g_t$ is taken for a constant. For which $K$ are the two equal? Which is larger in size, for
# $0 < r < 1$?
#
# Then try `learn(LSTM, keep=False)`, and `learn(tm.learned_optimizer.lstm(preprocess=True), keep)` for both values of `keep`.
# What does dropping cost? And in one of them `.losses[-20:].mean()` stays above 100. Why? (Look at the slopes of exercise
# 10.1, and at (5).)


# %%
def kept_and_dropped(alpha, steps):
    """dF / d alpha, and the other one."""
    raise NotImplementedError("exercise 10.2")


# %%
def check_10_2(kept_and_dropped):
    square = lambda phi, theta, task: np.sum(phi**2)
    scalar, sgd = tm.Bilevel(square, square, lambda theta, task: np.ones(1)), tm.learned_optimizer.classical(tm.optim.sgd)
    for alpha, K in ((0.1, 1), (0.1, 6), (0.3, 6), (0.9, 6)):
        both = {"steps": K, "losses": "sum", "rule": sgd}
        theirs = [tm.learned_optimizer.meta_gradient(scalar, alpha, None, second_derivatives=keep, **both).grad for keep in (True, False)]
        print(f"α = {alpha}, K = {K}: yours", *np.round(kept_and_dropped(alpha, K), 9), "the library's", *np.round(theirs, 9))
        assert np.allclose(kept_and_dropped(alpha, K), theirs, rtol=1e-10)


# %% tags=["solution"]
# phi_t = r^t and F is the sum of r^(2t). Kept: dr / d alpha = -2, so each term gives -4 t r^(2t - 1). Dropped: phi_t = 1 - alpha times
# the sum of the g_j = 2 r^j, j < t; with these constant dphi_t / d alpha is minus the sum, -(1 - r^t) / alpha, and each term gives
# 2 r^t times that. Equal for K = 1, since g_0 belongs to a start that nothing moves. For 0 < r < 1 dropped is larger: it believes that the
# later gradients stay as large, while longer steps have made them smaller.
# Without the logarithm dropping costs little, although it leads uphill on some tasks. With it, the training with `keep` fails. The
# logarithm's slope is 1 / (p g): in (5) the Hessian is divided by a gradient that tends to 0, in each step anew, and the meta-gradient
# explodes. There, what isn't the gradient is the better guide.
def kept_and_dropped(alpha, steps):
    r, t = 1 - 2 * alpha, np.arange(1, steps + 1)
    return np.sum(-4 * t * r ** (2 * t - 1.0)), np.sum(-2 * r**t * (1 - r**t) / alpha)


check_10_2(kept_and_dropped)

# %% [markdown]
# **Exercise 10.3: the cell of Ravi and Larochelle.** In $c' = \sigma(f)\, c + \sigma(i) \tanh u$ let $c$ be $\phi$ itself,
# and put $-g$ in the place of $\tanh u$. With gates that see $x = (\phi, L, g, \text{the gate before})$ for each coordinate,
#
# $$ \phi_{t+1} = \sigma(x W_f + b_f)\, \phi_t - \sigma(x W_i + b_i)\, g_t . $$
#
# Find weights with which this is, up to rounding, gradient descent on $L$ ($\rho = 0$), and on $L + \frac{\rho}{2} |\phi|^2$.


# %%
def gradient_descent_cell(alpha, rho):
    """{"i": {"W": ..., "b": ...}, "f": {"W": ..., "b": ...}}, with W of shape (4, 1) and b of shape (1,)."""
    raise NotImplementedError("exercise 10.3")


# %%
def check_10_3(gradient_descent_cell, alpha=0.02):
    cell, loss = tm.learned_optimizer.meta_lstm(), lambda phi: problem.inner(phi, None, task)
    for rho in (0.0, 0.5):
        run = tm.learned_optimizer.unroll(gradient_descent_cell(alpha, rho), loss, task.phi_0, steps=20, second_derivatives=True, rule=cell)
        decayed = tm.Bilevel(lambda phi, theta, task, rho=rho: loss(phi) + rho / 2 * np.sum(phi**2), problem.outer)
        phi = tm.maml.adapt(decayed, task.phi_0, task, steps=20, lr=alpha)
        print(f"ρ = {rho}: after 20 steps the cell and gradient descent differ by {np.max(np.abs(run.phi - phi)):.1e}")
        assert np.allclose(run.phi, phi, rtol=1e-10)


# %% tags=["solution"]
# W = 0 makes the gates constant. sigma(b) = a at b = log a - log(1 - a), and a step with decay is (1 - alpha rho) phi - alpha g. For
# rho = 0 the forget gate is to be 1, which no b reaches; but at b = 40 it differs by 4e-18, and that is rounded away.
def gradient_descent_cell(alpha, rho):
    logit = lambda a: np.array([np.log(a) - np.log1p(-a) if a < 1 else 40.0])
    return {name: {"W": np.zeros((4, 1)), "b": logit(gate)} for name, gate in {"i": alpha, "f": 1 - alpha * rho}.items()}


check_10_3(gradient_descent_cell)

# %% [markdown]
# ## Symbols
#
# The papers are Andrychowicz et al., *Learning to learn by gradient descent by gradient descent* (2016), where $\theta$ and
# $\phi$ have changed places, and Ravi and Larochelle, *Optimization as a model for few-shot learning* (2017).
#
# | Andrychowicz et al. | here | variable | shape |
# |---|---|---|---|
# | $\theta_t$ | $\phi_t$ | `phi` | (10,) |
# | $\phi$ | $\theta$ | `theta` | containers, 1941 numbers |
# | $f(\theta_t)$, $\nabla_t$ | $L_t$, $g_t$ | `loss`, `g` | (), (10,) |
# | $m$ | $U_\theta$ | `rule` | |
# | $g_t$ | $-\Delta_t$ | `-delta` | (10,) |
# | $h_t$ | $s_t = (h_t, c_t)$ | `state` | (10, 20) each |
# | $\mathcal L(\phi)$, all $w_t = 1$ | $F(\theta)$ | `F(theta, task)` | () |
# | | $\lambda_t$, $\mu_t$ | `lambda_`, `mu` | (10,); (10, 20) twice |
# | $c_t$, $i_t$, $f_t$ (Ravi and Larochelle) | $\phi_t$, $\sigma(i)$, $\sigma(f)$ | `run.phis[t]`, `run.state` | (10,) each |
#
# **Next:** networks and data: a few points of a sine wave, and MAML's numbers beside the paper's.
