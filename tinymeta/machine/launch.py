r"""
# Launches: tables on the machine

A *stage* is a table that is run once, or, for a map, once for each row. A launch is one stage or several, in one call of compiled code:
what one stage hands to the next stays in memory that the launching thread keeps, and no Python runs in between.

Each thread works in an arena of its own, which stays in its cache; inputs and constants are shared. What is added up over rows is added
within portions of rows first, and then a stage of its own adds the portions. These don't depend on the number of threads; so the results
are the same to the bit for any number.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
import threading
import time
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .code import Code, Instruction, Type
from .lower import FIRST, INDEFINITE, OUT_OF_RANGE, REDUCE, RESULT, SINGULAR, WIDTH, Lowered
from .threads import ARENA, AWAKE, BAD, BYTES, FIELDS, INSIDE, Crew, crew

WORTH_A_THREAD = 200  # instructions
MOST_PORTIONS, ENOUGH = 32, 8  # of the rows of a map
MOST_SUMS = 2**19  # elements; where there would be more, a few portions are enough
ERRORS = {
    OUT_OF_RANGE: (IndexError, "an array that is used as an index has an element that is out of range"),
    SINGULAR: (np.linalg.LinAlgError, "Singular matrix"),
    INDEFINITE: (np.linalg.LinAlgError, "Matrix is not positive definite"),
}
HOME, CONSTANTS = 0, 1  # the first arrays of a launch: what its stages hand to each other, and their constants


class Stage(NamedTuple):
    """Code as a table, the slots that it reads and writes, and the map whose body it is, if it is one."""

    code: Code
    lowered: Lowered
    reads: tuple[int, ...]
    writes: dict[int, Type]  # a map's results are stacked, if they aren't summed
    block: Instruction | None = None

    @property
    def length(self) -> int:
        """How often it is run."""
        return 1 if self.block is None else self.block.length or 1


class Place(NamedTuple):
    """Where a base is: in which of the launch's arrays, from which element on, and how it moves (`lower`)."""

    array: int
    offset: int
    row_step: int = 0
    portion_step: int = 0


class Launch:
    """Stages that follow each other: call it with the slots' values, and it adds those that it writes."""

    def __init__(self, stages: Sequence[Stage], wanted: Collection[int]):
        """`wanted` are the slots that are read after the launch."""
        self.stages = stages
        self.dtype = stages[0].lowered.constants.dtype
        made = {slot: t for stage in stages for slot, t in stage.writes.items()}
        self.reads = tuple(dict.fromkeys(slot for stage in stages for slot in stage.reads if slot not in made))
        self.results = {slot: t for slot, t in made.items() if slot in wanted}
        self.writes = tuple(self.results)
        self.constants = np.concatenate([stage.lowered.constants for stage in stages])
        arrays = itertools.count(2)
        self.places = {slot: Place(next(arrays), 0) for slot in (*self.reads, *self.results)}
        self.home = 0  # elements
        self.rows: list[tuple[int, ...]] = []  # a stage each, as `team` takes it
        self.bases: list[Place] = []
        self.tables: list[np.ndarray] = []
        constants = 0
        for stage in stages:
            self._add(stage, Place(CONSTANTS, constants))
            constants += stage.lowered.constants.size
        self.table = np.concatenate(self.tables)
        self.arena = max(stage.lowered.arena for stage in stages)
        self.instructions = tuple(np.array(x, np.int64).reshape(-1, n) for x, n in ((self.rows, 8), (self.bases, 4)))

    def _add(self, stage: Stage, constants: Place) -> None:
        """Write a stage down, and one after it that adds up its portions."""
        lowered, rows = stage.lowered, stage.length
        sums_each = sum(lowered.portion_steps)
        portion = -(-rows // max(ENOUGH, min(MOST_PORTIONS, MOST_SUMS // max(sums_each, 1))))
        count = -(-rows // portion)
        sums = []
        places = [self.places[slot] for slot in stage.reads]
        for (slot, t), summed in zip(stage.writes.items(), lowered.summed, strict=True):
            size = math.prod(t.shape)
            if slot not in self.places:
                self.places[slot] = self._at_home(size)
            places.append(self._at_home(count * size) if summed else self.places[slot])
            if summed:
                sums.append((self.places[slot], places[-1], count, size))
        steps = zip(lowered.row_steps[2:], lowered.portion_steps[2:], strict=True)
        places = [place._replace(row_step=row, portion_step=portion) for place, (row, portion) in zip(places, steps, strict=True)]
        shared = count > 1 and len(lowered.origins) * rows >= WORTH_A_THREAD
        self._write(lowered.table, [constants, *places], rows, portion, shared, lowered.arena)
        if sums:
            table = [_sum_of_portions(2 * k, count, size) for k, (_, _, count, size) in enumerate(sums)]
            self._write(np.ravel(table), [Place(HOME, 0), *(place for to, parts, _, _ in sums for place in (to, parts))])

    def _at_home(self, size: int) -> Place:
        self.home += -(-size // 8) * 8  # whole vectors
        return Place(HOME, self.home - -(-size // 8) * 8)

    def _write(self, table: np.ndarray, places: list[Place], rows: int = 1, portion: int = 1, shared: bool = False, arena: int = 0) -> None:
        start, first = self.rows[-1][1] if self.rows else 0, len(self.bases)
        self.tables.append(np.asarray(table, np.int64))
        self.bases += [Place(HOME, 0), *places]  # the arena, and the bases that `lower` counts from 1 on
        self.rows.append((start, start + len(table), first, len(self.bases), rows, portion, shared, arena))

    @property
    def arena_bytes(self) -> int:
        return self.arena * self.dtype.itemsize

    # ### Running it
    def __call__(self, slots: dict[int, Any]) -> None:
        compiled = machine(self.dtype)
        memory = self.memory([slots[slot] for slot in self.reads])
        addresses = np.array([compiled.address_of(x.ravel()) for x in memory], np.int64)
        self.run(compiled, memory, addresses)
        for (slot, t), y in zip(self.results.items(), memory[len(memory) - len(self.results) :], strict=True):
            slots[slot] = y.item() if t.weak else y.astype(t.dtype, copy=False)

    def memory(self, given: Sequence[Any]) -> list[np.ndarray]:
        """The launch's arrays: home, constants, what it reads, what it writes."""
        inputs = [_flat(x, self.dtype) for x in given]
        return [working_memory("home", self.dtype, self.home), self.constants, *inputs,
                *(np.empty(t.shape, self.dtype) for t in self.results.values())]  # fmt: skip

    def run(self, compiled: ModuleType, memory: list[np.ndarray], addresses: np.ndarray) -> None:
        helpers = crew()
        if helpers.helpers and helpers.lock.acquire(blocking=False):
            try:
                self._run_with(helpers, helpers.mailbox, compiled, memory, addresses)
            finally:
                helpers.lock.release()
        else:
            self._run_with(None, np.zeros(FIELDS, np.int64), compiled, memory, addresses)

    def _run_with(
        self, helpers: Crew | None, mailbox: np.ndarray, compiled: ModuleType, memory: list[np.ndarray], addresses: np.ndarray
    ) -> None:
        stages, bases = self.instructions
        if helpers is not None:
            while mailbox[INSIDE]:  # the launch before was interrupted
                time.sleep(0)
            helpers.memory = memory, addresses, self
            mailbox[ARENA], mailbox[BYTES] = self.arena, self.dtype.itemsize
            helpers.wake(functools.partial(_attend, mailbox), helpers.helpers - int(mailbox[AWAKE]))
        mailbox[BAD : BAD + 8] = 0
        arena = working_memory("arena", self.dtype, self.arena)
        stage = 0
        while (stage := compiled.launch(arena, stages, self.table, bases, addresses, mailbox, stage)) != compiled.FINISHED:
            while mailbox[INSIDE]:
                time.sleep(0)  # lets the others have Python's lock
        if mailbox[BAD : BAD + 8].any():
            raise next(error(message) for end, (error, message) in ERRORS.items() if mailbox[BAD + end])


def _sum_of_portions(base: int, count: int, size: int) -> list[int]:
    """A row of the table: one base is the sum over the first axis of the next one, (count, size). Base 1 has the constants."""
    row = [0] * WIDTH
    row[0], row[2:5], row[RESULT], row[FIRST] = REDUCE, [1, count, size], 2 + base, 3 + base
    return row


# ## Tables alone
# To measure or to check single instructions, a table is run on arrays of its own, one for each base.
def memory_of(lowered: Lowered, given: Sequence[Any]) -> list[np.ndarray]:
    """An arena, the constants, what is given for one row, and the outputs, which are 0."""
    dtype = lowered.constants.dtype
    outputs = [np.zeros(t.shape, dtype) for t in lowered.outputs]
    return [working_memory("arena", dtype, lowered.arena), lowered.constants, *(_flat(x, dtype) for x in given), *outputs]


def run_table(table: np.ndarray, memory: Sequence[np.ndarray], times: int = 1) -> None:
    """Run some rows of a table, so many times."""
    compiled, count = machine(memory[0].dtype), len(memory)
    addresses = np.array([compiled.address_of(x.ravel()) for x in memory], np.int64)
    places, stage = np.array([(k, 0, 0, 0) for k in range(count)]), np.array([[0, len(table), 0, count, times, times, 0, 0]])
    compiled.launch(memory[0], stage, table, places, addresses, np.zeros(FIELDS, np.int64), 0)


def _attend(mailbox: np.ndarray) -> None:
    """What a helper does that was woken up."""
    again = True
    while again:
        dtype = np.dtype(f"f{mailbox[BYTES]}")
        again = machine(dtype).attend(working_memory("arena", dtype, int(mailbox[ARENA])), mailbox, machine(dtype).PATIENCE)


def _flat(x: Any, dtype: np.dtype) -> np.ndarray:
    """As the machine takes it: row-major, without gaps, and at an address that is a multiple of the element's size."""
    array = np.ascontiguousarray(x, dtype)
    return array if array.flags.aligned else array.copy()


_local = threading.local()


def working_memory(name: str, dtype: np.dtype, size: int) -> np.ndarray:
    """This thread's arena, or its home, grown if need be. It begins at a line of the cache, so that no vector lies across two."""
    kept: dict[Any, np.ndarray] = _local.__dict__
    key = name, dtype
    if key not in kept or kept[key].size < size:
        line = 64 // dtype.itemsize
        space = np.zeros(size + line, dtype)
        start = -space.ctypes.data % 64 // dtype.itemsize
        kept[key] = space[start : start + size]
    return kept[key]


@functools.cache
def machine(dtype: np.dtype) -> ModuleType:
    """The compiled functions. The very first compilation takes a while, and says so."""
    notice = f"tinymeta compiles its machine for {dtype}, once; this takes about 20 seconds"
    patience = threading.Timer(2.0, lambda: print(notice, file=sys.stderr, flush=True))
    patience.daemon = True
    patience.start()
    from . import team

    arena, nothing, mailbox = np.zeros(1, dtype), np.zeros(0, np.int64), np.zeros(FIELDS, np.int64)
    team.launch(arena, nothing.reshape(0, 8), nothing, nothing.reshape(0, 4), nothing, mailbox, 0)
    team.attend(arena, mailbox, 0)
    team.address_of(arena)
    patience.cancel()
    return team
