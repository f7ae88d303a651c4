"""Disks that are full, or can't be written: a clear error, the older file whole, and nothing half-written left behind.

`tests/test_checkpoints.py` raises the errors itself, at each of the calls that write; here the system raises them.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("on_a_small_disk.py")
UNSHARE = ["unshare", "--mount", "--map-root-user"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "TINYMETA_MACHINE": "numpy"}


def run(*command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)


def may_mount():
    return shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="a disk of one's own can't be mounted here")
def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path):
    done = run(*UNSHARE, sys.executable, str(SCRIPT), str(tmp_path))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    answers, said = json.loads(done.stdout), f"the checkpoint can't be written, the one that is there is untouched: '{tmp_path / 'x.npz'}'"
    for answer in answers["full"]:
        assert answer["errno"] == errno.ENOSPC and answer["untouched"] and answer["there"] == ["other", "x.npz"]
        assert answer["message"].endswith(f"No space left on device: {said}")
    [answer] = answers["read-only"]
    assert answer["errno"] == errno.EROFS and answer["untouched"] and answer["there"] == ["x.npz"]
    assert answer["message"].endswith(f"Read-only file system: {said}")
    assert answers["resumed"] and answers["left"] == ["x.npz"]
    assert list(tmp_path.iterdir()) == []  # the disk is gone


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from on_a_small_disk import fit, refused
path = Path(sys.argv[2])
fit(3, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
answer = refused(path.parent, path, 6)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(answer["errno"], answer["untouched"], answer["there"], (fit(6, path).losses == fit(6).losses).all())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files can't be limited here")
@pytest.mark.parametrize("most", [0, 100, 5000, 20_000])
def test_a_file_that_may_not_become_as_large(tmp_path, most):
    done = run(sys.executable, "-c", LIMITED, str(SCRIPT.parent), str(tmp_path / "x.npz"), str(most))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout == f"{errno.EFBIG} True ['x.npz'] True\n"
