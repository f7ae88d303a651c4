r"""
# Does it hold? Derivatives against differences

A derivative computed by rules can be wrong in any rule. Differences know nothing of rules. Two kinds of them:

**The complex step.** If $f$ is analytic, $f(x + ih) = f(x) + ih f'(x) - \tfrac12 h^2 f''(x) - \dots$, so

$$ f'(x) = \frac{\operatorname{Im} f(x + ih)}{h} + O(h^2). $$

Nothing is subtracted, so nothing cancels: $h = 10^{-30}$ gives the derivative to the last digits. It needs a function
that is analytic in every operation. Operations that aren't say so (`NotAnalytic`), and then come

**central differences.** With $D(h) = \frac{f(x + h) - f(x - h)}{2h}$,

$$ D(h) = f'(x) + c_2 h^2 + c_4 h^4 + \dots + O(\varepsilon |f| / h). $$

A large h leaves the terms in $c$, a small one the rounding error: the V-curve. Richardson's extrapolation removes the
terms one after the other, $D_{j+1}(h) = D_j(h) + \frac{D_j(h) - D_j(2h)}{4^j - 1}$, so that a large h suffices; Ridders'
rule sweeps h and takes the estimate where they agree best.

A checker can be blind as well. An all-ones cotangent passes a rule of softmax that returns zeros: the outputs add up to
1, whatever the input. So the function is made a scalar with *random* cotangents $w$, and for the second order its gradient
with a random $v$:

$$ s_1(x) = \langle w, f(x) \rangle, \qquad s_2(x) = \langle v, \nabla s_1(x) \rangle, \qquad \nabla s_2 = \nabla^2 s_1\, v. $$

A checker can cry wolf, too: a sum of a softmax has gradient 0, the rule says $10^{-17}$, the differences say $-10^{-16}$, and
the relative error is 1. What rounding does must be forgiven, and nothing else. It isn't guessed but measured: so near to x
that a smooth function is straight, $g(x + k \delta x) - 2 g(x) + g(x - k \delta x)$ is rounding alone. (The same factor
$1 + k \delta$ for all elements of $x$: zeros remain zeros and ties remain ties, so that nothing is moved off a kink.)

(Sources: Squire & Trapp, Using complex variables to estimate derivatives, 1998; Ridders, Accurate computation of f'(x), 1982.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_choice, check_count, check_function, shown
from . import tree
from .derivatives import grad
from .tensor import NotAnalytic, Tensor, data_of, operation, tensor

STEP = 1e-30  # of the complex step
TOLERANCE = {"complex": 1e-10, "differences": 1e-8}
SMALL = 1e-3  # a derivative smaller than this part of its argument's usual one is judged as if it were as large
ROUNDING = 2.0**-52
NEARBY = 2.0**-32  # so near that a smooth function is straight up to rounding, so far that roundings differ
FORGIVEN = 10  # times what rounding was seen to do
MOST = 200  # coordinates checked one by one; of more, a random choice, and a random direction through all


# ## The two approximations of a directional derivative
# Each comes with the error that rounding may have left in it.
def complex_step(s: Callable[[Any], Any], x: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """The derivative of an analytic scalar function at x along a direction; raises NotAnalytic if it isn't analytic."""
    return float(np.imag(data_of(s(tensor(x + 1j * STEP * direction))))) / STEP, 0.0


def central_difference(s: Callable[[Any], Any], x: np.ndarray, direction: np.ndarray, h: float) -> tuple[float, float]:
    """(s(x + h v) - s(x - h v)) / 2h; NaN if a matrix isn't positive definite, or is singular, at this distance."""
    try:
        right, left = (float(data_of(s(x + step * direction))) for step in (h, -h))
    except np.linalg.LinAlgError:
        return np.nan, np.nan
    return (right - left) / (2 * h), ROUNDING * max(abs(right), abs(left)) / h


def extrapolated_difference(s: Callable[[Any], Any], x: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """Ridders' method: central differences with h halved again and again, each row of the table extrapolated.

    Only the smallest h may be small enough (near a kink, or the end of the domain), so the sweep goes on until rounding
    alone would be a larger error than the smallest disagreement that was seen.
    """
    h = 1e-2 * max(0.1, float(np.max(np.abs(x[direction != 0]), initial=0.0)))
    blur = float(_largest_change(s, x))  # what rounding does to s, and so blur / h to a difference
    best, uncertain, smallest = np.nan, np.nan, np.inf
    previous: list[float] = []
    for _ in range(60):
        difference, rounding = central_difference(s, x, direction, h)
        row, rounding = [difference], rounding + blur / h
        for j, coarse in enumerate(previous[:8], 1):
            row.append(row[-1] + (row[-1] - coarse) / (4**j - 1))
            disagreement = max(abs(row[-1] - row[-2]), abs(row[-1] - coarse), rounding)
            if disagreement < smallest:
                best, uncertain, smallest = row[-1], rounding, disagreement
        if blur / h > smallest:
            break
        previous = row
        h /= 2
    return best, uncertain


def _largest_change(s: Callable[[Any], Any], x: np.ndarray) -> Any:
    """How far rounding moves the value of a function, element by element: its bend over so short a way."""
    value = data_of(s(x))
    bends = [data_of(s(x * (1 + k * NEARBY))) - 2 * value + data_of(s(x * (1 - k * NEARBY))) for k in (1, 2, 3)]
    change = np.max(np.abs(bends), axis=0)
    return np.where(np.isfinite(change), change, 0) + ROUNDING * np.abs(value)


APPROXIMATION = {"complex": complex_step, "differences": extrapolated_difference}


def approximate_gradient(f: Callable[[Any], Any], x: Any, method: str = "complex") -> Any:
    """The gradient of a scalar function of one argument, by differences alone, one element at a time.

    Parameters
    ----------
    f : function with a scalar value; for "complex" it is called with complex Tensors, for "differences" with arrays
    x : nested containers of floats
    method : "complex" or "differences"

    Example
    -------
    >>> import numpy as np
    >>> approximate_gradient(lambda x: np.sum(x["a"] ** 2), {"a": np.array([1.0, 2.0])})
    {'a': array([2., 4.])}
    """
    vector, unravel = tree.ravel(tree.map(lambda leaf: np.asarray(leaf, float), x))
    basis = np.eye(vector.size)
    return unravel(np.array([APPROXIMATION[method](lambda v: f(unravel(v)), vector, e)[0] for e in basis]))


# ## From any function to a scalar one
# An operation of the checker's own: were it written with `np.sum`, a wrong sign in the rule of `np.sum` would cancel.
@operation
def weighted_sum(*ys: Any, weights: list[np.ndarray]) -> Any:
    return sum(np.sum(y * w) for y, w in zip(ys, weights, strict=True))


@weighted_sum.rule
def _(s_bar: Any, s: Any, *ys: Any, weights: list[np.ndarray]) -> tuple[Any, ...]:
    return tuple(s_bar * w for w in weights)


# ## The check
class Row(NamedTuple):
    """One derivative, computed twice."""

    order: int
    where: str  # as one would write it in Python
    exact: float
    approximate: float
    error: float  # relative


def _badness(row: Row) -> float:
    return np.inf if np.isnan(row.error) else row.error


@dataclass(repr=False)
class GradCheck:
    """The result of `check_grad`. It is true if all errors are within the tolerance.

    Attributes: `ok`, `max_error`, `worst` (a Row), `rows`, `method` ("complex" or "differences"), `tolerance`.
    """

    rows: list[Row]
    method: str
    tolerance: float
    left_out: int = 0
    _scalar: Callable[[Any], Any] = lambda x: x
    _x: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def worst(self) -> Row:
        return max(self.rows, key=_badness)

    @property
    def max_error(self) -> float:
        return self.worst.error

    @property
    def ok(self) -> bool:
        return bool(self.max_error <= self.tolerance)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        name = {"complex": "the complex step", "differences": "extrapolated central differences"}[self.method]
        choice = f", a random choice ({self.left_out} left out)" if self.left_out else ""
        worst = [row for order in sorted({row.order for row in self.rows})
                 for row in sorted((r for r in self.rows if r.order == order), key=_badness, reverse=True)[:3]]  # fmt: skip
        width = max(len(row.where) for row in worst)
        lines = [f"{'PASS' if self.ok else 'FAIL'}: largest relative error {self.max_error:.1e} (tolerance {self.tolerance:.0e}) "
                 f"at {self.worst.where}, order {self.worst.order}",
                 "Order 1 differentiates a random combination of the outputs, order 2 one of the first derivatives, and so on.",
                 f"{len(self.rows)} derivatives{choice}, against {name}; the worst of each order:",
                 f"order  {'where':<{width}} {'exact':>23} {'approximate':>23} {'difference':>11} {'error':>8}"]  # fmt: skip
        lines += [f"{row.order:>5}  {row.where:<{width}} {row.exact:>23.16g} {row.approximate:>23.16g} "
                  f"{row.exact - row.approximate:>11.1e} {row.error:>8.1e}" for row in worst]  # fmt: skip
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """The V-curve: the error of central differences along a random direction against h. Returns the Axes."""
        import matplotlib.pyplot as plt

        ax = ax if ax is not None else plt.subplots(figsize=(6, 4))[1]
        direction = np.random.default_rng(1).standard_normal(self._x.shape)
        exact = float(np.dot(grad(self._scalar)(self._x), direction))
        h = np.logspace(-13, 0, 53)
        with np.errstate(all="ignore"):
            errors = [abs(central_difference(self._scalar, self._x, direction, step)[0] - exact) / abs(exact or 1) for step in h]
            best = abs(APPROXIMATION[self.method](self._scalar, self._x, direction)[0] - exact) / abs(exact or 1)
        ax.set(xscale="log", yscale="log", ylim=(1e-17, 10))
        ax.plot(h, np.maximum(errors, 1e-17), "o-", markersize=3, label="central difference")
        ax.axhline(max(best, 1e-17), color="tab:green", linestyle="--", label={"complex": "complex step"}.get(self.method, "extrapolated"))
        ax.set(xlabel="step h", ylabel="relative error of the derivative", title="Truncation to the right, rounding to the left")
        ax.legend()
        return ax


def check_grad(f: Callable[..., Any], *args: Any, order: int = 2, method: str = "auto") -> GradCheck:
    """Compare the derivatives of `f` with differences.

    In float64, with random cotangents and relative errors. Every float in the arguments is checked, up to 200 of them;
    of more, a random 200, and a random direction through all.

    Parameters
    ----------
    f : function of nested containers of arrays, written in NumPy; its value may be any container of arrays
    args : where; float32 becomes float64, integers and booleans stay as they are
    order : 1 checks the gradient, 2 also the derivative of the gradient, and so on
    method : "complex" (the complex step), "differences" (extrapolated central differences), or "auto": the complex step
        if every operation met is analytic

    Returns
    -------
    GradCheck. It raises nothing if the derivatives are wrong: write `assert tm.check_grad(...)`.

    Raises TypeError if there is no float to differentiate; NotAnalytic if method="complex" isn't possible.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> check = tm.check_grad(lambda w, x: np.tanh(x @ w), np.ones((2, 3)), np.ones(2))
    >>> check.ok, check.method, check.max_error < 1e-12
    (True, 'complex', True)
    """
    check_function("f", f, "the function to check")
    check_choice("method", method, ["auto", *APPROXIMATION])
    check_count("order", order, 1, of="where 1 is the gradient")
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        scalar, x, names, leaf = _as_scalar(f, args)
        if method == "auto":
            method = _best_method(scalar, x, order)
        chosen = np.arange(x.size) if x.size <= MOST else np.sort(rng.choice(x.size, MOST, replace=False))
        directions = [(names[i], np.eye(1, x.size, i)[0]) for i in chosen]
        if x.size > MOST:
            directions.append(("a random direction", rng.standard_normal(x.size) / np.sqrt(x.size)))
        # The natural length of a step in each argument (its largest element): a derivative is of the size of s / extent.
        extent = _leaf_by_leaf(lambda part: np.max(np.abs(part)) or 1.0, x, leaf)
        rows: list[Row] = []
        s, largest = scalar, 0.0
        for k in range(1, order + 1):
            largest = np.maximum(largest, abs(float(data_of(s(x)))))
            # What was measured, and the rounding of the largest s so far, divided by the step (by 1, if that is larger).
            rounding = _largest_change(grad(s), x) + ROUNDING * largest / np.maximum(1, extent)
            rounding = np.maximum(rounding, _leaf_by_leaf(np.median, rounding, leaf))
            rows += _rows(k, s, x, leaf, directions, method, rounding)
            s = _slope(s, extent * rng.standard_normal(x.size))
    return GradCheck(rows, method, TOLERANCE[method], x.size - len(chosen), scalar, x)


def _as_scalar(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[[Any], Any], np.ndarray, list[str], np.ndarray]:
    """s_1 as a function of one vector, the vector, how to write each of its elements, and the leaf that it comes from."""
    leaves, structure = tree.flatten([data_of(x) if type(x) is Tensor else x for x in args])
    leaves = [data_of(x) for x in leaves]
    if any(isinstance(x, np.ma.MaskedArray) for x in leaves):
        raise TypeError(f"check_grad can't keep the mask of an array: {', '.join(map(shown, leaves))}")
    places = [i for i, x in enumerate(leaves) if type(x) is float or getattr(x, "dtype", np.dtype(int)).kind == "f"]
    vector, unravel = tree.ravel([np.asarray(leaves[i], float) for i in places])
    if not vector.size:
        given = ", ".join(f"{name}={shown(x)}" for name, x in zip(tree.parameter_names(f, len(args)), args, strict=True))
        raise TypeError(f"check_grad has nothing to differentiate: no argument holds floats, got {given or 'none'}")
    roots = [name for names in tree.argument_names(f, args) for name in names]
    names = [roots[i] + (f"[{', '.join(map(str, index))}]" if index else "") for i in places for index in np.ndindex(np.shape(leaves[i]))]

    def outputs(v: Any) -> list[Any]:
        given = dict(zip(places, unravel(v), strict=True))
        value = f(*tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(leaves)]))
        return [y for y in tree.flatten(value)[0] if isinstance(y, (float, Tensor, np.ndarray, np.generic))]

    rng = np.random.default_rng(2)
    weights = [rng.standard_normal(np.shape(y)) for y in outputs(vector)]
    return lambda v: weighted_sum(*outputs(v), weights=weights), vector, names, np.repeat(places, [np.size(leaves[i]) for i in places])


def _best_method(s: Callable[[Any], Any], x: np.ndarray, order: int) -> str:
    for _ in range(order - 1):
        s = _slope(s, np.ones(x.size))
    try:
        with np.errstate(all="ignore"):
            complex_step(s, x, np.ones(x.size))
    except NotAnalytic:
        return "differences"
    return "complex"


def _slope(s: Callable[[Any], Any], v: np.ndarray) -> Callable[[Any], Any]:
    return lambda x: weighted_sum(grad(s)(x), weights=[v])


def _leaf_by_leaf(summary: Callable[[np.ndarray], Any], values: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """For each element, a summary of the leaf that it belongs to: arguments may have very different units."""
    result = np.empty_like(values)
    for i in np.unique(leaf):
        result[leaf == i] = summary(values[leaf == i])
    return result


def _rows(order: int, s: Callable[[Any], Any], x: np.ndarray, leaf: np.ndarray, directions: list[tuple[str, np.ndarray]],
          method: str, rounding: np.ndarray) -> list[Row]:  # fmt: skip
    """One row for each direction: both derivatives, and their difference relative to the larger one, if they aren't too small."""
    gradient = grad(s)(x)
    small = SMALL * _leaf_by_leaf(lambda part: np.mean(np.abs(part)), gradient, leaf)
    rows = []
    for name, direction in directions:
        exact = float(np.dot(gradient, direction))
        approximate, uncertain = APPROXIMATION[method](s, x, direction)
        forgiven = FORGIVEN * (uncertain + np.dot(rounding, np.abs(direction)))
        scale = np.max([abs(exact), abs(approximate), np.dot(small, np.abs(direction)), forgiven / TOLERANCE[method]])
        error = float(abs(exact - approximate) / scale) if scale != 0 else 0.0
        rows.append(Row(order, name, exact, approximate, error))
    return rows
