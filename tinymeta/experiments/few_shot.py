r"""
# Few-shot learning, by any method

A few-shot experiment is a network with its loss, a source of tasks, and the paper's numbers. `METHODS` says what to do with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .. import maml, optim
from ..autodiff import vmap
from ..bilevel import Bilevel
from ..machine import trace
from ..optim import Optimizer
from ..train import Tasks
from .methods import METHODS, Adaptation, Choice, Objective


class FewShot(NamedTuple):
    """What the paper fixes."""

    problem: Bilevel
    """inner and outer loss; phi starts at theta, the network's parameters"""
    start: Callable[[int], Any]
    """seed -> the network's parameters before the training"""
    draw: Tasks
    """tasks to train on"""
    draw_unseen: Tasks
    """tasks to judge by"""
    judged_by: Callable[[Any, Any, Any], Any]
    """(phi, theta, task) -> an error, or an accuracy"""
    alpha: float
    """the inner learning rate, in training and in evaluation"""
    steps: Mapping[str, int]
    """how many inner steps each method trains with: the methods that make sense"""
    evaluation_steps: int
    evaluation_tasks: int
    meta_batch: int
    learning_rate: float
    """of Adam, the outer one"""
    adapts: Choice = lambda name: True
    """which of the network's parameters adapt"""
    is_last: Choice = lambda name: True
    """which are the last layer's"""
    alphas: Mapping[str, float] = MappingProxyType({})
    """of the methods that need another alpha"""

    def alpha_of(self, method: str) -> float:
        """The method's inner learning rate."""
        return self.alphas.get(method, self.alpha)

    def adaptation(self, method: str, judge: bool = False) -> Adaptation:
        """How a method adapts; with `judge`, the problem's outer function is what it is judged by."""
        if method not in self.steps:
            raise ValueError(f"method={method!r}: choose one of {', '.join(map(repr, self.steps))}")
        problem = Bilevel(self.problem.inner, self.judged_by) if judge else self.problem
        return METHODS[method].adaptation(problem, self.alpha_of(method), self.adapts, self.is_last)

    def objective(self, method: str) -> Objective:
        """What the method minimises."""
        problem, lr = self.adaptation(method)
        return METHODS[method].objective(problem, steps=self.steps[method], lr=lr)

    def theta(self, method: str, seed: int) -> Any:
        """What is learned, before the training."""
        return METHODS[method].theta(self.start(seed), self.alpha_of(method))


# ## Evaluation
class Evaluation(NamedTuple):
    """Errors or accuracies on unseen tasks: `errors` of shape (tasks, steps + 1), after 0, 1, ... inner steps."""

    errors: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.errors.mean(axis=0)

    @property
    def confidence(self) -> np.ndarray:
        """Half the width of the 95 % interval of the mean over tasks (they are independent, and many)."""
        with np.errstate(invalid="ignore", over="ignore"):  # what diverges
            return 1.96 * self.errors.std(axis=0, ddof=1) / np.sqrt(len(self.errors))


def evaluate(
    experiment: FewShot, method: str, theta: Any, seed: int, steps: int | None = None, update: Callable[[Any], Optimizer] = optim.sgd
) -> Evaluation:
    """Adapt to each of the unseen tasks, the same for every network, and judge after each step."""
    problem, lr = experiment.adaptation(method, judge=True)
    tasks = experiment.draw_unseen(np.random.default_rng((seed, 2)), experiment.evaluation_tasks)
    steps = experiment.evaluation_steps if steps is None else steps

    def of_one(theta: Any, task: Any) -> Any:
        phis, _ = maml.inner_steps(problem, theta, task, steps=steps, lr=lr, update=update, order=1)
        return np.stack([problem.outer(phi, theta, task) for phi in phis])

    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is shown so
        return Evaluation(trace(vmap(of_one, (None, 0)), theta, tasks)(theta, tasks))


def table(evaluations: Mapping[str, Evaluation], steps: tuple[int, ...] = (0, 1, 5, 10)) -> str:
    """The means as text, with 95 % confidence intervals.

    >>> print(table({"MAML": Evaluation(np.ones((600, 11)))}, steps=(0, 1)))
    inner steps                0              1
    MAML           1.000 ± 0.000  1.000 ± 0.000
    """
    width = max(map(len, ("inner steps", *evaluations))) + 2
    lines = [f"{'inner steps':<{width}}" + "".join(f"{k:>15}" for k in steps)]
    for name, e in evaluations.items():
        lines.append(f"{name:<{width}}" + "".join(f"{with_confidence(e.mean[k], e.confidence[k]):>15}" for k in steps))
    return "\n".join(lines)


def with_confidence(mean: float, half: float) -> str:
    """A mean and half the width of its interval, NaN if that isn't known.

    >>> with_confidence(0.6234, 0.01), with_confidence(0.6234, np.nan), with_confidence(np.inf, np.nan)
    ('0.623 ± 0.010', '0.623', 'diverges')
    """
    if not mean < 1e3:
        return "diverges"
    return f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
