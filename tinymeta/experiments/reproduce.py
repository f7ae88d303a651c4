r"""
# Papers' tables and figures, ours beside the published numbers

Each function makes the trainings that it needs, or takes them from the checkpoints that an earlier, unfinished run has left, and returns a
`Table`.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import implicit, maml, nn, plots, side_by_side
from ..autodiff import tree, value_and_grad, vmap
from ..bilevel import Bilevel
from ..comparison import relative_error
from ..machine import jit
from ..side_by_side import Point
from ..tasks import sinusoids
from ..train import Diverged, fit
from . import few_shot, jobs, sinusoid
from .few_shot import FewShot, with_confidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | float | None


class Table(NamedTuple):
    """What has been reproduced."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]]
    notes: str
    draw: Callable[[], Figure]

    def markdown(self) -> str:
        """As a section of a Markdown document."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(map(_text, line))} |" for line in lines), "", self.notes, ""])

    def csv(self) -> str:
        """As comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


def _text(cell: Cell) -> str:
    return "" if cell is None else cell if isinstance(cell, str) else f"{cell:.3g}"


class Settings(NamedTuple):
    """What the command can choose."""

    seeds: int
    iterations: int | None
    """None: the paper's"""
    folder: Path
    data: Sequence[str] | None
    quiet: bool = False


def trained(settings: Settings, seed: int, name: str, iterations: int | None = None, **options: Any) -> tuple[jobs.Job, Any]:
    """A job and its trained parameters, from the checkpoint if there is one."""
    job = jobs.make(seed=seed, **options)
    result = fit(job.objective, job.theta, job.tasks, job.optimizer, iterations=settings.iterations or iterations or job.iterations,
                 meta_batch=job.meta_batch, seed=(seed, 1), label=f"{name}, seed {seed}", quiet=settings.quiet,
                 checkpoint=settings.folder / f"{name}-{seed}.npz", resume=True, configuration=job.configuration)  # fmt: skip
    if result.interrupted:
        raise KeyboardInterrupt
    return job, result.theta


# ## Means with confidence
def mean_and_confidence(values: np.ndarray) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's), for a few independent values; of one value the width isn't known.

    >>> mean_and_confidence(np.array([1.0, 2.0, 3.0]))
    (2.0, 2.484...)
    """
    from scipy import stats

    if len(values) == 1:
        return float(values[0]), np.nan
    with np.errstate(invalid="ignore"):  # what diverges
        deviation = np.std(values, ddof=1)
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * deviation / np.sqrt(len(values)))


# ## MAML's table 2
PUBLISHED = {"MAML, published": (0.67, 0.38, 0.35), "pretrained, published": (2.41, 2.23, 2.19)}
NAMES = {"maml": "MAML", "fomaml": "first order", "meta-sgd": "Meta-SGD", "anil": "ANIL", "imaml": "iMAML", "reptile": "Reptile",
         "pretrain": "pretrained"}  # fmt: skip


def maml_table2(settings: Settings) -> Table:
    """Finn et al. (2017), table 2, on the right: sinusoids, 5 points given."""
    chosen, errors = sinusoid.experiment(), {}
    for method in NAMES:
        errors[method] = np.array([_sinusoid_errors(settings, chosen, method, seed) for seed in range(settings.seeds)])
    rows: list[Sequence[Cell]] = [(name, *map(str, numbers)) for name, numbers in PUBLISHED.items()]
    rows += [(NAMES[method], *(with_confidence(*mean_and_confidence(e[:, k])) for k in (1, 5, 10))) for method, e in errors.items()]
    iterations = settings.iterations or sinusoid.ITERATIONS
    steps = sinusoid.STEPS
    notes = (f"Mean squared error on 600 unseen waves after 1, 5 and 10 steps (alpha = 0.01, of iMAML {sinusoid.IMAML_ALPHA}) on 5 points "
             f"each; {iterations:,} iterations. Ours: the mean over {settings.seeds} seeds, and its 95 % interval. Trained with 10 points "
             f"given and 10 asked, 25 waves an iteration; iMAML with {steps['imaml']} inner steps and Reptile with {steps['reptile']}, the "
             "others with 1, for which Meta-SGD's rates are learned.")  # fmt: skip
    curves = {NAMES[method]: _over_seeds(e) for method, e in errors.items()}
    return Table("Few-shot sinusoids (Finn et al. 2017, table 2)", ("", "1 step", "5 steps", "10 steps"), rows, notes,
                 lambda: plots.after_steps(curves, "mean squared error"))  # fmt: skip


def _sinusoid_errors(settings: Settings, chosen: FewShot, method: str, seed: int) -> np.ndarray:
    """The mean errors after each step; NaN if the training diverges."""
    try:
        _, theta = trained(settings, seed, f"sinusoid-{method}", experiment="sinusoid", method=method)
    except Diverged:
        return np.full(chosen.evaluation_steps + 1, np.nan)
    return few_shot.evaluate(chosen, method, theta, seed).mean


def _over_seeds(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and half widths after each step, of errors of shape (seeds, steps + 1)."""
    means, halves = zip(*map(mean_and_confidence, errors.T), strict=True)
    return np.array(means), np.array(halves)


# ## Omniglot
OMNIGLOT_ITERATIONS = {1: 20_000, 5: 600}
"""by shots: with more, the network knows its few hundred classes by heart (`benchmarks/omniglot_iterations.py`)"""


def omniglot_mlp(settings: Settings) -> Table:
    """Finn et al. (2017), table 1, without convolutions, on the two small sets."""
    if settings.data is None:
        raise ValueError("omniglot-mlp needs Omniglot: --data images_background_small1.zip images_background_small2.zip, from "
                         "https://github.com/brendenlake/omniglot (folder python/)")  # fmt: skip
    rows: list[Sequence[Cell]] = [("MAML, published, all of Omniglot", "89.7 ± 1.1 %", "97.5 ± 0.6 %")]
    curves: dict[str, tuple[Any, Any]] = {}
    for way, data in (("1 to 2", settings.data), ("2 to 1", settings.data[::-1])):
        cells: dict[str, list[str]] = {}
        for shots, iterations in OMNIGLOT_ITERATIONS.items():
            job, theta = trained(settings, 0, f"omniglot-{way.replace(' ', '-')}-{shots}-shot", iterations, experiment="omniglot",
                                 method="maml", ways=5, shots=shots, data=list(data))  # fmt: skip
            for name, numbers in job.report(theta).numbers.items():
                title = f"{'MAML' if name == 'maml' else name}, small set {way}"
                cells.setdefault(title, []).append(f"{100 * numbers['mean'][-1]:.1f} ± {100 * numbers['confidence'][-1]:.1f} %")
                curves[f"{title}, {shots}-shot"] = numbers["mean"], numbers["confidence"]
        rows += [(name, *values) for name, values in cells.items()]
    made = " and ".join(f"{settings.iterations or number:,} ({shots}-shot)" for shots, number in OMNIGLOT_ITERATIONS.items())
    notes = (f"Accuracy on 600 tasks of 5 characters, of alphabets that weren't trained on (mean, and 95 % interval over the tasks), after "
             f"3 steps (alpha = 0.4 for the sum over the classes); {made} iterations of 32 tasks. The published network was "
             "trained on 1,200 characters, these on 136 and 156, each also turned by 90, 180 and 270 degrees. From scratch: the same "
             f"network, anew on each task, {jobs.SCRATCH} steps of Adam on the support set.")  # fmt: skip
    return Table("Omniglot without convolutions (Finn et al. 2017, table 1)", ("5-way", "1-shot", "5-shot"), rows, notes,
                 lambda: plots.after_steps(curves, "accuracy"))  # fmt: skip


# ## A learned optimizer
def l2l_quadratics(settings: Settings) -> Table:
    """Andrychowicz et al. (2016), figure 4, on the left: ten-dimensional quadratics."""
    job, theta = trained(settings, 0, "quadratics", experiment="quadratics")
    report = job.report(theta)
    steps = (1, 5, 10, 20, 50, 100)
    rates = report.numbers["rates"]
    rows: list[Sequence[Cell]] = [(f"{name}, rate {rates[name]:.2g}" if name in rates else name, *(curve[k] for k in steps))
                                  for name, curve in report.numbers["curves"].items()]  # fmt: skip
    notes = (f"Mean loss on 1,024 unseen tasks after so many steps. {report.text.splitlines()[-1]} The paper shows figures, no numbers: "
             "its LSTM is ahead of the four within its horizon. The others' learning rates are the best of 91 for the sum of the losses "
             f"over the {jobs.HORIZON} steps, on 1,024 other tasks. The LSTM's second derivatives are kept; the paper drops them.")
    return Table("A learned optimizer on quadratics (Andrychowicz et al. 2016)", ("step", *map(str, steps)), rows, notes, report.draw)


# ## iMAML's memory
INNER_STEPS = (1, 3, 10, 30, 100, 300, 1000)
STRENGTH = 2.0  # of the network's proximal term


def imaml_figure(settings: Settings) -> Table:
    """Rajeswaran et al. (2019), figure 2: error and memory against inner steps, on a quadratic (condition number 71) and a network."""
    quadratic, network = side_by_side.ill_conditioned(0), _network_near_its_start()
    points = _against_inner_steps("quadratic", *quadratic, lr=side_by_side.DESCENT.keywords["lr"])
    points |= _against_inner_steps("network", *network, lr=0.05)
    rows: list[Sequence[Cell]] = [(name, str(steps), f"{error:.1e}", str(nodes))
                                  for name, curve in points.items() for steps, nodes, error in curve]  # fmt: skip
    notes = (f"A quadratic of {side_by_side.DIMENSIONS} dimensions with a proximal term, its Hessian's condition number "
             f"{side_by_side.CONDITION}, and a network 1-8-1 with tanh on a sine wave, with a proximal term of strength {STRENGTH:g}; the "
             "error of the meta-gradient, relative to the exact one at the end of the adaptation, and the graph nodes kept at once, after "
             "so many inner steps. The linear system is solved by MINRES: on the way, the network's Hessian is not positive definite. "
             "The paper shows a figure. Against Hessian products: `python -m tinymeta compare`.")  # fmt: skip
    columns = ("", "inner steps", "relative error", "graph nodes")
    return Table("Implicit MAML's accuracy and memory (Rajeswaran et al. 2019, figure 2)", columns, rows, notes,
                 lambda: plots.accuracy_against_cost(points, "inner steps"))  # fmt: skip


def _network_near_its_start() -> tuple[Bilevel, Any, Any, Any]:
    """The problem with its proximal term, theta, the task, and the exact gradient."""
    rng = np.random.default_rng(0)
    task, theta = tree.map(lambda x: x[0], sinusoids.draw(rng, 1)), nn.initialize_mlp(rng, (1, 8, 1))
    problem = implicit.proximal(Bilevel(side_by_side.network_loss("support"), side_by_side.network_loss("query")), STRENGTH)
    return problem, theta, task, implicit.meta_gradient(problem, theta, task, solver="cholesky").grad


def _against_inner_steps(name: str, problem: Bilevel, theta: Any, task: Any, exact: Any, lr: float) -> dict[str, list[Point]]:
    points: dict[str, list[Point]] = {f"unrolled, {name}": [], f"implicit, {name}": []}
    for steps in INNER_STEPS:
        phi = maml.adapt(problem, theta, task, steps=steps, lr=lr)
        unrolled = maml.meta_gradient(problem, theta, task, steps=steps, lr=lr)
        with warnings.catch_warnings():  # after few steps phi isn't stationary: that is what is measured here
            warnings.simplefilter("ignore", RuntimeWarning)
            solved = implicit.meta_gradient(problem, theta, task, phi=phi, solver="minres")
        for curve, result in zip(points.values(), (unrolled, solved), strict=True):
            curve.append(Point(steps, result.info["nodes"], relative_error(result.grad, exact)))
    return points


# ## Chaos
CHAOS_STEPS = 50
LOG_RATES = np.linspace(-2, 0.25, 136)


def chaos(settings: Settings) -> Table:
    """The meta-gradient of the learning rate through 50 steps of a network, against the learning rate."""
    rng = np.random.default_rng(0)
    task = tree.map(lambda x: x[0], sinusoids.draw(rng, 1))
    start = nn.initialize_mlp(rng, (1, 20, 20, 1))
    # The waves are at most 5 high, so a bounded network can follow them, and its loss is bounded as well.
    loss = lambda phi, theta, task: nn.mean_squared_error(np.tanh(nn.mlp(phi, task.support.x, np.tanh)), task.support.y / 5)
    problem = Bilevel(loss, loss, init=lambda theta, task: start)
    F = maml.objective(problem, steps=CHAOS_STEPS, lr=np.exp)  # theta is the logarithm of the learning rate
    along = jit(vmap(value_and_grad(F), (0, None)))
    with np.errstate(over="ignore", invalid="ignore"):
        losses, slopes = along(np.log(10) * LOG_RATES, task)
    shown = range(0, len(LOG_RATES), 9)
    rows: list[Sequence[Cell]] = [(f"{10 ** LOG_RATES[i]:.2g}", float(losses[i]), f"{abs(slopes[i]):.1e}") for i in shown]
    notes = (f"The loss after {CHAOS_STEPS} steps of gradient descent on a bounded network 1-20-20-1, and the size of its derivative "
             "with respect to the logarithm of the learning rate.")  # fmt: skip
    return Table("Chaos", ("learning rate", "final loss", "size of the derivative"), rows, notes,
                 lambda: plots.chaos(10**LOG_RATES, losses, np.abs(slopes)))  # fmt: skip


TABLES: dict[str, Callable[[Settings], Table]] = {
    "maml-table2": maml_table2,
    "omniglot-mlp": omniglot_mlp,
    "l2l-quadratics": l2l_quadratics,
    "imaml-figure": imaml_figure,
    "chaos": chaos,
}
