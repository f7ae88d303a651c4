r"""
# Which product first

$X (A B) = (X A)\,B$, but the one may be much more work than the other. What a layer's weights change by is a product of two thin matrices,
$A^\top B$ with a row for each point; and the adapted weights are read only to be multiplied again:

$$ X\,(D + t\,A B) = X D + t\,(X A)\,B, \qquad (D + t\,A B)\,Y = D\,Y + t\,A\,(B\,Y). $$

With five points and weights of 784 by 256, the adapted weights needn't be written down at all.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from .code import Code, Instruction, types_of
from .fusion import product

MOVED = 8  # multiply-adds that take as long as to read or to write a number


class Factor(NamedTuple):
    """A matrix, as a product reads it."""

    slot: int
    transposed: bool

    @property
    def T(self) -> Factor:
        return Factor(self.slot, not self.transposed)


class Inner(NamedTuple):
    """A product that others read, $D + t\\,A B$; D may be missing."""

    D: Factor | None
    t: float
    A: Factor
    B: Factor

    @property
    def T(self) -> Inner:
        return Inner(self.D and self.D.T, self.t, self.B.T, self.A.T)


def associations(code: Code) -> Code:
    """Products of products, in the order that is less work."""
    return _Associating(code).result()


class _Associating:
    """The state of the pass."""

    def __init__(self, code: Code):
        self.code, self.types, self.constants = code, types_of(code), dict(code.constants)
        self.made = {i.slot: i for i in code.instructions}
        self.before: dict[int, list[int]] = {}  # of an instruction that was rewritten: those that are written in front of it
        self.numbers = itertools.count(code.size)
        self.readers: dict[int, list[int]] = {slot: [] for slot in self.types}
        for i in code.instructions:
            self._reads(i)

    def _reads(self, i: Instruction) -> None:
        for slot in dict.fromkeys(i.operands):
            self.readers[slot].append(i.slot)

    def _reads_no_more(self, i: Instruction) -> None:
        for slot in dict.fromkeys(i.operands):
            self.readers[slot].remove(i.slot)

    def result(self) -> Code:
        for i in reversed(self.code.instructions):
            inner = self.inner(i)
            if inner is not None:
                self.rewrite_readers(i, inner)
        kept: list[Instruction] = []
        waiting = [i.slot for i in reversed(self.code.instructions)]
        while waiting:
            slot = waiting.pop()
            if slot in self.before:
                waiting += [slot, *reversed(self.before.pop(slot))]
            else:
                kept.append(self.made[slot])
        return self.code._replace(instructions=tuple(kept), constants=self.constants)

    # ### What a product is made of
    def inner(self, i: Instruction) -> Inner | None:
        """The parts of a product, if its scale is a constant and its bias has its own shape."""
        if i.operation is not product or (scale := self.scale(i)) is None:
            return None
        a, b, *rest = i.operands
        D = Factor(rest[0], False) if i.params["bias"] else None
        if D is not None and self.types[D.slot].shape != i.type.shape:  # type: ignore[union-attr]
            return None
        left, right = i.params["transposed"]
        return Inner(D, scale, Factor(a, left), Factor(b, right))

    def scale(self, i: Instruction) -> float | None:
        if not i.params["scaled"]:
            return 1.0
        x = self.constants.get(i.operands[-1])
        return None if x is None else float(np.asarray(x))

    def shape(self, x: Factor) -> tuple[int, int]:
        m, n = self.types[x.slot].shape  # type: ignore[union-attr]
        return (n, m) if x.transposed else (m, n)

    def cost(self, x: Factor, y: Factor) -> int:
        (m, k), (_, n) = self.shape(x), self.shape(y)
        return m * k * n + MOVED * (m * k + k * n + m * n)

    # ### Who reads it
    def rewrite_readers(self, i: Instruction, inner: Inner) -> None:
        """Let all products that have `i` as a factor do without it, if that is less work in all."""
        readers = [self.made[slot] for slot in self.readers[i.slot]]
        factors = [r for r in readers if r.operation is product and (r.operands[0] == i.slot) != (r.operands[1] == i.slot)
                   and i.slot not in r.operands[2:] and self.scale(r) is not None]  # fmt: skip
        saved = sum(self.saved(r, i.slot, inner) for r in factors)
        dispensable = len(factors) == len(readers) and i.slot not in self.code.outputs
        if dispensable:
            saved += self.cost(inner.A, inner.B)
        if factors and saved > 0:
            for r in factors:
                self.rewrite(r, i.slot, inner)
            if dispensable:
                self._reads_no_more(i)

    def seen(self, r: Instruction, slot: int, inner: Inner) -> tuple[bool, Factor, Inner]:
        """Whether a reader has the inner product on its right; its other factor; the inner product as it reads it."""
        right = r.operands[1] == slot
        mine, its = (Factor(r.operands[k], r.params["transposed"][k]) for k in (not right, right))
        return right, mine, inner.T if its.transposed else inner

    def saved(self, r: Instruction, slot: int, inner: Inner) -> int:
        right, X, (D, _, A, B) = self.seen(r, slot, inner)
        before = self.cost(*(Factor(operand, flag) for operand, flag in zip(r.operands, r.params["transposed"], strict=False)))
        thin = self.shape(A)[1]
        rows, columns = self.shape(A)[0], self.shape(B)[1]
        mine = self.shape(X)[0 if right else 1]
        first = self.cost(X, A) if right else self.cost(B, X)
        last = mine * thin * (columns if right else rows) + MOVED * (mine * thin + thin * (columns if right else rows))
        with_D = 0 if D is None else self.cost(X, D) if right else self.cost(D, X)
        return before - first - last - with_D

    def rewrite(self, r: Instruction, slot: int, inner: Inner) -> None:
        """X (D + t A B) becomes X D + t (X A) B, or the same from the left."""
        right, X, (D, t, A, B) = self.seen(r, slot, inner)
        scale, bias = self.scale(r), r.operands[2] if r.params["bias"] else None
        assert scale is not None
        self._reads_no_more(r)
        thin = self.add(r, *((X, A) if right else (B, X)))
        written = [thin.slot]
        if D is not None:
            whole = self.add(r, *((X, D) if right else (D, X)), bias, scale)
            written.append(whole.slot)
            bias = whole.slot
        T = Factor(thin.slot, False)
        self.made[r.slot] = self.product(r.slot, r, *((T, B) if right else (A, T)), bias, scale * t)
        self.before[r.slot] = [*self.before.get(r.slot, []), *written]
        self._reads(self.made[r.slot])

    def add(self, r: Instruction, a: Factor, b: Factor, bias: int | None = None, scale: float = 1.0) -> Instruction:
        """A new product in front of r."""
        made = self.product(next(self.numbers), r, a, b, bias, scale)
        self.made[made.slot], self.types[made.slot], self.readers[made.slot] = made, made.type, []
        self._reads(made)
        return made

    def product(self, slot: int, like: Instruction, a: Factor, b: Factor, bias: int | None, scale: float) -> Instruction:
        operands = [a.slot, b.slot, *([bias] if bias is not None else [])]
        if scale != 1:
            operands.append(next(self.numbers))
            self.constants[operands[-1]] = scale
            self.readers[operands[-1]] = []
        t = like.type._replace(shape=(self.shape(a)[0], self.shape(b)[1]))  # type: ignore[union-attr]
        params: dict[str, Any] = {"transposed": (a.transposed, b.transposed), "bias": bias is not None, "scaled": scale != 1}
        return like._replace(slot=slot, operation=product, operands=tuple(operands), params=params, type=t)
