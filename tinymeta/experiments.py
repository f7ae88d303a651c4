r"""
# Few-shot sinusoids

The first experiment of the MAML paper (Finn et al. 2017, section 5.1): learn to learn sine waves from a few points. A network
trained with MAML, beside the same network trained for as long on all waves at once, without an inner loop. What that one
learns is the mean of all waves: with the mean amplitude 2.55 and a phase that is uniform in $[0, \pi]$,

$$ \mathbb E\,[A \sin(x - p)] = 2.55\,(\sin x\;\mathbb E \cos p - \cos x\;\mathbb E \sin p)
   = -\tfrac{2}{\pi}\,2.55 \cos x \approx -1.62 \cos x. $$
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import maml, nn, optim
from .autodiff import tree, vmap
from .bilevel import Bilevel
from .machine import trace
from .tasks import Task, sinusoids
from .train import Training, fit

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


def train_maml(seed: int, iterations: int, quiet: bool = False) -> Training:
    """Minimise the query loss after the inner step."""
    objective = maml.objective(PROBLEM, steps=CONFIGURATION["inner_steps"], lr=CONFIGURATION["alpha"])
    return _train(objective, seed, iterations, "MAML", quiet)


def pretrain(seed: int, iterations: int, quiet: bool = False) -> Training:
    """Minimise the loss on all points of all tasks, without an inner loop."""

    def loss(theta: Any, task: Task) -> Any:
        return 0.5 * (support_loss(theta, theta, task) + query_loss(theta, theta, task))

    return _train(loss, seed, iterations, "pretraining", quiet)


def _train(objective: Any, seed: int, iterations: int, label: str, quiet: bool) -> Training:
    optimizer = optim.adam(CONFIGURATION["learning_rate"])

    def draw(rng: np.random.Generator, count: int) -> Task:
        return sinusoids.draw(rng, count, CONFIGURATION["support_points"], CONFIGURATION["query_points"])

    return fit(objective, initial_parameters(seed), draw, optimizer, iterations=iterations, meta_batch=CONFIGURATION["meta_batch"],
               seed=(seed, 1), label=label, quiet=quiet)  # fmt: skip


# ## Evaluation
class Evaluation(NamedTuple):
    """Query errors on unseen tasks: `errors` of shape (tasks, steps + 1), after 0, 1, ... inner steps."""

    errors: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.errors.mean(axis=0)

    @property
    def confidence(self) -> np.ndarray:
        """Half the width of the 95 % interval of the mean over tasks (they are independent, and many)."""
        return 1.96 * self.errors.std(axis=0, ddof=1) / np.sqrt(len(self.errors))


def evaluate(theta: Any, seed: int) -> Evaluation:
    """Adapt to each of 600 unseen tasks, the same for every network, and measure the error after each step."""
    tasks = sinusoids.draw(np.random.default_rng((seed, 2)), CONFIGURATION["evaluation_tasks"],
                           CONFIGURATION["evaluation_support_points"], CONFIGURATION["evaluation_query_points"])  # fmt: skip

    def errors_of_one(theta: Any, task: Task) -> Any:
        return np.stack([query_loss(phi, theta, task) for phi in adaptation(theta, task)])

    return Evaluation(trace(vmap(errors_of_one, (None, 0)), theta, tasks)(theta, tasks))


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


def table(evaluations: dict[str, Evaluation], steps: tuple[int, ...] = (0, 1, 5, 10)) -> str:
    """The errors as text, with 95 % confidence intervals.

    >>> print(table({"MAML": Evaluation(np.ones((600, 11)))}, steps=(0, 1)))
    inner steps                     0              1
    MAML                1.000 ± 0.000  1.000 ± 0.000
    """
    lines = [f"{'inner steps':<18}" + "".join(f"{k:>15}" for k in steps)]
    for name, e in evaluations.items():
        lines.append(f"{name:<18}" + "".join(f"{f'{e.mean[k]:.3f} ± {e.confidence[k]:.3f}':>15}" for k in steps))
    return "\n".join(lines)
