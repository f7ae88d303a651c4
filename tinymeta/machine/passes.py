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
from ..autodiff.operations.products import matmul_
from ..autodiff.operations.reductions import sum_
from ..autodiff.operations.shapes import broadcast_to_, full_like, reshape_, transpose_
from ..autodiff.tensor import operation
from .code import Bundle, Code, Instruction, Type

Pass = Callable[[Code], Code]


def rewritten(code: Code, replacement: dict[int, int], instructions: list[Instruction]) -> Code:
    """The code with these instructions, in which slots are replaced by others (chains of replacements are followed)."""

    def final(slot: int) -> int:
        while slot in replacement:
            slot = replacement[slot]
        return slot

    moved = tuple(i._replace(operands=tuple(map(final, i.operands))) for i in instructions)
    return code._replace(instructions=moved, outputs=tuple(map(final, code.outputs)))


def in_bodies(transform: Pass) -> Pass:
    """The same pass, in the bodies of blocks too."""

    def everywhere(code: Code) -> Code:
        inner = tuple(i if i.body is None else i._replace(body=everywhere(i.body)) for i in code.instructions)
        return transform(code._replace(instructions=inner))

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
    body = dead_code(block.body._replace(outputs=tuple(block.body.outputs[k] for k in numbers)))
    needed = {slot for i in body.instructions for slot in i.operands} | set(body.outputs)
    given = list(zip((*body.inputs, *body.captured), block.operands, strict=True))
    operands = tuple(operand for slot, operand in given if slot in needed)
    body = body._replace(inputs={s: t for s, t in body.inputs.items() if s in needed},
                         captured={s: t for s, t in body.captured.items() if s in needed})  # fmt: skip
    assert isinstance(block.type, Bundle)
    return block._replace(body=body, operands=operands, type=Bundle(block.type[k] for k in numbers))


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
        key = _fingerprint(x)
        replacement |= {slot: seen[key]} if key in seen else {}
        seen.setdefault(key, slot)
    for instruction in code.instructions:
        operands = tuple(replacement.get(slot, slot) for slot in instruction.operands)
        key = (instruction.operation, operands, repr(instruction.params)) if instruction.body is None else instruction.slot
        if key in seen:
            replacement[instruction.slot] = seen[key]
        else:
            seen[key] = instruction.slot
            kept.append(instruction)
    return rewritten(code, replacement, kept)


def _fingerprint(x: Any) -> Any:
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
        elif i.body is None and i.operands and all(slot in constants for slot in i.operands):
            constants[i.slot] = i.operation.forward(*(constants[slot] for slot in i.operands), **i.params)
        else:
            kept.append(i)
    return code._replace(constants=constants, instructions=tuple(kept))


# ## Algebra
# $1 \cdot a = a$, $a + 0 = a$ and $a / 1 = a$ where neither shape nor dtype changes; a reshape, a broadcast or a sum over
# axes of length 1 that changes nothing.
def algebra(code: Code) -> Code:
    """Drop what changes nothing."""
    types = types_of(code)
    replacement: dict[int, int] = {}
    kept = []
    for i in code.instructions:
        operands = tuple(replacement.get(slot, slot) for slot in i.operands)
        same = next((slot for slot in operands if _changes_nothing(i, slot, operands, code.constants, types)), None)
        if same is None:
            kept.append(i)
        else:
            replacement[i.slot] = same
    return rewritten(code, replacement, kept)


_NEUTRAL = {"multiply": (1, (0, 1)), "add": (0, (0, 1)), "subtract": (0, (1,)), "divide": (1, (1,))}


def _changes_nothing(i: Instruction, slot: int, operands: tuple[int, ...], constants: dict[int, Any], types: dict[int, Any]) -> bool:
    """Whether the result is the operand in this slot."""
    if types[slot] != i.type or slot in constants:
        return False
    if i.operation in (reshape_, broadcast_to_) or (i.operation is sum_ and i.params["keepdims"]):
        return True
    if i.operation.name not in _NEUTRAL or len(operands) != 2:
        return False
    neutral, places = _NEUTRAL[i.operation.name]
    others = [operands[k] for k in places if operands[1 - k] == slot and operands[k] in constants]
    return any(np.all(np.asarray(constants[other]) == neutral) for other in others)


def types_of(code: Code) -> dict[int, Type | Bundle]:
    """The type of every slot."""
    from .code import type_of

    constants = {slot: type_of(x) for slot, x in code.constants.items()}
    return {**code.inputs, **code.captured, **constants, **{i.slot: i.type for i in code.instructions}}


# ## Maps
# The rule of a mapped block runs its function again, to sweep over it. If the cotangents don't depend on the first run's results
# (those of a mean don't), the two maps are one: its body has both bodies, in which common subexpressions then find the
# forward computation twice.
def merge_maps(code: Code) -> Code:
    """Two maps of the same length become one, where neither depends on the other."""
    while (pair := _mergeable(code)) is not None:
        code = _merged(code, *pair)
    return code


def _mergeable(code: Code) -> tuple[int, int] | None:
    """The places of two maps that can be one: everything that the later one needs is there at the earlier's place, or can be moved."""
    maps = [k for k, i in enumerate(code.instructions) if i.length is not None]
    for n, first in enumerate(maps):
        for second in maps[n + 1 :]:
            a, b = code.instructions[first], code.instructions[second]
            if a.length == b.length and a.slot not in _ancestors(code, second):
                return first, second
    return None


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
    both = a._replace(body=common_subexpressions(body), operands=operands, type=Bundle((*a.type, *b.type)))
    needed = _ancestors(code, second)
    between = code.instructions[first + 1 : second]
    before = [i for i in between if i.slot in needed]
    rest = [i for i in (*between, *code.instructions[second + 1 :]) if i.slot not in needed]
    rest = [i._replace(operands=(a.slot,), params={"index": i.params["index"] + len(a.type)})
            if i.operation is item and i.operands[0] == b.slot else i for i in rest]  # fmt: skip
    return code._replace(instructions=(*code.instructions[:first], *before, both, *rest))


def _joined(a: Instruction, b: Instruction) -> tuple[Code, tuple[int, ...]]:
    """One body with the inputs of both, each operand of the maps once."""
    assert a.body is not None and b.body is not None
    shift = a.body.size
    rows_a, rows_b = list(zip(a.body.inputs, a.operands, strict=False)), list(zip(b.body.inputs, b.operands, strict=False))
    rest_a = list(zip(a.body.captured, a.operands[len(rows_a) :], strict=True))
    rest_b = list(zip(b.body.captured, b.operands[len(rows_b) :], strict=True))
    new = {slot: slot + shift for slot in range(b.body.size)}  # of b's slots: where they are in the joined body
    inputs, captured = dict(a.body.inputs), dict(a.body.captured)
    operands_of_rows, operands_of_rest = [o for _, o in rows_a], [o for _, o in rest_a]
    for mine, theirs, target, types, operands in (
        (rows_a, rows_b, inputs, b.body.inputs, operands_of_rows),
        (rest_a, rest_b, captured, b.body.captured, operands_of_rest),
    ):
        known = {operand: slot for slot, operand in mine}
        for slot, operand in theirs:
            if operand in known:
                new[slot] = known[operand]
            else:
                target[new[slot]] = types[slot]
                operands.append(operand)
    moved = tuple(i._replace(slot=new[i.slot], operands=tuple(new[s] for s in i.operands)) for i in b.body.instructions)
    constants = {**a.body.constants, **{new[slot]: x for slot, x in b.body.constants.items()}}
    outputs = (*a.body.outputs, *(new[slot] for slot in b.body.outputs))
    body = Code(inputs, captured, constants, (*a.body.instructions, *moved), outputs)
    return body, (*operands_of_rows, *operands_of_rest)


# ## Products
# A transposed factor needs no copy, a scale and an addition no pass over the result: the kernel computes
# $$ C = D + s\,A B $$
# with either factor stored transposed, where D may be a row that is added to each row.
@operation
def product(a: Any, b: Any, *rest: Any, transposed: tuple[bool, bool], bias: bool, scaled: bool) -> Any:
    """d + s * (a @ b), with `rest` = (d, s), as far as there are any."""
    c = np.matmul(a.T if transposed[0] else a, b.T if transposed[1] else b)
    c = c * rest[-1] if scaled else c
    return rest[0] + c if bias else c


def double_transpositions(code: Code) -> Code:
    """A transposition of a transposition is one, or none."""
    made = {i.slot: i for i in code.instructions if i.operation is transpose_}
    replacement: dict[int, int] = {}
    kept = []
    for i in code.instructions:
        inner = made.get(replacement.get(i.operands[0], i.operands[0])) if i.operation is transpose_ else None
        if inner is not None:
            axes = tuple(inner.params["axes"][k] for k in i.params["axes"])
            i = made[i.slot] = i._replace(operands=inner.operands, params={"axes": axes})
            if axes == tuple(range(len(axes))):
                replacement[i.slot] = inner.operands[0]
                continue
        kept.append(i)
    return rewritten(code, replacement, kept)


def transposed_factors(code: Code) -> Code:
    """Products of matrices take the transposed factor as it is stored."""
    types = types_of(code)
    made = {i.slot: i.operands[0] for i in code.instructions if i.operation is transpose_ and i.params["axes"] == (1, 0)}

    def folded(i: Instruction) -> Instruction:
        if i.operation is not matmul_ or any(len(types[slot].shape) != 2 for slot in i.operands):  # type: ignore[union-attr]
            return i
        transposed = tuple(slot in made for slot in i.operands)
        operands = tuple(made.get(slot, slot) for slot in i.operands)
        return i._replace(operation=product, operands=operands, params={"transposed": transposed, "bias": False, "scaled": False})

    return code._replace(instructions=tuple(map(folded, code.instructions)))


def scaled_products(code: Code) -> Code:
    """What multiplies a product by a number, or adds to it or takes it away from something, is done by the product."""
    return _absorb(_absorb(code, _with_scale), _with_bias)


def _absorb(code: Code, combine: Callable[[Instruction, Instruction, dict[int, Any], dict[int, Any]], Instruction | None]) -> Code:
    """Combine products that are used once with their user."""
    types, constants = types_of(code), dict(code.constants)
    uses: dict[int, int] = {}
    for slot in (*(s for i in code.instructions for s in i.operands), *code.outputs):
        uses[slot] = uses.get(slot, 0) + 1
    products: dict[int, Instruction] = {}
    kept: dict[int, Instruction] = {}
    for i in code.instructions:
        for slot in i.operands:
            if slot in products and uses[slot] == 1 and (both := combine(i, products[slot], types, constants)) is not None:
                del kept[slot]
                i = both
                break
        kept[i.slot] = i
        if i.operation is product:
            products[i.slot] = i
    return code._replace(instructions=tuple(kept.values()), constants=constants)


def _with_scale(i: Instruction, made: Instruction, types: dict[int, Any], constants: dict[int, Any]) -> Instruction | None:
    """s * (A B), for a number s."""
    if i.operation.name != "multiply" or made.params["scaled"] or made.params["bias"] or i.type != made.type:
        return None
    s = i.operands[1] if i.operands[0] == made.slot else i.operands[0]
    if types[s].shape != ():
        return None
    return made._replace(slot=i.slot, operands=(*made.operands, s), params={**made.params, "scaled": True})


def _with_bias(i: Instruction, made: Instruction, types: dict[int, Any], constants: dict[int, Any]) -> Instruction | None:
    """D + s A B, or D - s A B for a constant s, for a matrix or a row D."""
    if i.operation.name not in ("add", "subtract") or made.params["bias"] or i.type != made.type:
        return None
    d = i.operands[1] if i.operands[0] == made.slot else i.operands[0]
    m, n = made.type.shape  # type: ignore[union-attr]
    if types[d].weak or types[d].dtype != i.type.dtype or types[d].shape not in ((m, n), (1, n), (n,)):  # type: ignore[union-attr]
        return None
    a, b, *s = made.operands
    if i.operation.name == "subtract":
        if i.operands[1] != made.slot or (s and s[0] not in constants):
            return None
        negative = 1 + max((*types, *constants))
        constants[negative] = -constants[s[0]] if s else -1.0
        s = [negative]
    params = {**made.params, "bias": True, "scaled": bool(s)}
    return made._replace(slot=i.slot, operands=(a, b, d, *s), params=params)


# Some passes make work for others: what is transposed in a product leaves its transposition without a user.
PASSES: tuple[Pass, ...] = tuple(map(in_bodies, (
    dead_code, constant_folding, algebra, common_subexpressions, merge_maps, dead_code,
    double_transpositions, transposed_factors, scaled_products, dead_code,
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
