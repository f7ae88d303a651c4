r"""
# A launch, compiled

One call of compiled code runs all the stages of a launch: each is a table that is run once, or once for each row of a map. The
rows are shared out in small portions: whoever has finished one takes the next, by adding 1 to a counter in one indivisible step. So
nobody waits for a thread that was held up, or that has not even woken up yet.

What there is to do stands in a *mailbox*, an array of integers. The thread that launches writes a stage into it, and opens it; helpers
watch it, in compiled code and without Python's lock, and take part. When the rows have all been taken, it is closed again, and when
everybody has left, the next stage can be written. `threads` has the mailbox's fields, and wakes the helpers up.
"""

import sys

import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import types
from numba.extending import intrinsic

from .compiling import inner, kernel
from .interpreter import interpret
from .lower import FINE
from .moves import fill_row
from .threads import (
    ARENA,
    AWAKE,
    BAD,
    BASES,
    BYTES,
    FROM_BACK,
    FROM_FRONT,
    INSIDE,
    LENGTH,
    MEMORIES,
    MEMORY,
    OPEN,
    PLACES,
    PORTION,
    SERIAL,
    TABLE,
    TABLE_LENGTH,
    TAKEN,
)  # fmt: skip

FROM, TO, FIRST_BASE, LAST_BASE, ROWS, ROWS_EACH, SHARED, NEEDED = range(8)  # columns of a stage
MEMORY_OF, OFFSET, ROW_STEP, PORTION_STEP, COLUMNS = range(5)  # of a base
PATIENCE = 400_000  # looks at the mailbox, before a thread gives up: about a millisecond
FINISHED = -1


# ## What several threads write
@intrinsic
def add_to(typingctx, counters, which, number):
    """Add to a counter, in one step that no other thread can come between; its value before."""

    def emit(context, builder, sig, args):
        address = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("add", address, args[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), emit


@intrinsic
def exchange(typingctx, counters, which, number):
    """Write a number, after everything that was written before; what was there."""

    def emit(context, builder, sig, args):
        address = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("xchg", address, args[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), emit


@intrinsic
def look_at(typingctx, counters, which):
    """Read a number that another thread may have written just now."""

    def emit(context, builder, sig, args):
        address = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.load_atomic(address, "seq_cst", 8, typ=ir.IntType(64))

    return types.int64(counters, types.int64), emit


# A thread that has to wait looks again and again, and between its looks lets others have the processor, if there are any that want it: on a
# busy machine, what it waits for may be one of them.
LOOKS = 200  # from one such offer to the next
has_yield = sys.platform != "win32"
sched_yield = types.ExternalFunction("sched_yield", types.int32()) if has_yield else None


@inner
def pause(looks):
    if has_yield:
        if looks % LOOKS == 0:
            sched_yield()


# ## Addresses
@kernel
def address_of(x):
    """Where a flat array begins, in bytes."""
    return x.ctypes.data


@intrinsic
def as_pointer(typingctx, address):
    def emit(context, builder, sig, args):
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), emit


@inner
def integers_at(address, count):
    """The array of integers that begins at an address."""
    return carray(as_pointer(address), (count,))


# ## A thread's part in a stage
@inner
def take_part(W, mailbox, launching):
    """Run portions of the rows in the arena W, until all are taken. The thread that launches begins with the first one and the helpers with
    the last, so each finds most of its portions' sums in its own cache, where it left those of the launch before.

    Bases are distances from the arena, in elements. From one row to the next, and from one portion to the next, each moves by its step.
    What moves by portions are sums over rows: each portion has its own, which begins at 0.
    """
    table, length, portion = integers_at(mailbox[TABLE], mailbox[TABLE_LENGTH]), mailbox[LENGTH], mailbox[PORTION]
    portions = (length + portion - 1) // portion
    places = integers_at(mailbox[PLACES], COLUMNS * mailbox[BASES]).reshape(-1, COLUMNS)
    starts = starts_of(places, integers_at(mailbox[MEMORY], mailbox[MEMORIES]), W.ctypes.data, W.itemsize)
    bases = np.zeros_like(starts)
    while True:
        if add_to(mailbox, TAKEN, 1) >= portions:
            return
        number = add_to(mailbox, FROM_FRONT, 1) if launching else portions - 1 - add_to(mailbox, FROM_BACK, 1)
        first = number * portion
        for k in range(1, len(bases)):
            bases[k] = starts[k] + first * places[k, ROW_STEP] + number * places[k, PORTION_STEP]
            fill_row(W, bases[k], 0, places[k, PORTION_STEP])
        for _ in range(first, min(first + portion, length)):
            end = interpret(W, table, bases)
            if end != FINE:
                add_to(mailbox, BAD + end, 1)
            for k in range(1, len(bases)):
                bases[k] += places[k, ROW_STEP]


@inner
def starts_of(places, memory, origin, itemsize):
    """How far the bases are from an arena that begins at the address `origin`; base 0 is the arena itself."""
    starts = np.zeros(len(places), np.int64)
    for k in range(1, len(places)):
        starts[k] = (memory[places[k, MEMORY_OF]] - origin) // itemsize + places[k, OFFSET]
    return starts


@kernel
def launch(W, stages, table, places, memory, mailbox, first):
    """Run the stages from the first-th on. Returns FINISHED; or, if helpers are still inside of the last one, the number of the next."""
    for number in range(first, len(stages)):
        stage = stages[number]
        mailbox[TABLE], mailbox[TABLE_LENGTH] = table.ctypes.data + 8 * stage[FROM], stage[TO] - stage[FROM]
        mailbox[PLACES], mailbox[BASES] = places.ctypes.data + 8 * COLUMNS * stage[FIRST_BASE], stage[LAST_BASE] - stage[FIRST_BASE]
        mailbox[MEMORY], mailbox[MEMORIES] = memory.ctypes.data, len(memory)
        mailbox[LENGTH], mailbox[PORTION] = stage[ROWS], stage[ROWS_EACH]
        mailbox[TAKEN] = mailbox[FROM_FRONT] = mailbox[FROM_BACK] = 0
        mailbox[ARENA], mailbox[BYTES] = stage[NEEDED], W.itemsize
        mailbox[SERIAL] += 1
        if stage[SHARED]:
            exchange(mailbox, OPEN, mailbox[SERIAL])
        take_part(W, mailbox, True)
        exchange(mailbox, OPEN, 0)
        if not everybody_has_left(mailbox):
            return number + 1
    return FINISHED


@inner
def everybody_has_left(mailbox):
    """Wait for the helpers, not in Python, where one thread would stand in the other's way; but not for ever."""
    for looks in range(1, PATIENCE):
        if look_at(mailbox, INSIDE) == 0:
            return True
        pause(looks)
    return False


@kernel
def attend(W, mailbox, patience):
    """A helper: take part in every stage. True if one needs an arena of another size or type, False if there was none for a while."""
    add_to(mailbox, AWAKE, 1)
    seen, looks, fits = 0, 0, True
    while looks < patience and fits:
        looks += 1
        pause(looks)
        if look_at(mailbox, OPEN) not in (0, seen):
            add_to(mailbox, INSIDE, 1)
            seen = look_at(mailbox, OPEN)  # it may have been closed meanwhile; as long as somebody is inside, it isn't opened again
            fits = mailbox[ARENA] <= len(W) and mailbox[BYTES] == W.itemsize
            if seen != 0 and fits:
                take_part(W, mailbox, False)
            add_to(mailbox, INSIDE, -1)
            looks = 0
    add_to(mailbox, AWAKE, -1)
    return not fits
