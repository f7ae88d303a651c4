"""A training to be stopped, in a process of its own: `python stopped_training.py FILE ITERATIONS PAUSE [POINT [EVERY]]`.

It goes on from the file, notes each iteration in FILE.log, and rests for PAUSE seconds in each. At a POINT in the third saving after the
start, if one is given, it ends as by kill -9. It is kept EVERY so many iterations, seven unless it is said.
"""

import os
import signal
import sys
import time

import numpy as np

import tinymeta as tm

EVERY = 7


def tasks_after(pause):
    def tasks(rng, count):
        time.sleep(pause)
        return rng.normal(size=(count, 3))

    return tasks


def main(path, iterations, pause, point="", every=EVERY):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # heard also where the tests run in the background
    calls = {"savez": np.savez, "fsync": os.fsync, "replace": os.replace, "replaced": os.replace}
    left = [3]

    def deadly(*args, **kwargs):
        left[0] -= 1
        if point == "savez" and left[0] == 0:
            args[0].write(b"PK only a beginning")
            args[0].flush()
        if point == "replaced":
            calls[point](*args)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return None if point == "replaced" else calls[point](*args, **kwargs)

    if point:
        setattr(np if point == "savez" else os, "replace" if point == "replaced" else point, deadly)
    log = os.open(path + ".log", os.O_RDWR | os.O_CREAT)
    tm.fit(lambda theta, task: np.sum(np.tanh(theta["W"] @ task + theta["b"]) ** 2), {"W": np.ones((3, 3)), "b": np.ones(3)},
           tasks_after(pause), tm.optim.adam(0.01), iterations=iterations, meta_batch=4, seed=3, checkpoint=path,
           checkpoint_every=int(every), resume=True, evaluate=lambda theta: theta["b"], evaluate_every=5,
           callbacks=[lambda record: os.pwrite(log, f"{record.iteration:9}".encode(), 0)])  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
