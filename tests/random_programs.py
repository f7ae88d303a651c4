"""Random programs: expressions of all operations, put together at random, whose derivatives must agree however they are computed.

    python -m tests.random_programs --count 10000

A program is a list of steps on arrays; hypothesis draws it, and shrinks one that fails. Its derivatives of order 1, 2 and 3 are compared
with the complex step; its gradient by the engine with that by the machine and by the NumPy executor, in float64 and float32, and, where
autograd is installed, with autograd's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import tinymeta as tm
from tests.autodiff.operations.catalogue import errors, is_analytic
from tinymeta.machine.execute import Executable, machine_is_on

try:
    import autograd
    import autograd.numpy
except ImportError:
    autograd = None


class Step(NamedTuple):
    """`operation(operands)`, with the operands named by their numbers in the list of values."""

    name: str
    operands: tuple[int, ...]
    params: tuple[Any, ...] = ()


class Program(NamedTuple):
    """Inputs, of these shapes and drawn by this seed, and what is done with them."""

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    seed: int

    def inputs(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        return [np.asarray(rng.uniform(0.3, 1.7, shape) * rng.choice([-1, 1], shape)) for shape in self.shapes]

    def __call__(self, *inputs: Any, np: Any = np) -> Any:
        """A number that depends on every value."""
        values = list(inputs)
        for step in self.steps:
            values.append(OPERATIONS[step.name](np, *(values[i] for i in step.operands), *step.params))
        return sum(np.sum(np.sin(value + k)) for k, value in enumerate(values))


# ## The operations
# Each with what keeps it away from where it isn't defined, from overflow, and, as far as can be, from kinks.
def a_row(np: Any, x: Any) -> Any:
    return np.reshape(x, np.shape(x) or (1,))


UNARY: dict[str, Callable[..., Any]] = {
    "negative": lambda np, x: -x,
    "square": lambda np, x: np.square(np.tanh(x)),
    "sqrt": lambda np, x: np.sqrt(x * x + 0.5),
    "exp": lambda np, x: np.exp(np.sin(x)),
    "expm1": lambda np, x: np.expm1(np.sin(x)),
    "log": lambda np, x: np.log(x * x + 0.5),
    "log1p": lambda np, x: np.log1p(x * x),
    "sin": lambda np, x: np.sin(x),
    "cos": lambda np, x: np.cos(x),
    "tan": lambda np, x: np.tan(np.sin(x)),
    "sinh": lambda np, x: np.sinh(np.sin(x)),
    "cosh": lambda np, x: np.cosh(np.sin(x)),
    "tanh": lambda np, x: np.tanh(x),
    "arctan": lambda np, x: np.arctan(x),
    "absolute": lambda np, x: np.abs(x),
    "power": lambda np, x: np.power(x * x + 0.5, 1.7),
    "cube": lambda np, x: np.sin(x) ** 3,
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda np, x, y: x + y,
    "subtract": lambda np, x, y: x - y,
    "multiply": lambda np, x, y: np.sin(x) * y,
    "divide": lambda np, x, y: x / (y * y + 0.5),
    "to the power": lambda np, x, y: np.power(x * x + 0.5, np.sin(y)),
    "maximum": lambda np, x, y: np.maximum(x, y + 0.123),
    "minimum": lambda np, x, y: np.minimum(x, y - 0.321),
    "where": lambda np, x, y: np.where(x > 0.0123, np.sin(x), y),
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda np, x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda np, x, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
    "prod": lambda np, x, axis, keepdims: np.prod(0.1 * np.sin(x) + 1, axis=axis, keepdims=keepdims),
    "max": lambda np, x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    "min": lambda np, x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims),
    "var": lambda np, x, axis, keepdims: np.var(x, axis=axis, keepdims=keepdims),
}
SHAPES: dict[str, Callable[..., Any]] = {
    "transpose": lambda np, x, order: np.transpose(x, order),
    "reshape": lambda np, x, shape: np.reshape(x, shape),
    "slice": lambda np, x, index: x[index],
    "gather": lambda np, x, rows: x[np.array(rows)],
    "repeat": lambda np, x, axis: np.repeat(x, 2, axis=axis),
    "expand": lambda np, x, axis: np.expand_dims(x, axis),
    "concatenate": lambda np, x, axis: np.concatenate([x, np.sin(x)], axis=axis),
    "stack": lambda np, x, axis: np.stack([x, np.cos(x)], axis=axis),
    "flip": lambda np, x, axis: np.flip(x, axis),
    "cumsum": lambda np, x, axis: np.cumsum(x, axis=axis),
    "roll": lambda np, x, axis: np.roll(x, 1, axis=axis),
}
PRODUCTS: dict[str, Callable[..., Any]] = {
    "matmul": lambda np, x, y: np.matmul(np.sin(x), np.sin(y)),
    "einsum": lambda np, x, y: np.einsum("...ij,...jk->...ki", np.sin(x), np.sin(y)),
    "solve": lambda np, x, y: np.linalg.solve(0.2 * np.sin(np.matmul(x, np.swapaxes(x, -1, -2))) + 2 * np.eye(x.shape[-2]), x),
    "gram determinant": lambda np, x, y: np.linalg.det(0.2 * np.sin(np.matmul(x, np.swapaxes(x, -1, -2))) + np.eye(x.shape[-2])),
}
OURS: dict[str, Callable[..., Any]] = {  # that NumPy, and so autograd, doesn't have
    "relu": lambda np, x: tm.relu(x),
    "sigmoid": lambda np, x: tm.sigmoid(x),
    "softplus": lambda np, x: tm.softplus(x),
    "softmax": lambda np, x: tm.softmax(a_row(np, x)),
    "log_softmax": lambda np, x: tm.log_softmax(a_row(np, x)),
    "logsumexp": lambda np, x: tm.logsumexp(a_row(np, x)),
    "erf": lambda np, x: special.erf(x),
    "set_at": lambda np, x: tm.set_at(a_row(np, x), 0, 0.5),
}
NOT_BY_AUTOGRAD = {"flip", "repeat", "where", "cumsum"}  # without a derivative there, or, for some axes and shapes, with a wrong one
OPERATIONS = UNARY | BINARY | REDUCTIONS | SHAPES | PRODUCTS | OURS


# ## Drawing
@st.composite
def programs(draw: Any, plain: bool = False) -> Program:
    """Of one to three inputs and up to twelve steps; `plain`: only of what autograd can differentiate."""
    shapes = draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), min_size=1, max_size=3))
    known = list(shapes)  # the shape of each value
    steps: list[Step] = []
    families = [UNARY, BINARY, REDUCTIONS, SHAPES, PRODUCTS, *([] if plain else [OURS])]
    for _ in range(draw(st.integers(3, 12))):
        i = draw(st.integers(0, len(known) - 1))
        name = draw(st.sampled_from(sorted(draw(st.sampled_from(families)))))
        if plain and (name in NOT_BY_AUTOGRAD or not known[i]):
            continue
        step = Step(name, *_arguments(draw, name, i, known))
        try:
            result = OPERATIONS[name](np, *(np.zeros(known[k]) for k in step.operands), *step.params)
        except (ValueError, IndexError, np.linalg.LinAlgError):
            continue  # shapes that don't go together
        if 0 < np.size(result) <= 64:
            steps.append(step)
            known.append(np.shape(result))
    return Program(tuple(shapes), tuple(steps), draw(st.integers(0, 2**16)))


def _arguments(draw: Any, name: str, i: int, known: list[tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Operands, and parameters that suit the first one's shape."""
    shape = known[i]
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if shape else 0
    if name in BINARY or name in PRODUCTS:
        return (i, draw(st.integers(0, len(known) - 1))), ()
    if name in REDUCTIONS:
        return (i,), (draw(st.sampled_from([axis, None])), draw(st.booleans()))
    if name in UNARY or name in OURS:
        return (i,), ()
    if name == "transpose":
        return (i,), (tuple(draw(st.permutations(range(len(shape))))),)
    if name == "reshape":
        return (i,), (draw(st.sampled_from([(-1,), (1, -1), shape[::-1], (*shape, 1)])),)
    if name == "slice":
        return (i,), (draw(hnp.basic_indices(shape, allow_newaxis=True)),)
    if name == "gather":
        return (i,), (tuple(draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=4))) if shape else (0,),)
    return (i,), (axis,)


# ## What must hold
def check_derivatives(program: Program) -> None:
    """Order by order, <u, J v> by the complex step and <J' u, v> by the rules."""
    inputs = program.inputs()
    hypothesis.assume(is_analytic(program, inputs))
    found = errors(program, inputs, order=3)
    assert max(found) < 1e-9, f"the errors of orders 1 to 3 are {found}"


def check_machine(program: Program) -> None:
    """The gradient from the engine, from the machine and from the NumPy executor."""
    inputs = program.inputs()
    gradient = tm.grad(program, argnums=range(len(inputs)))
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 2e-3)):
        given = [x.astype(dtype) for x in inputs]
        expected = gradient(*inputs)
        traced = tm.trace(gradient, *given)
        results = {"engine": gradient(*given), "program": traced(*given)}
        if machine_is_on():
            results["NumPy executor"] = tuple(Executable(traced.code, machine=False)(given, traced.captured))
        for name, result in results.items():
            for x, truth in zip(result, expected, strict=True):
                assert np.asarray(x).dtype == dtype, f"{name}: {np.asarray(x).dtype} and not {dtype}"
                assert np.max(np.abs(x - truth), initial=0) <= tolerance * (1 + np.max(np.abs(truth), initial=0)), name


def check_autograd(program: Program) -> None:
    """The gradient by another engine."""
    inputs = program.inputs()
    theirs = autograd.grad(lambda *xs: program(*xs, np=autograd.numpy), argnum=list(range(len(inputs))))(*inputs)
    for x, y in zip(tm.grad(program, argnums=range(len(inputs)))(*inputs), theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def run(count: int, seed: int) -> dict[str, float]:
    """Draw so many programs for each check; how long each took. Raises what the first failure raises, with the smallest such program."""
    checks = {"complex step, orders 1 to 3": (check_derivatives, False), "machine": (check_machine, False)}
    if autograd is not None:
        checks["autograd"] = (check_autograd, True)
    seconds = {}
    for name, (check, plain) in checks.items():
        begun = time.monotonic()
        settings = hypothesis.settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
        hypothesis.seed(seed)(settings(hypothesis.given(programs(plain))(check)))()
        seconds[name] = time.monotonic() - begun
    return seconds


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m tests.random_programs", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="programs for each check (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")
    options = parser.parse_args()
    for name, seconds in run(options.count, options.seed).items():
        print(f"{options.count:,} programs agree: {name} ({seconds:.0f} s)")


if __name__ == "__main__":
    main()
