"""`tinymeta course OUT`: the lessons for a course. Notebooks for students, without the solutions, and with them; tests that grade; figures.

A lesson is a script in cells (jupytext's percent format). The cells that are tagged `solution` are left out of what the students get.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Writes the kit of a course into OUT: student/*.ipynb, the lessons without the solutions of their exercises; solutions/*.ipynb;
test_*.py, which grade the exercises (`pytest OUT --work FOLDER -m exercise_3_2`); two syllabi; and the lessons' figures, as PNG
and as SVG. Needs jupytext, and the lessons of a copy of the repository. Running all lessons for their figures takes some minutes.
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta course`."""
    parser = argparse.ArgumentParser("tinymeta course", allow_abbrev=False, description=DESCRIPTION)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder; what an earlier call wrote there is replaced")
    parser.add_argument("--lessons", type=Path, default=Path(__file__).parents[1] / "tutorials", metavar="FOLDER",
                        help="where the lessons are (default: beside the package, in a copy of the repository)")  # fmt: skip
    parser.add_argument("--no-figures", action="store_true", help="don't run the lessons")
    return parser


def course(options: argparse.Namespace) -> int:
    """Write everything, and say where."""
    lessons = sorted(options.lessons.glob("[0-9][0-9]_*.py"))
    if not lessons or not (options.lessons / "course").is_dir():
        raise ValueError(f"there are no lessons in {options.lessons}: --lessons is the folder tutorials of a copy of the repository")
    for path in (options.lessons / "course").iterdir():
        if path.is_file():
            shutil.copy(path, options.out)
    for folder, solved in (("student", False), ("solutions", True)):
        (options.out / folder).mkdir(exist_ok=True)
        for lesson in lessons:
            (options.out / folder / f"{lesson.stem}.ipynb").write_text(notebook(lesson, solved), encoding="utf8")
    print(f"wrote {len(lessons)} lessons into {options.out}: student, solutions, and what grades them")
    if not options.no_figures:
        for lesson in lessons:
            draw(lesson, options.out / "figures")
            print(f"wrote the figures of {lesson.stem} into {options.out / 'figures'}", flush=True)
    return 0


def notebook(lesson: Path, solved: bool) -> str:
    """A lesson as the text of a notebook. Raises ValueError where jupytext is missing.

    Parameters
    ----------
    lesson : the script
    solved : whether the cells with solutions stay
    """
    jupytext = _jupytext()
    whole = jupytext.read(lesson, fmt="py:percent")
    whole.cells = [cell for cell in whole.cells if solved or "solution" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(whole.cells):  # in the place of random ones: the same lesson is the same notebook
        cell["id"] = f"cell-{number}"
    return jupytext.writes(whole, fmt="ipynb")


def _jupytext() -> Any:
    try:
        import jupytext
    except ImportError:
        raise ValueError("jupytext makes the notebooks, and isn't installed: pip install jupytext") from None
    return jupytext


def draw(lesson: Path, folder: Path) -> None:
    """Run a lesson, with its figures into a folder. Raises ValueError if it fails."""
    environment = os.environ | {"TINYMETA_FIGURES": str(folder.resolve()), "TINYMETA_FIGURES_AS": "png svg", "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, lesson.resolve()], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"{lesson} fails: {done.stderr.strip().splitlines()[-1]}")
