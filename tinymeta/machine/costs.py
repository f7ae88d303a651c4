"""What a program costs: operations counted, and time measured, each instruction alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..autodiff.blocks import item
from .code import Code, Instruction, types_of
from .execute import Executable, InNumPy
from .launch import Launch, Stage, memory_of, run_table
from .lower import WIDTH

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
    types = types_of(code) | executable.result_types
    for step in executable.steps:
        if isinstance(step, Launch):
            for stage in step.stages:
                yield from _costs_of_stage(stage, [slots[slot] for slot in stage.reads])
                Launch([stage], stage.writes)(slots)
            continue
        if isinstance(step, InNumPy):
            yield step.instruction, _seconds(lambda step=step: step(slots)), 1, flops_of(step.instruction, types)  # type: ignore[misc]
        else:
            given, count = [slots[slot] for slot in step.reads], len(step.body.inputs)
            for i, seconds, times, flop in _costs(step.executable, [x[0] for x in given[:count]], given[count:]):
                yield i, seconds, times * step.length, flop
        step(slots)


def _costs_of_stage(stage: Stage, given: list[Any]) -> Iterator[tuple[Instruction, float, int, int]]:
    """The same for the instructions of a table, whose rows are run again and again, for the first row of a map."""
    if stage.block is not None:
        count = len(stage.code.inputs)
        given = [*(x[0] for x in given[:count]), *given[count:]]
    memory, types, lowered = memory_of(stage.lowered, given), types_of(stage.code), stage.lowered
    run_table(lowered.table, memory)  # all operands are there now
    overhead = _seconds(lambda: run_table(lowered.table[:0], memory, REPETITIONS))
    seconds = dict.fromkeys(lowered.origins, 0.0)
    for number, slot in enumerate(lowered.origins):
        row = lowered.table[WIDTH * number : WIDTH * (number + 1)]
        took = _seconds(lambda row=row: run_table(row, memory, REPETITIONS))  # type: ignore[misc]
        seconds[slot] += max(took - overhead, 1e-9) / REPETITIONS
    yield from ((i, seconds[i.slot], stage.length, flops_of(i, types)) for i in stage.code.instructions if i.slot in seconds)


def _seconds(function: Callable[[], None]) -> float:
    """The shortest of some runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
