"""What holds for the package as a whole."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinymeta

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "tinymeta").rglob("*.py"))


def modules_loaded_by(code):
    """Of a new process."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_loads_numpy_and_nothing_heavier():
    heavy = {"scipy", "numba", "matplotlib", "llvmlite", "tqdm", "argparse", "ast", "concurrent", "csv", "email", "html", "json",
             "multiprocessing", "numpy.random", "pickle", "signal", "subprocess", "textwrap", "unittest", "zipfile"}  # fmt: skip
    assert (modules_loaded_by("import tinymeta") - modules_loaded_by("import numpy")) & heavy == set()


def test_a_program_is_run_without_scipys_linear_algebra():
    """Numba would import it, to see whether it is there; where it is used in a function that Numba compiles, it works all the same."""
    pytest.importorskip("numba")
    run = "import numpy as np, tinymeta as tm; tm.jit(lambda x: np.tanh(x) @ x)(np.eye(2))"
    assert {"scipy.linalg", "matplotlib"} & modules_loaded_by(run) == set()
    use = "import numba; assert numba.njit(lambda a: np.dot(a, a))(2 * np.eye(2))[1, 1] == 4"
    assert "scipy.linalg" in modules_loaded_by(f"{run}; {use}")


def test_every_public_name_is_there_and_documented():
    for name in tinymeta.__all__:
        assert getattr(tinymeta, name).__doc__, name


def test_only_the_four_runtime_packages_are_imported():
    allowed = {"numpy", "scipy", "numba", "llvmlite", "matplotlib", "tqdm", "jupytext"} | set(sys.stdlib_module_names)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_a_lower_room_never_imports_a_higher_one():
    below = ("__init__", "__main__", "autodiff", "machine", "arguments")  # the last of which is below all, and imports none
    top = "|".join(path.stem for path in (ROOT / "tinymeta").iterdir() if path.stem not in below)
    assert not re.search(r"^\s*from \.", (ROOT / "tinymeta" / "arguments.py").read_text(encoding="utf8"), re.MULTILINE)
    above = {"autodiff": f"machine|{top}", "machine": top}
    for room, higher in above.items():
        for path in (ROOT / "tinymeta" / room).rglob("*.py"):
            upwards = rf"^\s*from \.+({higher})\b|^\s*from \.+ import .*\b({higher})\b"
            found = re.search(upwards, path.read_text(encoding="utf8"), re.MULTILINE)
            assert not found, (path, found)


def test_no_file_is_longer_than_500_lines():
    assert {path.name: n for path in SOURCES if (n := len(path.read_text(encoding="utf8").splitlines())) > 500} == {}


def test_the_readme_is_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it may leave files
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 20 and result.failed == 0


def test_notebooks_are_generated_never_kept():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    assert tracked.returncode != 0 or not [name for name in tracked.stdout.splitlines() if name.endswith(".ipynb")]
