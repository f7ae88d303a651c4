r"""
# Fusion: several steps in one

Two kernels do more than one step at a time, one for matrices and one element by element:

$$ C = D + s\,A B, \qquad\qquad y = d + s\,a\,b, $$

where $s$ is a number, either factor of the matrix product may be stored transposed, and each operand of the other may be a row, a
column or a number, which is repeated. Layers, gradient steps, the derivative of tanh, the cell of an LSTM, and what the sweep
makes of them, are mostly of these two forms; the passes here find them.

Numbers and additions take another place in the arithmetic than they had: the results are equal up to rounding, not to the bit.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np

from ..autodiff.operations.elementwise import add, divide, multiply, negative, square, subtract
from ..autodiff.operations.indexing import getitem
from ..autodiff.operations.products import matmul_
from ..autodiff.operations.reductions import sum_
from ..autodiff.operations.shapes import broadcast_to_, reshape_, transpose_
from ..autodiff.tensor import operation
from .code import Code, Instruction, Type, renamed, rewritten, types_of


@operation
def product(a: Any, b: Any, *rest: Any, transposed: tuple[bool, bool], bias: bool, scaled: bool) -> Any:
    """d + s * (a @ b), with `rest` = (d, s), as far as there are any."""
    c = np.matmul(a.T if transposed[0] else a, b.T if transposed[1] else b)
    c = c * rest[-1] if scaled else c
    return rest[0] + c if bias else c


@operation
def multiply_add(a: Any, b: Any, *rest: Any, bias: bool, scaled: bool) -> Any:
    """d + s * (a * b), with `rest` = (d, s), as far as there are any."""
    y = a * b
    y = y * rest[-1] if scaled else y
    return rest[0] + y if bias else y


def uses(code: Code) -> Counter[int]:
    """How often each slot is read."""
    return Counter(itertools.chain(code.outputs, *(i.operands for i in code.instructions)))


# ## Transpositions
def double_transpositions(code: Code) -> Code:
    """A transposition of a transposition is one, or none."""
    made = {i.slot: i for i in code.instructions if i.operation is transpose_}
    replacement: dict[int, int] = {}
    kept = []
    for i in code.instructions:
        i = renamed(i, replacement)
        inner = made.get(i.operands[0]) if i.operation is transpose_ else None
        if inner is not None:
            axes = tuple(inner.params["axes"][k] for k in i.params["axes"])
            i = made[i.slot] = i._replace(operands=inner.operands, params={"axes": axes})
            if axes == tuple(range(len(axes))):
                replacement[i.slot] = inner.operands[0]
                continue
        kept.append(i)
    return rewritten(code, replacement, kept)


# A transposed factor needs no copy. And $(A B)^\top = B^\top A^\top$: a product of which only the transposition is needed is
# computed as that.
def transposed_products(code: Code) -> Code:
    """Products of matrices take a transposed factor as it is stored, and give a transposed result."""
    types, count = types_of(code), uses(code)
    source = {i.slot: i.operands[0] for i in code.instructions if i.operation is transpose_ and i.params["axes"] == (1, 0)}
    products: dict[int, Instruction] = {}
    kept = []
    for i in code.instructions:
        if i.operation is matmul_ and all(len(types[slot].shape) == 2 for slot in i.operands):  # type: ignore[union-attr]
            transposed = tuple(slot in source for slot in i.operands)
            operands = tuple(source.get(slot, slot) for slot in i.operands)
            i = i._replace(operation=product, operands=operands, params={"transposed": transposed, "bias": False, "scaled": False})
            products[i.slot] = i
        elif i.slot in source and i.operands[0] in products and count[i.operands[0]] == 1:
            inner = products[i.operands[0]]
            params = {**inner.params, "transposed": tuple(not flag for flag in inner.params["transposed"][::-1])}
            i = inner._replace(slot=i.slot, type=i.type, operands=inner.operands[::-1], params=params)
        kept.append(i)
    return code._replace(instructions=tuple(kept))


# ## Repetition
REPEATING = {add, subtract, multiply, divide}


def broadcasts(code: Code) -> Code:
    """What is repeated only to meet something larger element by element isn't: the kernels repeat it themselves."""
    types = types_of(code)
    source = {i.slot: i.operands[0] for i in code.instructions if i.operation is broadcast_to_}

    def shrunk(i: Instruction) -> Instruction:
        operands = tuple(source.get(slot, slot) for slot in i.operands) if i.operation in REPEATING else i.operands
        if operands == i.operands or np.broadcast_shapes(*(types[slot].shape for slot in operands)) != i.type.shape:  # type: ignore[union-attr]
            return i
        return i._replace(operands=operands)

    return code._replace(instructions=tuple(map(shrunk, code.instructions)))


# ## Constant factors
# The sweep multiplies by learning rates, by 2 from a square, by 1/n from a mean, by -1. Such a factor can wait: what is linear
# in $x$ doesn't mind whether $x$ is multiplied before or after,
# $$ (s x)^\top = s\,x^\top, \qquad \textstyle\sum_i s x_i = s \sum_i x_i, \qquad (s x)\,y = s\,(x y), $$
# and on its way it meets others, which it is multiplied with now, and products, which have a place for it. So each slot is taken
# for a *factor* times another slot; the multiplication itself is written down as well, for those that can't wait, and is dead
# code if there are none. A factor beyond these bounds stays where it is: it may be there to keep numbers in range.
LEAST, GREATEST = 1e-6, 1e6
LINEAR = {transpose_, reshape_, sum_}


def number(constant: Any) -> float | None:
    """The number that a constant is, everywhere."""
    x = np.asarray(constant)
    return float(x.flat[0]) if x.dtype.kind in "fi" and x.size and np.all(x == x.flat[0]) else None


def constant_factors(code: Code) -> Code:
    """Constant factors move towards the products, and become one on the way."""
    return _Factors(code).result()


class _Factors:
    """The state of the pass: of each slot that is a multiple of another one, the factor and the other."""

    def __init__(self, code: Code):
        self.code, self.types, self.constants = code, types_of(code), dict(code.constants)
        self.found: dict[int, tuple[float, int]] = {}
        self.values = {slot: x for slot, constant in code.constants.items() if (x := number(constant)) is not None}
        self.slots: dict[float, int] = {}  # of new constants
        self.numbers = itertools.count(code.size)
        self.kept: list[Instruction] = []

    def result(self) -> Code:
        for i in self.code.instructions:
            if not isinstance(i.type, Type) or i.type.dtype.kind != "f" or i.type.weak or not i.operands:
                self.kept.append(i)
            elif (multiple := self.multiple(i)) is not None and LEAST < abs(multiple[0]) < GREATEST:
                self.write(i, *multiple)
            elif i.operation is product:
                self.kept.append(self.scaled(i))
            else:
                self.kept.append(self.pulled(i))
        return self.code._replace(instructions=tuple(self.kept), constants=self.constants)

    def split(self, slot: int) -> tuple[float, int]:
        return self.found.get(slot, (1.0, slot))

    def constant(self, factor: float) -> int:
        if factor not in self.slots:
            self.slots[factor] = next(self.numbers)
            self.constants[self.slots[factor]] = factor
        return self.slots[factor]

    def multiple(self, i: Instruction) -> tuple[float, int] | None:
        """The factor and the slot that the result is a multiple of, if it is one."""
        a, b = i.operands[0], i.operands[-1]
        if i.operation is negative:
            factor, slot = -1.0, a
        elif i.operation is add and a == b:
            factor, slot = 2.0, a
        elif i.operation is multiply and (s := self.values.get(a)) is not None:
            factor, slot = s, b
        elif i.operation is multiply and (s := self.values.get(b)) is not None:
            factor, slot = s, a
        elif i.operation is divide and (s := self.values.get(b)):
            factor, slot = 1 / s, a
        else:
            return None
        if self.types[slot] != i.type or slot in self.constants:
            return None
        before, origin = self.split(slot)
        return before * factor, origin

    def write(self, i: Instruction, factor: float, origin: int) -> None:
        """i is factor times origin."""
        self.found[i.slot] = factor, origin
        self.kept.append(i._replace(operation=multiply, operands=(origin, self.constant(factor)), params={}))

    def scaled(self, i: Instruction) -> Instruction:
        """A product with the factors of its operands as its own."""
        (s, a), (t, b) = map(self.split, i.operands)
        if s * t == 1:
            return i
        return i._replace(operands=(a, b, self.constant(s * t)), params={**i.params, "scaled": True})

    def pulled(self, i: Instruction) -> Instruction:
        """The instruction without the factors of its operands, if it is linear in them; they come after it."""
        if i.operation is multiply:
            (s, a), (t, b) = map(self.split, i.operands)
            factor, operands = s * t, (a, b)
        elif i.operation in LINEAR or (i.operation is getitem and len(i.operands) == 1):
            factor, slot = self.split(i.operands[0])
            operands = (slot,)  # type: ignore[assignment]
        else:
            return i
        if factor == 1 or not LEAST < abs(factor) < GREATEST:
            return i
        inner = i._replace(slot=next(self.numbers), operands=operands)
        self.kept.append(inner)
        self.found[i.slot] = factor, inner.slot
        return i._replace(operation=multiply, operands=(inner.slot, self.constant(factor)), params={})


# ## Absorption
# An instruction that reads a product, as the only one, becomes a part of it: a number that multiplies it is its scale, what it is
# added to is its bias, or that of the first product in a sum of some.
LONGEST_CHAIN = 16  # of products


class _Absorbing:
    """What the absorbing passes share: the instructions so far, and those among them that may be absorbed."""

    def __init__(self, code: Code):
        self.code, self.types, self.uses, self.constants = code, types_of(code), uses(code), dict(code.constants)
        self.made: dict[int, Instruction] = {}  # in their order
        self.numbers = itertools.count(code.size)

    def result(self) -> Code:
        return self.code._replace(constants=self.constants, instructions=tuple(self.made.values()))

    def only(self, slot: int, *operations: Any) -> Instruction | None:
        """The instruction that made a slot, if it is one of these and nobody else reads it."""
        made = self.made.get(slot)
        return made if made is not None and made.operation in operations and self.uses[slot] == 1 else None

    def chain(self, slot: int) -> list[Instruction]:
        """$(A B + \\dots) + A' B'$: products of which each is the bias of the next, up to this slot; the first one has no bias yet. Not if
        they are too many: to walk along all of them for each that is added would take as long as the square of their number."""
        products: list[Instruction] = []
        while (made := self.only(slot, product)) is not None and (not products or made.type == products[0].type):
            if len(products) == LONGEST_CHAIN:
                return []
            products.insert(0, made)
            if not made.params["bias"]:
                return products
            slot = made.operands[2]
        return []

    def replace(self, chain: list[Instruction], i: Instruction, operands: tuple[int, ...], **params: bool) -> None:
        """In the place of i, write the chain, its first instruction with other operands; and its last is i."""
        for made in chain:
            del self.made[made.slot]
        chain = [chain[0]._replace(operands=operands, params={**chain[0].params, **params}), *chain[1:]]
        lines = tuple(dict.fromkeys((*chain[-1].lines, *i.lines)))
        chain[-1] = chain[-1]._replace(slot=i.slot, type=i.type, lines=lines)
        self.made.update((made.slot, made) for made in chain)

    def constant(self, value: Any) -> int:
        """The slot of a new constant."""
        slot = next(self.numbers)
        self.constants[slot] = value
        return slot


def scaled_products(code: Code) -> Code:
    """What multiplies a product by a number, or adds to it, or takes it away from something, is done by the product."""
    state = _Absorbing(code)
    for i in code.instructions:
        if not (i.operation is multiply and _scale(state, i)) and not (i.operation in (add, subtract) and _bias(state, i)):
            state.made[i.slot] = i
    return state.result()


def _scale(state: _Absorbing, i: Instruction) -> bool:
    """s * (A B), for a number s."""
    for slot, s in (i.operands, i.operands[::-1]):
        made = state.only(slot, product)
        if made is None or made.params["bias"] or made.type != i.type or state.types[s].shape != ():  # type: ignore[union-attr]
            continue
        a, b, *before = made.operands
        if before and not {s, *before} <= state.constants.keys():
            continue
        state.replace([made], i, (a, b, state.constant(state.constants[s] * state.constants[before[0]]) if before else s), scaled=True)
        return True
    return False


def _bias(state: _Absorbing, i: Instruction) -> bool:
    """D + s A B, or D - s A B for a constant s."""
    for d, slot in _orders(i):
        chain = state.chain(slot)
        if not chain or chain[0].type != i.type or not _may_be_bias(state.types[d], i.type):
            continue
        a, b, *s = chain[0].operands
        if i.operation is subtract:
            if len(chain) > 1 or (s and s[0] not in state.constants):
                continue
            s = [state.constant(-state.constants[s[0]] if s else -1.0)]
        state.replace(chain, i, (a, b, d, *s), bias=True, scaled=bool(s))
        return True
    return False


def _orders(i: Instruction) -> list[tuple[int, ...]]:
    """The operands of an addition in both orders, those of a subtraction in their own."""
    return [i.operands] if i.operation is subtract else [i.operands, i.operands[::-1]]


def _may_be_bias(d: Any, whole: Any) -> bool:
    return not d.weak and d.dtype == whole.dtype and d.shape in (whole.shape, (1, *whole.shape[1:]), whole.shape[1:])


# Element by element: a multiplication that is read once, by an addition or by another multiplication with a number.
def multiply_adds(code: Code) -> Code:
    """Products of elements take the number that multiplies them and what they are added to or taken from."""
    state = _Absorbing(code)
    for i in code.instructions:
        if i.operation is square:
            i = i._replace(operation=multiply, operands=(*i.operands, *i.operands))
        if not (i.operation is multiply and _number(state, i)) and not (i.operation in (add, subtract) and _sum(state, i)):
            state.made[i.slot] = i
    return state.result()


def _number(state: _Absorbing, i: Instruction) -> bool:
    """s (a b)"""
    for slot, s in (i.operands, i.operands[::-1]):
        made = state.only(slot, multiply)
        if slot == s or made is None or made.type != i.type or state.types[s].shape != ():  # type: ignore[union-attr]
            continue  # (a square reads its operand twice)
        state.replace([made._replace(operation=multiply_add)], i, (*made.operands, s), bias=False, scaled=True)
        return True
    return False


def _sum(state: _Absorbing, i: Instruction) -> bool:
    """d + s a b, or d - s a b for a constant s; or d - s a is d + (-s) a."""
    for d, slot in _orders(i):
        made = state.only(slot, multiply, multiply_add)
        if made is None or made.params.get("bias") or made.type != i.type or i.type.dtype.kind != "f":  # type: ignore[union-attr]
            continue
        a, b, *s = made.operands
        if i.operation is subtract:
            if s and s[0] not in state.constants:
                continue
            if not s and (x := state.constants.get(b)) is not None and np.ndim(x) == 0:
                b = state.constant(-x)
            else:
                s = [state.constant(-state.constants[s[0]] if s else -1.0)]
        state.replace([made._replace(operation=multiply_add)], i, (a, b, d, *s), bias=True, scaled=bool(s))
        return True
    return False
