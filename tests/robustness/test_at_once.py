"""Threads and processes at once: each gets, to the bit, what it would get alone."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.machine import Program, execute

THREADS, ROUNDS = 8, 3
generator = np.random.default_rng(0)
THETA = {"W": generator.normal(size=(3, 5)), "v": generator.normal(size=5)}
X, ROWS = generator.normal(size=(7, 3)), generator.normal(size=(40, 7, 3))


def loss(theta, x):
    return np.mean((np.tanh(x @ theta["W"]) @ theta["v"]) ** 2)


def mean(theta, rows):
    return np.mean(tm.vmap(loss, (None, 0))(theta, rows))


def adapted(theta, x):
    return loss(tm.tree.map(lambda t, g: t - 0.1 * g, theta, tm.grad(loss)(theta, x)), x)


def in_pieces(theta, x):
    half = tm.checkpoint(lambda x: np.tanh(x @ theta["W"]))
    return np.sum(half(x) ** 2) + loss(theta, x)


SHARED = tm.trace(tm.value_and_grad(mean), THETA, ROWS)
JITTED = tm.jit(tm.grad(loss))
JOBS = {
    "grad": lambda: tm.grad(loss)(THETA, X),
    "grad of grad": lambda: tm.grad(adapted)(THETA, X),
    "hessian": lambda: tm.hessian(loss)(THETA, X),
    "vmap": lambda: tm.grad(mean)(THETA, ROWS[:9]),
    "checkpoint": lambda: tm.grad(in_pieces)(THETA, X),
    "trace, and run": lambda: tm.trace(tm.value_and_grad(adapted), THETA, X)(THETA, X),
    "the same program": lambda: [SHARED(THETA, ROWS + k) for k in range(20)],
    "a program of its own, in float32": lambda: tm.jit(tm.grad(mean))(tm.tree.map(np.float32, THETA), np.float32(ROWS)),
    "the same jitted function, of many shapes": lambda: [JITTED(THETA, X[: n + 1]) for n in range(7)],
}


def bits(results):
    return [(np.asarray(x).dtype.str, np.shape(x), np.asarray(x).tobytes()) for x in tm.tree.flatten(results)[0]]


def test_eight_threads_get_what_one_gets(monkeypatch):
    monkeypatch.setenv("TINYMETA_THREADS", "3")  # helpers, also where there is one processor
    names = list(JOBS)
    alone = {name: bits(job()) for name, job in JOBS.items()}
    ready = threading.Barrier(THREADS)

    def work(k):
        ready.wait()
        order = [*names[k:], *names[:k]] if k < THREADS - 2 else names  # two begin with the same, the others with different ones
        return [(name, bits(JOBS[name]())) for _ in range(ROUNDS) for name in order]

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            found = [answer for answers in pool.map(work, range(THREADS)) for answer in answers]
    finally:
        sys.setswitchinterval(switching)
    assert len(found) == THREADS * ROUNDS * len(JOBS)
    assert [name for name, answer in found if answer != alone[name]] == []


# The moments at which a jitted function's threads can be in each other's way last a few instructions: here they are made to last.
def test_a_jitted_function_runs_the_program_that_fits_though_another_thread_takes_another(monkeypatch):
    double = tm.jit(lambda x: 2 * x)
    small, large = np.ones(2), np.ones(1000)
    double(large), double(small)
    fitting, inside = Program.fitting, []

    def interrupted(program, args):
        found = fitting(program, args)
        if not inside:
            inside.append(True)
            thread = threading.Thread(target=double, args=(large,))
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr(Program, "fitting", interrupted)
    assert double(small).tolist() == [2.0, 2.0]


class Slow(str):
    """A static argument that takes its time to be compared, in which the other threads go on."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        time.sleep(0.01)
        return str.__eq__(self, other)


def test_threads_that_look_for_the_same_program_all_find_it():
    runs = []
    scaled = tm.jit(lambda x, name: (runs.append(name), x * len(name))[1], static_argnames=["name"])
    scaled(1.0, Slow("abc"))
    scaled(1.0, "other")  # so that the one before isn't the latest
    with ThreadPoolExecutor(4) as pool:
        assert [float(y) for y in pool.map(lambda _: scaled(2.0, Slow("abc")), range(8))] == [6.0] * 8
    assert runs == ["abc", "other"]


# ## Processes
needs_machine = pytest.mark.skipif(not execute.machine_is_on(), reason="the machine is turned off, or there is no Numba")
SCRIPT = Path(__file__).with_name("after_the_machine.py")


@needs_machine
@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
def test_processes_that_are_started_after_the_machine_was_used(method):
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "TINYMETA_THREADS": "3"}
    done = subprocess.run([sys.executable, str(SCRIPT), method], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"different": [], "helpers": [2], "processes": 2}
