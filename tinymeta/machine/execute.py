r"""
# Executing code

Code becomes a list of steps. A step is a *table*, as many instructions as the machine can run in one go; or a *map*, whose body is run
for each row; or a single instruction that is left to NumPy. Without the machine, all instructions are.

The rows of a map are shared out among threads. Each thread has an arena of its own, which stays in its cache; inputs and constants
are shared. What is added up over rows is added within portions of rows first, one after the other, and then over the portions, and
these don't depend on the number of threads; so the results are the same to the bit for any number.

`TINYMETA_MACHINE=numpy` in the environment turns the machine off, and so does the absence of Numba. `TINYMETA_THREADS` sets the number of
threads; by default it is that of the processors.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.blocks import item
from .code import Code, Instruction, Type
from .lower import BAD, COUNTERS, DONE, INDEFINITE, OUT_OF_RANGE, SINGULAR, Lowered, Unsupported
from .lowerings import lower
from .threads import together

Slots = dict[int, Any]


class Notes(NamedTuple):
    """What a listing says about slots, and about those in the bodies of maps."""

    of: dict[int, str]
    bodies: dict[int, Notes]


NO_NOTES = Notes({}, {})
WORTH_A_THREAD = 200  # instructions
PORTIONS = 16  # of the rows of a map, at most


class Executable:
    """Code that is ready to run."""

    def __init__(self, code: Code, machine: bool):
        self.code = code
        self.steps = list(_steps(code, machine))
        self.finished = self._last_reads()

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
        """Where each result of the machine is, and what is left to NumPy; nothing if all of it is, because there is no machine."""
        if not any(isinstance(step, Table) or (isinstance(step, Map) and step.on_machine) for step in self.steps):
            return NO_NOTES
        of = {slot: note for step in self.steps for slot, note in step.notes.items()}
        return Notes(of, {step.block.slot: step.body_notes for step in self.steps if isinstance(step, Map)})


# ## Steps
def _steps(code: Code, machine: bool) -> Iterator[Table | Map | InNumPy]:
    """Tables as long as possible, and what stands between them."""
    start, instructions = 0, code.instructions
    while start < len(instructions):
        end = len(instructions) if machine else start
        while end > start:
            try:
                yield Table(_part(code, start, end))
                break
            except Unsupported as unsupported:
                end = start + unsupported.position
        if end < len(instructions):
            yield Map(instructions[end], machine) if instructions[end].length is not None else InNumPy(instructions[end])
        start = end + 1


def _part(code: Code, start: int, end: int) -> Code:
    """Some of the instructions, as code of their own: its inputs are what they read, its outputs what is read later."""
    instructions = code.instructions[start:end]
    made = {i.slot for i in instructions}
    read = dict.fromkeys(slot for i in instructions for slot in i.operands if slot not in made)
    later = {slot for i in code.instructions[end:] for slot in i.operands}.union(code.outputs)
    types = {**code.inputs, **code.captured, **{i.slot: i.type for i in code.instructions[:start]}}
    inputs = {slot: types[slot] for slot in read if slot not in code.constants}
    constants = {slot: code.constants[slot] for slot in read if slot in code.constants}
    return Code(inputs, {}, constants, instructions, tuple(i.slot for i in instructions if i.slot in later))  # type: ignore[arg-type]


class InNumPy:
    """One instruction, left to NumPy."""

    arena_bytes = 0

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        self.notes = {} if instruction.operation is item else {instruction.slot: "in NumPy"}
        self.reads, self.writes = instruction.operands, [instruction.slot]

    def __call__(self, slots: Slots) -> None:
        i = self.instruction
        y = i.operation.forward(*(slots[slot] for slot in i.operands), **i.params)
        slots[i.slot] = np.asarray(y).item() if isinstance(i.type, Type) and i.type.weak else y


class Table:
    """Instructions for the machine."""

    def __init__(self, code: Code):
        self.lowered = lower(code)
        self.reads, self.writes = list(code.inputs), code.outputs

        self.notes = _arena_notes(self.lowered)

    @property
    def arena_bytes(self) -> int:
        return self.lowered.arena * self.lowered.constants.itemsize

    def __call__(self, slots: Slots) -> None:
        outputs = run_rows(self.lowered, [slots[slot] for slot in self.reads], None)
        for slot, y, like in zip(self.writes, outputs, self.lowered.outputs, strict=True):
            slots[slot] = y.item() if like.weak else y


def _arena_notes(lowered: Lowered) -> dict[int, str]:
    size = lowered.constants.itemsize
    return {slot: f"at {size * place.offset}" for slot, place in lowered.places.items()}


class Map:
    """A body that is run for each row: by the machine, if all of it can be, else step by step."""

    def __init__(self, block: Instruction, machine: bool):
        assert block.body is not None and block.length is not None
        self.block, self.length, self.body = block, block.length, block.body
        self.summed = block.params.get("summed", (False,) * len(self.body.outputs))
        self.reads, self.writes = block.operands, [block.slot]
        self.notes: dict[int, str] = {}
        self.lowered, self.executable = None, None
        try:
            self.lowered = lower(self.body, self.summed) if machine else None
        except Unsupported:
            pass
        if self.lowered is None:
            self.executable = Executable(self.body, machine)

    @property
    def arena_bytes(self) -> int:
        return self.lowered.arena * self.lowered.constants.itemsize if self.lowered is not None else self.executable.arena_bytes  # type: ignore[union-attr]

    @property
    def on_machine(self) -> bool:
        return self.lowered is not None or self.executable.notes is not NO_NOTES  # type: ignore[union-attr]

    @property
    def body_notes(self) -> Notes:
        return Notes(_arena_notes(self.lowered), {}) if self.lowered is not None else self.executable.notes  # type: ignore[union-attr]

    def __call__(self, slots: Slots) -> None:
        given = [slots[slot] for slot in self.reads]
        slots[self.block.slot] = tuple(self._row_by_row(given) if self.lowered is None else run_rows(self.lowered, given, self.length))

    def _row_by_row(self, given: list[Any]) -> Iterator[Any]:
        count = len(self.body.inputs)
        rows, captured = given[:count], given[count:]
        results: list[Any] = [None] * self.length
        numbers, finished, errors = itertools.count(), [], []

        def work() -> None:
            while (k := next(numbers)) < self.length:
                try:
                    results[k] = self.executable([x[k] for x in rows], captured)  # type: ignore[misc]
                except Exception as error:
                    errors.append(error)
                finished.append(k)

        together(work, lambda: len(finished) < self.length)
        if errors:
            raise errors[0]
        for column, summed in zip(zip(*results, strict=True), self.summed, strict=True):
            yield np.sum(np.stack(column), axis=0) if summed else np.stack(column)


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


ERRORS = {
    OUT_OF_RANGE: (IndexError, "an array that is used as an index has an element that is out of range"),
    SINGULAR: (np.linalg.LinAlgError, "Singular matrix"),
    INDEFINITE: (np.linalg.LinAlgError, "Matrix is not positive definite"),
}


def run_rows(lowered: Lowered, given: Sequence[Any], length: int | None) -> list[np.ndarray]:
    """The outputs of a table for each of `length` rows, stacked or summed; or once. `given` are the inputs, then what all rows share."""
    rows = length or 1
    portion = -(-rows // PORTIONS)
    count = -(-rows // portion)
    memory = memory_of(lowered, given, count, length)
    counters = np.zeros(COUNTERS, np.int64)
    work = functools.partial(run_portions, lowered, memory, addresses_of(memory), counters, rows, portion)
    if count > 1 and len(lowered.origins) * rows >= WORTH_A_THREAD:
        together(work, lambda: counters[DONE] < count)
    else:
        work()
    for end, (error, message) in ERRORS.items():
        if counters[BAD + end]:
            raise error(message)
    sums, *stacked = memory[1 + len(given) :]
    total, stack = np.add.reduce(sums) if lowered.sums else sums, iter(stacked)
    outputs = [next(stack) if place is None else total[place : place + math.prod(t.shape)].reshape(t.shape)
               for t, place in zip(lowered.outputs, lowered.summed, strict=True)]  # fmt: skip
    return [y if t.dtype.kind == "f" else y.astype(t.dtype) for y, t in zip(outputs, lowered.outputs, strict=True)]


def memory_of(lowered: Lowered, given: Sequence[Any], portions: int, length: int | None) -> list[np.ndarray]:
    """The arrays behind all bases but the arena: constants, what is given, sums, the other outputs."""
    dtype, outer = lowered.constants.dtype, () if length is None else (length,)
    outputs = [np.empty(outer + t.shape, dtype) for t, place in zip(lowered.outputs, lowered.summed, strict=True) if place is None]
    return [lowered.constants, *(_flat(x, dtype) for x in given), np.zeros((portions, lowered.sums), dtype), *outputs]


def addresses_of(memory: Sequence[np.ndarray]) -> np.ndarray:
    _, address_of = _interpreter(memory[0].dtype)
    return np.array([address_of(x.reshape(-1)) for x in memory], np.int64)


def _flat(x: Any, dtype: np.dtype) -> np.ndarray:
    """As the machine takes it: row-major, without gaps, and at an address that is a multiple of the element's size."""
    array = np.ascontiguousarray(x, dtype)
    return array if array.flags.aligned else array.copy()


def run_portions(
    lowered: Lowered, memory: list[np.ndarray], addresses: np.ndarray, counters: np.ndarray, length: int, portion: int
) -> None:
    """Run portions of rows in this thread's arena until there are none left. Bases are distances from the arena, in elements.

    The arrays themselves are passed besides their addresses: they must live as long as a thread works on them, also if the
    caller is interrupted meanwhile.
    """
    arena = _arena(lowered.constants.dtype, lowered.arena)
    bases = np.zeros(1 + len(memory), np.int64)
    interpret_portions, address_of = _interpreter(arena.dtype)
    bases[1:] = (addresses - address_of(arena)) // arena.itemsize
    interpret_portions(arena, lowered.table, bases, lowered.row_steps, lowered.portion_steps, counters, length, portion)


_local = threading.local()


def _arena(dtype: np.dtype, size: int) -> np.ndarray:
    """This thread's arena, grown if need be. It begins at a line of the cache, so that no vector lies across two."""
    arenas = _local.__dict__.setdefault("arenas", {})
    if dtype not in arenas or arenas[dtype].size < size:
        line = 64 // dtype.itemsize
        space = np.zeros(size + line, dtype)
        start = -space.ctypes.data % 64 // dtype.itemsize
        arenas[dtype] = space[start : start + size]
    return arenas[dtype]


@functools.cache
def _interpreter(dtype: np.dtype) -> tuple[Callable[..., None], Callable[[np.ndarray], int]]:
    """The compiled interpreter, and what finds an array's address. The very first compilation takes a while, and says so."""
    notice = f"tinymeta compiles its machine for {dtype}, once; this takes about 20 seconds"
    patience = threading.Timer(2.0, lambda: print(notice, file=sys.stderr, flush=True))
    patience.daemon = True
    patience.start()
    from .interpreter import address_of, interpret_portions

    nothing = np.zeros(0, np.int64)
    interpret_portions(np.zeros(1, dtype), nothing, nothing, nothing, nothing, np.zeros(COUNTERS, np.int64), 0, 1)
    patience.cancel()
    return interpret_portions, address_of
