"""What was measured, as Markdown."""

import importlib.metadata
import os
import platform

import tinymeta

from .measure import BLOCK_SECONDS, BLOCKS, Row, bandwidth, ceiling, cold_processes, fastest_of_jax, share_of_jax

LIBRARIES = ("numpy", "numba", "jax", "jaxlib", "autograd", "torch")


# ## How numbers are written
def markdown(*rows: tuple[str, ...]) -> str:
    """A table; numbers, which are all but the first column, to the right."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{2 if seconds < 0.1 else 0}f}"


def megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.{1 if size < 1e7 else 0}f}"


def version(library: str) -> str:
    try:
        return f"{library} {importlib.metadata.version(library)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{library} (not installed)"


# ## The sections
def heading() -> str:
    libraries = [f"Python {platform.python_version()}", f"tinymeta {tinymeta.__version__}", *map(version, LIBRARIES)]
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "not set")
    return f"""# Benchmarks

Made by `python -m benchmarks`, with OPENBLAS_NUM_THREADS {threads}, on {os.cpu_count()} cores ({platform.machine()}), with
{", ".join(libraries)}.

![Speed against the peers, and a roofline](results.png)

All engines of a workload compute the same, which is checked first: value and every gradient within 1e-10 (float64) or 1e-4 (float32).
(Omniglot's are checked in float64, on two of its tasks. In float32 some ReLUs, among more than a million, have an input whose sign is
a matter of rounding, and gradients differ by 1 %.) Then they run by turns, in {BLOCKS} rounds of blocks of {BLOCK_SECONDS:g} s (at least
one call). A time is the median over the rounds of a block's median call; a ratio is the median over the rounds of the ratio to JAX's
faster form. The machine may be in use by others: compare within a workload."""


def engines(rows: list[Row]) -> str:
    head = ("workload", "engine", "median, ms", "fastest and slowest block, ms", "of JAX's time", "first call, s", "peak memory, MB")
    lines = [(row.title, *line(row, engine)) for row in rows for engine in row.timings]
    return f"""## Value and gradient

- MAML: a 1-40-40-1 tanh network, 25 sinusoids of 10 + 10 points, gradient through the steps. "By hand" is one source for tinymeta's eager
  engine and for autograd, with the tasks as an axis of every array; "vmap" runs eagerly too, one task after the other.
- Omniglot: 784-256-128-64-64-5 with batch norm over the batch itself and ReLU, 32 tasks of 5 classes, with 5 images given and 75 asked
  (1 and 15 of each class), cross-entropy, learning rate 0.4. The images are random: what counts is the arithmetic.
- The LSTM optimizer has two layers of 20 and optimises 128 ten-dimensional quadratics; second derivatives are dropped.
- The Hessian is that of the inner loss of one sinusoid, for the first network.

The first call has all tracing and compiling in it, and the peak memory is what a new process needs for it beyond its imports: where little
is computed, it is mostly the compiler's.

{markdown(head, *lines)}"""


def line(row: Row, engine: str) -> tuple[str, ...]:
    timing, ratio = row.timings[engine], share_of_jax(row.timings, engine)
    if timing is None:
        return engine, "not installed", "", "", "", ""
    spread = f"{milliseconds(min(timing.blocks))} - {milliseconds(max(timing.blocks))}"
    share = "" if ratio is None else f"{ratio:.2f}"
    return engine, milliseconds(timing.median), spread, share, f"{timing.first:.2f}", megabytes(row.memory[engine])


def programs(rows: list[Row]) -> str:
    head = ("workload", "trace, ms", "layout, ms", "arena, kB", "MFLOP", "FLOP a byte", "GFLOP/s", "gemm's GFLOP/s", "share")
    lines = []
    for row in rows:
        made, best, reached = row.program, ceiling(row.dtype), row.flops_a_second
        lines.append((row.title, milliseconds(made.trace), milliseconds(made.layout), f"{made.arena_bytes / 1e3:,.0f}",
                      f"{made.flops / 1e6:,.1f}", f"{made.intensity:.1f}", f"{reached / 1e9:.1f}", f"{best / 1e9:.0f}",
                      f"{100 * reached / best:.0f} %"))  # fmt: skip
    return f"""## tinymeta's programs, beside the best that the machine can do

The arena is what each thread works in; 0 means that NumPy runs the program. A FLOP is counted for each element of an element-wise
operation, whatever it costs (a tanh counts as one), and two for each multiply-add of a product. The bytes are those of the arguments,
the results and one arena. gemm is NumPy's product of two matrices of 1024 x 1024 on all cores, measured in the same run; a copy in
memory moves {bandwidth() / 1e9:.0f} GB/s, read and written.

{markdown(head, *lines)}"""


def sweep(name: str, points: dict[int, Row]) -> str:
    head = (name, "trace, ms", "layout, ms", "arena, kB", "tinymeta jit, ms", "MB", "JAX's faster form, ms", "first call, s", "MB",
            "tinymeta of JAX's time")  # fmt: skip
    lines = []
    for value, row in points.items():
        ours, best, made = row.timings["tinymeta jit"], fastest_of_jax(row.timings), row.program
        peer = ("not installed", "", "", "")
        if best is not None:
            jax, form = row.timings[best], best.removeprefix("JAX ")
            ratio = share_of_jax(row.timings, "tinymeta jit")
            peer = (f"{form} {milliseconds(jax.median)}", f"{jax.first:.2f}", megabytes(row.memory[best]), f"{ratio:.2f}")
        lines.append((f"{value:,}", milliseconds(made.trace), milliseconds(made.layout), f"{made.arena_bytes / 1e3:,.0f}",
                      milliseconds(ours.median), megabytes(row.memory["tinymeta jit"]), *peer))  # fmt: skip
    return f"## Against {name} (MAML on sinusoids, float64)\n\n{markdown(head, *lines)}"


def processes() -> str:
    times = cold_processes()
    alone = times["Python alone"]
    lines = [(name, milliseconds(time), milliseconds(time - alone)) for name, time in times.items()]
    return f"""## From a new process

From start to end of the process, with Numba's cache on disk warm. The meta-gradient is that of MAML with 1 step, tracing included.

{markdown(("process", "ms", "ms, without Python's own"), *lines)}

`import tinymeta` takes {(times["import tinymeta"] - alone) / (times["import numpy"] - alone):.2f} times as long as `import numpy`."""
