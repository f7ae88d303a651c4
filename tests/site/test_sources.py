"""What the pages are made from: no line of code is lost beside its derivation, and nothing that is public is left out."""

import ast
import importlib
import inspect
import pkgutil
import random
import re
import sys
from pathlib import Path

import numpy
import pytest

import tinymeta

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
annotate = importlib.import_module("annotate")
reference = importlib.import_module("reference")
OURS = sorted((ROOT / "tinymeta").rglob("*.py"))
OTHERS = [path for folder in (Path(inspect.getfile(ast)).parent, Path(inspect.getfile(numpy)).parent)
          for path in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-l]*/*.py"))]  # fmt: skip


def lines_of_code(source):
    """{number: line} of all that is neither a docstring nor a comment with a line for itself, by Python's own parser."""
    lines = dict(enumerate(source.splitlines(), 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            text = node.body[0]
            if not lines[text.lineno][: text.col_offset].strip():
                for number in range(text.lineno, text.end_lineno + 1):
                    lines.pop(number)
    inside = {number for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Constant, ast.JoinedStr)) and hasattr(node, "lineno")
              for number in range(node.lineno + 1, node.end_lineno + 1)}  # fmt: skip
    comment = re.compile(r"\s*#(?!!| noqa| type:| fmt:| pragma)")
    return {number: line for number, line in lines.items() if line.strip() and (number in inside or not comment.match(line))}


@pytest.mark.parametrize("path", OURS + random.Random(0).sample(OTHERS, 170), ids=lambda path: path.name)
def test_no_line_of_code_is_lost_or_moved(path):
    source = path.read_text(encoding="utf8")
    shown = {}
    for _, code in annotate.rows(source):
        for first, text in annotate.runs(code):
            shown |= {first + k: line for k, line in enumerate(text.split("\n")) if line.strip()}
    strip = lambda line: re.sub(r"\s*# (fmt: skip|noqa\b.*|type: ignore.*)$", "", line).rstrip()
    expected = {number: strip(line) for number, line in lines_of_code(source).items() if strip(line)}
    assert {number: line.rstrip() for number, line in shown.items()} == expected


def test_a_note_is_lost_neither():
    source = "\n".join(path.read_text(encoding="utf8") for path in OURS if path.name == "implicit.py")
    prose = "\n".join(text for text, _ in annotate.rows(source))
    for comment in re.findall(r"^\s*# (?!fmt|noqa|type)(.*)$", source, flags=re.MULTILINE):
        assert comment in prose
    assert "The theorem asks for a *regular*" in prose and "**Parameters**" in prose


def described():
    pages = "\n".join(path.read_text(encoding="utf8") for path in sorted((ROOT / "docs" / "api").glob("*.md")))
    return re.findall(r"^```\{reference\} (\S+)$", pages, flags=re.MULTILINE)


def test_every_public_name_is_described_once():
    names = described()
    shown = list(map(reference.find, names))  # tasks.Characters is tasks.few_shot.Characters
    assert len(names) == len(set(names)) and all(map(inspect.getdoc, shown))
    for name in tinymeta.__all__:
        thing = getattr(tinymeta, name)
        if not inspect.ismodule(thing):
            assert f"tinymeta.{name}" in names, name
            continue
        for part in getattr(thing, "__all__", ()) if name != "operations" else ():
            assert reference.find(f"tinymeta.{name}.{part}") in shown, (name, part)


def test_every_module_has_its_page():
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf8")
    for room in ("autodiff", "autodiff/operations", "machine"):
        for module in pkgutil.iter_modules([str(ROOT / "tinymeta" / room)]):
            if not module.ispkg:
                assert f'"{module.name}"' in conf or f'"operations/{module.name}"' in conf, (room, module.name)
    for name in ("bilevel", "maml", "implicit", "learned_optimizer"):
        assert f'"{name}"' in conf
