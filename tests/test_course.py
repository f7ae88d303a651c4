"""The kit of a course: what is in it, and that one grades with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinymeta import cli, course

pytest.importorskip("jupytext", reason="jupytext makes the notebooks")

LESSON = '''# %% [markdown]
# # A lesson

# %%
import matplotlib.pyplot as plt
from tinymeta.plots import save

save(plt.figure(), "06_empty")


def twice(x):
    raise NotImplementedError("exercise 6.1")

# %% tags=["solution"]
def twice(x):
    return 2 * x
'''
TEST = '''import pytest


@pytest.mark.exercise_6_1
def test_twice(student):
    assert student("twice")(3) == 6, "add it to itself"


@pytest.mark.exercise_6_2
def test_thrice(student):
    assert student("thrice")(3) == 9
'''
ROOT = Path(__file__).parents[1]
CONFTEST = (ROOT / "tutorials" / "course" / "conftest.py").read_text(encoding="utf8")


@pytest.fixture
def lessons(tmp_path):
    folder = tmp_path / "tutorials"
    (folder / "course").mkdir(parents=True)
    (folder / "06_doubling.py").write_text(LESSON)
    (folder / "course" / "test_06.py").write_text(TEST)
    (folder / "course" / "conftest.py").write_text(CONFTEST)
    return folder


def graded(out, *options):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", out, *options]
    return subprocess.run(command, cwd=out, capture_output=True, text=True)


def test_students_get_no_solutions_and_are_graded(lessons, tmp_path, capsys):
    out = tmp_path / "kit"
    assert cli.main(["course", str(out), "--lessons", str(lessons)]) == 0
    assert "wrote 1 lessons into" in capsys.readouterr().out
    student, solved = ((out / folder / "06_doubling.ipynb").read_text() for folder in ("student", "solutions"))
    assert "exercise 6.1" in student and "2 * x" not in student and "2 * x" in solved
    assert len(json.loads(solved)["cells"]) == len(json.loads(student)["cells"]) + 1
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["06_empty.png", "06_empty.svg"]
    passed = graded(out, "--work", out / "solutions", "-m", "exercise_6_1")
    assert passed.returncode == 0 and "1 passed, 1 deselected" in passed.stdout, passed.stdout
    failed = graded(out)
    assert failed.returncode == 1 and "NotImplementedError: exercise 6.1" in failed.stdout and "defines no thrice" in failed.stdout
    assert "@pytest.mark.exercise_6_1: exercise 6.1" in graded(out, "--markers").stdout


def test_the_same_lesson_is_the_same_notebook(lessons):
    assert course.notebook(lessons / "06_doubling.py", True) == course.notebook(lessons / "06_doubling.py", True)


def test_what_a_student_has_broken(lessons, tmp_path):
    out = tmp_path / "kit"
    assert cli.main(["course", str(out), "--lessons", str(lessons), "--no-figures"]) == 0
    assert not (out / "figures").exists()
    path = out / "student" / "06_doubling.ipynb"
    notebook = json.loads(path.read_text())
    for code in ("%matplotlib inline\nthrice = lambda x: 3 * x", "1 / 0", "def twice(x):\n    return x * x", "twice = twice(3)()"):
        notebook["cells"].append({"cell_type": "code", "source": code})
    path.write_text(json.dumps(notebook))
    told = graded(out).stdout
    assert "add it to itself" in told and "1 failed, 1 passed" in told
    notebook["cells"] = [cell for cell in notebook["cells"] if "def twice" not in "".join(cell["source"])]
    path.write_text(json.dumps(notebook))
    assert "defines no twice\n  a cell failed with ZeroDivisionError: division by zero" in graded(out).stdout.replace("E           ", "")
    path.unlink()
    assert "has 0 notebooks named 06_*.ipynb" in graded(out).stdout


def test_where_there_are_no_lessons(tmp_path, capsys):
    assert cli.main(["course", str(tmp_path / "kit"), "--lessons", str(tmp_path)]) == 2
    assert "--lessons is the folder tutorials of a copy of the repository" in capsys.readouterr().err


def test_a_lesson_that_fails(lessons, tmp_path, capsys):
    (lessons / "06_doubling.py").write_text("# %%\n1 / 0\n")
    assert cli.main(["course", str(tmp_path / "kit"), "--lessons", str(lessons)]) == 2
    assert "06_doubling.py fails: ZeroDivisionError" in capsys.readouterr().err


def test_without_jupytext(lessons, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert cli.main(["course", str(tmp_path / "kit"), "--lessons", str(lessons)]) == 2
    assert "pip install jupytext" in capsys.readouterr().err


def test_no_notebook_is_kept_in_the_repository():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("this copy has no history")
    assert not [name for name in files.stdout.splitlines() if name.endswith(".ipynb")]
