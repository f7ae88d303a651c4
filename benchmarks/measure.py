"""How it is measured: times by turns, in blocks; memory in processes of their own; and what the machine could do at best.

On a machine that others use, and where a thread pool goes on spinning for a while after its last call, only what was measured by turns can
be compared. Each engine runs alone for a while, then the next; a block counts with the median of its calls.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm

from .workloads import Workload, as_kept_by

BLOCK_SECONDS = 0.5
BLOCKS = 5
PATIENCE = 10.0  # seconds; an engine whose calls have taken that long gets no further block
TOLERANCE = {8: 1e-10, 4: 1e-4}  # by the bytes of a number


class Timing(NamedTuple):
    """Of one engine on one workload, in seconds."""

    first: float  # the first call, with all compilation
    blocks: list[float]  # the median call of each block

    @property
    def median(self) -> float:
        return statistics.median(self.blocks)


def compare(workload: Workload, log: Callable[[str], None]) -> dict[str, Timing | None]:
    """The timing of each engine; None where it is not installed. Raises ValueError if two of them disagree."""
    found: dict[str, Timing | None] = dict.fromkeys(workload.engines)
    functions, arguments = {}, {}
    reference = None
    for name, engine in workload.engines.items():
        try:
            functions[name] = engine()
        except ImportError as error:
            log(f"    {name}: skipped, {error.name} is not installed")
            continue
        arguments[name] = as_kept_by(name, workload.arguments)
        first, result = seconds(functions[name], *arguments[name])
        reference = check(workload, name, functions[name], result, reference)
        found[name] = Timing(first, [])
    for _ in range(BLOCKS):
        for name, function in functions.items():
            if sum(found[name].blocks) < PATIENCE:
                found[name].blocks.append(median_of_block(function, *arguments[name]))
    for name, timing in found.items():
        if timing is not None:
            log(f"    {name}: {1e3 * timing.median:.2f} ms")
    return found


def check(workload: Workload, name: str, function: Callable[..., Any], result: Any, reference: Any) -> Any:
    """The reference for the next engine, which is the first engine's result; raises ValueError if this one's is another."""
    if workload.checked_on is not None:
        result = function(*as_kept_by(name, workload.checked_on))
    reference = result if reference is None else reference
    difference = disagreement(result, reference)
    if not difference < TOLERANCE[np.asarray(tm.tree.flatten(reference)[0][0]).dtype.itemsize]:
        raise ValueError(f"{workload.title}: {name} is off by {difference:.1e}")
    return reference


def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def median_of_block(function: Callable[..., Any], *arguments: Any) -> float:
    end = time.perf_counter() + BLOCK_SECONDS
    times = [seconds(function, *arguments)[0]]
    while time.perf_counter() < end:
        times.append(seconds(function, *arguments)[0])
    return statistics.median(times)


def disagreement(result: Any, reference: Any) -> float:
    """The largest relative error of an output (a value, a parameter's gradient), in the Euclidean norm."""
    pairs = zip(*([np.asarray(leaf) for leaf in tm.tree.flatten(x)[0]] for x in (result, reference)), strict=True)
    return max(float(np.linalg.norm(np.subtract(x, y)) / np.linalg.norm(y)) for x, y in pairs)


def fastest_of_jax(timings: dict[str, Timing | None]) -> str | None:
    """The name of JAX's faster form."""
    forms = {name: timing.median for name, timing in timings.items() if name.startswith("JAX") and timing is not None}
    return min(forms, key=lambda name: forms[name]) if forms else None


def share_of_jax(timings: dict[str, Timing | None], name: str) -> float | None:
    """An engine's time as a share of that of JAX's faster form: the median over the rounds of the blocks' ratios."""
    best, timing = fastest_of_jax(timings), timings[name]
    if timing is None or best is None:
        return None
    return statistics.median(block / of_jax for block, of_jax in zip(timing.blocks, timings[best].blocks, strict=False))


# ## A row, with all that is measured of it
class Row(NamedTuple):
    title: str
    dtype: np.dtype
    timings: dict[str, Timing | None]
    memory: dict[str, int | None]
    program: Made

    @property
    def flops_a_second(self) -> float:
        return self.program.flops / self.timings["tinymeta jit"].median


def measured(make: Callable[[], Workload], log: Callable[[str], None], engines: Sequence[str] = ()) -> Row:
    """Of all engines, or of these; then the memory is that of tinymeta and of JAX's faster form only."""
    workload = make()
    log(workload.title)
    timings = compare(workload.of(*engines) if engines else workload, log)
    wanted = {"tinymeta jit", fastest_of_jax(timings)} if engines else set(timings)
    memory = {name: peak_memory(make, name) for name, timing in timings.items() if name in wanted and timing is not None}
    return Row(workload.title, workload.dtype, timings, memory, programs(workload))


# ## What the machine could do at best
@functools.cache
def ceiling(dtype: np.dtype, size: int = 1024, runs: int = 20) -> float:
    """FLOP/s of NumPy's product of large matrices (BLAS's gemm), on all cores; the fastest of some runs."""
    a = np.ones((size, size), dtype)
    return 2 * size**3 / min(seconds(np.matmul, a, a)[0] for _ in range(runs))


@functools.cache
def bandwidth(size: int = 2**27, runs: int = 20) -> float:
    """Bytes a second from and to memory, of a copy that no cache holds; the fastest of some runs."""
    source, target = np.ones(size, np.int8), np.ones(size, np.int8)
    return 2 * size / min(seconds(np.copyto, target, source)[0] for _ in range(runs))


# ## Programs
class Made(NamedTuple):
    """What tinymeta makes of a function, and the seconds that this takes."""

    trace: float  # to trace and to optimise
    layout: float  # to lay it out for the machine
    flops: int
    arena_bytes: int
    outer_bytes: int  # of the arguments and the results

    @property
    def intensity(self) -> float:
        """FLOP for each byte that a program reads, works in or writes."""
        return self.flops / (self.arena_bytes + self.outer_bytes)


def programs(workload: Workload, patience: float = 1.0) -> Made:
    """Of what "tinymeta jit" runs; medians of up to five rounds, fewer if they take long."""
    function = workload.engines["tinymeta jit"]().__wrapped__
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + patience
    while not times or (len(times) < 5 and time.perf_counter() < end):
        traced, program = seconds(tm.trace, function, *workload.arguments)
        times.append((traced, seconds(lambda program=program: program.executable)[0]))
    trace, layout = (statistics.median(column) for column in zip(*times, strict=True))
    outside = tm.tree.flatten((workload.arguments, program(*workload.arguments)))[0]
    return Made(trace, layout, program.flops, program.arena_bytes, sum(np.asarray(x).nbytes for x in outside))


# ## Memory
def peak_memory(make: Callable[[], Workload], engine: str) -> int | None:
    """Bytes that a new process needs for the first call: its peak, less its peak before. None where the engine is not installed.

    So modules that are imported before don't count; tracing, compiling, the work itself and its result do.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_growth, make, engine).result()


def _growth(make: Callable[[], Workload], engine: str) -> int | None:
    workload = make()
    try:
        function = workload.engines[engine]()
        if engine == "tinymeta jit":
            import numba  # noqa: F401 - the first call would import it
    except ImportError:
        return None
    arguments = as_kept_by(engine, workload.arguments)
    before = _peak()
    function(*arguments)
    return _peak() - before


def _peak() -> int:
    """The most bytes that this process ever had in memory."""
    status = Path("/proc/self/status")
    if status.exists():  # under Linux, getrusage would start from the peak of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ## From a new process
FIRST_META_GRADIENT = """
import numpy as np
import tinymeta as tm
from benchmarks.workloads import initial_parameters, maml_of_tinymeta
from tinymeta.tasks import sinusoids
tm.jit(maml_of_tinymeta(1, 0.01))(initial_parameters(), sinusoids.draw(np.random.default_rng(1), 25))
"""
PROGRAMS = {"Python alone": "", "import numpy": "import numpy", "import tinymeta": "import tinymeta",
            "the first meta-gradient": FIRST_META_GRADIENT}  # fmt: skip


def cold_processes(rounds: int = 11) -> dict[str, float]:
    """Seconds from the start of a new process to its end, by turns; Numba's cache and Python's bytecode are warm from the first round."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(rounds):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(functools.partial(subprocess.check_call, env=environment), [sys.executable, "-c", program])[0])
    return {name: statistics.median(found[1:]) for name, found in times.items()}
