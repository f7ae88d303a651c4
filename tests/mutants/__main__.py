"""Whether the tests notice: `python -m tests.mutants` changes one line of the library at a time and runs the tests that should fail.

A mutant is caught if a test fails, or an error ends the run. Each has a process of its own, forked from one in which everything is
imported already. Those that nothing catches are listed, unless `equivalent.py` says why they are no mistakes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import io
import itertools
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from .equivalent import EQUIVALENT
from .mutations import Mutant, inside, install, mutants

ROOT = Path(__file__).parents[2]
KERNELS = "machine/kernels.py machine/maps.py machine/moves.py machine/products.py machine/elementary.py machine/elimination.py".split()
OPERATIONS = {name: [f"autodiff/operations/test_{name}.py", "autodiff/operations/test_every_operation.py",
                     "autodiff/operations/test_functions.py"]
              for name in "elementwise functions indexing linear_algebra products reductions shapes special".split()}  # fmt: skip
TESTS = {
    **{f"autodiff/operations/{name}.py": tests for name, tests in OPERATIONS.items()},
    "autodiff/reverse.py": ["autodiff/test_reverse.py", "autodiff/test_derivatives.py", "test_roots.py"],
    "autodiff/derivatives.py": ["autodiff/test_derivatives.py"],
    "autodiff/blocks.py": ["autodiff/test_blocks.py"],
    "bilevel.py": ["test_bilevel.py", "test_maml.py"],
    "maml.py": ["test_maml.py", "test_maml_variants.py"],
    "implicit.py": ["test_implicit.py"],
    "roots.py": ["test_roots.py"],
    "solvers.py": ["test_solvers.py", "test_implicit.py"],
    "curvature.py": ["test_curvature.py"],
    "learned_optimizer.py": ["test_learned_optimizer.py"],
    "evolution.py": ["test_evolution.py"],
    "optim.py": ["test_optim.py"],
    "nn.py": ["test_nn.py"],
    **{name: ["machine/test_kernels.py"] for name in KERNELS},
}
SECONDS = 300  # after which a mutant that still runs counts as caught: it has made an endless loop


def main() -> int:
    """The command; its exit status is 0 if no mutant survives but those that are no mistakes."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of: {' '.join(TESTS)} (default: all)")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (default %(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.modules if name not in TESTS]:
        parser.error(f"no mutants of {' '.join(unknown)}: choose from {' '.join(TESTS)}")
    modules = options.modules or list(TESTS)
    jobs = [(module, mutant) for module in modules for mutant in mutants(ROOT / "tinymeta" / module, 1e-3 if module in KERNELS else 1e-6)]
    if options.sample is not None:
        jobs = random.Random(options.seed).sample(jobs, min(options.sample, len(jobs)))
    return report(run(jobs))


# ## Running them
Job = tuple[str, Mutant]


def run(jobs: list[Job]) -> dict[Job, bool]:
    """Whether each was caught."""
    collect(sorted({test for module, _ in jobs for test in TESTS[module]}))
    caught: dict[Job, bool] = {}
    running: dict[int, Job] = {}
    waiting = iter(jobs)
    while len(caught) < len(jobs):
        for job in itertools.islice(waiting, multiprocessing.cpu_count() - len(running)):
            running[start(*job)] = job
        pid, status = os.wait()
        job = running.pop(pid)
        if status in HARNESS:
            raise RuntimeError(f"{job[1].key}: pytest could not run the tests (status {os.waitstatus_to_exitcode(status)})")
        caught[job] = status != 0
        print(f"{len(caught)} of {len(jobs)}", end="\r", file=sys.stderr)
        if not caught[job] and job[1].key not in EQUIVALENT:
            print(f"survived: {job[1].key} (line {job[1].line})", flush=True)
    return caught


HARNESS = {code << 8 for code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)}
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
OTHERS = "not wrong_rule and not process and not another_file"  # tests with mutants of their own, and of Numba's cache


def collect(tests: list[str]) -> None:
    """Import everything, so that the processes that are forked from here needn't."""
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*OPTIONS, "--collect-only", *(str(ROOT / "tests" / test) for test in tests)])


def start(module: str, mutant: Mutant) -> int:
    """A process in which the mutant lives, and which ends with pytest's exit status."""
    if pid := os.fork():
        return pid
    signal.alarm(SECONDS)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    code = pytest.ExitCode.INTERNAL_ERROR
    try:
        if module in KERNELS:
            compile_anew(mutant)
        if not install(mutant):
            code = pytest.ExitCode.USAGE_ERROR
        else:
            code = pytest.main([*OPTIONS, "-k", OTHERS, *(str(ROOT / "tests" / test) for test in TESTS[module])])
    finally:
        os._exit(int(code))


def compile_anew(mutant: Mutant) -> None:
    """Numba's cache knows the kernels as they are in the file: those in which the mutant has a part are compiled."""
    from numba.core.caching import NullCache
    from numba.core.dispatcher import Dispatcher

    for kernel in [found for found in gc.get_objects() if isinstance(found, Dispatcher)]:
        parts = [kernel.py_func]
        for f in parts:
            named = [f.__globals__.get(name) for code in (f.__code__, *inside(f.__code__)) for name in code.co_names]
            parts += [part.py_func for part in named if isinstance(part, Dispatcher) and part.py_func not in parts]
        if any(mutant.lives_in(part) for part in parts):
            kernel._cache = NullCache()


# ## The report
def report(caught: dict[Job, bool]) -> int:
    """A table by module; the exit status."""
    print(f"{'module':<42}{'mutants':>9}{'caught':>9}{'equivalent':>12}{'survived':>10}")
    totals = collections.Counter[str]()
    for module in dict.fromkeys(module for module, _ in caught):
        of_module = {mutant: ok for (name, mutant), ok in caught.items() if name == module}
        counts = collections.Counter("caught" if ok else "equivalent" if mutant.key in EQUIVALENT else "survived"
                                     for mutant, ok in of_module.items())  # fmt: skip
        totals += counts
        print(_line(module, counts))
    print(_line("all", totals))
    return 1 if totals["survived"] else 0


def _line(name: str, counts: collections.Counter[str]) -> str:
    return f"{name:<42}{counts.total():>9}{counts['caught']:>9}{counts['equivalent']:>12}{counts['survived']:>10}"


if __name__ == "__main__":
    sys.exit(main())
