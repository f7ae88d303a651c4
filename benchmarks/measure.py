"""How it is timed: by turns, in blocks.

On a machine that others use, and where a thread pool goes on spinning for a while after its last call, only what was measured by turns can
be compared. Each engine runs alone for about a second, then the next; a block counts with the median of its calls.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinymeta as tm

from .workloads import Workload

BLOCK_SECONDS = 1.0
BLOCKS = 5
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
    functions, arguments, reference = {}, {}, None
    for name, engine in workload.engines.items():
        try:
            functions[name] = engine()
        except ImportError as error:
            log(f"    {name}: skipped, {error.name} is not installed")
            continue
        arguments[name] = workload.arguments_of(name)
        first, result = seconds(functions[name], *arguments[name])
        reference = result if reference is None else reference
        difference = disagreement(result, reference)
        if not difference < TOLERANCE[workload.dtype.itemsize]:
            raise ValueError(f"{workload.name}: {name} is off by {difference:.1e}")
        found[name] = Timing(first, [])
    for _ in range(BLOCKS):
        for name, function in functions.items():
            found[name].blocks.append(median_of_block(function, *arguments[name]))
    for name, timing in found.items():
        if timing is not None:
            log(f"    {name}: {1e3 * timing.median:.2f} ms")
    return found


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
    pairs = zip(tm.tree.flatten(result)[0], tm.tree.flatten(reference)[0], strict=True)
    return max(float(np.linalg.norm(np.subtract(x, y)) / np.linalg.norm(y)) for x, y in pairs)


def share_of_jax(timings: dict[str, Timing | None], name: str) -> float | None:
    """An engine's time as a share of that of JAX's faster form: the median over the rounds of the blocks' ratios."""
    forms = [timing for engine, timing in timings.items() if engine.startswith("JAX") and timing is not None]
    timing = timings[name]
    if timing is None or not forms:
        return None
    best = min(forms, key=lambda form: form.median)
    return statistics.median(block / of_jax for block, of_jax in zip(timing.blocks, best.blocks, strict=True))


# ## From a new process
FIRST_META_GRADIENT = """
import numpy as np
import tinymeta as tm
from benchmarks.workloads import cast, initial_parameters, maml_of_tinymeta
from tinymeta.tasks import sinusoids
tm.jit(maml_of_tinymeta(1, 0.01))(initial_parameters(), sinusoids.draw(np.random.default_rng(1), 25))
"""
PROGRAMS = {"Python alone": "", "import numpy": "import numpy", "import tinymeta": "import tinymeta",
            "the first meta-gradient": FIRST_META_GRADIENT}  # fmt: skip


def cold_processes(rounds: int = 11) -> dict[str, float]:
    """Seconds from the start of a new process to its end, by turns; Numba's cache on disk is warm from the first round."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(subprocess.check_call, [sys.executable, "-c", program])[0])
    return {name: statistics.median(found[1:]) for name, found in times.items()}


# ## Against the number of inner steps
def tracing(function: Callable[..., Any], *arguments: Any, rounds: int = 5) -> tuple[float, float]:
    """Seconds to trace and optimise a program, and to lay it out for the machine."""
    times = []
    for _ in range(rounds):
        traced, program = seconds(tm.trace, function, *arguments)
        times.append((traced, seconds(lambda program=program: program.executable)[0]))
    traces, layouts = zip(*times, strict=True)
    return statistics.median(traces), statistics.median(layouts)
