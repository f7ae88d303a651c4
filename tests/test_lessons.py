"""Every lesson runs as a script, in under 30 seconds, and has the form that lessons have."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
# Half a minute, and as long again for the first one, which compiles the machine. Without the machine, to train an optimizer takes minutes.
SECONDS = 1200 if os.environ.get("TINYMETA_MACHINE") == "numpy" else 60


@pytest.fixture(scope="module", autouse=True)
def machine():
    """Compiled before any lesson's clock starts: Numba keeps it."""
    for dtype in (np.float64, np.float32):
        tm.jit(np.sin)(np.ones(2, dtype))


def cells(lesson):
    """(kind, text) of each cell of a percent file."""
    parts = re.split(r"^# %%(.*)\n", lesson.read_text(encoding="utf8"), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_there_are_lessons():
    assert [lesson.name[:2] for lesson in LESSONS] == [f"{i:02}" for i in range(1, len(LESSONS) + 1)]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lesson_runs_and_saves_its_figures(lesson, tmp_path):
    environment = os.environ | {"TINYMETA_FIGURES": str(tmp_path / "figures"), "MPLBACKEND": "Agg", "PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, lesson], cwd=tmp_path, env=environment, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    assert all(path.name.startswith(lesson.name[:2]) for path in (tmp_path / "figures").iterdir())


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lesson_has_the_form_of_a_lesson(lesson):
    parts = cells(lesson)
    prose = " ".join(text for kind, text in parts if "[markdown]" in kind)
    words = len(prose.replace("#", "").split())
    assert 1200 <= words <= 1800
    for promise in ("*You will*", "*You need*", "**Predict", "Exercise", "ymbols"):
        assert promise in prose, promise
    for kind, text in parts:
        code = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert "[markdown]" in kind or "solution" in kind or len(code) <= 8, text


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_exercises_are_stubs_that_say_so_and_have_solutions(lesson):
    text = lesson.read_text(encoding="utf8")
    stubs = re.findall(r'NotImplementedError\("exercise (\d+)\.(\d+)"\)', text)
    assert [(int(a), int(b)) for a, b in stubs] == [(int(lesson.name[:2]), i) for i in range(1, len(stubs) + 1)]
    assert 2 <= len(stubs) <= 3
    assert sum("solution" in kind for kind, _ in cells(lesson)) >= len(stubs)
