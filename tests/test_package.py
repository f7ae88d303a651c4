"""What holds for the package as a whole."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import tinymeta

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "tinymeta").rglob("*.py"))


def test_import_loads_numpy_and_nothing_heavier():
    code = "import sys, tinymeta; print(*sorted({'scipy', 'numba', 'matplotlib', 'llvmlite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_every_public_name_is_there_and_documented():
    for name in tinymeta.__all__:
        assert getattr(tinymeta, name).__doc__, name


def test_only_the_four_runtime_packages_are_imported():
    allowed = {"numpy", "scipy", "numba", "llvmlite", "matplotlib", "tqdm"} | set(sys.stdlib_module_names)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_a_lower_room_never_imports_a_higher_one():
    above = {"autodiff": r"machine|bilevel|maml|implicit|learned|nn|optim|train|plots|cli|tasks|experiments|proofs",
             "machine": r"bilevel|maml|implicit|learned|nn|optim|train|plots|cli|tasks|experiments|proofs"}  # fmt: skip
    for room, higher in above.items():
        for path in (ROOT / "tinymeta" / room).rglob("*.py"):
            upwards = rf"^\s*from \.+({higher})\b|^\s*from \.+ import .*\b({higher})\b"
            found = re.search(upwards, path.read_text(encoding="utf8"), re.MULTILINE)
            assert not found, (path, found)


def test_no_file_is_longer_than_500_lines():
    assert {path.name: n for path in SOURCES if (n := len(path.read_text(encoding="utf8").splitlines())) > 500} == {}


def test_the_readme_is_true():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 20 and result.failed == 0


def test_notebooks_are_generated_never_kept():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    assert tracked.returncode != 0 or not [name for name in tracked.stdout.splitlines() if name.endswith(".ipynb")]
