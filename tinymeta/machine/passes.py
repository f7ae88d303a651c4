r"""
# Passes: the same function in fewer steps

Each pass is a pure function from code to code, and none changes a result. A sweep writes down whatever the chain rule
says, without looking for what is already there; so the forward computations come again inside of backward ones, a
transposed matrix is made only to be multiplied, and a maximum is compared that nobody asks for.

`optimize` runs them in order; `savings` tells how many instructions each has saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autodiff.blocks import item
from ..autodiff.operations.elementwise import add, divide, multiply, subtract
from ..autodiff.operations.reductions import sum_
from ..autodiff.operations.shapes import broadcast_to_, full_like, reshape_
from .association import associations
from .blocks import equal_rows, inline_checkpoints, merge_maps, sums_of_rows
from .code import Bundle, Code, Instruction, renamed, rewritten, types_of
from .fusion import broadcasts, constant_factors, double_transpositions, multiply_adds, scaled_products, transposed_products

Pass = Callable[[Code], Code]


def in_bodies(transform: Pass) -> Pass:
    """The same pass, in the bodies of blocks too."""

    def everywhere(code: Code) -> Code:
        inner = [i if i.body is None else i._replace(body=everywhere(i.body)) for i in code.instructions]
        return transform(code._replace(instructions=tuple(inner)))

    everywhere.__name__ = transform.__name__
    return everywhere


# ## Dead code
# What no output depends on needn't be computed; nor need a block compute results that nobody takes.
def dead_code(code: Code) -> Code:
    """Drop what isn't needed, in blocks too, and the constants and captured values that nobody reads any more."""
    needed = set(code.outputs)
    taken: dict[int, list[int]] = {}  # of a block's slot: the numbers of the results that are used
    kept: list[Instruction] = []
    for instruction in reversed(code.instructions):
        if instruction.slot not in needed:
            continue
        if instruction.operation is item:
            taken.setdefault(instruction.operands[0], []).append(instruction.params["index"])
        if instruction.body is not None and instruction.slot in taken:
            instruction = _narrowed(instruction, sorted(set(taken[instruction.slot])))
        kept.append(instruction)
        needed.update(instruction.operands)
    numbers = {slot: {old: new for new, old in enumerate(sorted(set(found)))} for slot, found in taken.items()}
    bodies = {i.slot for i in kept if i.body is not None}
    instructions = [_renumbered(i, numbers) if i.operation is item and i.operands[0] in bodies else i for i in reversed(kept)]
    return code._replace(instructions=tuple(instructions), constants={s: x for s, x in code.constants.items() if s in needed})


def _narrowed(block: Instruction, numbers: list[int]) -> Instruction:
    """A block that has only these of its results, and takes only the operands that these need."""
    assert block.body is not None
    all_taken = len(numbers) == len(block.body.outputs)
    body = block.body if all_taken else dead_code(block.body._replace(outputs=tuple(block.body.outputs[k] for k in numbers)))
    needed = set(body.outputs).union(*(i.operands for i in body.instructions))
    given = list(zip((*body.inputs, *body.captured), block.operands, strict=True))
    operands = tuple(operand for slot, operand in given if slot in needed)
    body = body._replace(inputs={s: t for s, t in body.inputs.items() if s in needed},
                         captured={s: t for s, t in body.captured.items() if s in needed})  # fmt: skip
    assert isinstance(block.type, Bundle)
    params = {"summed": tuple(block.params["summed"][k] for k in numbers)} if "summed" in block.params else {}
    return block._replace(body=body, operands=operands, type=Bundle(block.type[k] for k in numbers), params=params)


def _renumbered(taking: Instruction, numbers: dict[int, dict[int, int]]) -> Instruction:
    return taking._replace(params={"index": numbers[taking.operands[0]][taking.params["index"]]})


# ## Common subexpressions
# Two instructions of the same operation, operands and parameters have the same result. Not across a checkpoint: its body is code
# of its own, and what is computed there again is meant to be.
def common_subexpressions(code: Code) -> Code:
    """Compute everything once, and keep each constant once."""
    replacement: dict[int, int] = {}
    seen: dict[Any, int] = {}
    kept = []
    for slot, x in code.constants.items():
        first = seen.setdefault(_fingerprint(x), slot)
        if first != slot:
            replacement[slot] = first
    for i in code.instructions:
        i = renamed(i, replacement)
        key = (i.operation, i.operands, repr(i.params) if i.params else "") if i.body is None else i.slot
        first = seen.setdefault(key, i.slot)
        if first != i.slot:
            replacement[i.slot] = first
        else:
            kept.append(i)
    return rewritten(code, replacement, kept)


def _fingerprint(x: Any) -> Any:
    if type(x) is float:
        return repr(x)  # which tells -0.0 from 0.0
    array = np.asarray(x)
    return (type(x).__name__, array.dtype.str, array.shape, array.tobytes())


# ## Constants
def constant_folding(code: Code) -> Code:
    """Compute now what depends on constants alone, or on nothing but a shape."""
    constants = dict(code.constants)
    kept = []
    for i in code.instructions:
        if i.operation is full_like:
            constants[i.slot] = np.full(i.type.shape, i.params["fill_value"], i.params["dtype"])  # type: ignore[union-attr]
        elif i.body is None and i.operands and constants.keys() >= set(i.operands):
            constants[i.slot] = i.operation.forward(*(constants[slot] for slot in i.operands), **i.params)
        else:
            kept.append(i)
    return code._replace(constants=constants, instructions=tuple(kept))


# ## Algebra
# $1 \cdot a = a$, $a + 0 = a$ and $a / 1 = a$ where neither shape nor dtype changes; a reshape, a broadcast or a sum over
# no axes, or over axes of length 1, that changes nothing.
def algebra(code: Code) -> Code:
    """Drop what changes nothing."""
    types = types_of(code)
    replacement: dict[int, int] = {}
    kept = []
    for i in code.instructions:
        i = renamed(i, replacement)
        same = _unchanged(i, code.constants, types) if i.operation in _NEUTRAL or i.operation in _SHAPING else None
        if same is None:
            kept.append(i)
        else:
            replacement[i.slot] = same
    return rewritten(code, replacement, kept)


_SHAPING = {reshape_, broadcast_to_, sum_}
_NEUTRAL = {multiply: (1, (0, 1)), add: (0, (0, 1)), subtract: (0, (1,)), divide: (1, (1,))}


def _unchanged(i: Instruction, constants: dict[int, Any], types: dict[int, Any]) -> int | None:
    """The operand that the result is, if it is one."""
    if i.operation in _NEUTRAL:
        neutral, places = _NEUTRAL[i.operation]
        candidates = [i.operands[1 - k] for k in places if i.operands[k] in constants and _is_all(constants[i.operands[k]], neutral)]
    else:
        candidates = [i.operands[0]] if i.operation is not sum_ or i.params["keepdims"] or not i.params["axis"] else []
    return next((slot for slot in candidates if types[slot] == i.type and slot not in constants), None)


def _is_all(x: Any, number: int) -> bool:
    """Whether a constant is this number, everywhere."""
    return x == number if type(x) is float else bool(np.all(np.equal(x, number)))


# Some passes make work for others: what is transposed in a product leaves its transposition without a user, and those that ask
# whether something is used once mustn't count users that are dead.
PASSES: tuple[Pass, ...] = tuple(map(in_bodies, (
    equal_rows, constant_folding, merge_maps, algebra, common_subexpressions, dead_code,
    double_transpositions, transposed_products, broadcasts, constant_factors, algebra, dead_code,
    scaled_products, associations, multiply_adds, common_subexpressions, sums_of_rows, inline_checkpoints, dead_code,
)))  # fmt: skip


def optimize(code: Code) -> Code:
    """All passes, one after the other."""
    for transform in PASSES:
        code = transform(code)
    return code


def savings(code: Code) -> list[tuple[str, int]]:
    """How many instructions each pass saves, in order."""
    rows = []
    for transform in PASSES:
        after = transform(code)
        rows.append((transform.__name__, len(list(code.walk())) - len(list(after.walk()))))
        code = after
    return rows
