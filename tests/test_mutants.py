"""A few of the mutants that `python -m tests.mutants` makes; and that it would report one that nobody catches."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import __main__ as suite
from tests.mutants.mutations import code_of, mutants

ROOT = Path(__file__).parents[1]


def test_a_few_are_caught():
    command = [sys.executable, "-m", "tests.mutants", "--sample", "6", "nn.py", "optim.py", "curvature.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["all", "6", "6", "0", "0"]


def test_one_that_nobody_catches_is_reported(capsys):
    (mutant, *_) = mutants(ROOT / "tinymeta" / "optim.py", 1e-6)
    assert suite.report({("optim.py", mutant): False}) == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "1", "0", "0", "1"]


@pytest.mark.parametrize("module", suite.TESTS)
def test_each_is_a_change_of_its_own(module):
    """Another code for each, and it compiles."""
    path = ROOT / "tinymeta" / module
    made = list(mutants(path, 1e-3))
    assert made, "nothing to change"
    original = compile(path.read_text(encoding="utf8"), str(path), "exec")
    assert all(code_of(mutant) != original for mutant in made[:: max(1, len(made) // 5)])
