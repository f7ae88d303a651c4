r"""
# Few-shot sinusoids

The first experiment of the MAML paper (Finn et al. 2017, section 5.1): learn to learn sine waves from a few points. A network
trained with MAML, beside the same network trained for as long on all waves at once, without an inner loop. What that one
learns is the mean of all waves: with the mean amplitude 2.55 and a phase that is uniform in $[0, \pi]$,

$$ \mathbb E\,[A \sin(x - p)] = 2.55\,(\sin x\;\mathbb E \cos p - \cos x\;\mathbb E \sin p)
   = -\tfrac{2}{\pi}\,2.55 \cos x \approx -1.62 \cos x. $$
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import maml, nn, optim
from ..autodiff import tree
from ..bilevel import Bilevel
from ..tasks import Task, sinusoids
from ..train import Training, fit
from . import few_shot
from .few_shot import Evaluation, FewShot

CONFIGURATION: dict[str, Any] = {
    "network": [1, 40, 40, 1],
    "activation": "relu",
    "alpha": 0.01,
    "inner_steps": 1,
    "support_points": 10,
    "query_points": 10,
    "meta_batch": 25,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "evaluation_tasks": 600,
    "evaluation_support_points": 5,
    "evaluation_query_points": 100,
    "evaluation_steps": 10,
}
"""As in the paper: mean squared errors (not sums), the same alpha in training and in evaluation."""

ITERATIONS = 70_000
STEPS = {"maml": 1, "fomaml": 1, "meta-sgd": 1, "anil": 1, "imaml": 20, "reptile": 5, "pretrain": 0}
"""Inner steps in training. One of MAML's is not enough to see a direction to `phi_K`, nor to come near a stationary point."""
IMAML_ALPHA = 0.003
"""The implicit gradient doesn't see the inner steps: with the paper's alpha it leads to where they are unstable."""


def support_loss(phi: Any, theta: Any, task: Task) -> Any:
    """The inner loss: the error on the points that are given."""
    return nn.mean_squared_error(nn.mlp(phi, task.support.x), task.support.y)


def query_loss(phi: Any, theta: Any, task: Task) -> Any:
    """The outer loss: the error on the points that are asked."""
    return nn.mean_squared_error(nn.mlp(phi, task.query.x), task.query.y)


PROBLEM = Bilevel(support_loss, query_loss)


def initial_parameters(seed: int) -> Any:
    """The network before training, weights from a truncated normal with sigma 0.01 as in the paper's code.

    >>> [layer["W"].shape for layer in initial_parameters(0)]
    [(1, 40), (40, 40), (40, 1)]
    """
    return nn.initialize_mlp(np.random.default_rng(seed), CONFIGURATION["network"], nn.truncated_normal)


def experiment(shots: int = CONFIGURATION["evaluation_support_points"]) -> FewShot:
    """The paper's experiment, judged with so many points given.

    >>> experiment().steps["maml"]
    1
    """
    points = CONFIGURATION["support_points"], CONFIGURATION["query_points"]
    return FewShot(
        PROBLEM,
        start=initial_parameters,
        draw=lambda rng, count: sinusoids.draw(rng, count, *points),
        draw_unseen=lambda rng, count: sinusoids.draw(rng, count, shots, CONFIGURATION["evaluation_query_points"]),
        judged_by=query_loss,
        alpha=CONFIGURATION["alpha"],
        steps=STEPS,
        evaluation_steps=CONFIGURATION["evaluation_steps"],
        evaluation_tasks=CONFIGURATION["evaluation_tasks"],
        meta_batch=CONFIGURATION["meta_batch"],
        learning_rate=CONFIGURATION["learning_rate"],
        is_last=lambda name: name.startswith("phi[2]"),
        alphas={"imaml": IMAML_ALPHA},
    )


def train_maml(seed: int, iterations: int, quiet: bool = False) -> Training:
    """Minimise the query loss after the inner step."""
    return _train("maml", seed, iterations, "MAML", quiet)


def pretrain(seed: int, iterations: int, quiet: bool = False) -> Training:
    """Minimise the loss on all points of all tasks, without an inner loop."""
    return _train("pretrain", seed, iterations, "pretraining", quiet)


def _train(method: str, seed: int, iterations: int, label: str, quiet: bool) -> Training:
    chosen = experiment()
    return fit(chosen.objective(method), chosen.theta(method, seed), chosen.draw, optim.adam(chosen.learning_rate), iterations=iterations,
               meta_batch=chosen.meta_batch, seed=(seed, 1), label=label, quiet=quiet)  # fmt: skip


def evaluate(theta: Any, seed: int) -> Evaluation:
    """Adapt to each of 600 unseen tasks, the same for every network, and measure the error after each step."""
    return few_shot.evaluate(experiment(), "maml", theta, seed)


def adaptation(theta: Any, task: Task) -> list[Any]:
    """The parameters after 0, 1, ... steps on a task."""
    return maml.inner_steps(PROBLEM, theta, task, steps=CONFIGURATION["evaluation_steps"], lr=CONFIGURATION["alpha"], order=1)[0]


def example_task(seed: int) -> tuple[Task, sinusoids.Data]:
    """A task to look at, with one point given in each fifth of the range, and its true wave."""
    rng = np.random.default_rng((seed, 3))
    wave = sinusoids.draw_waves(rng, 1)
    points = CONFIGURATION["evaluation_support_points"]
    low, high = sinusoids.RANGE
    x = low + (high - low) * (np.arange(points) + rng.uniform(0, 1, points)) / points
    truth = wave.at(np.linspace(low, high, 200)[None, :, None])
    return tree.map(lambda x: x[0], (Task(wave.at(x[None, :, None]), truth), truth))
