"""Whether the machine computes what NumPy does: each instruction alone, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .code import Code, Instruction, Type
from .execute import Executable, Map
from .launch import Launch, Stage, memory_of, run_table
from .listing import columns, source
from .lower import WIDTH, Lowered, Place, check_table

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def check(executable: Executable, inputs: Sequence[Any], captured: Sequence[Any]) -> str:
    """A table: for each kind of instruction, how many results were compared, and the largest difference, relative to the norm."""
    kinds: dict[str, list[float]] = {}
    for i, difference in _differences(executable, inputs, captured):
        kinds.setdefault(i.operation.name if i.body is not None else f"{i.operation.name} {i.type}", []).append(difference)
    width = max(map(len, ("operation", *kinds)))
    worst_first = sorted(kinds.items(), key=lambda kind: -max(kind[1]))
    lines = [f"{name:<{width}}  {len(found):6}  {max(found):10.1e}" for name, found in worst_first]
    return "\n".join([f"{'operation':<{width}}   count  difference", *lines])


def _differences(executable: Executable, inputs: Sequence[Any], captured: Sequence[Any]) -> Iterator[tuple[Instruction, float]]:
    """Each instruction that the machine runs, for each row of a map, with the difference of its result; then the maps themselves."""
    code = executable.code
    slots = {**code.constants, **dict(zip(code.inputs, inputs, strict=True)), **dict(zip(code.captured, captured, strict=True))}
    for step in executable.steps:
        if isinstance(step, Launch):
            for stage in step.stages:
                yield from _differences_in_stage(stage, code, slots)
            continue
        if isinstance(step, Map):
            for row in _rows([slots[slot] for slot in step.reads], step.length, len(step.body.inputs)):
                yield from _differences(step.executable, row[: len(step.body.inputs)], row[len(step.body.inputs) :])
        step(slots)


def _rows(given: list[Any], length: int, count: int) -> list[list[Any]]:
    """What a map's body is given for each row: of `count` arrays the row's part, and the rest as it is."""
    return [[*(x[k] for x in given[:count]), *given[count:]] for k in range(length)]


def _differences_in_stage(stage: Stage, code: Code, slots: dict[int, Any]) -> Iterator[tuple[Instruction, float]]:
    given = [slots[slot] for slot in stage.reads]
    outputs = []
    for row in [given] if stage.block is None else _rows(given, stage.length, len(stage.code.inputs)):
        alone = _Alone(stage.lowered, stage.code, row)
        yield from alone.differences()
        outputs.append([alone.values[slot] for slot in stage.code.outputs])
    Launch([stage], stage.writes)(slots)
    if stage.block is not None:
        for slot, parts, summed in zip(stage.writes, zip(*outputs, strict=True), stage.lowered.summed, strict=True):
            expected = np.sum(np.stack(parts), axis=0) if summed else np.stack(parts)
            yield stage.block, _difference(_described(stage.block, code), slots[slot], expected, parts, stage.lowered)


# What an instruction should give is computed from what the machine has given for its operands, as it was when it was made. So the first
# wrong result is found where it is made, roundings don't add up, and an operand that was overwritten too early is noticed by its reader.
# All memory is NaN at first, which shows in a result that reads or leaves what nobody has written.
class _Alone:
    """The instructions of a table, run one at a time, for one row."""

    def __init__(self, lowered: Lowered, code: Code, given: Sequence[Any]):
        self.lowered, self.code = lowered, code
        self.values = {**code.constants, **dict(zip((*code.inputs, *code.captured), given, strict=True))}
        self.memory = memory_of(lowered, given)
        self.memory[0].fill(np.nan)
        for results, summed in zip(self.memory[2 + len(given) :], lowered.summed, strict=True):
            results.fill(0.0 if summed else np.nan)

    def differences(self) -> Iterator[tuple[Instruction, float]]:
        end = 0
        for i in self.code.instructions:
            start = end
            while end < len(self.lowered.origins) and self.lowered.origins[end] == i.slot:
                end += 1
            self.run(i, self.lowered.table[WIDTH * start : WIDTH * end])
            operands = [self.values[slot] for slot in i.operands]
            with np.errstate(all="ignore"):
                expected = i.operation.forward(*operands, **i.params)
            self.values[i.slot] = result = self.read(self.lowered.places[i.slot], i.type)  # type: ignore[arg-type]
            yield i, _difference(_described(i, self.code), result, expected, operands, self.lowered)

    def run(self, i: Instruction, table: np.ndarray) -> None:
        """Run the rows of an instruction, if they stay within the memory."""
        sizes = [x.size for x in self.memory]
        try:
            check_table(table.reshape(-1, WIDTH), sizes)
        except AssertionError as error:
            raise AssertionError(f"{_described(i, self.code)}: {error}") from None
        run_table(table, self.memory)

    def read(self, place: Place, like: Type) -> Any:
        """A copy of what is there, as NumPy has it: truth values, integers, Python's numbers."""
        flat = self.memory[place.base].reshape(-1)[place.offset : place.offset + math.prod(like.shape)]
        value = flat.reshape(like.shape).astype(like.dtype)
        return value.item() if like.weak else value


@np.errstate(all="ignore")
def _difference(described: str, result: Any, expected: Any, operands: Sequence[Any], lowered: Lowered) -> float:
    """The largest one, relative to the largest norm of the result and the operands: a sum is as exact as its terms.

    Raises AssertionError if it is too large.
    """
    a, b = np.asarray(result, float), np.asarray(expected, float)
    if not a.size:
        return 0.0
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    distance = np.where(same, 0.0, np.abs(a - b)) / (max(map(_norm, (b, *operands))) or 1.0)
    worst, tolerance = np.unravel_index(np.argmax(distance), a.shape), TOLERANCE[lowered.constants.dtype.name]
    if not distance[worst] <= tolerance:
        raise AssertionError(f"{described}: at {list(map(int, worst))} the machine computes {a[worst]:.17g}, and NumPy {b[worst]:.17g}; "
                             f"the difference is {distance[worst]:.1e} of the norm, more than {tolerance:.0e}")  # fmt: skip
    return float(distance[worst])


def _norm(x: Any) -> float:
    x = np.asarray(x, float)
    return float(np.linalg.norm(x[np.isfinite(x)]))


def _described(i: Instruction, code: Code) -> str:
    slot, operation, what, result = columns(i, code)
    return f"{slot} = {operation}  {what}  {result}{source(i)}"
