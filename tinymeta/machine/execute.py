r"""
# Executing code

Twice the same: in NumPy, which calls each operation's forward on the slots; and on the machine, where one call runs a whole
table. What the machine can't do, NumPy does, around it: a mapped body may run on the machine while the code around it doesn't.

The rows of a map are shared out among threads, in blocks. Each thread has an arena of its own, which stays in its cache; inputs and
constants are shared. Nothing is added up across rows, so the results are the same to the bit for any number of threads.

`TINYMETA_MACHINE=numpy` in the environment turns the machine off, and so does the absence of Numba. `TINYMETA_THREADS` sets the number of
threads; by default it is that of the processors.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .code import Code, Instruction, Type
from .lower import Lowered, lower

WORTH_A_THREAD = 200  # instructions


class Executable:
    """Code that is ready to run: on the machine if all of it can, else in NumPy, with the bodies of blocks judged one by one."""

    def __init__(self, code: Code, machine: bool):
        self.code = code
        self.lowered = lower(code) if machine else None
        self.bodies = {i.slot: Executable(i.body, machine) for i in code.instructions if i.body is not None} if self.lowered is None else {}

    def __call__(self, inputs: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
        """The outputs, for these values of the inputs and of the captured slots."""
        if self.lowered is not None:
            return [y[0] for y in run_rows(self.lowered, [], [*inputs, *captured], 1)]
        slots = {**dict(zip(self.code.inputs, inputs, strict=True)), **dict(zip(self.code.captured, captured, strict=True)),
                 **self.code.constants}  # fmt: skip
        for i in self.code.instructions:
            values = [slots[slot] for slot in i.operands]
            slots[i.slot] = i.operation.forward(*values, **i.params) if i.body is None else self._block(i, values)
            if isinstance(i.type, Type) and i.type.weak:
                slots[i.slot] = np.asarray(slots[i.slot]).item()
        return [slots[slot] for slot in self.code.outputs]

    @property
    def arena_bytes(self) -> int:
        """The largest arena that it needs on the machine."""
        mine = 0 if self.lowered is None else self.lowered.arena * self.lowered.constants.itemsize
        return max([mine, *(body.arena_bytes for body in self.bodies.values())])

    def _block(self, block: Instruction, values: list[Any]) -> tuple[Any, ...]:
        body = self.bodies[block.slot]
        count = len(body.code.inputs)
        rows, captured = values[:count], values[count:]
        if block.length is None:
            return tuple(body(rows, captured))
        if body.lowered is not None:
            return tuple(run_rows(body.lowered, rows, captured, block.length))
        results = [body([x[i] for x in rows], captured) for i in range(block.length)]
        return tuple(np.stack(column) for column in zip(*results, strict=True))


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


def run_rows(lowered: Lowered, rows: Sequence[Any], shared: Sequence[Any], length: int) -> list[np.ndarray]:
    """The outputs of a table, stacked, for each of `length` rows; `shared` is the same for all of them."""
    dtype = lowered.constants.dtype
    given = [_flat(x, dtype) for x in (*rows, *shared)]
    outputs = [np.empty((length, *t.shape), dtype) for t in lowered.outputs]
    steps = [0, 0, *(x[0].size for x in given[: len(rows)]), *[0] * len(shared), *(y[0].size for y in outputs)]
    memory = [lowered.constants, *given, *outputs]
    parts = min(thread_count(), length) if len(lowered.table) * length >= WORTH_A_THREAD else 1
    (first, last), *others = itertools.pairwise(length * k // parts for k in range(parts + 1))
    run = functools.partial(_run_part, _interpreter(dtype), lowered, memory, np.array(steps, np.int64))
    waiting = [_pool().submit(run, *bounds) for bounds in others]
    run(first, last)
    for part in waiting:
        part.result()
    return [y if t.dtype.kind == "f" else y.astype(t.dtype) for y, t in zip(outputs, lowered.outputs, strict=True)]


def _flat(x: Any, dtype: np.dtype) -> np.ndarray:
    """As the machine takes it: row-major, without gaps, and at an address that is a multiple of the element's size."""
    array = np.ascontiguousarray(x, dtype)
    return array if array.flags.aligned else array.copy()


def _run_part(
    interpret: Callable[..., None], lowered: Lowered, memory: Sequence[np.ndarray], strides: np.ndarray, first: int, last: int
) -> None:
    """Some of the rows, in this thread's arena. The bases are distances from it, in elements.

    The arrays themselves are passed, not their addresses: they must live as long as a thread works on them, also if the
    caller is interrupted meanwhile.
    """
    arena = _arena(lowered.constants.dtype, lowered.arena)
    addresses = np.array([x.__array_interface__["data"][0] for x in (arena, *memory)], np.int64)
    interpret(arena, lowered.table.ravel(), (addresses - addresses[0]) // arena.itemsize, strides, first, last)


_local = threading.local()


def _arena(dtype: np.dtype, size: int) -> np.ndarray:
    """This thread's arena, grown if need be."""
    arenas = _local.__dict__.setdefault("arenas", {})
    if dtype not in arenas or arenas[dtype].size < size:
        arenas[dtype] = np.zeros(size, dtype)
    return arenas[dtype]


@functools.cache
def _interpreter(dtype: np.dtype) -> Callable[..., None]:
    """The compiled interpreter. The very first compilation takes a while, and says so."""
    notice = f"tinymeta compiles its machine for {dtype}, once; this takes about 10 seconds"
    patience = threading.Timer(2.0, lambda: print(notice, file=sys.stderr, flush=True))
    patience.daemon = True
    patience.start()
    from .interpreter import interpret_rows

    nothing = np.zeros(0, np.int64)
    interpret_rows(np.zeros(1, dtype), nothing, nothing, nothing, 0, 0)
    patience.cancel()
    return interpret_rows


# ## Threads
def thread_count() -> int:
    """How many threads share the rows of a map."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("TINYMETA_THREADS", available)))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, thread_count() - 1), thread_name_prefix="tinymeta")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _pool.cache_clear())  # threads don't survive a fork
