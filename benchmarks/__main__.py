"""`python -m benchmarks`: all workloads, checked to agree, timed by turns, and written to `benchmarks/RESULTS.md` and `results.png`.

It takes about ten minutes. Engines that are not installed are skipped by name.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import figure, tables, workloads
from .measure import Row, measured
from .workloads import Workload

FOLDER = Path(__file__).parent
ROWS = [
    *(functools.partial(workloads.maml, steps, dtype) for steps in (1, 5) for dtype in (np.float64, np.float32)),
    functools.partial(workloads.omniglot, np.float32),
    functools.partial(workloads.learned_optimizer, np.float32),
    functools.partial(workloads.hessian, np.float64),
]
# The learning rate is small where there are many steps: with 0.01 a hundred steps are chaotic, and moving the parameters by 1e-15 changes
# the gradient altogether.
SWEEPS = {
    "the number of inner steps": {k: functools.partial(workloads.maml, k, np.float64, lr=1e-4) for k in (1, 10, 100, 1000)},
    "the number of tasks": {k: functools.partial(workloads.maml, 1, np.float64, tasks=k) for k in (1, 5, 25, 100, 400)},
    "the width of the layers": {k: functools.partial(workloads.maml, 1, np.float64, width=k) for k in (10, 40, 160, 640)},
}
PROCESSES = "new process"
MOST_UNROLLED = 10  # steps; with more, JAX would compile for minutes
log: Callable[[str], None] = functools.partial(print, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*(make().title for make in ROWS), *SWEEPS, PROCESSES]
    listed = f"The names are: {'; '.join(names)}"
    parser.add_argument("--only", metavar="NAME", default="", help=f"only what has NAME in its name, and write no file. {listed}")
    name = parser.parse_args(arguments).only
    if not any(name in known for known in names):
        parser.error(f"nothing has {name!r} in its name. {listed}")
    rows = [measured(make, log) for make in ROWS if name in make().title]
    sweeps = {title: measured_sweep(title, points) for title, points in SWEEPS.items() if name in title}
    text = report(rows, sweeps, processes=name in PROCESSES)
    log(f"\n{text}")
    if not name:
        (FOLDER / "RESULTS.md").write_text(text + "\n")
        figure.draw(rows, sweeps, FOLDER / "results.png")
        log("\nwritten to RESULTS.md and results.png")


def measured_sweep(title: str, points: dict[int, Callable[[], Workload]]) -> dict[int, Row]:
    """tinymeta's program and JAX's forms."""
    rows = {}
    for value, make in points.items():
        log(f"against {title}: {value:,}")
        unrolled = title != "the number of inner steps" or value <= MOST_UNROLLED
        rows[value] = measured(make, log, ("tinymeta jit", "JAX scan", *["JAX unrolled"] * unrolled))
    return rows


def report(rows: list[Row], sweeps: dict[str, dict[int, Row]], processes: bool) -> str:
    parts = [tables.heading()]
    if rows:
        parts += [tables.engines(rows), tables.programs(rows)]
    parts += [tables.sweep(title, points) for title, points in sweeps.items()]
    if processes:
        log("new processes")
        parts.append(tables.processes())
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
