r"""
# Blocks: maps and checkpoints

A map costs most, so it is looked at for what it does twice, and for what it makes that nobody wants to see.
"""

from __future__ import annotations

import collections
import functools
import itertools
import operator
from typing import Any

import numpy as np

from ..autodiff.blocks import item
from ..autodiff.operations.reductions import sum_
from .code import Bundle, Code, Instruction, Type, checkpoint, renamed, rewritten
from .fusion import uses


# ## Two maps in one
# The rule of a mapped block computes its function again, to sweep over it. If the cotangents don't depend on the first map's results
# (those of a mean don't), the two maps are one: its body has both bodies, and what they have in common, the forward computation, once.
def merge_maps(code: Code) -> Code:
    """Two maps of the same length become one, where neither depends on the other."""
    while (pair := _mergeable(code)) is not None:
        code = _merged(code, *pair)
    return code


def _mergeable(code: Code) -> tuple[int, int] | None:
    """The places of the first two maps that can be one: everything that the later one needs is there, or can be moved there, where the
    earlier one is."""
    if sum(i.length is not None for i in code.instructions) < 2:
        return None
    depends: dict[int, int] = {}  # of a slot: on which maps, a bit for each
    like: dict[int, int] = collections.defaultdict(int)  # which maps are of this length
    maps: list[int] = []
    pairs = []
    for place, i in enumerate(code.instructions):
        needed = functools.reduce(operator.or_, (depends.get(slot, 0) for slot in i.operands), 0)
        if i.length is not None:
            if free := like[i.length] & ~needed:
                pairs.append((maps[(free & -free).bit_length() - 1], place))  # the lowest bit: the first of them
            like[i.length] |= 1 << len(maps)
            needed |= 1 << len(maps)
            maps.append(place)
        depends[i.slot] = needed
    return min(pairs, default=None)


def _ancestors(code: Code, place: int) -> set[int]:
    """The slots that an instruction depends on."""
    needed = set(code.instructions[place].operands)
    for i in reversed(code.instructions[:place]):
        if i.slot in needed:
            needed.update(i.operands)
    return needed


def _merged(code: Code, first: int, second: int) -> Code:
    """Both maps in one, which stands where the first did; what the second needs moves in front of it."""
    a, b = code.instructions[first], code.instructions[second]
    assert a.body is not None and b.body is not None and isinstance(a.type, Bundle) and isinstance(b.type, Bundle)
    body, operands = _joined(a, b)
    both = a._replace(body=body, operands=operands, type=Bundle((*a.type, *b.type)))
    needed = _ancestors(code, second)
    between = code.instructions[first + 1 : second]
    before = [i for i in between if i.slot in needed]
    rest = [i for i in (*between, *code.instructions[second + 1 :]) if i.slot not in needed]
    rest = [i._replace(operands=(a.slot,), params={"index": i.params["index"] + len(a.type)})
            if i.operation is item and i.operands[0] == b.slot else i for i in rest]  # fmt: skip
    return code._replace(instructions=(*code.instructions[:first], *before, both, *rest))


def _joined(a: Instruction, b: Instruction) -> tuple[Code, tuple[int, ...]]:
    """One body with the inputs of both, each operand of the maps once; what both compute in the same slot, they compute once."""
    assert a.body is not None and b.body is not None
    rows_a, rows_b = list(zip(a.body.inputs, a.operands, strict=False)), list(zip(b.body.inputs, b.operands, strict=False))
    rest_a = list(zip(a.body.captured, a.operands[len(rows_a) :], strict=True))
    rest_b = list(zip(b.body.captured, b.operands[len(rows_b) :], strict=True))
    replacement: dict[int, int] = {}  # of b's inputs that a has in other slots
    inputs, captured = dict(a.body.inputs), dict(a.body.captured)
    operands_of_rows, operands_of_rest = [o for _, o in rows_a], [o for _, o in rest_a]
    for mine, theirs, target, types, operands in (
        (rows_a, rows_b, inputs, b.body.inputs, operands_of_rows),
        (rest_a, rest_b, captured, b.body.captured, operands_of_rest),
    ):
        known = {operand: slot for slot, operand in mine}
        for slot, operand in theirs:
            if operand not in known:
                target[slot] = types[slot]
                operands.append(operand)
            elif known[operand] != slot:
                replacement[slot] = known[operand]
    made = {i.slot for i in a.body.instructions}
    rest = [renamed(i, replacement) for i in b.body.instructions if i.slot not in made]
    outputs = (*a.body.outputs, *(replacement.get(slot, slot) for slot in b.body.outputs))
    body = Code(inputs, captured, a.body.constants | b.body.constants, (*a.body.instructions, *rest), outputs)
    return body, (*operands_of_rows, *operands_of_rest)


# ## Rows that are all the same
# What a mean over the rows hands to each of them is the same number.
def equal_rows(code: Code) -> Code:
    """A constant with the same row for all is a constant of the body."""
    return code._replace(instructions=tuple(_with_equal_rows(i, code.constants) if i.length is not None else i for i in code.instructions))


def _with_equal_rows(block: Instruction, constants: dict[int, Any]) -> Instruction:
    assert block.body is not None
    given = zip(block.body.inputs, block.operands, strict=False)
    same = {slot: constants[x][0] for slot, x in given if x in constants and np.all(constants[x] == constants[x][:1])}
    inputs = {slot: t for slot, t in block.body.inputs.items() if slot not in same}
    operands = [x for slot, x in zip((*block.body.inputs, *block.body.captured), block.operands, strict=True) if slot not in same]
    return block._replace(body=block.body._replace(inputs=inputs, constants={**block.body.constants, **same}), operands=tuple(operands))


# ## Sums of rows
# The gradient by what the rows share is a sum over them. To write down each row's part, only for them to be read once, takes more
# memory than everything else; so the map adds them up as it goes.
def sums_of_rows(code: Code) -> Code:
    """A map's results that are only summed over the rows are summed by the map."""
    maps = {i.slot: i for i in code.instructions if i.length is not None}
    if not maps:
        return code
    count = uses(code)
    items = {i.slot: i for i in code.instructions if i.operation is item and i.operands[0] in maps}
    summed: dict[int, Instruction] = {}  # of an item's slot: the sum
    for i in code.instructions:
        if i.operation is sum_ and i.operands[0] in items and count[i.operands[0]] == 1 and _over_rows(i):
            summed[i.operands[0]] = i
    changed = {slot: _summing(i, {items[s].params["index"] for s in summed if items[s].operands[0] == slot}) for slot, i in maps.items()}
    dropped = {i.slot for i in summed.values()}
    kept = [changed.get(i.slot, i) for i in code.instructions if i.slot not in dropped]
    kept = [i._replace(slot=summed[i.slot].slot, type=summed[i.slot].type) if i.slot in summed else i for i in kept]
    return code._replace(instructions=tuple(kept))


def _over_rows(i: Instruction) -> bool:
    return i.params["axis"] == (0,) and not i.params["keepdims"] and isinstance(i.type, Type) and i.type.dtype.kind == "f"


def _summing(block: Instruction, numbers: set[int]) -> Instruction:
    """The map, which adds up these of its results."""
    if not numbers:
        return block
    assert isinstance(block.type, Bundle)
    types = Bundle(t._replace(shape=t.shape[1:]) if k in numbers else t for k, t in enumerate(block.type))
    return block._replace(type=types, params={"summed": tuple(k in numbers for k in range(len(block.type)))})


# ## Checkpoints
# They keep the passes from sharing what is computed twice. When that is done, their instructions are like others: the first
# run's results are forgotten before the second begins, because nothing reads them.
def inline_checkpoints(code: Code) -> Code:
    """The bodies of checkpoints in the place of the checkpoints."""
    constants, numbers = dict(code.constants), itertools.count(code.size)
    replacement: dict[int, int] = {}
    results: dict[int, list[int]] = {}  # of a checkpoint
    kept = []
    for i in code.instructions:
        i = renamed(i, replacement)
        if i.operation is checkpoint and i.body is not None:
            given = dict(zip((*i.body.inputs, *i.body.captured), i.operands, strict=True))
            new = collections.defaultdict(lambda: next(numbers), given)
            constants.update((new[slot], x) for slot, x in i.body.constants.items())
            kept += [inner._replace(slot=new[inner.slot], operands=tuple(new[s] for s in inner.operands)) for inner in i.body.instructions]
            results[i.slot] = [new[slot] for slot in i.body.outputs]
        elif i.operation is item and i.operands[0] in results:
            replacement[i.slot] = results[i.operands[0]][i.params["index"]]
        else:
            kept.append(i)
    return rewritten(code._replace(constants=constants), replacement, kept)
