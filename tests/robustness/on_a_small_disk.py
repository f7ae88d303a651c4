"""A training on a disk that fills up, and then can't be written: `unshare --mount --map-root-user python on_a_small_disk.py FOLDER`.

The disk is one in memory, of 200 kB, that no other process sees, and that is gone with this one. Prints, as JSON, what was raised each
time, whether the file was as before, and what was there besides; at the end whether the training went on as if nothing had happened.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import tinymeta as tm


def fit(iterations, path=None):
    theta = {"W": np.linspace(-1, 1, 1000).reshape(40, 25)}
    return tm.fit(lambda theta, task: np.sum(np.tanh(theta["W"] @ task) ** 2), theta, lambda rng, count: rng.normal(size=(count, 25)),
                  tm.optim.adam(0.01), iterations=iterations, meta_batch=3, seed=0, quiet=True, checkpoint=path, checkpoint_every=1,
                  resume=path is not None)  # fmt: skip


def refused(folder, path, iterations):
    before = path.read_bytes()
    try:
        fit(iterations, path)
    except OSError as error:
        return {"errno": error.errno, "message": str(error), "untouched": path.read_bytes() == before,
                "there": sorted(found.name for found in folder.iterdir())}  # fmt: skip


def main(folder):
    folder = Path(folder)
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, "size=200k", "tmpfs", folder], check=True)
    path, other, answers = folder / "x.npz", folder / "other", {}
    fit(3, path)
    with open(other, "wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            pass
    answers["full"] = [refused(folder, path, 6) for _ in range(3)]
    other.unlink()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    answers["read-only"] = [refused(folder, path, 6)]
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    resumed, whole = fit(6, path), fit(6)
    answers["resumed"] = resumed.theta["W"].tobytes() == whole.theta["W"].tobytes() and resumed.losses.tobytes() == whole.losses.tobytes()
    answers["left"] = os.listdir(folder)
    print(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1])
