"""Grading: `pytest --work FOLDER` runs each test on the notebooks in that folder, `pytest -m exercise_6_2` those of one exercise.

A student's notebook is run as it is, cell after cell, before its functions are tested. So grade other people's work where it can do no
harm: in a container or on a machine that holds nothing else, without network.
"""

import json
import re
from pathlib import Path

import matplotlib
import pytest

HERE = Path(__file__).parent
MARKED = re.compile(r"pytest\.mark\.(exercise_(\d+)_(\d+))")


def pytest_addoption(parser):
    parser.addoption("--work", type=Path, default=HERE / "student", help="folder of the notebooks to be graded (default: student)")


def pytest_configure(config):
    for path in sorted(HERE.glob("test_*.py")):
        for name, lesson, exercise in sorted(set(MARKED.findall(path.read_text(encoding="utf8")))):
            config.addinivalue_line("markers", f"{name}: exercise {lesson}.{exercise}")


class Work:
    """What somebody has written in the place of a lesson's stubs: `work("name")` is their object of that name."""

    def __init__(self, lesson, broken=()):
        self.lesson = lesson
        """the notebook's names, after all of its cells have run"""
        self.broken = broken
        """what was raised by cells that failed"""

    def __call__(self, name):
        if name not in self.lesson:
            told = "".join(f"\n  a cell failed with {error}" for error in self.broken)
            pytest.fail(f"the notebook defines no {name}{told}")
        return self.lesson[name]


def run(cells):
    """Run cells of code in one namespace, and go on where one fails: the exercises don't depend on each other."""
    matplotlib.use("Agg")
    lesson, broken = {"__name__": "lesson"}, []
    for cell in cells:
        code = re.sub(r"^\s*[%!].*$", "", cell, flags=re.MULTILINE)  # commands to the notebook
        try:
            exec(compile(code, "<cell>", "exec"), lesson)
        except NotImplementedError:  # a check of what isn't done yet
            pass
        except Exception as error:
            broken.append(f"{type(error).__name__}: {error}")
    return Work(lesson, broken)


def code_cells(notebook):
    """The code of a notebook, cell by cell."""
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def student(request, tmp_path_factory):
    """The work to be graded, of the lesson that the file of tests belongs to: `test_06.py` grades `06_*.ipynb`."""
    folder, number = request.config.getoption("--work").resolve(), request.path.stem[-2:]
    notebooks = sorted(folder.glob(f"{number}_*.ipynb"))
    if len(notebooks) != 1:
        pytest.fail(f"{folder} has {len(notebooks)} notebooks named {number}_*.ipynb, one is needed: --work says where to look")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYMETA_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield run(code_cells(notebooks[0]))
