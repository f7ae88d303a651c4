r"""
# Executing code

Code becomes a list of steps. A step is a *launch*, as many instructions as the machine can run in one go, maps among them; or a map
whose body can't be run by the machine alone, and is run step by step for each row; or a single instruction that is left to NumPy. Without
the machine, all instructions are.

`TINYMETA_MACHINE=numpy` in the environment turns the machine off, and so does the absence of Numba. `TINYMETA_THREADS` sets the number of
threads; by default it is that of the processors.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.blocks import item
from .code import Code, Instruction, Type, renamed, rewritten, types_of
from .launch import Launch, Stage
from .lower import ARENA, Lowered, Unsupported
from .lowerings import lower
from .threads import together

Slots = dict[int, Any]


class Notes(NamedTuple):
    """What a listing says about slots, and about those in the bodies of maps."""

    of: dict[int, str]
    bodies: dict[int, Notes]


NO_NOTES = Notes({}, {})


class Executable:
    """Code that is ready to run."""

    def __init__(self, code: Code, machine: bool):
        self.machine = machine
        self.code, results = _with_named_results(code)
        self.result_types = {slot: t for found in results.values() for slot, t in found.items()}
        self.steps = list(_steps(self.code, results, machine))
        self.finished = self._last_reads()
        made = {slot for step in self.steps if isinstance(step, Launch) for slot in step.results}
        outputs = self.code.outputs
        self.makes_new = [slot in made and slot not in outputs[:k] for k, slot in enumerate(outputs)]  # arrays that nobody else has

    def _last_reads(self) -> list[list[int]]:
        """For each step, the slots that nothing reads after it."""
        kept = set(self.code.outputs)
        finished = []
        for step in reversed(self.steps):
            last = [slot for slot in dict.fromkeys((*step.reads, *step.writes)) if slot not in kept]
            kept.update(last)
            finished.append(last)
        return finished[::-1]

    def __call__(self, inputs: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        """The outputs, for these values of the inputs and of the captured slots."""
        slots: Slots = {**self.code.constants, **dict(zip(self.code.inputs, inputs, strict=True)),
                        **dict(zip(self.code.captured, captured, strict=True))}  # fmt: skip
        for step, finished in zip(self.steps, self.finished, strict=True):
            step(slots)
            for slot in finished:
                del slots[slot]
        return [slots[slot] for slot in self.code.outputs]

    @property
    def arena_bytes(self) -> int:
        """The largest arena that it needs on the machine."""
        return max((step.arena_bytes for step in self.steps), default=0)

    @property
    def notes(self) -> Notes:
        """Where each result of the machine is, and what is left to NumPy; nothing if there is no machine, and so all of it is."""
        if not self.machine:
            return NO_NOTES
        notes = Notes({}, {})
        for step in self.steps:
            if isinstance(step, Launch):
                for stage in step.stages:
                    places = _arena_notes(stage.lowered)
                    if stage.block is None:
                        notes.of.update(places)
                    else:
                        notes.bodies[stage.block.slot] = Notes(places, {})
            elif isinstance(step, Map):
                notes.bodies[step.block.slot] = step.executable.notes
            elif step.instruction.operation is not item:
                notes.of[step.instruction.slot] = "in NumPy"
        return notes


def _arena_notes(lowered: Lowered) -> dict[int, str]:
    size = lowered.constants.itemsize
    return {slot: f"at {size * place.offset}" for slot, place in lowered.places.items() if place.base == ARENA}


# ## Steps
# A map has several results, and an `item` takes one of them. That is no work: each result has a slot of its own.
Results = dict[int, dict[int, Type]]  # of a map's slot: the slots of its results, and their types


def _with_named_results(code: Code) -> tuple[Code, Results]:
    """The code without the items of maps."""
    numbers = itertools.count(code.size)
    results: Results = {i.slot: {next(numbers): t for t in i.type} for i in code.instructions if i.length is not None}  # type: ignore[misc]
    items = {i.slot: list(results[i.operands[0]])[i.params["index"]] for i in code.instructions
             if i.operation is item and i.operands[0] in results}  # fmt: skip
    return rewritten(code, items, [renamed(i, items) for i in code.instructions if i.slot not in items]), results


def _steps(code: Code, results: Results, machine: bool) -> Iterator[Launch | Map | InNumPy]:
    """Stages of the same dtype that follow each other are one launch."""
    parts = list(_parts(code, results, machine))
    last = {slot: number for number, part in enumerate(parts) for slot in part.reads} | dict.fromkeys(code.outputs, len(parts))

    def kind(number: int) -> Any:
        part = parts[number]
        return part.lowered.constants.dtype if isinstance(part, Stage) else number

    for _, group in itertools.groupby(range(len(parts)), kind):
        numbers = list(group)
        stages = [part for k in numbers if isinstance(part := parts[k], Stage)]
        wanted = {slot for stage in stages for slot in stage.writes if last.get(slot, -1) > numbers[-1]}
        yield Launch(stages, wanted) if stages else parts[numbers[0]]  # type: ignore[misc]


def _parts(code: Code, results: Results, machine: bool) -> Iterator[Stage | Map | InNumPy]:
    """Tables as long as possible, and what stands between them."""
    start, instructions = 0, code.instructions
    tried = len(instructions)
    types = types_of(code) | {slot: t for found in results.values() for slot, t in found.items()}
    last = {slot: number for number, i in enumerate(instructions) for slot in i.operands} | dict.fromkeys(code.outputs, len(instructions))
    while start < len(instructions):
        stage, end = _longest_stage(code, types, last, start, tried) if machine else (None, start)
        if stage is not None:
            yield stage
        else:
            i = instructions[end]
            yield InNumPy(i) if i.length is None else _map(i, results[i.slot], machine)
            end += 1
        start, tried = end, max(1, end - start)


# Most code is one table, so all of it is tried first. If it isn't, there may be many short ones: each is tried with as many instructions
# as the one before had, then with twice as many. To try all that is left each time would take as long as the square of their number.
def _longest_stage(code: Code, types: dict[int, Any], last: dict[int, int], start: int, tried: int) -> tuple[Stage | None, int]:
    """The longest table that begins here, None if the machine can't run even this instruction; and where it ends."""
    stage, reached, limit = None, start, len(code.instructions)
    end = min(start + tried, limit)
    while reached < limit:
        try:
            part = _part(code, types, last, start, end)
            stage = Stage(part, lower(part), tuple(part.inputs), {slot: types[slot] for slot in part.outputs})
            reached = end
        except Unsupported as unsupported:
            limit = start + unsupported.position
        end = min(2 * end - start, limit)
    return stage, reached


def _map(block: Instruction, writes: dict[int, Type], machine: bool) -> Stage | Map:
    """A map, all of it by the machine, if that can be."""
    assert block.body is not None
    summed = block.params.get("summed", (False,) * len(block.body.outputs))
    try:
        if machine:
            return Stage(block.body, lower(block.body, summed), block.operands, writes, block)
    except Unsupported:
        pass
    return Map(block, summed, writes, machine)


def _part(code: Code, types: dict[int, Any], last: dict[int, int], start: int, end: int) -> Code:
    """Some of the instructions, as code of their own: its inputs are what they read, its outputs what is read later."""
    instructions = code.instructions[start:end]
    made = {i.slot for i in instructions}
    read = dict.fromkeys(slot for i in instructions for slot in i.operands if slot not in made)
    inputs = {slot: types[slot] for slot in read if slot not in code.constants}
    constants = {slot: code.constants[slot] for slot in read if slot in code.constants}
    return Code(inputs, {}, constants, instructions, tuple(i.slot for i in instructions if last.get(i.slot, -1) >= end))


class InNumPy:
    """One instruction, left to NumPy."""

    arena_bytes = 0

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        self.reads, self.writes = instruction.operands, (instruction.slot,)

    def __call__(self, slots: Slots) -> None:
        i = self.instruction
        y = i.operation.forward(*(slots[slot] for slot in i.operands), **i.params)
        slots[i.slot] = np.asarray(y).item() if isinstance(i.type, Type) and i.type.weak else y


class Map:
    """A body that is run for each row, step by step."""

    def __init__(self, block: Instruction, summed: Sequence[bool], writes: dict[int, Type], machine: bool):
        assert block.body is not None and block.length is not None
        self.block, self.length, self.body, self.summed = block, block.length, block.body, summed
        self.reads, self.writes = block.operands, writes
        self.executable = Executable(self.body, machine)

    @property
    def arena_bytes(self) -> int:
        return self.executable.arena_bytes

    def __call__(self, slots: Slots) -> None:
        given = [slots[slot] for slot in self.reads]
        count = len(self.body.inputs)
        rows, captured = given[:count], given[count:]
        results: list[Any] = [None] * self.length
        numbers, finished, errors = itertools.count(), [], []

        def work() -> None:
            while (k := next(numbers)) < self.length:
                try:
                    results[k] = self.executable([x[k] for x in rows], captured)
                except Exception as error:
                    errors.append(error)
                finished.append(k)

        together(work, lambda: len(finished) < self.length)
        if errors:
            raise errors[0]
        for slot, column, summed in zip(self.writes, zip(*results, strict=True), self.summed, strict=True):
            slots[slot] = np.sum(np.stack(column), axis=0) if summed else np.stack(column)


# ## The machine
@functools.cache
def machine_is_on() -> bool:
    """Whether there is a machine: Numba is installed, and nobody has turned it off."""
    if os.environ.get("TINYMETA_MACHINE", "numba") == "numpy":
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
