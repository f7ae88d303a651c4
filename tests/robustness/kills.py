"""Trainings that are killed at random moments, and what is left of them.

Every other process has its moment between its start and its first file, the others while they work. They are kept at every iteration, so
much of their time goes into writing the file. After each kill the file, if there is one, must be whole: the beginning of what an
uninterrupted training computes, to the bit. Then it goes on, from that file, to the next kill. In the end it must be what it is without.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

import tinymeta as tm

SCRIPT = Path(__file__).parents[1] / "stopped_training.py"
ITERATIONS, PAUSE = 400, 0.0  # and for how many seconds each iteration rests
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
EVALUATED = 5  # every so many iterations, as in the script


def training(path: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1]), "TINYMETA_MACHINE": "numpy"}
    command = [sys.executable, str(SCRIPT), str(path), str(ITERATIONS), str(PAUSE), "", "1"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(timeout=120)
    finally:
        process.kill()
        process.wait()


def bits(found: tm.checkpoints.Checkpoint) -> list[object]:
    """All that is in a checkpoint, in an order and to the bit."""
    return [found.iteration, repr(found.random), *to_bits((found.theta, found.state, found.evaluations, found.losses))]


def to_bits(x: object) -> list[object]:
    return [(np.asarray(leaf).dtype.str, np.shape(leaf), np.asarray(leaf).tobytes()) for leaf in tm.tree.flatten(x)[0]]


def kill_and_go_on(folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill so many trainings, and go on with each from where it was; how often which signal came when. Raises AssertionError."""
    rng, done = random.Random(seed), Counter[str]()
    whole = folder / "whole.npz"
    process, started = training(whole), time.monotonic()
    wait_for_a_file(process, whole)
    at_work = time.monotonic()
    assert finish(process) == 0
    expected, ended = tm.load_checkpoint(whole), time.monotonic()
    names = {"whole.npz", "whole.npz.log"}
    while done["kills"] < kills:
        path = folder / f"{done['trainings']}.npz"
        half_written = path.with_name(f"{path.name}.part")
        while made(path) < ITERATIONS and done["kills"] < kills:
            stop = SIGNALS[done["kills"] // 2 % len(SIGNALS)]
            process = training(path)
            if done["kills"] % 2:
                wait_for_a_file(process, path)
            time.sleep(rng.uniform(0, (ended - at_work) / 2 if done["kills"] % 2 else at_work - started))
            process.send_signal(stop)
            status = finish(process)
            assert status in (0, -stop, 1, 130), status  # as it was told; or, before Python or the training was there to hear it, otherwise
            done.update(["kills", f"by {stop.name}", moment(path, half_written)])
            check(path, expected)
            assert {found.name for found in folder.iterdir()} <= names | {path.name, half_written.name, f"{path.name}.log"}
        assert finish(training(path)) == 0
        assert bits(tm.load_checkpoint(path)) == bits(expected)
        names |= {path.name, f"{path.name}.log"}
        assert {found.name for found in folder.iterdir()} == names  # nothing half-written is left
        done["trainings"] += 1
    return done


def wait_for_a_file(process: subprocess.Popen[bytes], path: Path) -> None:
    """Until the training has written one."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.002)


def made(path: Path) -> int:
    """How many iterations are in the file."""
    return tm.load_checkpoint(path).iteration if path.exists() else 0


def moment(path: Path, half_written: Path) -> str:
    """When a process was killed, by what it has left."""
    if half_written.exists():
        return "while the file was being written"
    if not path.exists():
        return "before there was a file"
    return "between the first iteration and the last" if 0 < made(path) < ITERATIONS else "before the first iteration, or after the last"


def check(path: Path, expected: tm.checkpoints.Checkpoint) -> None:
    """What is there now is the beginning of what should be there in the end."""
    if path.exists():
        found = tm.load_checkpoint(path)
        count = found.iteration
        assert len(found.losses) == count <= ITERATIONS
        assert found.losses.tobytes() == expected.losses[:count].tobytes()
        assert to_bits(found.evaluations) == to_bits(expected.evaluations[: count // EVALUATED])
