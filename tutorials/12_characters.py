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
# # Lesson 12: Characters
#
# Here are five letters of an alphabet that you don't know, each written once. And here is a sixth drawing: which of the five is
# it? People can tell. In this lesson a network learns to, from other alphabets: the second experiment of MAML's paper, with a
# smaller network and smaller images, so that it takes seconds.
#
# **You will**
# - derive the softmax's cross-entropy and its gradient, and check it;
# - prove that with labels dealt anew no network can beat chance without adapting;
# - train one, and compare it with a rival that learns nothing, by confidence intervals;
# - see batch normalisation leak from one question to the next.
#
# **You need** lesson 3 (softmax, log-sum-exp) and lesson 11 (support and query, one meta-step). Half an hour.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import tinymeta as tm
from tinymeta.experiments import classification, few_shot
from tinymeta.plots import save

# %%
from tinymeta.tasks import characters, omniglot
from tinymeta.tasks.few_shot import draw, nearest_neighbour, split

# %% [markdown]
# ## 1. Scores, shares, and their loss
#
# For each of $N$ labels the network gives a score $z_j$, any number. The *softmax* makes positive shares of them that add up to 1:
#
# $$ q_j = \frac{e^{z_j}}{\sum_k e^{z_k}} . $$
#
# If the right label is $y$, the *cross-entropy* is $\ell = -\log q_y$: zero if all is staked on the truth, and large if almost
# nothing is. *Put in* $q_y$, and use $\log(a/b) = \log a - \log b$:
#
# $$ \ell = -z_y + \log \sum_k e^{z_k} . \tag{1} $$
#
# *Differentiate* with respect to $z_j$. The first term gives $-1$ if $j = y$, else 0; we write $-[j = y]$. The second gives,
# by the *chain rule*, $e^{z_j} / \sum_k e^{z_k}$, which is $q_j$ again:
#
# $$ \boxed{\; \frac{\partial \ell}{\partial z_j} = q_j - [j = y] \;} \tag{2} $$
#
# What was said, minus what is true. It lies between $-1$ and 1, and adds up to 0 over $j$: what one label gains the others lose.

# %%
z, y, h = np.random.default_rng(12).standard_normal(5), 2, 1e-5
loss = lambda z: tm.nn.cross_entropy(z[None], np.array([y]))
print(f"{'j':>2}{'exact, by (2)':>18}{'library':>18}{'approximate':>18}{'difference':>12}")
for j, e in enumerate(np.eye(5)):
    exact, library = np.exp(z[j]) / np.sum(np.exp(z)) - (j == y), tm.grad(loss)(z)[j]
    approximate = (loss(z + h * e) - loss(z - h * e)) / (2 * h)
    print(f"{j:>2}{exact:>18.12f}{library:>18.12f}{approximate:>18.12f}{exact - approximate:>12.1e}")
    assert abs(exact - library) < 1e-14 and abs(exact - approximate) < 1e-9

# %% [markdown]
# ## 2. Labels dealt anew
#
# A task has $N = 5$ characters. Which of them is "label 0" is drawn by lot, anew for each task. Why? Suppose that a network
# doesn't adapt. For an image it gives shares $q_1, \dots, q_N$, and the right label is any of the $N$, each with probability
# $1/N$, whatever the image. So its expected loss is
#
# $$ \mathbb E\, \ell = \frac1N \sum_j (-\log q_j) . $$
#
# $-\log$ is convex, so by *Jensen's inequality* the mean of its values is at least its value at the mean; and the *sum of the
# shares* is 1:
#
# $$ \mathbb E\, \ell \;\ge\; -\log \Big( \frac1N \sum_j q_j \Big) = \log N . \tag{3} $$
#
# Just so for the accuracy: the label with the largest share is right with probability $1/N$. **Without adaptation nothing beats
# chance.** If instead a character had the same label in all tasks, the network could learn the characters by heart, and the
# support set would be of no use. All that remains to be learned is *how to use the support set*.
#
# ## 3. The tasks and the network
#
# Images of 14 by 14 pixels. If you have Omniglot, put the paths of two of its zips, joined as in `PATH`, into the variable
# `TINYMETA_OMNIGLOT`. Else a program draws invented characters. Numbers of one set don't compare with those of the other, nor
# with the paper's. In training, characters turned by 90, 180 and 270 degrees count as others. None of those that the
# network is tested with was seen in training.

# %%
if files := os.environ.get("TINYMETA_OMNIGLOT"):
    train, test = split(*(omniglot.load(file, size=14) for file in files.split(os.pathsep)[:2]))
else:
    train, test = (characters.draw_characters(np.random.default_rng(seed), n, size=14) for seed, n in ((0, 120), (1, 40)))
print(len(train.images), "characters to train on, times 4 turns;", len(test.images), "to test on;", train.images.shape[1], "drawings each")

# %% [markdown]
# **Predict.** One of the tasks is drawn below: five images given, with their labels, and ten of the 75 asked. Write down ten
# labels before you run the cell after the figure.

# %%
task = tm.tree.map(lambda x: x[0], draw(np.random.default_rng(3), 1, test, ways=5, shots=1, queries=15))
asked = np.random.default_rng(4).permutation(75)[:10]

# %%
figure, axes = plt.subplots(1, 16, figsize=(13, 1.7), layout="constrained")
figure.suptitle("Five images given, with their labels, and ten asked")
axes[5].axis("off")
for ax, image, title in zip(np.delete(axes, 5), (*task.support.x, *task.query.x[asked]), (*task.support.y, *"?" * 10), strict=True):
    ax.imshow(1 - image.reshape(14, 14), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title)
save(figure, "12_task")

# %%
print("the right labels:", *task.query.y[asked])
print("nearest neighbour:", f"{nearest_neighbour(tm.tree.map(lambda x: x[None], task))[0]:.0%} of all 75 right")

# %% [markdown]
# The network has 196 inputs, 64 hidden units with batch normalisation and ReLU, and 5 scores. The hidden layer's scale and
# shift are learned and do not adapt, as in the paper. Its inner rate, $0.4$, belongs to a loss that its code sums over the $N$
# classes; with our mean over all images it is $0.4\,N = 2$. One inner step in training, up to three in evaluation. For speed we
# ask 5 images of each character in training, not 15, and make 800 updates of 16 tasks, not 60,000 of 32.

# %%
chosen = classification.experiment(train, test, ways=5, shots=1, hidden=(64,))._replace(evaluation_tasks=300)
turned, UPDATES = train.rotated(), 800


def learn(chosen, ways, updates, tasks):
    source = lambda rng, count: draw(rng, count, turned, ways, 1, 5)
    F, start, optimizer = chosen.objective("maml"), chosen.theta("maml", 0), tm.optim.adam(0.002)
    return tm.fit(F, start, source, optimizer, iterations=updates, meta_batch=tasks, seed=0, quiet=True)


# %%
training = learn(chosen, 5, UPDATES, 16)
theta, untrained = training.theta, chosen.start(0)
print(f"query loss after one step: first 50 updates {training.losses[:50].mean():.3f}, last 50 {training.losses[-50:].mean():.3f}")
print(f"log N, the least without adaptation, is {np.log(5):.3f}")

# %% [markdown]
# ## 4. Check: one meta-step
#
# As in lesson 11: $\phi_1 = \theta - \alpha \nabla L(\theta)$ for the part that adapts, and *by the chain rule*
# $\nabla F = (I - \alpha H)^\top g$, $g = \nabla f(\phi_1)$, in that part. Scale and shift don't move in the step, but $\nabla L$
# depends on them. Let $M$ be the Jacobian of $\nabla L$ with respect to scale and shift; then that of $\phi_1$ is $-\alpha M$. So
# their gradient is the one that $f$ itself gives them, at $\phi_1$, minus $\alpha M^\top g$. The library takes care of that.
# Training runs in float32, the check in float64: differences of float32 numbers would only show rounding (lesson 1).

# %%
adaptation, exact_theta = chosen.adaptation("maml"), tm.tree.map(np.float64, theta)
task = tm.tree.map(lambda x: x.astype(float) if x.dtype == np.float32 else x, task)
second, first = (tm.maml.meta_gradient(adaptation.problem, exact_theta, task, steps=1, lr=adaptation.lr, order=k).grad for k in (2, 1))
F, (flat, unravel) = tm.maml.objective(adaptation.problem, steps=1, lr=adaptation.lr), tm.ravel(exact_theta)
exact, first = tm.ravel(second)[0], tm.ravel(first)[0]

# %%
names = [(i, name) for i, layer in enumerate(exact_theta) for name in layer]
bounds, rng, h = np.cumsum([0, *(exact_theta[i][name].size for i, name in names)]), np.random.default_rng(5), 1e-6
print(f"{'a direction in':<18}{'exact':>16}{'approximate':>16}{'difference':>12}{'first order':>14}")
for (i, name), low, high in zip(names, bounds, bounds[1:], strict=False):
    d = np.concatenate([np.zeros(low), rng.standard_normal(high - low), np.zeros(len(flat) - high)])
    approximate = (F(unravel(flat + h * d), task) - F(unravel(flat - h * d), task)) / (2 * h)
    print(f"layer {i + 1}, {name:<9}{exact @ d:>16.9f}{approximate:>16.9f}{exact @ d - approximate:>12.1e}{first @ d:>14.6f}")
    assert np.isclose(exact @ d, approximate, rtol=1e-5, atol=1e-6)

# %% [markdown]
# The exact gradient passes for each part, also for the two that don't adapt. First order is another number, in some rows of the
# other sign.
#
# ## 5. Is it better than nothing learned?
#
# The rival is *nearest neighbour*: an image gets the label of the given image whose pixels are nearest. It has learned nothing,
# and whoever reports an accuracy should report it beside.
#
# One number needs an interval. Let $a_i$ be the accuracy on task $i$ of $n$. The tasks are *independent*, so variances add,
# and the mean has the variance $\operatorname{Var}(a) / n$. *Estimate* it by the spread $s$ of the $a_i$ (the squares
# divided by $n - 1$), and take the *normal* distribution's 95 %:
#
# $$ \bar a \pm 1.96 \, \frac{s}{\sqrt n} . \tag{4} $$
#
# $n$ is the number of tasks, not that of questions: the 75 questions of a task share five given images. If these are bad, all
# suffer.
#
# **Predict.** Accuracy after 0, 1, 2, 3 steps, for the trained network, and for the same one before its training. Where do both
# begin, by section 2? Where does nearest neighbour lie?

# %%
tasks = chosen.draw_unseen(np.random.default_rng((0, 2)), 300)  # those that `evaluate` takes, for seed 0
results = {name: few_shot.evaluate(chosen, "maml", start, seed=0) for name, start in (("MAML", theta), ("untrained", untrained))}
results["nearest neighbour"] = few_shot.Evaluation(np.repeat(nearest_neighbour(tasks)[:, None], 4, axis=1))
print(few_shot.table(results, steps=(0, 1, 2, 3)))
assert abs(results["MAML"].mean[0] - 0.2) < 0.05 and results["MAML"].mean[3] > results["nearest neighbour"].mean[3]

# %%
figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
for (name, e), style in zip(results.items(), ("C0o-", "C7s--", "C2:"), strict=True):
    ax.errorbar(range(4), e.mean, e.confidence, fmt=style, capsize=4, label=name)
ax.axhline(0.2, color="k", linewidth=0.8, label="chance")
ax.set(title="300 tasks of unseen characters, 95 % intervals", xlabel="inner steps", ylabel="accuracy", xticks=range(4), ylim=(0, 1))
ax.legend(loc="upper left")
save(figure, "12_accuracy")

# %% [markdown]
# See that both networks begin at chance, as section 2 demands; that a network with *random* weights comes to about nearest
# neighbour's level in a few steps; and that training takes it far beyond, by many times the intervals. The paper reports
# $89.7 \pm 1.1$ % for a larger network on Omniglot after its long training. Ours are other images, so no number here confirms or
# refutes that one. And it is one training: what lesson 11 said of seeds holds.
#
# ## 6. Batch normalisation leaks
#
# `batch_norm` subtracts from each hidden unit its mean over the images *that are judged together*, and divides by their spread.
# So the answer for one image depends on the others that are asked with it. One calls this *transductive*. It is a leak: the
# 75 questions are 15 of each character, and their mean says what the characters have in common. Now ask each network as one
# would on a day when all letters are the same: the 15 images of one character by themselves.
#
# **Predict.** Same network, same adaptation, same images: does the accuracy rise, fall, or stay?


# %%
def one_character_at_a_time(phi, theta, task):
    parts = [slice(15 * c, 15 * c + 15) for c in range(5)]  # the images are in the order of their labels
    return sum(tm.nn.accuracy(tm.nn.normalised_mlp(phi, task.query.x[part]), task.query.y[part]) for part in parts) / 5


apart = few_shot.evaluate(chosen._replace(judged_by=one_character_at_a_time), "maml", theta, seed=0)
print(few_shot.table({"asked together": results["MAML"], "asked apart": apart}, steps=(0, 1, 2, 3)))
assert apart.mean[3] < results["MAML"].mean[3] - 0.05

# %% [markdown]
# It falls, to little more than chance. With a single character the mean of the batch *is* that character, and is subtracted:
# what is left says how the drawings differ, not what they are. So an accuracy with transductive normalisation holds only for
# batches composed like those of the test. MAML's published results are of this kind; compare them with others of this kind
# only, and say which yours are.
#
# ## On your own
#
# Write your answer in the stub's cell, then call the check, for instance `check_12_1(learn_ways)`.
#
# **Exercise 12.1: 20-way.** Make the experiment for any number of ways, with one hidden layer of 64 units as above, to be
# judged on 100 tasks. Train it with `learn`, 200 updates of 4 tasks, and return it with the parameters. By (3), what are
# chance and the least loss without adaptation for 20? Why does $\alpha$ change with $N$, and who does it?


# %%
def learn_ways(ways):
    """(experiment, theta)"""
    raise NotImplementedError("exercise 12.1")


# %%
def check_12_1(learn_ways):
    experiment, theta = learn_ways(20)
    e, tasks = few_shot.evaluate(experiment, "maml", theta, seed=0), experiment.draw_unseen(np.random.default_rng((0, 2)), 100)
    (x, y), neighbour = tasks.query, np.mean(nearest_neighbour(tasks))
    loss = np.mean([tm.nn.cross_entropy(tm.nn.normalised_mlp(theta, x[i]), y[i]) for i in range(100)])
    print(f"without adaptation accuracy {e.mean[0]:.3f}, loss {loss:.3f}; log 20 is {np.log(20):.3f}")
    print(f"after 3 steps accuracy {e.mean[3]:.3f} ± {e.confidence[3]:.3f}; nearest neighbour {neighbour:.3f}")
    assert len(e.errors) == 100 and np.isclose(experiment.alpha, 8) and loss < np.log(20) + 0.1 and e.mean[3] > neighbour


# %% tags=["solution"]
# Chance is 1/20, the least loss log 20, about 3.0. In the mean over all images each class has the share 1/N, and so its part of the
# gradient shrinks with N: `experiment` makes up for it by the rate 0.4 N. Even so short a training is enough to beat the rival here.
def learn_ways(ways):
    experiment = classification.experiment(train, test, ways=ways, hidden=(64,))._replace(evaluation_tasks=100)
    return experiment, learn(experiment, ways, 200, 4).theta


check_12_1(learn_ways)

# %% [markdown]
# **Exercise 12.2: no leak.** Normalise the hidden units of the query images by the mean and the variance that these units
# have on the *support* images, so that no answer depends on other questions. (`phi[0]` has `W`, `scale` and `shift`,
# `phi[1]` has `W` and `b`. The spread is $\sqrt{\text{variance} + \epsilon}$, with $\epsilon = 10^{-5}$; then come scale,
# shift and ReLU.)


# %%
def scores_without_leak(phi, support, query):
    """The scores of the query images, (images, 5)."""
    raise NotImplementedError("exercise 12.2")


# %%
def check_12_2(scores_without_leak):
    phi = tm.maml.adapt(adaptation.problem, exact_theta, task, steps=3, lr=adaptation.lr)
    phi = [{k: layer[k] if part[k] is None else part[k] for k in layer} for layer, part in zip(exact_theta, phi, strict=True)]
    scores = scores_without_leak(phi, task.support.x, task.query.x)
    alone = np.concatenate([scores_without_leak(phi, task.support.x, task.query.x[i : i + 1]) for i in range(75)])
    print(f"asked alone or together, the scores differ by {np.max(np.abs(scores - alone)):.1e}")
    own = scores_without_leak(phi, task.support.x, task.support.x)
    assert np.allclose(scores, alone) and np.allclose(own, tm.nn.normalised_mlp(phi, task.support.x))


# %% tags=["solution"]
# As honest as one can be, but the network was trained the other way, on statistics of more images than five: train as you evaluate.
def scores_without_leak(phi, support, query):
    given, asked = support @ phi[0]["W"], query @ phi[0]["W"]
    normal = (asked - np.mean(given, axis=0)) / np.sqrt(np.var(given, axis=0) + 1e-5)
    return tm.relu(normal * phi[0]["scale"] + phi[0]["shift"]) @ phi[1]["W"] + phi[1]["b"]


check_12_2(scores_without_leak)

# %% [markdown]
# **Exercise 12.3: the interval of a difference.** Both rivals judged the *same* tasks. Return the mean difference of their
# accuracies, and half its 95 % interval. Is it wider or narrower than what you get from two independent samples, whose
# variances add?


# %%
def difference(a, b):
    """From the accuracies on the same tasks, of shape (n,) each: (mean, half of the interval)."""
    raise NotImplementedError("exercise 12.3")


# %%
def check_12_3(difference):
    ours, neighbour = results["MAML"], results["nearest neighbour"]
    mean, half = difference(ours.errors[:, 3], neighbour.errors[:, 3])
    apart = np.hypot(ours.confidence[3], neighbour.confidence[3])
    print(f"MAML is better by {mean:.3f} ± {half:.3f}; taken for independent, ± {apart:.3f}")
    d = np.array([0.1, 0.2, 0.3, 0.4])
    assert np.allclose(difference(d + d[::-1] ** 2, d[::-1] ** 2), (0.25, 1.96 * np.std(d, ddof=1) / 2)) and half < apart


# %% tags=["solution"]
# Formula (4) for the differences: a hard task is hard for both, and that cancels.
def difference(a, b):
    return np.mean(a - b), 1.96 * np.std(a - b, ddof=1) / np.sqrt(len(a))


check_12_3(difference)

# %% [markdown]
# ## Symbols
#
# The papers are Finn, Abbeel and Levine, *Model-agnostic meta-learning for fast adaptation of deep networks* (2017), section
# 5.2, and Ioffe and Szegedy, *Batch normalization* (2015). The images are those of Lake, Salakhutdinov and Tenenbaum,
# *Human-level concept learning through probabilistic program induction* (2015), or invented.
#
# | paper | here | variable | shape |
# |---|---|---|---|
# | $N$, $K$ | $N$ ways, $K$ shots | `ways`, `shots` | (), () |
# | $f_\phi(x)$ | scores $z$, shares $q$ | `z` | (5,) |
# | $\mathcal L$, eq. 3 | $\ell$, its mean over the images | `tm.nn.cross_entropy` | () |
# | $\theta$, $\theta_i'$ | $\theta$, $\phi_1$ | `theta`, `phi` | containers |
# | $\gamma$, $\beta$ (2015) | scale, shift | `theta[0]["scale"]`, `["shift"]` | (64,), (64,) |
# | | $a_i$; (4) | `e.errors[:, k]`; `e.confidence[k]` | (300,); () |
#
# **Next:** why it runs in seconds: from the graph to a program to a machine.
