r"""
# The listing: a program to read

    %9  = product       %1 + %4 @ %0           float64[5, 8]  at 0    # model.py:6
    %10 = tanh          %9                     float64[5, 8]  at 320  # model.py:6

One line an instruction: slot, operation, what it does to which slots, type of the result; a block's body is indented below. A constant
number stands where it is used, a constant array has a line of its own. A note says where in the arena the result is, in bytes, or that the
instruction is left to NumPy; at the end are the lines of source that the instruction comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autodiff.tensor import describe
from .code import Code, Instruction
from .execute import NO_NOTES, Notes
from .fusion import multiply_add, product


def listing(code: Code, names: Sequence[str], notes: Notes, indent: str = "") -> list[str]:
    """The lines, for inputs of these names."""
    given = [*zip(code.inputs, names, strict=True), *((slot, "shared" if indent else "captured") for slot in code.captured)]
    types = {**code.inputs, **code.captured}
    rows = [(f"%{slot}", name, "", str(types[slot]), "") for slot, name in given]
    rows += [(f"%{slot}", "constant", "", describe(x), "") for slot, x in code.constants.items() if _literal(x) is None]
    rows += [(*columns(i, code), f"  {notes.of[i.slot]}" if i.slot in notes.of else "") for i in code.instructions]
    widths = [max((len(row[k]) for row in rows if len(row[k]) <= 50), default=0) for k in range(5)]
    lines = [f"{indent}{slot:<{widths[0]}} = {operation:<{widths[1]}}  {what:<{widths[2]}}  {result:<{widths[3]}}{note:<{widths[4]}}"
             for slot, operation, what, result, note in rows]  # fmt: skip
    lines, of_instructions = lines[: len(rows) - len(code.instructions)], lines[len(rows) - len(code.instructions) :]
    for line, i in zip(of_instructions, code.instructions, strict=True):
        lines.append(line + source(i))
        if i.body is not None:
            of_rows = [f"row of {_operand(operand, code)}" for operand in i.operands[: len(i.body.inputs)]]
            lines += listing(i.body, of_rows, notes.bodies.get(i.slot, NO_NOTES), indent + "    | ")
    return [line.rstrip() for line in lines] + [f"{indent}return " + " ".join(_operand(slot, code) for slot in code.outputs)]


def columns(i: Instruction, code: Code) -> tuple[str, str, str, str]:
    """Slot, operation, what it does, type."""
    return f"%{i.slot}", i.operation.name, _formula(i, code), str(i.type)


def source(i: Instruction) -> str:
    """The lines of source, as a comment."""
    return f"  # {', '.join(i.lines)}" if i.lines else ""


def _formula(i: Instruction, code: Code) -> str:
    """What an instruction does to its operands."""
    operands = [_operand(slot, code) for slot in i.operands]
    if i.operation not in (product, multiply_add):
        times = [f"{i.length} times"] if i.length is not None else []
        options = (f"{key}={value}" for key, value in i.params.items() if repr(value) not in ("False", "(False, False)"))
        return " ".join([*times, *operands, *options])
    a, b = (x + ".T" * flag for x, flag in zip(operands, i.params.get("transposed", (False, False)), strict=False))
    text = f"{a} @ {b}" if i.operation is product else f"{a} * {b}" if b.startswith("%") else f"{b} * {a}"
    text = f"{operands[-1]} * ({text})" if i.params["scaled"] else text
    if not i.params["bias"]:
        return text
    return f"{operands[2]} + {text}" if not text.startswith("-") else f"{operands[2]} - {text[1:].removeprefix('1 * ')}"


def _operand(slot: int, code: Code) -> str:
    return _literal(code.constants.get(slot)) or f"%{slot}"


def _literal(x: Any) -> str | None:
    """How to write a constant in a listing, if it is a number, or None (or a string, which may be an output)."""
    return None if x is None or np.ndim(x) else f"{x:.6g}" if isinstance(x, (float, np.floating)) else str(x)
