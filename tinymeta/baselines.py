r"""
# What a learned optimizer is measured against

A learned optimizer has been trained on tasks of a kind. It is only fair to let the optimizers made by hand learn from the same
tasks as much as they can, and that is one number, the learning rate:

$$ \alpha^\star = \arg\min_\alpha \frac1B \sum_{i=1}^{B} F(\alpha; \mathcal T_i), $$

by trying all on a grid, since the mean loss is often full of cliffs. F is the very objective that the learned one is trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from . import optim
from .arguments import check_array, check_count, check_type, wanted
from .autodiff import tree, vmap
from .bilevel import Bilevel, check_batch, check_problem, floats
from .learned_optimizer import Rule, classical, objective, unroll
from .machine import jit

BASELINES: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": optim.sgd, "momentum": optim.momentum, "RMSProp": optim.rmsprop, "Adam": optim.adam,
}  # fmt: skip


class Tuned(NamedTuple):
    """What `tune` found."""

    rate: float
    """the best learning rate"""
    rates: np.ndarray
    """all that were tried"""
    scores: np.ndarray
    """the mean objective of each; infinite where it diverged"""


def tune(
    optimizer: Callable[[Any], optim.Optimizer], problem: Bilevel, tasks: Any, rates: np.ndarray, *, steps: int, losses: str = "query"
) -> Tuned:
    """The learning rate with the smallest mean objective over the tasks.

    Parameters
    ----------
    optimizer : function of the learning rate, such as `optim.adam`
    problem : inner and outer loss, and where phi starts
    tasks : a batch, stacked along the first axis
    rates : which ones to try, such as `np.logspace(-3, 0, 31)`
    steps, losses : as for `learned_optimizer.objective`

    All rates and all tasks are one program on the machine. Warns if the best rate is the first or the last, because then a better one
    may lie beyond. Raises FloatingPointError if all diverge.

    Example
    -------
    >>> from tinymeta.tasks import quadratics
    >>> problem = Bilevel(quadratics.distance, quadratics.distance, quadratics.start)
    >>> tasks = quadratics.draw_distances(np.random.default_rng(0), 8, distribution="uniform")
    >>> round(tune(optim.sgd, problem, tasks, np.logspace(-3, 0, 7), steps=5).rate, 3)
    0.01
    """
    check_array("rates", rates, (None,))
    if not np.size(rates) or np.min(rates) < 0:
        raise wanted("rates", rates, "learning rates, one or more, each 0 or more")
    check_batch(tasks, "tasks")
    F = objective(problem, steps=steps, second_derivatives=False, losses=losses, rule=classical(optimizer))

    def mean(rate: Any, tasks: Any) -> Any:
        return np.mean(vmap(F, (None, 0))(rate, tasks))

    rates = np.asarray(rates, float)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = jit(vmap(mean, (0, None)))(rates, tasks)
    scores = np.where(np.isfinite(scores), scores, np.inf)
    best = int(np.argmin(scores))
    if not np.isfinite(scores[best]):
        raise FloatingPointError(f"the loss is not finite after {steps} steps with any of the {len(rates)} rates: try smaller ones")
    if best in (0, len(rates) - 1) and len(rates) > 1:
        warnings.warn(f"the best learning rate, {rates[best]:.3g}, is at the end of those that were tried ({rates[0]:.3g} to "
                      f"{rates[-1]:.3g}): a better one may lie beyond", stacklevel=2)  # fmt: skip
    return Tuned(float(rates[best]), rates, scores)


def learning_curves(problem: Bilevel, rules: Mapping[str, tuple[Rule, Any]], tasks: Any, *, steps: int) -> dict[str, np.ndarray]:
    """The mean outer loss over the tasks after 0, 1, ..., `steps` steps, for each rule: also past the steps that it was trained for.

    Parameters
    ----------
    problem, tasks : as for `tune`
    rules : by name, the rule and its weights

    Returns
    -------
    arrays of shape (steps + 1,) by name; infinite or NaN from where the rule diverges

    Example
    -------
    >>> from tinymeta.tasks import quadratics
    >>> problem = Bilevel(quadratics.distance, quadratics.distance, quadratics.start)
    >>> tasks = quadratics.draw_distances(np.random.default_rng(0), 8, distribution="uniform")
    >>> curves = learning_curves(problem, {"SGD": (classical(optim.sgd), 0.01)}, tasks, steps=5)
    >>> curves["SGD"].shape, bool(np.all(np.diff(curves["SGD"]) < 0))
    ((6,), True)
    """
    check_problem(problem, started=True)
    check_type("rules", rules, Mapping, "a dict, with a rule and its weights by name")
    for name, pair in rules.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Rule)):
            raise wanted(f"rules[{name!r}]", pair, "a pair, the rule and its weights", TypeError)
    check_batch(tasks, "tasks")
    check_count("steps", steps, of="the number of updates")

    def losses_of(rule: Rule, theta: Any, task: Any) -> Any:
        run = unroll(theta, lambda phi: problem.inner(phi, theta, task), problem.start(theta, task), steps=steps,
                     second_derivatives=False, rule=rule, task=task)  # fmt: skip
        return np.stack([problem.outer(phi, theta, task) for phi in run.phis])

    curves = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, (rule, theta) in rules.items():
            each = jit(vmap(lambda theta, task, rule=rule: losses_of(rule, theta, task), (None, 0)))
            curves[name] = np.mean(each(tree.map(np.asarray, floats(theta, f"rules[{name!r}][1]")), tasks), axis=0)
    return curves
