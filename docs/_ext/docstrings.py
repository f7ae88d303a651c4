"""Docstrings as Markdown: sections, parameters and examples in their places, all else as it is."""

import inspect
import re


def to_markdown(text):
    r"""A docstring as MyST Markdown.

    >>> print(to_markdown("The sum.\n\nParameters\n----------\nx, y : numbers"))
    The sum.
    <BLANKLINE>
    **Parameters**
    <BLANKLINE>
    - `x, y`: numbers
    """
    out, lines, example = [], iter(inspect.cleandoc(text).splitlines()), False
    for line in lines:
        if line.startswith(">>>") and not example:
            example = True
            out.append("```pycon")
        elif example and not line.strip():
            example = False
            out.append("```")
        if not example and out and line and not line.strip("-"):  # the line under a section's name
            out[-1] = f"**{out[-1]}**\n"
        elif not example and (entry := re.match(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*) : ", line)):
            out.append(f"- `{entry[1]}`: {line[entry.end() :]}")
        else:
            out.append(line)
    return "\n".join(out + ["```"] * example)


def with_room(text):
    """The same with an empty line around each displayed formula, and headings that may stand inside a row."""
    out = []
    for line in text.splitlines():
        heading = re.match(r"(#+)\s+(.*)", line)
        if heading:
            out += ["", f"```{{rubric}} {heading[2]}", f":heading-level: {min(6, len(heading[1]) + 1)}", "```", ""]
            continue
        out += [""] * line.lstrip().startswith("$$") + [line] + [""] * line.rstrip().endswith("$$")
    return "\n".join(out)
