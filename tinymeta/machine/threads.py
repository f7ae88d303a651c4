r"""
# Threads

The threads that help are Python's, and sleep in front of a queue. Work for them is a function that every thread calls, and that takes
portions until there are none left. For what the machine runs, it is to watch a *mailbox* for a while (`team` says how): as long
as one launch follows the other, the helpers are awake, and begin within a microsecond. A mailbox serves one launch at a time; whoever
launches meanwhile works alone.
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

# The fields of a mailbox: first those that several threads write, each in a line of the cache of its own.
TAKEN, INSIDE, OPEN, AWAKE, BAD, FROM_FRONT, FROM_BACK = range(0, 56, 8)
"""How many portions are taken, and how many of them from the front and from the back; how many threads are at work; the open stage,
or 0; how many are awake; from BAD on, how many rows ended badly, by the way in which they did."""
SERIAL, TABLE, TABLE_LENGTH, PLACES, BASES, MEMORY, MEMORIES, LENGTH, PORTION, ARENA, BYTES = range(56, 67)
"""The open stage: where its table, its places and the addresses are, and how many of each; its rows; the arena that it needs."""
FIELDS = 72


@functools.cache
def processors() -> int:
    """How many processors there are for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """How many threads share the rows of a map."""
    wanted = os.environ.get("TINYMETA_THREADS")
    return max(1, int(wanted)) if wanted else processors()


class Crew:
    """The threads that help, their queue, and their mailbox."""

    def __init__(self, helpers: int):
        self.helpers = helpers
        self.queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.mailbox, self.lock = np.zeros(FIELDS, np.int64), threading.Lock()
        self.memory: Any = None  # what the helpers may still be working on, if the launching thread was interrupted
        self.threads = [threading.Thread(target=self._serve, name=f"tinymeta-{k}", daemon=True) for k in range(helpers)]
        for thread in self.threads:
            thread.start()
        atexit.register(self._dismiss)

    def wake(self, work: Callable[[], None], missing: int) -> None:
        """Let as many helpers as are missing do the work, beside those that have been called already."""
        for _ in range(missing - self.queue.qsize()):
            self.call(work)

    def call(self, work: Callable[[], None]) -> None:
        """Let a helper do the work, with the caller's `np.errstate`."""
        self.queue.put(functools.partial(contextvars.copy_context().run, work))

    def _serve(self) -> None:
        while (work := self.queue.get()) is not None:
            try:
                work()
            except MemoryError:  # before it took anything: the others do it
                pass
            del work  # and the arrays that it holds

    def _dismiss(self) -> None:
        """Let the threads come to their end before Python does: one that is still at work then would be cut off in the middle of it."""
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join(timeout=1.0)


@functools.cache
def _crew(helpers: int) -> Crew:
    return Crew(helpers)


def crew() -> Crew:
    """Those who help the threads of this process; nobody, if one thread is to do everything."""
    return _crew(thread_count() - 1)


def together(work: Callable[[], None], unfinished: Callable[[], bool]) -> None:
    """Let all threads do the work, each taking portions until there are none left; return when none is unfinished."""
    for _ in range(crew().helpers):
        crew().call(work)
    work()
    while unfinished():
        time.sleep(0)  # lets the others have Python's lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_crew.cache_clear)  # threads don't survive a fork
