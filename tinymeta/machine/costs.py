"""What a program costs: operations counted, and time measured, each instruction alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..autodiff.blocks import item
from .code import Code, Instruction, types_of
from .execute import Executable, InNumPy, Table, addresses_of, memory_of, run_portions
from .lower import COUNTERS, WIDTH, Lowered

MOVES = ("item", "reshape", "transpose", "broadcast_to", "concatenate", "getitem", "add_at", "put", "full_like", "astype", "stop_gradient")


# ## Counted
def flops(code: Code) -> int:
    """Of one run, with the rows of maps."""
    types = types_of(code)
    return sum(flops(i.body) * (i.length or 1) if i.body is not None else flops_of(i, types) for i in code.instructions)


def flops_of(i: Instruction, types: dict[int, Any]) -> int:
    """Two for each multiply-add of a product, one for each element of anything else; what is only moved costs nothing."""
    if i.operation.name in ("product", "matmul"):
        return 2 * math.prod(i.type.shape) * types[i.operands[0]].shape[-2 if i.params.get("transposed", (False,))[0] else -1]  # type: ignore[union-attr]
    return 0 if i.operation.name in MOVES else max(math.prod(types[slot].shape) for slot in (i.slot, *i.operands))


# ## Measured
REPETITIONS, ROUNDS = 300, 5


def profile(executable: Executable, inputs: Sequence[Any], captured: Sequence[Any]) -> str:
    """A table: for each kind of instruction, how many there are, their time in one run, their share of it, and their speed."""
    kinds: dict[str, list[Any]] = {}
    for i, seconds, times, flop in _costs(executable, inputs, captured):
        if i.operation is item:  # another name
            continue
        kind = kinds.setdefault(f"{i.operation.name} {i.type}", [0, 0.0, 0])
        kind[:] = kind[0] + times, kind[1] + seconds * times, kind[2] + flop * times
    total = sum(seconds for _, seconds, _ in kinds.values())
    width = max(map(len, kinds), default=0)
    lines = [f"{'operation':<{width}}   count          us   share  GFLOP/s"]
    for name, (count, seconds, flop) in sorted(kinds.items(), key=lambda kind: -kind[1][1]):
        lines.append(f"{name:<{width}}  {count:6}  {1e6 * seconds:10.2f}  {seconds / total:6.1%}  {flop / seconds / 1e9:7.2f}")
    return "\n".join([*lines, f"{'all':<{width}}  {sum(kind[0] for kind in kinds.values()):6}  {1e6 * total:10.2f}"])


def _costs(executable: Executable, inputs: Sequence[Any], captured: Sequence[Any]) -> Iterator[tuple[Instruction, float, int, int]]:
    """Each instruction with its seconds in one row, the number of rows, and its operations in one row."""
    code = executable.code
    slots = {**code.constants, **dict(zip(code.inputs, inputs, strict=True)), **dict(zip(code.captured, captured, strict=True))}
    types = types_of(code)
    made = {i.slot: i for i in code.instructions}
    for step in executable.steps:
        given = [slots[slot] for slot in step.reads]
        if isinstance(step, InNumPy):
            yield step.instruction, _seconds(lambda step=step: step(slots)), 1, flops_of(step.instruction, types)  # type: ignore[misc]
        elif isinstance(step, Table):
            yield from ((made[slot], seconds, 1, flop) for slot, seconds, flop in _rows(step.lowered, given, None, made, types))
        elif step.lowered is not None:
            body = {i.slot: i for i in step.body.instructions}
            for slot, seconds, flop in _rows(step.lowered, given, step.length, body, types_of(step.body)):
                if slot in body:
                    yield body[slot], seconds, step.length, flop
        elif step.executable is not None:
            count = len(step.body.inputs)
            for i, seconds, times, flop in _costs(step.executable, [x[0] for x in given[:count]], given[count:]):
                yield i, seconds, times * step.length, flop
        step(slots)


def _rows(lowered: Lowered, given: list[Any], length: int | None, made: dict[int, Instruction], types: dict[int, Any]) -> Iterator[Any]:
    """For each instruction of a table: its slot, the seconds that its rows take, its operations."""
    memory = memory_of(lowered, given, 1, length)
    addresses = addresses_of(memory)
    still = lowered._replace(row_steps=0 * lowered.row_steps)

    def run(table: np.ndarray) -> None:
        run_portions(still._replace(table=table), memory, addresses, np.zeros(COUNTERS, np.int64), REPETITIONS, REPETITIONS)

    run(lowered.table)  # all operands are there now
    overhead = _seconds(lambda: run(lowered.table[:0]))
    seconds = dict.fromkeys(lowered.origins, 0.0)
    for number, slot in enumerate(lowered.origins):
        row = lowered.table[WIDTH * number : WIDTH * (number + 1)]
        seconds[slot] += max(_seconds(lambda row=row: run(row)) - overhead, 1e-9) / REPETITIONS  # type: ignore[misc]
    for slot in seconds:
        yield slot, seconds[slot], flops_of(made[slot], types) if slot in made else 0


def _seconds(function: Callable[[], None]) -> float:
    """The shortest of some runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
