"""The exercises and what grades them: solutions pass, stubs fail, typical wrong answers are caught, and told why."""

import importlib.util
import re
import runpy
import types
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "tutorials" / "course"
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))}
grading = types.SimpleNamespace(**runpy.run_path(str(COURSE / "conftest.py")))


# ## A lesson's cells
def cells(number):
    """(kind, text) of each cell of the percent file."""
    parts = re.split(r"^# %%(.*)\n", LESSONS[number].read_text(encoding="utf8"), flags=re.MULTILINE)
    return [(kind, text) for kind, text in zip(parts[1::2], parts[2::2], strict=True) if "[markdown]" not in kind]


@pytest.fixture(scope="module")
def lesson(request, tmp_path_factory):
    """A lesson as a student gets it, run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYMETA_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.chdir(tmp_path_factory.mktemp("work"))
        work = grading.run(text for kind, text in cells(request.param) if "solution" not in kind)
    assert not work.broken
    return work.lesson


def with_solutions(number, lesson):
    namespace = dict(lesson)
    for kind, text in cells(number):
        if "solution" in kind:
            exec(text, namespace)
    return grading.Work(namespace)


# ## What grades it
def exercises_of(number):
    """(exercise, test) for each test of a lesson."""
    specification = importlib.util.spec_from_file_location(f"grading_{number}", COURSE / f"test_{number}.py")
    module = importlib.util.module_from_spec(specification)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)  # the course's own conftest knows them
        specification.loader.exec_module(module)
    tests = [test for name, test in vars(module).items() if name.startswith("test_")]
    return [(re.fullmatch(r"exercise_(\d+)_(\d+)", mark.name).expand(r"\1.\2"), test) for test in tests for mark in test.pytestmark]


def wrong_answers(number, lesson):
    """(name, exercise, hint, answer) for each wrong answer, which sees what the lesson defines."""
    found = []

    def wrong(name, exercise, hint):
        return lambda answer: found.append((name, exercise, hint, answer))

    path = Path(__file__).with_name(f"wrong_{number}.py")
    exec(compile(path.read_text(encoding="utf8"), path, "exec"), {**lesson, "wrong": wrong})
    return found


def exercises(number):
    stubs = re.findall(r'NotImplementedError\("exercise (\d+\.\d+)"\)', LESSONS[number].read_text(encoding="utf8"))
    return sorted(set(stubs))


pairs = [(number, number) for number in LESSONS]
each_lesson = pytest.mark.parametrize("number, lesson", pairs, indirect=["lesson"], ids=LESSONS, scope="module")


@each_lesson
def test_every_exercise_is_graded_and_its_solution_passes(number, lesson):
    tests = exercises_of(number)
    assert sorted({exercise for exercise, _ in tests}) == exercises(number)
    work = with_solutions(number, lesson)
    for _, test in tests:
        test(work)


@each_lesson
def test_every_stub_fails_and_says_which_exercise_it_is(number, lesson):
    for exercise, test in exercises_of(number):
        with pytest.raises(NotImplementedError, match=re.escape(f"exercise {exercise}")):
            test(grading.Work(lesson))


@each_lesson
def test_typical_wrong_answers_are_caught_with_a_hint(number, lesson):
    tests, answers = exercises_of(number), wrong_answers(number, lesson)
    for exercise in exercises(number):
        assert sum(of == exercise for _, of, _, _ in answers) >= 3
    for name, exercise, hint, answer in answers:
        told = []
        for of, test in tests:
            if of == exercise:
                try:
                    test(grading.Work({**lesson, name: answer}))
                except AssertionError as error:
                    told.append(str(error))
        assert any(hint in message for message in told), (exercise, hint, answer.__code__.co_firstlineno, told)
