r"""
# Ways to train for few-shot learning

All of them look for a $\theta$ from which a few steps of gradient descent on a task's support set lead to a small loss on its query set.
They differ in the gradient that they follow, in what adapts, and in what is learned beside the start. Each is one line of `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import implicit, maml
from ..autodiff import tree
from ..bilevel import Bilevel

Objective = Callable[[Any, Any], Any]  # (theta, task) -> scalar
Choice = Callable[[str], bool]  # whether a leaf of phi, by its name, is meant
PROXIMAL, CONJUGATE_GRADIENTS = 0.1, 2  # of iMAML


class Adaptation(NamedTuple):
    """How a task is adapted to: an inner loop, for `maml`."""

    problem: Bilevel
    lr: Any


class Method(NamedTuple):
    """A way to train, for any problem whose phi starts at theta."""

    about: str
    objective: Callable[..., Objective]
    """(problem, steps=, lr=) -> what is minimised"""
    adaptation: Callable[[Bilevel, float, Choice, Choice], Adaptation]
    """(problem, alpha, which leaves adapt, which are the last layer's)"""
    theta: Callable[[Any, float], Any] = lambda start, alpha: start
    """what is learned, before the training: from the network's parameters and alpha"""


def _of_chosen(problem: Bilevel, alpha: float, adapts: Choice, is_last: Choice) -> Adaptation:
    return Adaptation(problem.adapting(adapts), alpha)


def _of_all(problem: Bilevel, alpha: float, adapts: Choice, is_last: Choice) -> Adaptation:
    return Adaptation(problem, alpha)


def _of_the_last_layer(problem: Bilevel, alpha: float, adapts: Choice, is_last: Choice) -> Adaptation:
    return Adaptation(problem.adapting(is_last), alpha)


def _near_the_start(problem: Bilevel, alpha: float, adapts: Choice, is_last: Choice) -> Adaptation:
    return Adaptation(implicit.proximal(problem.adapting(adapts), PROXIMAL), alpha)


# theta is a pair of equal trees; a learning rate that belongs to a leaf that doesn't adapt is left out as that leaf is.
def _with_learned_rates(problem: Bilevel, alpha: float, adapts: Choice, is_last: Choice) -> Adaptation:
    part_of = lambda name: Bilevel(problem.inner, problem.outer, init=lambda theta, task: theta[name]).adapting(adapts)
    return Adaptation(part_of("start"), lambda theta: part_of("alpha").start(theta, None))


def _rates_and_start(start: Any, alpha: float) -> Any:
    return {"start": start, "alpha": tree.map(lambda x: np.full_like(x, alpha), start)}


def _first_order(problem: Bilevel, *, steps: int, lr: Any) -> Objective:
    return maml.objective(problem, steps=steps, lr=lr, order=1)


def _implicit(problem: Bilevel, *, steps: int, lr: Any) -> Objective:
    return implicit.objective(problem, steps=steps, lr=lr, iterations=CONJUGATE_GRADIENTS)


def _without_inner_loop(problem: Bilevel, *, steps: int, lr: Any) -> Objective:
    """The mean of the losses on all points of all tasks."""
    return lambda theta, task: 0.5 * (problem.inner(theta, theta, task) + problem.outer(theta, theta, task))


METHODS: dict[str, Method] = {
    "maml": Method("the gradient through the inner steps (Finn et al. 2017)", maml.objective, _of_chosen),
    "fomaml": Method("the same without second derivatives", _first_order, _of_chosen),
    "reptile": Method("towards the adapted parameters (Nichol et al. 2018)", maml.reptile_objective, _of_all),
    "anil": Method("only the last layer adapts (Raghu et al. 2020)", maml.objective, _of_the_last_layer),
    "meta-sgd": Method("also learns a rate for each weight (Li et al. 2017)", maml.objective, _with_learned_rates, _rates_and_start),
    "imaml": Method("the implicit gradient, with a proximal term (Rajeswaran et al. 2019)", _implicit, _near_the_start),
    "pretrain": Method("one network for all tasks at once, without inner steps", _without_inner_loop, _of_all),
}
