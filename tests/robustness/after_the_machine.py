"""Processes that are started after the machine was used: `python after_the_machine.py METHOD`, fork or spawn.

(Not from the tests' own process, which has many threads.) Prints, as JSON, which results the others found to be different from
those computed here, to the bit, how many threads helped them, and how many processes there were.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import tinymeta as tm

THETA, ROWS = np.linspace(-1, 1, 12).reshape(3, 4), np.random.default_rng(0).normal(size=(64, 5, 3))


def mean(theta, rows):
    return np.mean(tm.vmap(lambda row: np.sum(np.tanh(row @ theta) ** 2))(rows))


def compute(name, program):
    """The bits of a result, as hexadecimal digits, and who computed it, with how many helpers."""
    time.sleep(0.05)  # or one process might do everything before the other is there
    jobs = {
        "program": lambda: program(THETA, ROWS),
        "trace": lambda: tm.trace(tm.value_and_grad(mean), THETA, ROWS)(THETA, ROWS),
        "float32": lambda: tm.jit(tm.value_and_grad(mean))(np.float32(THETA), np.float32(ROWS)),
        "eager": lambda: tm.hessian(mean)(THETA, ROWS[:2]),
    }
    bits = [np.asarray(x).tobytes().hex() for x in tm.tree.flatten(jobs[name]())[0]]
    return name, bits, os.getpid(), sum(thread.name.startswith("tinymeta") for thread in threading.enumerate())


def main(method):
    program = tm.trace(tm.value_and_grad(mean), THETA, ROWS)
    here = {name: compute(name, program)[1] for name in ("program", "trace", "float32", "eager")}
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        there = [future.result() for future in [pool.submit(compute, name, program) for name in 4 * list(here)]]
    print(json.dumps({"different": sorted({name for name, bits, *_ in there if bits != here[name]}),
                      "helpers": sorted({helpers for name, *_, helpers in there if name != "eager"}),
                      "processes": len({process for _, _, process, _ in there} - {os.getpid()})}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
