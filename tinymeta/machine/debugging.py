r"""
# Where a NaN comes from

A loss that is NaN says nothing of its cause: NaN and infinity spread over everything that is computed from them. Under `debug` each
operation is looked at as soon as it has computed, and the first one that

- makes NaN of operands without NaN: 0/0, inf - inf, log of a negative number,
- makes infinity of finite operands: overflow, log(0), division by 0,
- is given NaN that wasn't computed here: data, a start,

raises an error. An infinity that is given is taken as meant, as in a mask. What a branch of `np.where` computes that isn't taken counts:
its derivative is multiplied by 0, and $0 \cdot \infty$ is NaN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..autodiff.tensor import Operation, Tensor, data_of, describe, watched
from .code import Code, Type
from .source import note_line


@contextlib.contextmanager
def debug() -> Iterator[None]:
    """While this lasts, the first operation that makes NaN or infinity, or is given NaN, raises an error.

    The error names the operation, the line of source that it comes from, and its operands. It looks at what is computed with Tensors,
    forwards and in the derivatives, and at programs, instruction by instruction; so everything is slower. It sees what this thread
    does, and not what the workers of an executor do.

    Raises FloatingPointError.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> with tm.debug():
    ...     tm.grad(lambda x: np.sum(np.sqrt(x)))(np.array([1.0, 0.0]))
    Traceback (most recent call last):
    FloatingPointError: divide makes infinity at [1], in the gradient of ...
        operand 0: float64[2], from 1 to 1, 1 at [1]
        operand 1: float64[2], from 0 to 2, 0 at [1]
    """
    with watched(Debugger()), np.errstate(all="ignore"):
        yield


class Debugger:
    """Looks at values."""

    def __init__(self) -> None:
        self.lines: dict[int, str] = {}

    def __call__(self, node: Tensor) -> None:
        """A node has been made."""
        note_line(self.lines, node)
        if node.op is not None:
            look(node.op, node.data, list(map(data_of, node.inputs)), self.lines.get(node.index, ""))

    def run(self, code: Code, inputs: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        """Run a program's code in NumPy, and look at each instruction's result."""
        values = {**code.constants, **dict(zip(code.inputs, inputs, strict=True)), **dict(zip(code.captured, captured, strict=True))}
        for i in code.instructions:
            operands = [values[slot] for slot in i.operands]
            if i.body is not None and i.length is not None:
                values[i.slot] = self.run_rows(i.body, i.length, operands, i.params)
                continue
            with np.errstate(all="ignore"):
                value = i.operation.forward(*operands, **i.params)
            values[i.slot] = np.asarray(value).item() if isinstance(i.type, Type) and i.type.weak else value
            look(i.operation, value, operands, ", ".join(i.lines))
        return [values[slot] for slot in code.outputs]

    def run_rows(self, body: Code, length: int, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """A map."""
        count = len(body.inputs)
        rows = [self.run(body, [x[k] for x in operands[:count]], operands[count:]) for k in range(length)]
        summed = params.get("summed", (False,) * len(body.outputs))
        return tuple(np.sum(np.stack(parts), axis=0) if total else np.stack(parts)
                     for parts, total in zip(zip(*rows, strict=True), summed, strict=True))  # fmt: skip


def look(op: Operation, value: Any, operands: Sequence[Any], line: str) -> None:
    """Raise FloatingPointError if a value is the first that isn't finite."""
    for kind, what in ((np.isnan, "NaN"), (np.isinf, "infinity")):
        if _any(kind, value):
            given = [k for k, x in enumerate(operands) if _any(kind, x)]
            if not given:
                raise FloatingPointError(_told(f"{op.name} makes", what, kind(value), operands, line))
            if what == "NaN":
                raise FloatingPointError(_told(f"{op.name} is given", what, kind(operands[given[0]]), operands, line))


def _any(kind: Any, x: Any) -> bool:
    return type(x) is not tuple and np.asarray(x).dtype.kind in "fc" and bool(np.any(kind(x)))


def _told(what_happens: str, what: str, where: Any, operands: Sequence[Any], line: str) -> str:
    place = tuple(int(index[0]) for index in np.nonzero(where)) if np.ndim(where) else ()
    of_line = f", in {'the ' if line.startswith('gradient') else ''}{line}" if line else ""
    lines = [f"{what_happens} {what}{f' at {list(place)}' if place else ''}{of_line}"]
    return "\n    ".join([*lines, *(f"operand {k}: {_operand(x, where, place)}" for k, x in enumerate(operands))])


def _operand(x: Any, where: Any, place: tuple[int, ...]) -> str:
    """What it is, its range, and its element at the place, if it has the shape of what is there."""
    array = np.asarray(x)
    if array.ndim == 0:
        return describe(x) if type(x) is float else f"{describe(x)} {x:.6g}" if array.dtype.kind == "f" else describe(x)
    if array.dtype.kind != "f" or not array.size:
        return describe(x)
    known = array[~np.isnan(array)]
    extent = f", from {known.min():.6g} to {known.max():.6g}" if known.size else ""
    nans = f", {array.size - known.size} NaN" if known.size < array.size else ""
    element = f", {array[place]:.6g} at {list(place)}" if array.shape == np.shape(where) else ""
    return f"{describe(x)}{extent}{nans}{element}"
