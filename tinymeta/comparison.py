r"""
# Meta-gradients, side by side

An estimator adapts, judges the result, and says how that judgement changes with theta. Whether it is right can be found out
without knowing how it is done. Call what it returns as its value $F(\theta)$: the outer loss of the very algorithm that was run.
Move theta, run it again, and the differences are the truth, $\nabla F(\theta)$, for an estimator of any kind.

What isn't meant to be that gradient (first order, a truncated sweep, an inverse Hessian left out) is measured in the same way, and
shows its bias. Two numbers tell how far a gradient $u$ is from the truth $v$: the relative error $\lVert u - v \rVert / \lVert v \rVert$,
and the angle between them, which says what it is good for: a step along $-u$ lowers F, if it is small enough, up to 90 degrees.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import check_array, check_function, check_type
from .autodiff import ravel, tree
from .autodiff.check import approximate_gradient, extrapolated_difference
from .bilevel import Bilevel, MetaGradient, floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Estimator = Callable[[Bilevel, Any, Any], MetaGradient]
RUNS = 3  # that are timed, after one that isn't
SAME = 1e-12  # relative: values that differ by less are taken for the same


# ## How far is it from the truth?
def relative_error(gradient: Any, truth: Any) -> float:
    """The norm of the difference over the norm of the truth.

    >>> relative_error({"a": 1.5}, {"a": 1.0})
    0.5
    """
    gradient, truth = ravel(gradient)[0], ravel(truth)[0]
    difference, size = np.linalg.norm(gradient - truth), np.linalg.norm(truth)
    return float(difference / size) if size else (0.0 if difference == 0 else np.inf)


# The sum and the difference of unit vectors $u$, $v$ at an angle $a$ are the diagonals of a rhombus:
# $$ \lVert u - v \rVert = 2 \sin \tfrac a2, \qquad \lVert u + v \rVert = 2 \cos \tfrac a2, \qquad
#    a = 2 \arctan \frac{\lVert u - v \rVert}{\lVert u + v \rVert}. $$
# ($\arccos \langle u, v \rangle$ is the same on paper. But $\cos a \approx 1 - a^2/2$ rounds to 1 for all angles below $10^{-8}$.)
def angle(gradient: Any, truth: Any) -> float:
    """Degrees between two gradients, accurate for small angles too; NaN if one of them is 0. (Source: Kahan.)

    >>> round(angle(np.array([1.0, 0.0]), np.array([1.0, 1.0])), 12)
    45.0
    """
    u, v = ravel(gradient)[0], ravel(truth)[0]
    if not (np.any(u) and np.any(v)):
        return np.nan
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))))


# ## What is shown
class Row(NamedTuple):
    """One estimator. What isn't known is None; an estimator that raised has `failure`, and nothing else."""

    name: str
    value: float | None = None
    norm: float | None = None  # of the gradient
    angle: float | None = None  # to the truth, in degrees
    error: float | None = None  # relative, to the truth
    exact_error: float | None = None  # relative, to the closed form
    hessian_products: int | None = None
    nodes: int | None = None  # graph nodes kept at once
    seconds: float | None = None
    truth: str | None = None  # "complex step" or "differences"
    warnings: tuple[str, ...] = ()  # what it warned of
    failure: str | None = None


@dataclass(repr=False)
class Comparison:
    """The result of `compare`. As text it is a table.

    Attributes: `rows`, one `Row` for each estimator; `gradients` and `truths`, the gradients themselves by the estimator's name.
    """

    rows: list[Row]
    gradients: dict[str, Any]
    truths: dict[str, Any]

    def __getitem__(self, name: str) -> Row:
        return {row.name: row for row in self.rows}[name]

    def __repr__(self) -> str:
        return table(self.rows)

    def plot(self) -> Figure:
        """Error, angle and costs as a figure."""
        from . import plots

        return plots.comparisons({"": self})


def _small_or_large(x: float) -> str:
    return f"{x:.1f}" if x >= 0.1 else f"{x:.0e}"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "value": ("value", "{:.6g}".format),
    "norm": ("norm", "{:.4g}".format),
    "angle": ("degrees", _small_or_large),
    "error": ("error", "{:.1e}".format),
    "exact_error": ("closed form", "{:.1e}".format),
    "hessian_products": ("H products", str),
    "nodes": ("nodes", str),
    "seconds": ("ms", lambda seconds: f"{1e3 * seconds:.1f}"),
    "truth": ("truth by", str),
}


def table(rows: Iterable[Row]) -> str:
    """The rows as text, without the columns that are empty, and what was warned of.

    >>> print(table([Row("MAML", 1.5, 0.25, 0.0, 1e-15, seconds=0.002), Row("other", failure="ValueError: why")]))
    estimator  value  norm  degrees    error   ms
    MAML         1.5  0.25    0e+00  1.0e-15  2.0
    other      failed: ValueError: why
    """
    rows = list(rows)
    shown = [field for field in COLUMNS if any(getattr(row, field) is not None for row in rows)]
    cells = [["estimator", *(COLUMNS[field][0] for field in shown)]]
    for row in rows:
        values = {field: getattr(row, field) for field in shown}
        cells.append([row.name, *("" if x is None else COLUMNS[field][1](x) for field, x in values.items())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])
             for line in cells]  # fmt: skip
    for i, row in enumerate(rows, 1):
        if row.failure:
            lines[i] = f"{row.name.ljust(widths[0])}  failed: {row.failure}"
    lines += [f"{row.name} warns: {warning}" for row in rows for warning in row.warnings]
    return "\n".join(line.rstrip() for line in lines)


# ## The comparison
def compare(
    problem: Bilevel, theta: Any, task: Any, estimators: Mapping[str, Estimator], exact: Mapping[str, Any] | None = None
) -> Comparison:
    r"""Run every estimator on the same problem, and measure its gradient against the derivative of what it ran.

    Parameters
    ----------
    problem, theta, task : what each estimator is called with
    estimators : by name, functions (problem, theta, task) -> MetaGradient; `functools.partial` makes them, as in the example
    exact : by name, gradients that should come out of some of them, from a closed form

    Returns
    -------
    Comparison: for each estimator the value, the norm of the gradient, its angle and relative error to the truth, the relative error to the
    closed form, Hessian products, graph nodes kept, and seconds (the median of three runs). The truth is the complex step of the
    estimator's `value` (where it is analytic, and only if differences along a random direction confirm it), or else extrapolated
    central differences, with which errors below about 1e-9 can't be told from none. Estimators that compute the same function share it.

    An estimator that raises doesn't end the comparison: its row says why; what one warns of, its row keeps. Raises ValueError if `exact`
    names an estimator that isn't there.

    Example
    -------
    >>> import tinymeta as tm
    >>> from functools import partial
    >>> problem = tm.Bilevel(lambda phi, theta, task: np.sum(task * phi**2), lambda phi, theta, task: np.sum((phi - 1) ** 2))
    >>> maml = partial(tm.maml.meta_gradient, steps=5, lr=0.1)
    >>> comparison = tm.compare(problem, np.array([1.0, 3.0]), np.array([0.5, 4.0]), {"MAML": maml, "first order": partial(maml, order=1)})
    >>> print(table(row._replace(nodes=None, seconds=None) for row in comparison.rows))
    estimator      value    norm  degrees    error  H products      truth by
    MAML         1.16578  0.4836  ...           5  complex step
    first order  1.16578   2.159     67.6  4.2e+00           0  complex step
    """
    theta = floats(theta, "theta")
    for name, leaf in zip(tree.names(theta, "theta"), tree.flatten(theta)[0], strict=True):
        check_array(name, leaf)
    check_type("estimators", estimators, Mapping, "a dict of functions (problem, theta, task) -> MetaGradient, by name")
    for name, estimator in estimators.items():
        check_function(f"estimators[{name!r}]", estimator, "a function (problem, theta, task) -> MetaGradient", 3)
    exact = {} if exact is None else exact
    check_type("exact", exact, Mapping, "a dict of gradients, by the names of estimators")
    if strangers := [name for name in exact if name not in estimators]:
        raise ValueError(f"exact has gradients for {strangers}, and there are no such estimators")
    for name, gradient in exact.items():
        if _shapes(gradient) != _shapes(theta):
            raise ValueError(f"exact[{name!r}] has the shapes {_shapes(gradient)}, to be those of theta, {_shapes(theta)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first run of each is listened to; here it would be told hundreds of times
        return _compare(problem, theta, task, estimators, exact)


def _compare(problem: Bilevel, theta: Any, task: Any, estimators: Mapping[str, Estimator], exact: Mapping[str, Any]) -> Comparison:
    runs, rows = {}, {name: Row(name) for name in estimators}
    for name, estimator in estimators.items():
        try:
            runs[name] = _run(estimator, problem, theta, task)
        except Exception as error:  # whatever it is that goes wrong in there
            rows[name] = Row(name, failure=_in_one_line(error))
    truths: dict[str, Any] = {}
    for names in _of_the_same_function(runs, theta):
        try:
            truth, method = _derivative([runs[name].F for name in names], theta)
        except Exception as error:
            rows |= {name: Row(name, failure=f"at a theta nearby, {_in_one_line(error)}") for name in names}
        else:
            truths |= dict.fromkeys(names, truth)
            rows |= {name: _row(name, runs[name], truth, method, exact.get(name)) for name in names}
    return Comparison(list(rows.values()), {name: run.result.grad for name, run in runs.items()}, truths)


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class Run(NamedTuple):
    """What an estimator returned, what it warned of, how long it took, and its value as a function of theta."""

    result: MetaGradient
    warnings: tuple[str, ...]
    seconds: float
    F: Callable[[Any], Any]


def _run(estimator: Estimator, problem: Bilevel, theta: Any, task: Any) -> Run:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        result = _checked(estimator(problem, theta, task), theta)
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        estimator(problem, theta, task)
        seconds.append(time.perf_counter() - begun)
    told = tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in heard))
    return Run(result, told, float(np.median(seconds)), lambda theta: estimator(problem, theta, task).value)


def _checked(result: Any, theta: Any) -> MetaGradient:
    """What an estimator returned, if it is a scalar with a gradient that is built like theta."""
    if not isinstance(result, MetaGradient):
        raise TypeError(f"an estimator returns a MetaGradient, not {type(result).__name__}")
    if _shapes(result.grad) != _shapes(theta) or np.shape(result.value) != ():
        raise ValueError(f"the value has shape {np.shape(result.value)}, to be a scalar, and its gradient the shapes "
                         f"{_shapes(result.grad)}, to be those of theta, {_shapes(theta)}")  # fmt: skip
    return result


def _shapes(x: Any) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(leaf) for name, leaf in zip(tree.names(x, "theta"), tree.flatten(x)[0], strict=True)}


def _row(name: str, run: Run, truth: Any, method: str, exact: Any) -> Row:
    gradient, info = run.result.grad, run.result.info
    return Row(
        name,
        value=float(run.result.value),
        norm=float(np.linalg.norm(ravel(gradient)[0])),
        angle=angle(gradient, truth),
        error=relative_error(gradient, truth),
        exact_error=None if exact is None else relative_error(gradient, exact),
        hessian_products=info.get("hessian_products"),
        nodes=info.get("nodes"),
        seconds=run.seconds,
        truth=method,
        warnings=run.warnings,
    )


# ## The truth
# First order and second order, graph and recursion, Cholesky and conjugate gradients run the same algorithm: they differ in what they make
# of it. Two functions whose values are equal here and at another, random theta are the same function, and one truth will do for both.
def _of_the_same_function(runs: Mapping[str, Run], theta: Any) -> list[list[str]]:
    """The names of the runs in groups, the quickest first in each."""
    vector, unravel = _as_vector(theta)
    size = np.sqrt(np.mean(vector**2)) or 1.0
    moved = unravel(vector + 0.01 * size * np.random.default_rng(0).standard_normal(vector.shape))
    groups: list[tuple[list[float], list[str]]] = []
    for name in sorted(runs, key=lambda name: runs[name].seconds):
        values = [float(runs[name].result.value), _value_at(runs[name], moved)]
        same = next((names for known, names in groups if np.allclose(values, known, rtol=SAME, atol=0)), None)
        if same is None:
            groups.append((values, [name]))
        else:
            same.append(name)
    return [names for _, names in groups]


def _value_at(run: Run, theta: Any) -> float:
    try:
        return float(run.F(theta))
    except Exception:  # it will raise again where it is reported
        return np.nan


def _as_vector(theta: Any) -> tuple[np.ndarray, Callable[[Any], Any]]:
    return ravel(tree.map(lambda leaf: np.asarray(leaf, float), theta))


def _derivative(functions: list[Callable[[Any], Any]], theta: Any) -> tuple[Any, str]:
    """The derivative of what is one function, by the complex step of the first that follows it, or else by differences."""
    for F in functions:
        try:
            gradient = approximate_gradient(F, theta, "complex")
        except Exception:  # not analytic, or it leaves the engine, for SciPy or for plain numbers
            continue
        if _confirmed(gradient, F, theta):
            return gradient, "complex step"
    return approximate_gradient(functions[0], theta, "differences"), "differences"


def _confirmed(gradient: Any, F: Callable[[Any], Any], theta: Any) -> bool:
    """Differences along a random direction: a function that drops the imaginary part on its way would make the complex step 0."""
    vector, unravel = _as_vector(theta)
    direction = np.random.default_rng(1).standard_normal(vector.shape) / np.sqrt(vector.size)
    slope, uncertain = extrapolated_difference(lambda v: F(unravel(v)), vector, direction)
    gradient = ravel(gradient)[0]
    return bool(abs(gradient @ direction - slope) <= 1e-6 * np.linalg.norm(gradient) + 10 * uncertain)
