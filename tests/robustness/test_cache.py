"""Numba's cache on disk: first runs at once, damaged files, a folder that can't be written. Right results, and at most a warning.

With two of the kernels here. (`tests/machine/test_machine.py`: no folder at all; `tests/machine/test_kernels.py`: what is compiled anew.)
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

CODE = """
import json, sys, warnings
import numpy as np
from tinymeta.machine import kernels

answer = {"right": True, "compiled": 0}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for dtype in sys.argv[1:]:
        x = np.linspace(-2, 2, 40, dtype=dtype)
        for kernel, expected in ((kernels.square, x[:20] ** 2), (kernels.negative, -x[:20])):
            kernel(x, 20, 0, 20)
            answer["right"] &= np.array_equal(x[20:], expected)
answer["compiled"] = sum(sum(k.stats.cache_misses.values()) for k in (kernels.square, kernels.negative))
answer["warnings"] = [f"{w.category.__name__}: {w.message}" for w in caught]
print(json.dumps(answer))
"""
ROOT = Path(__file__).parents[2]


def start(folder, *dtypes):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", CODE, *dtypes]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process):
    told, said = process.communicate(timeout=200)
    assert process.returncode == 0 and said == "", said
    return json.loads(told)


def run(folder, *dtypes):
    return answer(start(folder, *dtypes))


BOTH = "f8", "f4"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which two processes were at once at work, before anything was there, each with another dtype first."""
    folder = tmp_path_factory.mktemp("cache")
    processes = [start(folder, *BOTH), start(folder, *reversed(BOTH))]
    for told in map(answer, processes):
        assert told["right"] and told["warnings"] == []
    return folder


def test_two_first_runs_at_once_leave_a_cache_that_can_be_used(kept):
    assert run(kept, *BOTH)["right"]  # compiles what one of the two forgot of the other
    assert run(kept, *BOTH) == {"right": True, "compiled": 0, "warnings": []}


def test_each_signature_has_a_file_of_its_own(tmp_path):
    """Numba numbers them: two that are saved at once, neither of which knows of the other, would overwrite each other's code."""
    from tinymeta.machine.compiling import CacheFile

    first, second = (CacheFile(str(tmp_path), "f", ()) for _ in range(2))
    load = first._load_index
    first._load_index = lambda: (second.save(("float32",), "for float32"), {})[1]  # what it finds is out of date at once
    first.save(("float64",), "for float64")
    first._load_index = load
    assert first.load(("float64",)) == "for float64" and first.load(("float32",)) in (None, "for float32")
    assert len(list(tmp_path.glob("*.nbc"))) == 2


noise = random.Random(0)
DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "noise": lambda content: noise.randbytes(len(content)),
    "noise in the middle": lambda content: content[:30] + noise.randbytes(len(content) - 60) + content[-30:],
    "a flipped bit": lambda content: content[:40] + bytes([content[40] ^ 4]) + content[41:],
}


@pytest.mark.parametrize("files", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_counts_as_missing(tmp_path, files, damage):
    from tinymeta.machine.compiling import CacheFile

    cache = CacheFile(str(tmp_path), "f", ())
    cache.save(("float64",), "code" * 500)
    for file in tmp_path.glob(files):
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert cache.load(("float64",)) is None
    cache.save(("float64",), "code" * 500)
    assert cache.load(("float64",)) == "code" * 500


def test_a_damaged_cache_is_compiled_anew(kept, tmp_path):
    run(kept, *BOTH)
    folder = shutil.copytree(kept, tmp_path / "cache")
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".nbi", ".nbc"))
    assert len(files) == 6
    for number, file in enumerate(files):
        file.write_bytes(DAMAGES[list(DAMAGES)[number % len(DAMAGES)]](file.read_bytes()))
    assert run(folder, *BOTH) == {"right": True, "compiled": 4, "warnings": []}
    assert run(folder, *BOTH) == {"right": True, "compiled": 0, "warnings": []}


def test_a_cache_that_cannot_be_written_or_read_any_more_is_a_warning(kept, tmp_path):
    """Its folders are found, and then there are others in the place of its files: whoever may do everything can't write them either."""
    folder = shutil.copytree(kept, tmp_path / "cache")
    for file in list(folder.rglob("*.nbi")):
        file.unlink()
        file.mkdir()
    told = run(folder, "f8")
    assert told["right"] and told["compiled"] == 2
    [warning] = told["warnings"]
    assert warning.startswith("RuntimeWarning: Numba's cache can't be written, so the machine is compiled anew in every process")
