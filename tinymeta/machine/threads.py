r"""
# Threads

The rows of a map are shared out in small portions: whoever has finished one takes the next, by adding 1 to a counter in one
indivisible step. So nobody waits for a thread that was held up, or that has not even woken up yet.

The threads are Python's, and wait for work in a queue; while a kernel runs they don't hold the interpreter's lock. The calling thread does
its share, and goes on when the last portion is finished.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


def thread_count() -> int:
    """How many threads share the rows of a map."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("TINYMETA_THREADS", available)))


def together(work: Callable[[], None], unfinished: Callable[[], bool]) -> None:
    """Let all threads do the work, each taking portions until there are none left; return when none is unfinished."""
    helpers = thread_count() - 1
    queue = _queue(helpers) if helpers else None
    for _ in range(helpers):
        queue.put(work)  # type: ignore[union-attr]
    work()
    while unfinished():
        time.sleep(0)  # lets the others have Python's lock


@functools.cache
def _queue(helpers: int) -> SimpleQueue[Callable[[], None]]:
    """The queue of the threads that help."""
    queue: SimpleQueue[Any] = SimpleQueue()
    threads = [threading.Thread(target=_serve, args=(queue,), name=f"tinymeta-{number}", daemon=True) for number in range(helpers)]
    for thread in threads:
        thread.start()
    atexit.register(_dismiss, queue, threads)
    return queue


def _dismiss(queue: SimpleQueue[Any], threads: list[threading.Thread]) -> None:
    """Let the threads come to their end before Python does: one that is still at work then would be cut off in the middle of it."""
    for _ in threads:
        queue.put(None)
    for thread in threads:
        thread.join(timeout=1.0)


def _serve(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (work := queue.get()) is not None:
        try:
            work()
        except MemoryError:  # before it took anything: the others do it
            pass
        del work  # and the arrays that it holds


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _queue.cache_clear())  # threads don't survive a fork
