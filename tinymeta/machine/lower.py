r"""
# From code to the machine's table

The machine knows no shapes and no dtypes; it knows flat memory, and eight families of instructions on it. To lower code is
to give each slot a place in memory and each instruction a row of 24 numbers:

    family, function, three sizes, then (base, offset) of the result and of up to three operands, then whatever else

A place is an offset from a *base*: the arena of the thread that runs, the block of constants, an input, a captured value,
or an output. When a mapped body goes on to the next row, only the bases of its mapped inputs and of its outputs move.

A slot of the arena is free again after its last use, so a long program needs little more than its widest moment. Truth values
are the numbers 0 and 1. A reshape is another name for the same place.

What can't be lowered (most of what is done to integers, an operation that has no family) stays with NumPy: `execute` sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.operations import elementwise, indexing, products, reductions, shapes
from ..autodiff.tensor import Operation
from .code import Code, Instruction, Type, types_of
from .fusion import multiply_add, product, uses

UNARY, BINARY, WHERE, REDUCE, COPY, FILL, PRODUCT, MULTIPLY_ADD = range(8)
RESULT, FIRST, SECOND, THIRD, REST = 5, 7, 9, 11, 13  # columns of a row
LEFT, RIGHT = 1, 2  # which factor of a product is stored transposed
ZERO, ONE = 0, 1  # the first two constants
ARENA, CONSTANTS = 0, 1  # the first two bases; then come inputs, captured values, outputs
WIDTH = 24  # of a row
DIMENSIONS = 4  # of a strided copy

FUNCTIONS_OF_ONE = [
    "negative", "square", "sqrt", "exp", "log", "tanh", "sigmoid", "absolute", "relu", "sign", "expm1", "log1p", "sin", "cos", "tan",
    "sinh", "cosh", "arctan",
]  # fmt: skip
FUNCTIONS_OF_TWO = [
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
    "power",
]  # fmt: skip


class Place(NamedTuple):
    """Where a slot is."""

    base: int
    offset: int


class Lowered(NamedTuple):
    """Code for the machine."""

    table: np.ndarray  # flat, WIDTH numbers of int64 for each row
    constants: np.ndarray  # flat, in the program's dtype
    arena: int  # how many elements it needs
    inputs: tuple[Type, ...]  # and then captured values, as `Code` lists them
    outputs: tuple[Type, ...]
    summed: tuple[int | None, ...]  # for each output that is a sum over rows: where it is among the sums
    sums: int  # how many elements the sums have
    row_steps: np.ndarray  # int64, for each base: how far it moves from one row of a map to the next
    portion_steps: np.ndarray  # from one portion of the rows to the next: the sums alone move
    origins: tuple[int, ...]  # for each row of the table: the slot that it computes
    places: dict[int, Place]  # of the slots in the arena


class Unsupported(Exception):
    """An instruction that stays with NumPy; `position` is its number in the code."""

    position = 0


def lower(code: Code, summed: Sequence[bool] = ()) -> Lowered:
    """The table for the machine; the outputs that are `summed` are added up over the rows of a map.

    Raises Unsupported if an instruction has to stay with NumPy.
    """
    return _Lowering(code, summed or [False] * len(code.outputs)).result()


class _Lowering:
    """The state of one lowering: the rows so far, the places of the slots, the free parts of the arena."""

    def __init__(self, code: Code, summed: Sequence[bool]):
        self.code, self.types, self.summed = code, types_of(code), summed
        self.dtype = _common_dtype(code, self.types)
        self.rows: list[list[int]] = []
        self.origins: list[int] = []
        self.places: dict[int, Place] = {}
        self.constants: list[np.ndarray] = [np.array([0.0, 1.0], self.dtype)]
        self.constants_size = 2
        self.free: list[tuple[int, int]] = []  # (offset, size), in order
        self.arena = 0
        self.roots: dict[int, int] = {}  # of an alias: the slot whose place it shares
        given = [*code.inputs, *code.captured]
        self.places.update((slot, Place(2 + k, 0)) for k, slot in enumerate(given))
        self.uses = uses(code)
        self.output_places = self._output_places(2 + len(given))

    def _output_places(self, base: int) -> list[Place]:
        """The sums lie one after the other at a base of their own, which all rows share; each other output has its own base."""
        sums, places = 0, []
        for slot, summed in zip(self.code.outputs, self.summed, strict=True):
            if summed:
                places.append(Place(base, sums))
                sums += self.size(slot)
            else:
                places.append(Place(base + 1 + sum(place.base > base for place in places), 0))
        self.sizes_of_outputs = [sums, *(self.size(slot) for slot, summed in zip(self.code.outputs, self.summed, strict=True) if not summed)]
        return places

    def result(self) -> Lowered:
        for position, instruction in enumerate(self.code.instructions):
            try:
                self.add(instruction)
            except Unsupported as unsupported:
                unsupported.position = position
                raise
        for slot, place, summed in zip(self.code.outputs, self.output_places, self.summed, strict=True):
            self.origin = slot
            size = self.size(slot)
            if summed:
                self.emit(BINARY, FUNCTIONS_OF_TWO.index("add"), [1, size], [place, place, self.place(slot), Place(0, 0)], [size, 1, size, 1])
            elif self.place(slot) != place:
                self.copy(place, self.place(slot), [size], [1], [1])
        constants = np.concatenate(self.constants)
        inputs, captured = ([self.checked(slot) for slot in slots] for slots in (self.code.inputs, self.code.captured))
        sizes = [self.arena, constants.size, *(math.prod(t.shape) for t in (*inputs, *captured)), *self.sizes_of_outputs]
        for row in self.rows:
            check_row(row, sizes)
        row_steps = [0, 0, *(math.prod(t.shape) for t in inputs), *[0] * len(captured), 0, *self.sizes_of_outputs[1:]]
        portion_steps = [0] * len(row_steps)
        portion_steps[2 + len(inputs) + len(captured)] = self.sizes_of_outputs[0]
        outputs = tuple(self.checked(slot) for slot in self.code.outputs)
        summed = tuple(place.offset if s else None for place, s in zip(self.output_places, self.summed, strict=True))
        in_arena = {slot: place for slot, place in self.places.items() if place.base == ARENA}
        return Lowered(np.array(self.rows, np.int64).ravel(), constants, self.arena, (*inputs, *captured), outputs, summed,
                       self.sizes_of_outputs[0], np.array(row_steps, np.int64), np.array(portion_steps, np.int64), tuple(self.origins), in_arena)  # fmt: skip

    def add(self, instruction: Instruction) -> None:
        """The rows of an instruction."""
        lowering = LOWERINGS.get(instruction.operation)
        if lowering is None or not isinstance(instruction.type, Type):
            raise Unsupported
        self.origin = instruction.slot
        for slot in (instruction.slot, *instruction.operands):
            self.checked(slot)
        lowering(self, instruction)
        for slot in instruction.operands:
            self.done_with(slot)

    # ### Slots
    def checked(self, slot: int) -> Type:
        """The type of a slot, which must be of the machine's floats or of truth values."""
        found = self.types[slot]
        if not isinstance(found, Type) or not (found.weak or found.dtype == self.dtype or found.dtype.kind == "b"):
            raise Unsupported
        if found.weak and found.dtype.kind not in "fb" and slot not in self.code.constants:
            raise Unsupported
        return found

    def floats(self, slot: int) -> None:
        """Refuse a slot of truth values."""
        if self.checked(slot).dtype.kind == "b":
            raise Unsupported

    def shape(self, slot: int) -> tuple[int, ...]:
        return self.checked(slot).shape

    def size(self, slot: int) -> int:
        return math.prod(self.shape(slot))

    def place(self, slot: int) -> Place:
        """Where a slot is; a constant is put among the constants when it is first asked for."""
        self.checked(slot)
        if slot not in self.places:
            value = np.ascontiguousarray(self.code.constants[slot], self.dtype).ravel()
            self.places[slot] = Place(CONSTANTS, self.constants_size)
            self.constants.append(value)
            self.constants_size += value.size
        return self.places[slot]

    def new(self, instruction: Instruction) -> Place:
        """A place for a result: where the output is to be, or in the arena."""
        outputs = [k for k, slot in enumerate(self.code.outputs) if slot == instruction.slot]
        place = self.allocate(self.size(instruction.slot)) if len(outputs) != 1 or self.summed[outputs[0]] else self.output_places[outputs[0]]
        self.places[instruction.slot] = place
        return place

    def allocate(self, size: int) -> Place:
        """The first free part of the arena that is large enough, else more arena."""
        size = -(-max(size, 1) // 8) * 8  # whole vectors
        for k, (offset, length) in enumerate(self.free):
            if length >= size:
                self.free[k : k + 1] = [(offset + size, length - size)] if length > size else []
                return Place(ARENA, offset)
        self.arena += size
        return Place(ARENA, self.arena - size)

    def release(self, place: Place, size: int) -> None:
        """Give a part of the arena back, joined with its free neighbours."""
        size = -(-max(size, 1) // 8) * 8
        parts = sorted([*self.free, (place.offset, size)])
        self.free = []
        for offset, length in parts:
            if self.free and sum(self.free[-1]) == offset:
                self.free[-1] = (self.free[-1][0], self.free[-1][1] + length)
            else:
                self.free.append((offset, length))

    def give_back(self, places: Sequence[Place], operands: Sequence[int], size: int) -> None:
        """Release the places that are copies of operands."""
        for place, slot in zip(places, operands, strict=False):
            if place != self.place(slot):
                self.release(place, size)

    def alias(self, instruction: Instruction, offset: int = 0) -> None:
        """The result is its first operand, at another offset."""
        origin = instruction.operands[0]
        base, start = self.place(origin)
        self.places[instruction.slot] = Place(base, start + offset)
        root = self.roots.get(origin, origin)
        self.roots[instruction.slot] = root
        self.uses[root] = self.uses.get(root, 0) + self.uses.get(instruction.slot, 0)

    def done_with(self, slot: int) -> None:
        """Note one use; after the last one, the place is free."""
        root = self.roots.get(slot, slot)
        self.uses[root] -= 1
        if self.uses[root] == 0 and self.places[root].base == ARENA:
            self.release(self.places[root], self.size(root))

    # ### Rows
    def emit(self, family: int, function: int, sizes: Sequence[int], places: Sequence[Place], rest: Sequence[int] = ()) -> None:
        flat = [number for place in places for number in place]
        row = [family, function, *sizes, *[0] * (3 - len(sizes)), *flat, *rest]
        self.rows.append(row + [0] * (WIDTH - len(row)))
        self.origins.append(self.origin)

    def copy(self, to: Place, source: Place, shape: Sequence[int], to_strides: Sequence[int], strides: Sequence[int]) -> None:
        """A strided copy of up to four dimensions; neighbouring ones that can be one are joined first."""
        joined: list[list[int]] = []
        for n, a, b in zip(shape, to_strides, strides, strict=True):
            if n == 1:
                continue
            if joined and joined[-1][1] == n * a and joined[-1][2] == n * b:
                joined[-1] = [joined[-1][0] * n, a, b]
            else:
                joined.append([n, a, b])
        if len(joined) > DIMENSIONS:
            raise Unsupported
        joined = [[1, 0, 0]] * (DIMENSIONS - len(joined)) + joined
        self.emit(COPY, 0, [], [to, source], [number for column in zip(*joined, strict=True) for number in column])

    def broadcast(self, slot: int, shape: tuple[int, ...]) -> Place:
        """A copy of an operand in a larger shape; the caller releases it."""
        to = self.allocate(math.prod(shape))
        mine = self.shape(slot)
        padded = (1,) * (len(shape) - len(mine)) + mine
        strides = [0 if n == 1 else s for n, s in zip(padded, contiguous(padded), strict=True)]
        self.copy(to, self.place(slot), shape, contiguous(shape), strides)
        return to


def _common_dtype(code: Code, types: dict[int, Any]) -> np.dtype:
    """The float dtype of the first instruction that has one."""
    for slot in (slot for i in code.instructions for slot in (i.slot, *i.operands)):
        found = types[slot]
        if isinstance(found, Type) and found.dtype in (np.float64, np.float32) and not found.weak:
            return found.dtype
    return np.dtype(float)


def contiguous(shape: Sequence[int]) -> list[int]:
    """The strides of a row-major array, in elements."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


# ## How each operation is lowered
LOWERINGS: dict[Operation, Callable[[_Lowering, Instruction], None]] = {}


def lowers(*operations: Operation) -> Callable[[Any], Any]:
    """Decorator: this lowers these operations."""

    def register(lowering: Any) -> Any:
        LOWERINGS.update(dict.fromkeys(operations, lowering))
        return lowering

    return register


def _named(names: Sequence[str]) -> list[Operation]:
    return [getattr(elementwise, name) for name in names]


@lowers(*_named(FUNCTIONS_OF_ONE))
def _unary(state: _Lowering, i: Instruction) -> None:
    function = FUNCTIONS_OF_ONE.index(i.operation.name)
    state.floats(i.operands[0])
    operand = state.place(i.operands[0])
    state.emit(UNARY, function, [state.size(i.slot)], [state.new(i), operand])


# The result has m rows and n columns. An operand steps through it with strides of its own: (n, 1) if it is as large, (0, 1) if it is a
# row, (1, 0) a column, (0, 0) a number. If the operands don't agree on n, they are copied into the shape of the result first.
@lowers(*_named(FUNCTIONS_OF_TWO))
def _binary(state: _Lowering, i: Instruction) -> None:
    if i.type.dtype.kind == "b" and i.operation in (elementwise.add, elementwise.subtract):  # type: ignore[union-attr]
        raise Unsupported  # of truth values, they are something else
    result, total = state.shape(i.slot), state.size(i.slot)
    n, places, steps = _met(state, i.operands, result)
    state.emit(BINARY, FUNCTIONS_OF_TWO.index(i.operation.name), [total // max(n, 1), n], [state.new(i), *places, Place(0, 0)], steps)
    state.give_back(places, i.operands, total)


def _met(state: _Lowering, operands: Sequence[int], result: tuple[int, ...]) -> tuple[int, list[Place], list[int]]:
    """How operands meet in a result: the length of its rows, and each operand's place and strides."""
    total = math.prod(result)
    meetings = [_meeting(state.shape(slot), result) for slot in operands]
    widths = {n for n, _ in meetings if n is not None}
    fit = len(widths) < 2 and None not in {strides for _, strides in meetings}
    n = (widths.pop() if widths else total) if fit else total
    places = [state.place(slot) if fit else state.broadcast(slot, result) for slot in operands]
    steps = [(n, 1) if not fit or strides == FULL else strides for _, strides in meetings]
    return n, places, [step for strides in steps for step in strides]  # type: ignore[union-attr]


@lowers(multiply_add)
def _multiply_add(state: _Lowering, i: Instruction) -> None:
    a, b, *rest = i.operands
    result, total = state.shape(i.slot), state.size(i.slot)
    operands = [a, b, rest[0]] if i.params["bias"] else [a, b]
    n, places, steps = _met(state, operands, result)
    if not i.params["bias"]:
        places, steps = [*places, Place(CONSTANTS, ZERO)], [*steps, 0, 0]
    scale = state.place(rest[-1]) if i.params["scaled"] else Place(CONSTANTS, ONE)
    state.emit(MULTIPLY_ADD, 0, [total // max(n, 1), n], [state.new(i), *places], [*steps, *scale])
    state.give_back(places, operands, total)


FULL = (-1, 1)  # rows follow each other, whatever their length


def _meeting(shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[int | None, tuple[int, int] | None]:
    """The row length that an operand asks for (None: any will do), and its strides (None: it fits in no way)."""
    padded = (1,) * (len(result) - len(shape)) + shape
    if padded == result:
        return None, FULL
    if math.prod(shape) == 1:
        return None, (0, 0)
    first = next(k for k, n in enumerate(padded) if n != 1)
    last = max(k for k, n in enumerate(padded) if n != 1)
    if padded[first:] == result[first:]:
        return math.prod(result[first:]), (0, 1)
    if padded[: last + 1] == result[: last + 1]:
        return math.prod(result[last + 1 :]), (1, 0)
    return None, None


@lowers(elementwise.where)
def _where(state: _Lowering, i: Instruction) -> None:
    shape = state.shape(i.slot)
    places = [state.place(slot) if state.shape(slot) == shape else state.broadcast(slot, shape) for slot in i.operands]
    state.emit(WHERE, 0, [state.size(i.slot)], [state.new(i), *places])
    state.give_back(places, i.operands, state.size(i.slot))


@lowers(reductions.sum_, reductions.max_, reductions.min_)
def _reduce(state: _Lowering, i: Instruction) -> None:
    shape, axes = state.shape(i.operands[0]), i.params["axis"]
    operand = state.place(i.operands[0])
    function = [reductions.sum_, reductions.max_, reductions.min_].index(i.operation)
    if not axes or 0 in shape:
        raise Unsupported
    p, q, r = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])
    if any(shape[k] != 1 for k in range(axes[0], axes[-1] + 1) if k not in axes):
        raise Unsupported
    state.emit(REDUCE, function, [p, q, r], [state.new(i), operand])


@lowers(shapes.reshape_, elementwise.stop_gradient)
def _same(state: _Lowering, i: Instruction) -> None:
    state.alias(i)


@lowers(elementwise.astype)
def _astype(state: _Lowering, i: Instruction) -> None:
    state.alias(i)  # truth values are numbers already, and there is one float dtype


@lowers(shapes.broadcast_to_)
def _broadcast_to(state: _Lowering, i: Instruction) -> None:
    state.places[i.slot] = state.broadcast(i.operands[0], state.shape(i.slot))


@lowers(shapes.transpose_)
def _transpose(state: _Lowering, i: Instruction) -> None:
    shape, axes = state.shape(i.operands[0]), i.params["axes"]
    if [k for k in axes if shape[k] != 1] == [k for k in range(len(shape)) if shape[k] != 1]:
        return state.alias(i)  # only axes of length 1 have moved
    strides = contiguous(shape)
    source, result = state.place(i.operands[0]), state.shape(i.slot)
    state.copy(state.new(i), source, result, contiguous(result), [strides[k] for k in axes])


@lowers(shapes.concatenate_)
def _concatenate(state: _Lowering, i: Instruction) -> None:
    result, axis = state.shape(i.slot), i.params["axis"]
    sources = [state.place(slot) for slot in i.operands]
    base, offset = state.new(i)
    for slot, source in zip(i.operands, sources, strict=True):
        shape = state.shape(slot)
        state.copy(Place(base, offset), source, shape, contiguous(result), contiguous(shape))
        offset += math.prod(shape[axis:]) if axis < len(shape) - 1 else shape[axis]


# A basic index is a view: NumPy itself says where it starts and what its strides are.
def _view(shape: tuple[int, ...], key: tuple[Any, ...]) -> tuple[int, tuple[int, ...], list[int]]:
    whole = np.lib.stride_tricks.as_strided(np.empty(0, np.int8), shape, contiguous(shape))
    view = whole[key if Ellipsis in key else (*key, ...)]  # the Ellipsis keeps a single element a view
    start = view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return start, view.shape, list(view.strides)


@lowers(indexing.getitem)
def _getitem(state: _Lowering, i: Instruction) -> None:
    if len(i.operands) > 1:
        raise Unsupported
    start, shape, strides = _view(state.shape(i.operands[0]), i.params["key"])
    if [s for n, s in zip(shape, strides, strict=True) if n != 1] == [s for n, s in zip(shape, contiguous(shape), strict=True) if n != 1]:
        return state.alias(i, start)
    base, offset = state.place(i.operands[0])
    state.copy(state.new(i), Place(base, offset + start), shape, contiguous(shape), strides)


@lowers(indexing.add_at)
def _add_at(state: _Lowering, i: Instruction) -> None:
    if len(i.operands) > 1:
        raise Unsupported
    start, shape, strides = _view(i.params["shape"], i.params["key"])
    source = state.place(i.operands[0])
    base, offset = state.new(i)
    state.emit(FILL, 0, [state.size(i.slot)], [Place(base, offset)])
    state.copy(Place(base, offset + start), source, shape, strides, contiguous(shape))


@lowers(products.matmul_, product)
def _product(state: _Lowering, i: Instruction) -> None:
    a, b, *rest = i.operands
    params = {"transposed": (False, False), "bias": False, "scaled": False, **i.params}
    if len(state.shape(a)) != 2 or len(state.shape(b)) != 2:
        raise Unsupported
    state.floats(i.slot)
    m, n = state.shape(i.slot)
    k = state.shape(a)[0 if params["transposed"][0] else 1]
    d, d_row, d_column = Place(CONSTANTS, ZERO), 0, 0
    if params["bias"]:
        d, d_row, d_column = state.place(rest[0]), n if state.shape(rest[0]) == (m, n) else 0, 1
    scale = state.place(rest[-1]) if params["scaled"] else Place(CONSTANTS, ONE)
    operands = [state.place(a), state.place(b)]
    transposed = params["transposed"][0] * LEFT + params["transposed"][1] * RIGHT
    state.emit(PRODUCT, 0, [m, k, n], [state.new(i), *operands, d], [transposed, d_row, d_column, *scale])


# ## The layout, checked
# The machine trusts the table: a place out of range would corrupt memory. So every row is checked when it is made.
def check_row(row: Sequence[int], sizes: Sequence[int]) -> None:
    """Raise AssertionError unless all that a row touches lies within the bases, which have these sizes."""
    family, n0, n1, n2, rest = row[0], row[2], row[3], row[4], row[REST:]
    whole = n0 * n1 * n2
    lengths, one = row[SECOND : SECOND + 4], [1]
    touched: list[tuple[Sequence[int], Sequence[int]]] = {
        UNARY: lambda: [([n0], one), ([n0], one)],
        BINARY: lambda: [([n0, n1], [n1, 1]), ([n0, n1], rest[:2]), ([n0, n1], rest[2:4])],
        MULTIPLY_ADD: lambda: [([n0, n1], [n1, 1]), *(([n0, n1], rest[k : k + 2]) for k in (0, 2, 4))],
        WHERE: lambda: [([n0], one)] * 4,
        REDUCE: lambda: [([n0 * n2], one), ([whole], one)],
        COPY: lambda: [(lengths, row[SECOND + 4 : SECOND + 8]), (lengths, row[SECOND + 8 : SECOND + 12])],
        FILL: lambda: [([n0], one)],
        PRODUCT: lambda: [([n0 * n2], one), ([n0 * n1], one), ([n1 * n2], one), ([n0, n2], rest[1:3])],
    }[family]()  # type: ignore[assignment]
    for k, (shape, strides) in enumerate(touched):
        base, offset = row[RESULT + 2 * k : RESULT + 2 * k + 2]
        if 0 in shape:
            continue
        steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
        low, high = offset + sum(min(step, 0) for step in steps), offset + sum(max(step, 0) for step in steps)
        assert 0 <= low and high < sizes[base], f"a row of the table is out of range: {list(row)}, with bases of {list(sizes)}"
