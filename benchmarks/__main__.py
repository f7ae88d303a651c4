"""`python -m benchmarks`: all workloads, checked to agree and then timed by turns, as Markdown tables in `benchmarks/RESULTS.md`.

It takes about five minutes. Engines that are not installed are skipped by name.
"""

import functools
import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np

from . import workloads
from .measure import BLOCK_SECONDS, BLOCKS, Timing, cold_processes, compare, share_of_jax, tracing
from .workloads import Workload

RESULTS = Path(__file__).parent / "RESULTS.md"
LIBRARIES = ("tinymeta", "numpy", "numba", "jax", "jaxlib", "autograd")
INNER_STEPS, SMALL_STEP = (1, 10, 100), 0.001
log = functools.partial(print, flush=True)


def main() -> None:
    rows = [workloads.maml(steps, dtype) for steps in (1, 5) for dtype in (np.float64, np.float32)]
    rows += [workloads.learned_optimizer(np.float32), workloads.hessian(np.float64)]
    text = "\n\n".join([heading(), table_of_engines(rows), table_of_steps(), table_of_processes()])
    RESULTS.write_text(text + "\n")
    log(f"\n{text}\n\nwritten to {RESULTS.name}")


def heading() -> str:
    return f"""# Benchmarks

Made by `python -m benchmarks`, with OPENBLAS_NUM_THREADS {os.environ.get("OPENBLAS_NUM_THREADS", "not set")}, on {os.cpu_count()} cores \
({platform.machine()}), with {", ".join([f"Python {platform.python_version()}", *map(version, LIBRARIES)])}.

All engines of a workload compute the same, which is checked first: value and every gradient within 1e-10 (float64) or 1e-4 (float32).
Then they run by turns, in {BLOCKS} rounds of blocks of {BLOCK_SECONDS:g} s (at least one call). A time is the median over the rounds of a
block's median call; a ratio is the median over the rounds of the ratio to JAX's faster form. The machine may be in use by others: compare
within a workload."""


def version(library: str) -> str:
    try:
        return f"{library} {importlib.metadata.version(library)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{library} (not installed)"


def markdown(*rows: tuple[str, ...]) -> str:
    """A table; numbers, which are all but the first column, to the right."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{2 if seconds < 0.1 else 0}f}"


# ## The tables
def table_of_engines(rows: list[Workload]) -> str:
    lines = [("workload", "engine", "median, ms", "fastest and slowest block, ms", "of JAX's time", "first call, s")]
    for workload in rows:
        log(f"{workload.name}, {workload.dtype}")
        timings = compare(workload, log)
        lines += [(f"{workload.name}, {workload.dtype}", *line(timings, engine)) for engine in timings]
    return f"""## Value and gradient

MAML: a 1-40-40-1 tanh network, {workloads.TASKS} tasks of 10 + 10 points, gradient through the steps. "By hand" is one source for
tinymeta's eager engine and for autograd, with the tasks as an axis of every array; "vmap" runs eagerly too, one task after the other. The
LSTM optimizer has one layer of 20 and optimises {workloads.PROBLEMS} ten-dimensional quadratics; second derivatives are dropped. The
Hessian is that of one task's inner loss, for the same network.

""" + markdown(*lines)


def line(timings: dict[str, Timing | None], engine: str) -> tuple[str, ...]:
    timing, ratio = timings[engine], share_of_jax(timings, engine)
    if timing is None:
        return engine, "not installed", "", "", ""
    spread = f"{milliseconds(min(timing.blocks))} - {milliseconds(max(timing.blocks))}"
    return engine, milliseconds(timing.median), spread, "" if ratio is None else f"{ratio:.2f}", f"{timing.first:.2f}"


def table_of_steps() -> str:
    """tinymeta's program and JAX's `lax.scan`; unrolled, JAX would compile for minutes.

    The learning rate is small. With 0.01 a hundred steps are chaotic: moving the parameters by 1e-15 changes the gradient altogether.
    """
    lines = [("inner steps", "trace, ms", "layout, ms", "tinymeta jit, ms", "JAX scan, ms", "JAX scan, first call, s")]
    for steps in INNER_STEPS:
        workload = workloads.maml(steps, np.float64, lr=SMALL_STEP)
        log(f"cost of {workload.name}")
        timed = {name: workload.engines[name] for name in ("tinymeta jit", "JAX scan")}
        timings = compare(workload._replace(engines=timed), log)
        traced, laid_out = tracing(workloads.maml_of_tinymeta(steps, SMALL_STEP), *workload.arguments)
        of_jax = timings["JAX scan"]
        peer = ("", "") if of_jax is None else (milliseconds(of_jax.median), f"{of_jax.first:.2f}")
        lines.append((str(steps), milliseconds(traced), milliseconds(laid_out), milliseconds(timings["tinymeta jit"].median), *peer))
    return f"## Against the number of inner steps (MAML, float64, learning rate {SMALL_STEP})\n\n" + markdown(*lines)


def table_of_processes() -> str:
    log("cold processes")
    times = cold_processes()
    alone = times["Python alone"]
    lines = [(name, milliseconds(time), milliseconds(time - alone)) for name, time in times.items()]
    return f"""## From a new process

From start to end of the process, with Numba's cache on disk warm. The meta-gradient is that of MAML with 1 step, tracing included.

{markdown(("process", "ms", "ms, without Python's own"), *lines)}

`import tinymeta` takes {(times["import tinymeta"] - alone) / (times["import numpy"] - alone):.2f} times as long as `import numpy`."""


if __name__ == "__main__":
    main()
