"""What `tinymeta train` can train: each job is made from its configuration alone, and so can be made again from a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import baselines, implicit, learned_optimizer, optim, plots
from ..autodiff import tree
from ..bilevel import Bilevel
from ..optim import Optimizer
from ..tasks import characters, few_shot, hyperparameters, omniglot, quadratics
from ..tasks.few_shot import Characters
from ..train import Tasks
from . import classification, sinusoid
from .few_shot import Evaluation, FewShot, evaluate, table
from .methods import Objective

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(NamedTuple):
    """What a training has achieved."""

    text: str
    numbers: dict[str, Any]
    draw: Callable[[], Figure]


class Job(NamedTuple):
    """A training, and how its result is judged."""

    configuration: dict[str, Any]
    """what it was made from: `make(**configuration)` makes it again"""
    objective: Objective
    theta: Any
    tasks: Tasks
    optimizer: Optimizer
    meta_batch: int
    iterations: int
    """those of `ITERATIONS`"""
    report: Callable[[Any], Report]
    """of trained parameters"""


def make(experiment: str, **options: Any) -> Job:
    """A job by name; the options are those of its function below.

    Raises ValueError for an experiment, or an option of it, that doesn't exist or makes no sense.

    >>> job = make("sinusoid", method="maml")
    >>> job.iterations, job.configuration
    (70000, {'experiment': 'sinusoid', 'method': 'maml', 'seed': 0, 'shots': 5})
    """
    if experiment not in JOBS:
        raise ValueError(f"experiment={experiment!r}: choose one of {', '.join(JOBS)}")
    signature = inspect.signature(JOBS[experiment])
    if unknown := [name for name in options if name not in signature.parameters]:
        raise ValueError(f"{experiment} has no {' or '.join(unknown)}: it has {', '.join(signature.parameters)}")
    bound = signature.bind(**options)
    bound.apply_defaults()
    return JOBS[experiment](**bound.arguments)._replace(configuration={"experiment": experiment, **bound.arguments})


ITERATIONS = {"sinusoid": sinusoid.ITERATIONS, "omniglot": 60_000, "characters": 5_000, "quadratics": 2_000, "hyperparameters": 1_000}
"""as many as the papers made of the first two, and what the others take"""


# ## Few-shot learning
SCRATCH = 20  # steps of Adam, for a network that starts anew on each task


def _few_shot(chosen: FewShot, method: str, seed: int, iterations: int, unit: str, others: Callable[[], Mapping[str, Evaluation]]) -> Job:
    def report(theta: Any) -> Report:
        evaluations = {method: evaluate(chosen, method, theta, seed), **others()}
        steps = tuple(k for k in (0, 1, 3, 5, 10) if k <= chosen.evaluation_steps)
        text = f"{unit} on {chosen.evaluation_tasks} unseen tasks (mean and 95 % confidence)\n\n{table(evaluations, steps)}"
        numbers = {name: {"mean": e.mean.tolist(), "confidence": e.confidence.tolist()} for name, e in evaluations.items()}
        return Report(text, numbers, lambda: plots.after_steps({name: (e.mean, e.confidence) for name, e in evaluations.items()}, unit))

    return Job({}, chosen.objective(method), chosen.theta(method, seed), chosen.draw, optim.adam(chosen.learning_rate), chosen.meta_batch,
               iterations, report)  # fmt: skip


def of_sinusoids(method: str = "maml", seed: int = 0, shots: int = 5) -> Job:
    """Finn et al. (2017), section 5.1: trained with 10 points given, judged with K."""
    return _few_shot(sinusoid.experiment(shots), method, seed, ITERATIONS["sinusoid"], "Mean squared error", dict)


def _of_drawings(train: Characters, test: Characters, method: str, seed: int, ways: int, shots: int, iterations: int, hidden: Any) -> Job:
    chosen = classification.experiment(train, test, ways=ways, shots=shots, hidden=hidden)
    for draw in (chosen.draw, chosen.draw_unseen):
        draw(np.random.default_rng(0), 1)  # if there are too few characters or drawings, it had better be known now

    def others() -> dict[str, Evaluation]:
        """What has learned nothing from other characters."""
        tasks = chosen.draw_unseen(np.random.default_rng((seed, 2)), chosen.evaluation_tasks)
        neighbour = few_shot.nearest_neighbour(tasks)[:, None]
        scratch = evaluate(chosen._replace(alpha=0.01), "maml", chosen.start(seed), seed, steps=SCRATCH, update=optim.adam).errors[:, -1:]
        found = {"nearest neighbour": neighbour, f"from scratch, {SCRATCH} steps": scratch}
        return {name: Evaluation(np.repeat(errors, chosen.evaluation_steps + 1, axis=1)) for name, errors in found.items()}

    return _few_shot(chosen, method, seed, iterations, "Accuracy", others)


def of_omniglot(data: Sequence[str], method: str = "maml", seed: int = 0, ways: int = 5, shots: int = 1) -> Job:
    """Finn et al. (2017), section 5.2, without convolutions: trained on the first data, judged on what alphabets only the second has."""
    first, second = data
    train, test = few_shot.split(omniglot.load(first), omniglot.load(second))
    return _of_drawings(train, test, method, seed, ways, shots, ITERATIONS["omniglot"], classification.HIDDEN)


def of_characters(method: str = "maml", seed: int = 0, ways: int = 5, shots: int = 1) -> Job:
    """The same with invented characters, 14 x 14, and a network 196-64-N, for where there is no Omniglot and little time."""
    train, test = (characters.draw_characters(np.random.default_rng((seed, k)), 200, size=14) for k in (3, 4))
    return _of_drawings(train, test, method, seed, ways, shots, ITERATIONS["characters"], (64,))


# ## A learned optimizer
HORIZON, PAST = 20, 100  # steps that are trained for, and steps that are shown
RATES = np.logspace(-4, 0.5, 91)


def of_quadratics(seed: int = 0) -> Job:
    """Andrychowicz et al. (2016), section 3.1: two layers of 20, the sum of the losses over 20 steps; second derivatives are kept."""
    rule = learned_optimizer.LSTM
    problem = Bilevel(quadratics.distance, quadratics.distance, quadratics.start)
    F = learned_optimizer.objective(problem, steps=HORIZON, second_derivatives=True, losses="sum", rule=rule)
    tasks = partial(quadratics.draw_distances, distribution="uniform")

    def report(theta: Any) -> Report:
        known, unseen = tasks(np.random.default_rng((seed, 3)), 1024), tasks(np.random.default_rng((seed, 2)), 1024)
        rates = {name: baselines.tune(make, problem, known, RATES, steps=HORIZON, losses="sum").rate for name, make in TUNED.items()}
        rules = {name: (learned_optimizer.classical(make), rates[name]) for name, make in TUNED.items()}
        curves = baselines.learning_curves(problem, {"LSTM": (rule, theta), **rules}, unseen, steps=PAST)
        return Report(_race(curves, rates), {"rates": rates, "curves": {name: c.tolist() for name, c in curves.items()}},
                      lambda: plots.learning_curves(curves, HORIZON, "LSTM"))  # fmt: skip

    return Job({}, F, rule.initialize(np.random.default_rng(seed)), tasks, optim.adam(0.01), 16, ITERATIONS["quadratics"], report)


TUNED = baselines.BASELINES


def _race(curves: Mapping[str, np.ndarray], rates: Mapping[str, float]) -> str:
    shown = (0, 1, 2, 5, 10, HORIZON, 50, PAST)
    lines = [f"{'mean loss after step':<22}" + "".join(f"{k:>10}" for k in shown)]
    lines += [f"{_with_rate(name, rates):<22}" + "".join(f"{curve[k]:>10.3g}" for k in shown) for name, curve in curves.items()]
    others = np.min([curve for name, curve in curves.items() if name in rates], axis=0)
    ahead = np.flatnonzero(curves["LSTM"][1 : HORIZON + 1] < others[1 : HORIZON + 1]) + 1
    told = f"The LSTM is ahead of all of them at {len(ahead)} of the {HORIZON} steps it was trained for: {_ranges(ahead)}."
    return "\n".join([*lines, "", told])


def _with_rate(name: str, rates: Mapping[str, float]) -> str:
    return f"{name}, rate {rates[name]:.2g}" if name in rates else name


def _ranges(numbers: np.ndarray) -> str:
    """Runs of whole numbers.

    >>> _ranges(np.array([1, 2, 3, 7]))
    '1 to 3, 7'
    """
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run)) or "none"


# ## Hyperparameters
def of_hyperparameters(seed: int = 0) -> Job:
    """Logistic regression with a strength of regularisation for each weight, by the implicit gradient of the validation loss."""
    task = hyperparameters.draw_logistic(np.random.default_rng((seed, 1)))
    problem = Bilevel(hyperparameters.logistic_inner, hyperparameters.logistic_outer, hyperparameters.start)
    # $H \preceq \tfrac14 \lambda_{\max}(X^\top X / n)\, I + \operatorname{diag} e^\theta$: steps that are safe for any strengths.
    x = task.support.x
    largest = 0.25 * np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    F = implicit.objective(problem, steps=100, lr=lambda theta: 1 / (largest + np.exp(theta)), iterations=x.shape[1])
    start = np.zeros(x.shape[1])

    def validation(theta: Any) -> float:
        phi = implicit.solve_inner(problem, theta, task)
        return float(hyperparameters.logistic_outer(phi, theta, task))

    def report(theta: Any) -> Report:
        before, after = validation(start), validation(theta)
        strengths = "  ".join(f"{x:.2g}" for x in np.exp(theta))
        text = (f"validation loss {before:.4f} with all strengths 1, {after:.4f} with those learned ({after / before:.0%})\n"
                f"strengths: {strengths}")  # fmt: skip
        return Report(text, {"before": before, "after": after, "strengths": np.exp(theta).tolist()}, lambda: plots.strengths(np.exp(theta)))

    one = tree.map(lambda x: x[None], task)
    return Job({}, F, start, lambda rng, count: one, optim.adam(0.03), 1, ITERATIONS["hyperparameters"], report)


JOBS: dict[str, Callable[..., Job]] = {
    "sinusoid": of_sinusoids,
    "omniglot": of_omniglot,
    "characters": of_characters,
    "quadratics": of_quadratics,
    "hyperparameters": of_hyperparameters,
}
