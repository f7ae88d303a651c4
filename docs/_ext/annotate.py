"""A directive that sets prose on the left and the code that it belongs to on the right:

    ```{annotate} ../../tinymeta/implicit.py
    ```

Every docstring and every block of comments is a note; the code up to the next one stands beside it, with its true line numbers.
"""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

from docstrings import to_markdown, with_room
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

COMMANDS = re.compile(r"#!|# (noqa|type:|fmt:|pragma)")  # comments to tools, not to readers
DEFINITIONS = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


class Note(NamedTuple):
    """Prose in a source file."""

    last: int
    """the number of its last line"""
    text: str
    """Markdown"""
    is_docstring: bool


def notes(source):
    """Docstrings and blocks of comments, by the number of their first line: those that have their lines for themselves."""
    lines, found = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, (ast.Module, *DEFINITIONS)) else None
        if text is not None and not lines[node.body[0].lineno - 1][: node.body[0].col_offset].strip():
            found[node.body[0].lineno] = Note(node.body[0].end_lineno, to_markdown(text), True)
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = token.start[0], token.string[1:].removeprefix(" ")
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip() and not COMMANDS.match(token.string):
            if first in found and found[first].last == line - 1 and not found[first].is_docstring:
                found[first] = Note(line, f"{found[first].text}\n{text}", False)
            else:
                first, found[line] = line, Note(line, text, False)
    return found


def rows(source):
    r"""[(Markdown, [(line number, code), ...]), ...] in the order of the file, without losing a line of code.

    A comment opens a row, and so does a `def` that isn't right below one. A docstring belongs to the row of its `def`.

    >>> rows('# Twice.\ndef f(x):\n    "Of x."\n    return 2 * x  # fmt: skip\n# Once.\ny = f(1)\n')
    [('Twice.\n\nOf x.', [(2, 'def f(x):'), (4, '    return 2 * x')]), ('Once.', [(6, 'y = f(1)')])]
    """
    prose, made, text, code = notes(source), [], [], []
    definitions = {min([node.lineno, *(d.lineno for d in node.decorator_list)])
                   for node in ast.walk(ast.parse(source)) if isinstance(node, DEFINITIONS)}  # fmt: skip
    hidden = 0
    for number, line in enumerate(source.splitlines(), 1):
        note = prose.get(number)
        opens = number in definitions if note is None else not note.is_docstring
        if opens and any(part.strip() for _, part in code):
            made.append(("\n\n".join(text), code))
            text, code = [], []
        if note is not None:
            text.append(note.text)
            hidden = note.last
        elif number > hidden:
            code.append((number, re.sub(r"\s*# (fmt: skip|noqa\b.*|type: ignore.*)$", "", line)))
    return [*made, ("\n\n".join(text), code)]


def runs(code):
    """Consecutive lines together, [(first line number, text), ...], without empty lines around.

    >>> runs([(2, "a"), (3, ""), (5, "b"), (6, "c")])
    [(2, 'a'), (5, 'b\\nc')]
    """
    together = []
    for number, line in code:
        if together and together[-1][-1][0] == number - 1:
            together[-1].append((number, line))
        else:
            together.append([(number, line)])
    for part in together:
        while part and not part[0][1].strip():
            del part[0]
    return [(part[0][0], "\n".join(line for _, line in part).rstrip()) for part in together if part]


class Annotate(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self):
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        page = nodes.container(classes=["annotated"])
        for text, code in rows(Path(path).read_text(encoding="utf8")):
            text = re.sub(r"\A# .*\n", "", text)  # the file's heading is the page's
            prose, beside = nodes.container(classes=["note"]), nodes.container(classes=["code"])
            self.state.nested_parse(StringList(with_room(text).splitlines(), relative), 0, prose)
            for first, part in runs(code):
                block = nodes.literal_block(part, part, language="python", linenos=True, highlight_args={"linenostart": first})
                beside += block
            page += nodes.container("", prose, beside, classes=["row"])
        return [page]


def setup(app):
    """Sphinx's way in."""
    app.add_directive("annotate", Annotate)
    return {"version": "1", "parallel_read_safe": True}
