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
# # Lesson 14: Capstone: your own two-level experiment
#
# A two-level program that is wrong still trains: losses fall, figures look fine, and nobody notices. So a sound experiment has
# more parts than a training loop, and an order in which they are done. We carry one example through all of them, and write its
# report while we go. Then it is your turn.
#
# **You will**
# - choose an estimator by three questions;
# - make training impossible until the gradient has passed a check;
# - judge the result on third data, over 30 seeds, against rivals that know as much;
# - write a one-page report, with the prediction in it *before* the result, and then do it all with a problem of your own.
#
# **You need** lesson 5 (two levels), lesson 8 (the theorem; its exercise 8.2 is our beginning) and lesson 11 (seeds and
# intervals). Half an hour, and then as long as your own experiment takes.

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.comparison import table
from tinymeta.plots import save

# %% [markdown]
# ## 1. Write it down
#
# Forty training points with ten features; half of the targets are *corrupted*, replaced by noise of the same size. Nobody tells
# which. But there are a few points known to be clean. Can they tell which training points to trust?
#
# Give each training point a weight $s_i = \sigma(\theta_i)$ between 0 and 1. The **inner** level is a weighted ridge regression
# on the $n$ training points. The **outer** level judges it on the $m$ clean ones, $(x^c_j, y^c_j)$:
#
# $$ L(\phi, \theta) = \tfrac1n \textstyle\sum_i s_i\, (x_i^\top \phi - y_i)^2 + \rho\, |\phi|^2, \qquad
#    f(\phi) = \tfrac1m \sum_j (x^{c\top}_j \phi - y^c_j)^2 . $$
#
# So $\phi$ are ten coefficients, $\theta$ are forty numbers. A *task* is one such data set. The test data are **not** in the
# task: what no loss can reach can't leak.

# %%
RHO, corrupted = 0.05, np.arange(40) < 20  # the first 20, but the losses don't know


def draw(seed, clean):
    rng = np.random.default_rng(seed)
    w, X = rng.standard_normal(10), rng.standard_normal((40 + clean + 1000, 10))
    y = X @ w + 0.5 * rng.standard_normal(len(X))
    y[:20] = np.sqrt(10) * rng.standard_normal(20)  # X @ w is a sum of ten terms of size 1
    train, chosen, test = zip(np.split(X, [40, 40 + clean]), np.split(y, [40, 40 + clean]), strict=True)
    return {"train": train, "clean": chosen}, test


# %%
def squared_error(phi, X, y, s=1.0):
    return np.mean(s * (X @ phi - y) ** 2)


problem = tm.Bilevel(
    inner=lambda phi, theta, task: squared_error(phi, *task["train"], tm.sigmoid(theta)) + RHO * np.sum(phi**2),
    outer=lambda phi, theta, task: squared_error(phi, *task["clean"]),
    init=lambda theta, task: np.zeros(10),
)

# %% [markdown]
# Which estimator? Three questions decide:
#
# | | question | yes | no |
# |---|---|---|---|
# | 1 | Is $\theta$ the *rule* of the step? | `tm.learned_optimizer`, or an `lr` that depends on $\theta$ | go on |
# | 2 | Does the adaptation run to a point where $\nabla_\phi L = 0$ and $H$ is regular? | go on | `tm.maml`, through the steps |
# | 3 | Is $\theta$ in $\nabla_\phi L$? (Only the start is forgotten at the end.) | `tm.implicit` | `tm.implicit.proximal`, or few steps |
#
# Ours: no; yes, by a linear solve; yes. So it is implicit. (An arg max or a random draw in between: lesson 5, no derivative.)
# The report begins now, long before there is a result.

# %%
report = {"Problem": "Weighted ridge regression (phi: 10) on 40 points, half corrupted; theta: 40 logits of weights; outer: clean points."}
report["Question"] = "Does weighting by 8 clean points give a lower test error than other uses of the same data?"

# %% [markdown]
# ## 2. Know what to expect
#
# Derive the gradient, or its simplest case, by hand. At the end of the adaptation $\nabla_\phi L = 0$. *Multiply* by $\frac n2$:
#
# $$ \textstyle\sum_i s_i\, x_i\, (x_i^\top \phi - y_i) + n\rho\,\phi = 0 . \tag{1} $$
#
# *Collect* what multiplies $\phi$, with $S = \operatorname{diag}(s)$, and *move* the rest to the right:
#
# $$ A\phi = X^\top S y, \qquad A = X^\top S X + n\rho I . \tag{2} $$
#
# *Differentiate* (1) with respect to one $s_i$, by the *product rule*, where $s_i$ stands and where $\phi$ stands; the matrix at
# $\phi$ is that of (2). *Solve* for the derivative:
#
# $$ x_i\, (x_i^\top \phi - y_i) + A\,\frac{d\phi}{ds_i} = 0, \qquad \frac{d\phi}{ds_i} = A^{-1} x_i\, (y_i - x_i^\top \phi) . \tag{3} $$
#
# *Chain rule*, with $v = A^{-1} f_\phi$ ($A$ is symmetric) and $\sigma' = \sigma (1 - \sigma)$:
#
# $$ \boxed{\; \frac{dF}{d\theta_i} = s_i\, (1 - s_i)\; x_i^\top v\; (y_i - x_i^\top \phi) \;} \tag{4} $$
#
# Read it. $-v$ is the move of $\phi$ that helps the clean points, and $-x_i^\top v$ what it does to the prediction at $x_i$. Is
# that towards the target $y_i$, then (4) is negative, and descent *raises* the weight. A point that is fitted exactly has no say.


# %%
def ridge(X, y, s):
    A = (X.T * s) @ X + len(X) * RHO * np.eye(10)
    return np.linalg.solve(A, X.T @ (s * y))


def by_hand(theta, task):
    (X, y), s = task["train"], tm.sigmoid(theta)
    phi = ridge(X, y, s)
    v = np.linalg.solve((X.T * s) @ X + len(X) * RHO * np.eye(10), tm.grad(problem.outer)(phi, theta, task))
    return s * (1 - s) * (X @ v) * (y - X @ phi)


# %% [markdown]
# **Predict.** Where will the weights of the corrupted points go, and those of the others? Will there be a gap? How does the test
# error compare with a fit on the clean points *alone*, for 5 of them, and for 40? My guesses, in ink:

# %%
report["Prediction"] = "Corrupted weights fall below 0.1, the others rise above 0.9. Weighting is best for any number of clean points."
report["What would change my mind"] = "A rival with the same points (and a tuned rho?) whose error is lower, or within the interval."

# %% [markdown]
# ## 3. The mandatory check
#
# Let `F(theta, task)` be what is going to be trained. Its judge, `again`, adapts anew at every $\theta \pm h$, and shares
# nothing with how `F` adapts: no solve, no engine, but 200 steps downhill in plain NumPy, along (1), which is $\frac n2 \nabla_\phi L$.
# `tm.compare` takes the differences, or the complex step (lesson 1) where it can: of the *value* that an estimator returns, to be
# compared with the *gradient* that it returns. So we hand it the judge's value with the gradient of `F`. We judge five candidates, at a
# *random* $\theta$: at a symmetric one, such as the start, a mistake may be multiplied by zero. **Predict:** which of the five pass?


# %%
def again(theta, task):
    (X, y), s, phi = task["train"], tm.sigmoid(theta), np.zeros(10)
    for _ in range(200):
        phi = phi - 0.3 * 2 * (X.T @ (s * (X @ phi - y)) / len(X) + RHO * phi)
    return problem.outer(phi, theta, task)


# %%
candidates = {
    "through the solve": lambda theta, task: problem.outer(ridge(*task["train"], tm.sigmoid(theta)), theta, task),
    "through 200 steps": tm.maml.objective(problem, steps=200, lr=0.3),
    "implicit, 200 steps": tm.implicit.objective(problem, steps=200, lr=0.3, iterations=10),  # of conjugate gradients
}

# %%
candidates["implicit, 20 steps"] = tm.implicit.objective(problem, steps=20, lr=0.3, iterations=10)
candidates["first order"] = tm.maml.objective(problem, steps=200, lr=0.3, order=1)


def mandatory_check(candidates, again, theta, task):
    def accused(F):
        gradient = tm.grad(F)(theta, task)  # once; `moved` are the thetas nearby
        return lambda problem, moved, task: tm.MetaGradient(again(moved, task), gradient, None, tm.Info())

    return tm.compare(problem, theta, task, {name: accused(F) for name, F in candidates.items()})


# %%
(task, test), theta = draw(100, 8), np.random.default_rng(1).standard_normal(40)
judged, hand = mandatory_check(candidates, again, theta, task), by_hand(theta, task)
exact, approximate = (x["through the solve"] for x in (judged.gradients, judged.truths))
print(f"{'point':>6}{'by hand, (4)':>17}{'exact, through F':>18}{'approximate':>17}{'difference':>12}")
for i in (0, 1, 2, 37, 38, 39):
    print(f"{i:>6}{hand[i]:>17.12f}{exact[i]:>18.12f}{approximate[i]:>17.12f}{exact[i] - approximate[i]:>12.1e}")
assert np.allclose(hand, exact, rtol=1e-10, atol=1e-14) and np.allclose(exact, approximate, rtol=1e-6, atol=1e-9)

# %%
print(table(row._replace(seconds=None) for row in judged.rows))
for steps in (20, 200):
    phi = tm.maml.adapt(problem, theta, task, steps=steps, lr=0.3)
    print(f"after {steps:>3} steps the inner gradient is {tm.implicit.stationarity(problem, phi, theta, task):.1e} long")
assert all((row.error < 1e-6) == (row.name in list(candidates)[:3]) for row in judged.rows)

# %% [markdown]
# Three pass. (One has the smallest error, for it makes the judge's very steps. The two others are judged by where 200 steps end, which
# isn't quite the solution.) After 20 steps the point is not stationary, and the theorem speaks of a point where nobody is. So small an
# angle would never show in a loss curve. "First order" is exactly zero: here all of $\theta$'s influence comes *through* the steps.
#
# A check that one may skip is skipped. So `fit` is not to be had without it. Note the middle condition: if neither `F` nor its judge
# depends on $\theta$, both gradients are 0 and agree perfectly, and the check is *blind*.


# %%
def licence(F, again, theta, task, tolerance=1e-6):
    """`tm.fit` for F, handed out only when the check is passed."""
    row = mandatory_check({"F": F}, again, theta, task)["F"]
    if row.failure or not row.norm or not row.error < tolerance:
        raise ValueError(row.failure or f"no training: |gradient| = {row.norm:.1e}, relative error {row.error:.1e}")
    return partial(tm.fit, F)


# %%
frozen = lambda theta, task: problem.outer(ridge(*task["train"], 0.5), None, task) + 0 * np.sum(theta)
for name, F, judge in (("implicit, 20 steps", candidates["implicit, 20 steps"], again), ("theta forgotten in both", frozen, frozen)):
    try:
        licence(F, judge, theta, task)
    except ValueError as error:
        print(f"{name}: {error}")
fit = licence(candidates["through the solve"], again, theta, task)

# %%
report["Estimator"] = "Implicit, by the derivative of the linear solve: the end is stationary, and theta is in the inner gradient."
report["Check"] = "Against 200 steps run anew, at a random theta:\n\n" + "\n".join(
    f"    {row.name:<20} relative error {row.error:.0e}" for row in judged.rows
)
report["Protocol"] = """Means in both losses; rho = 0.05; no inner learning rate (exact solve); Adam, rate 0.1, 200 updates, fixed
beforehand; 30 seeds, each with new coefficients, points and noise; 1,000 test points that no loss sees."""

# %% [markdown]
# ## 4. Train
#
# The data set stays the same, so all "batches" are that one task. (With many tasks, a `draw(rng, count)` takes the place of `same`.) A
# callback keeps each $\theta$, to be looked at, not to be chosen from.


# %%
def learn(seed, clean):
    (task, _), thetas = draw(seed, clean), [np.zeros(40)]
    same = lambda rng, count: tm.tree.map(lambda x: x[None], task)  # a batch of one task
    keep = lambda record: thetas.append(record.theta)
    trained = fit(thetas[0], same, tm.optim.adam(0.1), iterations=200, meta_batch=1, seed=seed, quiet=True, callbacks=[keep])
    return trained.losses, thetas


def test_error(theta, task, test):
    return squared_error(ridge(*task["train"], tm.sigmoid(theta)), *test)


# %% [markdown]
# The rivals get the same points. *One weight for all*, the best of thirty on the clean points: $\theta$ not learned, but tuned.
# *Clean alone*: forget the training points. *All, equal*: put both together. And, out of competition, an *oracle*, who is told
# which twenty training points are good.


# %%
def rivals(task):
    (X, y), (X_c, y_c) = task["train"], task["clean"]
    constants = [ridge(X, y, c) for c in np.logspace(-3, 2, 30)]
    best = min(constants, key=lambda phi: problem.outer(phi, None, task))
    together = ridge(np.concatenate([X, X_c]), np.concatenate([y, y_c]), 1.0)
    return {"one weight for all": best, "clean alone": ridge(X_c, y_c, 1.0), "all, equal": together, "oracle": ridge(X[20:], y[20:], 1.0)}


# %%
SEEDS, CLEAN = range(100, 130), (5, 8, 16, 40)  # seeds that nobody looked at while the protocol was chosen
data = {m: [draw(seed, m) for seed in SEEDS] for m in CLEAN}
runs = {m: [learn(seed, m) for seed in SEEDS] for m in CLEAN}
weights = {m: tm.sigmoid(np.array([thetas[-1] for _, thetas in runs[m]])) for m in CLEAN}  # (seeds, 40)

# %% [markdown]
# **Predict** once more, now for the left picture below: how far apart are the two groups of weights? And for the right one: the
# error on the clean points, and on test points, both begin at the same weights. Do they fall together?


# %%
def draw_weights(ax, m, place):
    for group, color, side, name in ((corrupted, "C3", -0.2, "corrupted"), (~corrupted, "C0", 0.2, "not corrupted")):
        s = weights[m][:, group].ravel()
        shape = ax.violinplot(s, [place + side], widths=0.36, showextrema=False, bw_method=0.1)["bodies"][0]
        shape.set(facecolor=color, alpha=0.6)
        ax.plot(place + side, s.mean(), color + "o", label=name if place == 0 else None)


# %%
def draw_training(ax, m, color):
    test = np.array([[test_error(theta, *sets) for theta in thetas] for sets, (_, thetas) in zip(data[m], runs[m], strict=True)])
    ax.semilogy(np.mean([losses for losses, _ in runs[m]], axis=0), color + "--", label=f"on the {m} clean points")
    ax.semilogy(test.mean(axis=0), color, label=f"on test points, with {m} clean ones")
    print(f"{m:>2} clean points: test error {test.mean(axis=0)[-1]:.2f} at the end, lowest on the way {test.mean(axis=0).min():.2f}")


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.3), layout="constrained")
for place, m in enumerate(CLEAN):
    draw_weights(left, m, place)
draw_training(right, 5, "C1")
draw_training(right, 40, "C2")

# %%
left.set(title="Learned weights, 30 seeds (dots: means)", xlabel="clean points", ylabel="weight s", xticks=range(4), xticklabels=CLEAN)
right.set(title="Training, mean of 30 seeds", xlabel="updates", ylabel="mean squared error")
right.set(yticks=(0.05, 0.1, 0.2, 0.5, 1, 2, 5), yticklabels=(0.05, 0.1, 0.2, 0.5, 1, 2, 5))
right.minorticks_off()
for ax in (left, right):
    ax.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.15), fontsize=9)
save(figure, "14_weights")

# %% [markdown]
# See on the left that there is no gap, only a tendency, which grows with the clean points: many corrupted points keep a weight,
# and many good ones lose theirs. Forty weights have many ways to please a few points, and the truth is but one of them. On the right
# the outer level *overfits*: with 5 clean points their loss goes on falling, while the test error stops, and turns. Forty points
# leave less room for that. To stop at the lowest test error would be to choose by the test data, the commonest leak. We report
# the end, as the protocol says.
#
# ## 5. Evaluate
#
# A seed is one draw of everything, so the interval over seeds is over data sets. All methods meet the same data sets: take
# differences seed by seed. With $k$ seeds half the 95 % interval is about $1.96$ standard deviations of the differences,
# divided by $\sqrt k$. **Predict** where the curves cross, if they do.


# %%
def interval(x):
    return np.mean(x), 1.96 * np.std(x, ddof=1) / np.sqrt(len(x))


errors = {}
for m in CLEAN:
    phis = [rivals(task) for task, _ in data[m]]
    errors[m] = {"learned weights": np.array([test_error(run[1][-1], *sets) for run, sets in zip(runs[m], data[m], strict=True)])}
    errors[m] |= {name: np.array([squared_error(phi[name], *sets[1]) for phi, sets in zip(phis, data[m], strict=True)]) for name in phis[0]}

# %%
figure, ax = plt.subplots(figsize=(9, 4.3), layout="constrained")
for name, style in zip(errors[8], ("C0o-", "C7^:", "C1s-", "C4v-", "k--"), strict=True):
    mean, half = np.transpose([interval(errors[m][name]) for m in CLEAN])
    ax.errorbar(CLEAN, mean, half, fmt=style, capsize=3, label=name)

# %%
ax.set(title="30 data sets, 95 % intervals of the means", xlabel="clean points", ylabel="mean squared error on test data")
ax.set(xscale="log", yscale="log", xticks=CLEAN, xticklabels=CLEAN, yticks=(0.3, 0.5, 1, 2, 4, 8), yticklabels=(0.3, 0.5, 1, 2, 4, 8))
ax.minorticks_off()
ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
save(figure, "14_result")

# %%
names = [name for name in errors[8] if name != "oracle"]
print(f"{'clean':>5}" + "".join(f"{name:>20}" for name in names) + "   learned - best rival")
for m in CLEAN:
    rival = min(names[1:], key=lambda name, m=m: errors[m][name].mean())
    difference, half = interval(errors[m]["learned weights"] - errors[m][rival])
    shown = "".join("{:>12.2f} ± {:.2f} ".format(*interval(errors[m][name])) for name in names)
    print(f"{m:>5}{shown}  {difference:>6.2f} ± {half:.2f} ({rival})")
assert interval(errors[8]["learned weights"] - errors[8]["clean alone"])[0] < 0 < difference  # of the last row, 40

# %% [markdown]
# See the blue and the orange curve cross. With few clean points, weighting wins by far. With many, the best use of them is the
# plainest: fit them, and forget the rest. (The oracle has twenty good points; forty are more.) Beside "one weight for all" alone,
# as one often sees it, weighting would have seemed to win everywhere. And the prediction in the report is wrong, twice. It stays
# there.
#
# ## 6. Report
#
# One page, these headings, in this order. `page` refuses if one is missing.

# %%
rival = min(names[1:], key=lambda name: errors[8][name].mean())
report["Result"] = "8 clean points, test error {:.2f} ± {:.2f}".format(*interval(errors[8]["learned weights"]))
report["Result"] += f"; best rival ({rival})" + " {:.2f} ± {:.2f}".format(*interval(errors[8][rival]))
report["Result"] += "; difference, by seed {:.2f} ± {:.2f}.".format(*interval(errors[8]["learned weights"] - errors[8][rival]))

# %%
worse = [m for m in CLEAN if errors[m]["clean alone"].mean() < errors[m]["learned weights"].mean()]
below, above = np.mean(weights[8][:, corrupted] < 0.1), np.mean(weights[8][:, ~corrupted] > 0.9)
report["What went wrong"] = f"""Only {below:.0%} of the corrupted weights fell below 0.1, and {above:.0%} of the others rose above 0.9. The
outer level overfits. With {" or ".join(map(str, worse))} clean points, these alone have the lower mean error."""

# %%
HEADINGS = "Problem", "Question", "Prediction", "Estimator", "Check", "Protocol", "Result", "What went wrong", "What would change my mind"


def page(report):
    if missing := [name for name in HEADINGS if not report.get(name)]:
        raise ValueError(f"the report says nothing about: {', '.join(missing)}")
    return "\n\n".join(f"## {name}\n\n{report[name]}" for name in HEADINGS)


print(page(report))

# %% [markdown]
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_14_1(label_gradient)`.
#
# **Exercise 14.1: learn the targets.** Leave the weights alone, $\theta = y$: the forty *targets* are learned. (Some call it label
# distillation.) Derive all of $dF/dy$ from (2), with one solve. Given are $A$ and $f_\phi$. Before you run it: how low can the loss on the
# eight clean points go, and what does that promise for the test error?


# %%
def label_gradient(X, s, A, f_phi):
    """dF/dy, shape (n,)."""
    raise NotImplementedError("exercise 14.1")


# %%
def of_targets(y, task, s=0.5):
    return problem.outer(ridge(task["train"][0], y, s), None, task)


# %%
def check_14_1(label_gradient):
    (X, y), s = task["train"], tm.sigmoid(theta)
    A = (X.T * s) @ X + 40 * RHO * np.eye(10)
    exact = label_gradient(X, s, A, tm.grad(problem.outer)(ridge(X, y, s), None, task))
    truth = mandatory_check({"F": partial(of_targets, s=s)}, partial(of_targets, s=s), y, task).truths["F"]
    print("largest difference from solving again:", np.max(np.abs(exact - truth)))
    assert np.allclose(exact, truth, rtol=1e-6, atol=1e-9)
    learn_targets()  # licensed by you: the gradient is what you have derived


# %%
def learn_targets(found=()):
    for task, test in data[8]:
        same = lambda rng, count, task=task: tm.tree.map(lambda x: x[None], task)
        trained = tm.fit(of_targets, task["train"][1], same, tm.optim.adam(0.1), iterations=300, meta_batch=1, seed=0, quiet=True)
        found = (*found, (trained.losses[-1], squared_error(ridge(task["train"][0], trained.theta, 0.5), *test)))
    losses, of_test = np.transpose(found)
    print(f"learned targets: clean loss {np.mean(losses):.1e}, test error " + "{:.2f} ± {:.2f}".format(*interval(of_test)))
    print("learned weights: test error {:.2f} ± {:.2f}".format(*interval(errors[8]["learned weights"])))


# %% tags=["solution"]
# Differentiate A phi = X'S y by y: A dphi/dy = X'S. So dF/dy = (X'S)' inv(A) f_phi = S X v. Forty targets move phi anywhere, so the loss
# on eight points can be made zero, and that promises nothing: with ten coefficients, there are many such phi.
def label_gradient(X, s, A, f_phi):
    return s * (X @ np.linalg.solve(A, f_phi))


check_14_1(label_gradient)

# %% [markdown]
# **Exercise 14.2: find the broken experiments.** Three colleagues hand in `F`, `again`, a task and test data. All three get their
# licence. One is sound. One has a *leak*: test data in what the outer level sees. And one has a *blind* check: her `again` makes
# the same mistake as her `F`, so both belong to a problem that isn't ours of section 1. Return `"sound"`, `"leak"` or `"blind"`, by
# measuring: other colleagues will make other mistakes.


# %%
def diagnose(F, again, task, test):
    raise NotImplementedError("exercise 14.2")


# %%
def hand_in(kind, seed):
    task, test = draw(seed, 8)
    if kind == "leak":
        task["clean"] = tuple(np.concatenate([a[2:], b[:2]]) for a, b in zip(task["clean"], test, strict=True))
    F, judge = candidates["through the solve"], again
    if kind == "blind":
        F, judge = (lambda theta, task, f=f: f(2 * theta, task) for f in (F, judge))
    return F, judge, task, test


# %%
def check_14_2(diagnose):
    for seed, kind in enumerate(np.random.default_rng(14).permutation(["sound", "leak", "blind"]).tolist()):
        experiment = hand_in(kind, seed)
        licence(*experiment[:2], theta, experiment[2])
        verdict = diagnose(*experiment)
        print(f"colleague {seed} has a licence; you say {verdict!r}")
        assert verdict == kind, f"colleague {seed} is {kind!r}"


# %% tags=["solution"]
# A leak is found by looking for the same rows. A blind check is found by a judge of one's own, who starts from the losses.
def diagnose(F, again, task, test):
    seen = {tuple(x) for X, _ in task.values() for x in X}
    if any(tuple(x) in seen for x in test[0]):
        return "leak"
    phi = tm.implicit.solve_inner(problem, theta, task)
    return "sound" if np.isclose(again(theta, task), problem.outer(phi, theta, task)) else "blind"


check_14_2(diagnose)

# %% [markdown]
# **Exercise 14.3: your own.** Answer the three questions, write down the two losses, choose an `F`, and write an `again` that
# shares nothing with it. (Few steps? Then `again` makes the same steps, in plain NumPy.) The check asks for a licence, trains a
# little, and wants an outer loss that falls. What it can't ask for is the rest: whether `again` is independent, rivals, third data,
# seeds, and the page.


# %%
def my_experiment():
    """problem, theta, task, F, again."""
    raise NotImplementedError("exercise 14.3")


# %%
def check_14_3(my_experiment):
    mine, theta, task, F, again = my_experiment()
    assert isinstance(mine, tm.Bilevel) and F is not again and F not in candidates.values(), "your own, and a judge who isn't F"
    assert np.isclose(F(theta, task), again(theta, task), rtol=1e-6), "F and again don't compute the same"
    same = lambda rng, count: tm.tree.map(lambda x: np.asarray(x)[None], task)
    losses = licence(F, again, theta, task)(theta, same, tm.optim.adam(0.05), iterations=50, meta_batch=1, seed=0, quiet=True).losses
    print(f"licensed; the outer loss falls from {losses[0]:.4f} to {losses[-1]:.4f}")
    assert losses[-1] < losses[0]


# %% tags=["solution"]
# How fast should each coefficient learn, if there is time for three steps, and one feature is ten times as large as the other? theta: two
# logarithms of learning rates. Question 1: yes, theta is in the rule of the step. So through the steps, and `again` makes them by hand.
def my_experiment():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2)) * [1.0, 0.1]
    y = X @ [1.0, -5.0] + 0.1 * rng.standard_normal(30)
    task = {"support": (X[:10], y[:10]), "query": (X[10:], y[10:])}
    three_steps = tm.Bilevel(
        inner=lambda phi, theta, task: squared_error(phi, *task["support"]),
        outer=lambda phi, theta, task: squared_error(phi, *task["query"]),
        init=lambda theta, task: np.zeros(2),
    )

    def again(theta, task):
        (X, y), phi = task["support"], np.zeros(2)
        for _ in range(3):
            phi = phi - np.exp(theta) * (2 * X.T @ (X @ phi - y) / len(X))
        return squared_error(phi, *task["query"])

    return three_steps, np.log([0.1, 0.1]), task, tm.maml.objective(three_steps, steps=3, lr=np.exp), again


check_14_3(my_experiment)

# %% [markdown]
# ## Symbols
#
# The paper is Ren et al., *Learning to reweight examples for robust deep learning* (2018), which takes one step of gradient
# descent where we solve.
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $\theta$ | $\phi$ | `phi` | (10,) |
# | $w_i$ | $s_i = \sigma(\theta_i)$ | `tm.sigmoid(theta)` | (40,) |
# | $f_i(\theta)$ | $(x_i^\top \phi - y_i)^2$ | `squared_error(phi, X, y, s)`, their mean | () |
# | $f^v_j(\theta)$ | $(x^{c\top}_j \phi - y^c_j)^2$ | `problem.outer(phi, theta, task)`, their mean | () |
# | $\theta^*(w)$ | $\phi(\theta)$ | `ridge(X, y, s)` | (10,) |
# | $N$, $M$ | $n$, $m$ | 40, `clean` or `m` | () |
# | | $\rho$ | `RHO` | () |
# | | $A$, $v = A^{-1} f_\phi$ | `A`, `v` | (10, 10), (10,) |
# | | $dF / d\theta$, (4) | `by_hand(theta, task)` | (40,) |
#
# **The end.** You can derive a meta-gradient, compute it in three ways, and tell when not to believe it. Now ask a question
# that nobody has answered yet, and write the prediction down first.
