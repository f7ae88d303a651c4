r"""
# From code to the machine's table

The machine knows no shapes and no dtypes; it knows flat memory, and thirteen families of instructions on it. To lower code is
to give each slot a place in memory and each instruction a row of 24 numbers:

    family, function, three sizes, then (base, offset) of the result and of up to three operands, then whatever else

A place is an offset from a *base*: the arena of the thread that runs, the block of constants, an input, a captured value,
or an output. When a mapped body goes on to the next row, only the bases of its mapped inputs and of its outputs move.

A slot of the arena is free again after its last use, so a long program needs little more than its widest moment. Truth values
are the numbers 0 and 1. A reshape is another name for the same place.

What can't be lowered (most of what is done to integers, an operation that has no family) stays with NumPy: `execute` sees to that.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .code import Code, Instruction, Type, types_of
from .fusion import product, uses

UNARY, BINARY, WHERE, REDUCE, COPY, FILL, PRODUCT, MULTIPLY_ADD, GATHER, SCATTER, SOLVE, DETERMINANT, CHOLESKY = range(13)
RESULT, FIRST, SECOND, THIRD, REST = 5, 7, 9, 11, 13  # columns of a row
LEFT, RIGHT = 1, 2  # which factor of a product is stored transposed
ZERO, ONE = 0, 1  # the first two constants
ARENA, CONSTANTS = 0, 1  # the first two bases; then come inputs, captured values, outputs
WIDTH = 24  # of a row
FINE, OUT_OF_RANGE, SINGULAR, INDEFINITE = range(4)  # how a run of the table ends; runs that aren't fine are counted
DIMENSIONS = 4  # of a strided copy

FUNCTIONS_OF_ONE = [
    "negative", "square", "sqrt", "exp", "log", "tanh", "sigmoid", "absolute", "relu", "sign", "expm1", "log1p", "sin", "cos", "tan",
    "sinh", "cosh", "arctan", "softplus", "erf", "gammaln", "isfinite", "isnan", "floor", "ceil", "trunc", "rint",
]  # fmt: skip
FUNCTIONS_OF_TWO = [
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal",
    "power", "remainder", "floor_divide",
]  # fmt: skip
REDUCTIONS = ["sum", "max", "min", "cumsum", "softmax", "log_softmax"]
DETERMINANTS = ["det", "sign_of_determinant", "log_absolute_determinant"]
AS_LONG = [REDUCTIONS.index(name) for name in ("cumsum", "softmax", "log_softmax")]  # whose result is as long as the operand


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
    summed: tuple[bool, ...]  # which outputs are added up over the rows of a map
    row_steps: tuple[int, ...]  # for each base: how far it moves from one row of a map to the next
    portion_steps: tuple[int, ...]  # from one portion of the rows to the next: what is summed alone moves
    origins: tuple[int, ...]  # for each row of the table: the slot that it computes
    places: dict[int, Place]  # of the slots


class Unsupported(Exception):
    """An instruction that stays with NumPy; `position` is its number in the code."""

    position = 0


class Lowering:
    """The state of one lowering: the rows so far, the places of the slots, the free parts of the arena."""

    def __init__(self, code: Code, summed: Sequence[bool]):
        """The outputs that are `summed` are added up over the rows of a map."""
        self.code, self.types, self.summed = code, types_of(code), summed
        self.dtype = _common_dtype(code, self.types)
        self.most_integers = 2 ** (np.finfo(self.dtype).nmant + 1)  # up to here, floats are exact
        self.rows = array("q")  # WIDTH numbers for each
        self.origins: list[int] = []
        self.places: dict[int, Place] = {}
        self.constants: list[np.ndarray] = [np.array([0.0, 1.0], self.dtype)]
        self.constants_size = 2
        self.free: list[tuple[int, int]] = []  # the free parts of the arena, (size, start), in order
        self.starts: dict[int, int] = {}  # of a free part's end: its start
        self.ends: dict[int, int] = {}  # of its start: its end
        self.arena = 0
        self.roots: dict[int, int] = {}  # of an alias: the slot whose place it shares
        given = [*code.inputs, *code.captured]
        self.places.update((slot, Place(2 + k, 0)) for k, slot in enumerate(given))
        self.uses = uses(code)
        self.output_places = [Place(2 + len(given) + k, 0) for k in range(len(code.outputs))]
        self.accumulated = self._accumulated()

    # What is summed over rows may be a product, C = D + s A B, or a chain of them in which each is the next one's D. It needs no place
    # of its own: it is added to the sum where the sum is.
    def _accumulated(self) -> dict[int, Place]:
        """The slots of such products, and the places of their sums."""
        made = {i.slot: i for i in self.code.instructions if i.operation is product}
        found: dict[int, Place] = {}
        for slot, place, summed in zip(self.code.outputs, self.output_places, self.summed, strict=True):
            chain = []
            while summed and slot in made and self.uses[slot] == 1:
                chain.append(slot)
                if not made[slot].params["bias"]:
                    found |= dict.fromkeys(chain, place)
                    break
                slot = made[slot].operands[2]
                if slot in made and made[slot].type != made[chain[-1]].type:
                    break
        return found

    def result(self, write: Callable[[Lowering, Instruction], None]) -> Lowered:
        """The table, in which each instruction has the rows that `write` emits for it."""
        for position, instruction in enumerate(self.code.instructions):
            self.origin = instruction.slot
            try:
                write(self, instruction)
            except Unsupported as unsupported:
                unsupported.position = position
                raise
            for slot in instruction.operands:
                self.done_with(slot)
        for slot, place, summed in zip(self.code.outputs, self.output_places, self.summed, strict=True):
            self.origin = slot
            size = self.size(slot)
            if slot in self.accumulated:
                continue
            if summed:
                places = [place, place, self.place(slot), Place(0, 0)]
                self.emit(BINARY, FUNCTIONS_OF_TWO.index("add"), [1, size], places, [size, 1, size, 1])
            elif self.place(slot) != place:
                self.copy(place, self.place(slot), [size], [1], [1])
        constants = np.concatenate(self.constants)
        if any(self.is_integer(slot) for slot in self.code.outputs):
            raise Unsupported
        inputs, captured = ([self.type_of_given(slot) for slot in slots] for slots in (self.code.inputs, self.code.captured))
        outputs = tuple(self.checked(slot) for slot in self.code.outputs)
        given = [math.prod(t.shape) for t in (*inputs, *captured)]
        results = [math.prod(t.shape) for t in outputs]
        table = np.array(self.rows, np.int64).reshape(-1, WIDTH)
        check_table(table, [self.arena, constants.size, *given, *results])
        moving = [*given[: len(inputs)], *[0] * len(captured)]
        row_steps = (0, 0, *moving, *(n * (not summed) for n, summed in zip(results, self.summed, strict=True)))
        portion_steps = (0, 0, *[0] * len(given), *(n * summed for n, summed in zip(results, self.summed, strict=True)))
        return Lowered(table.ravel(), constants, self.arena, (*inputs, *captured), outputs, tuple(self.summed),
                       row_steps, portion_steps, tuple(self.origins), self.places)  # fmt: skip

    def type_of_given(self, slot: int) -> Type:
        return self.types[slot] if self.is_integer(slot) else self.checked(slot)  # type: ignore[return-value]

    # ### Slots
    def checked(self, slot: int) -> Type:
        """The type of a slot, which must be of the machine's floats or of truth values."""
        found = self.types[slot]
        if not isinstance(found, Type) or not (found.weak or found.dtype == self.dtype or found.dtype.kind == "b"):
            raise Unsupported
        if found.weak and found.dtype.kind not in "fb" and slot not in self.code.constants:
            raise Unsupported
        return found

    def is_integer(self, slot: int) -> bool:
        """Whether a slot holds integers, which the machine can move, compare, and count rows with."""
        found = self.types[slot]
        return isinstance(found, Type) and found.dtype.kind in "iu" and not found.weak

    def floats(self, slot: int) -> None:
        """Refuse a slot of truth values."""
        if self.checked(slot).dtype.kind == "b":
            raise Unsupported

    def shape(self, slot: int) -> tuple[int, ...]:
        return self.types[slot].shape  # type: ignore[union-attr]

    def size(self, slot: int) -> int:
        return math.prod(self.shape(slot))

    def place(self, slot: int) -> Place:
        """Where a slot is; a constant is put among the constants when it is first asked for."""
        if slot not in self.places:
            self.places[slot] = self.constant(self.code.constants[slot])
        return self.places[slot]

    def constant(self, value: Any) -> Place:
        """A place among the constants."""
        flat = np.ascontiguousarray(value, self.dtype).ravel()
        self.constants.append(flat)
        self.constants_size += flat.size
        return Place(CONSTANTS, self.constants_size - flat.size)

    def new(self, instruction: Instruction) -> Place:
        """A place for a result: where the output is to be, or in the arena."""
        slot, outputs = instruction.slot, self.code.outputs
        direct = outputs.count(slot) == 1 and not self.summed[outputs.index(slot)]
        self.places[slot] = self.output_places[outputs.index(slot)] if direct else self.allocate(self.size(slot))
        return self.places[slot]

    def allocate(self, size: int) -> Place:
        """The smallest free part of the arena that is large enough, and of those the first; else more arena."""
        size = _whole_vectors(size)
        k = bisect.bisect_left(self.free, (size, 0))
        if k == len(self.free):
            self.arena += size
            return Place(ARENA, self.arena - size)
        start, end = self.take(self.free[k][1])
        if start + size < end:
            self.put(start + size, end)
        return Place(ARENA, start)

    def release(self, place: Place, size: int) -> None:
        """Give a part of the arena back, joined with its free neighbours."""
        start, end = place.offset, place.offset + _whole_vectors(size)
        if start in self.starts:
            start, _ = self.take(self.starts[start])
        if end in self.ends:
            _, end = self.take(end)
        self.put(start, end)

    def put(self, start: int, end: int) -> None:
        """Note a free part."""
        bisect.insort(self.free, (end - start, start))
        self.starts[end], self.ends[start] = start, end

    def take(self, start: int) -> tuple[int, int]:
        """Forget the free part that starts here."""
        end = self.ends.pop(start)
        del self.starts[end], self.free[bisect.bisect_left(self.free, (end - start, start))]
        return start, end

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
        place = self.places.get(root)  # a constant index has none
        if self.uses[root] == 0 and place is not None and place.base == ARENA:
            self.release(place, self.size(root))

    # ### Rows
    def emit(self, family: int, function: int, sizes: Sequence[int], places: Sequence[Place], rest: Sequence[int] = ()) -> None:
        flat = [number for place in places for number in place]
        row = [family, function, *sizes, *[0] * (3 - len(sizes)), *flat, *rest]
        self.rows.extend(row + [0] * (WIDTH - len(row)))
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
        self.copy(to, self.place(slot), shape, contiguous(shape), repeating(self.shape(slot), shape))
        return to


def _common_dtype(code: Code, types: dict[int, Any]) -> np.dtype:
    """The float dtype of the first instruction that has one."""
    for slot in (slot for i in code.instructions for slot in (i.slot, *i.operands)):
        found = types[slot]
        if isinstance(found, Type) and found.dtype in (np.float64, np.float32) and not found.weak:
            return found.dtype
    return np.dtype(float)


def _whole_vectors(size: int) -> int:
    return -(-max(size, 1) // 8) * 8


def contiguous(shape: Sequence[int]) -> list[int]:
    """The strides of a row-major array, in elements."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def repeating(shape: Sequence[int], larger: Sequence[int]) -> list[int]:
    """The strides that repeat a row-major array of one shape in a larger one."""
    padded = (1,) * (len(larger) - len(shape)) + tuple(shape)
    return [0 if n == 1 else s for n, s in zip(padded, contiguous(padded), strict=True)]


# ## The layout, checked
# The machine trusts the table: a place out of range would corrupt memory. So every row is checked when the table is made, all rows of
# a family at once.
def check_table(table: np.ndarray, sizes: Sequence[int]) -> None:
    """Raise AssertionError unless all that the rows touch lies within the bases, which have these sizes."""
    for family in np.unique(table[:, 0]):
        rows = table[table[:, 0] == family]
        for k, (shape, strides) in enumerate(_touched(family, rows.T)):
            base, low = rows[:, RESULT + 2 * k], rows[:, RESULT + 2 * k + 1]
            high, empty = low, np.zeros(len(rows), bool)
            for n, step in zip(shape, strides, strict=True):
                last = (n - 1) * step
                low, high, empty = low + np.minimum(last, 0), high + np.maximum(last, 0), empty | (n == 0)
            good = empty | (0 <= low) & (high < np.take(sizes, base))
            assert np.all(good), f"a row of the table is out of range: {rows[~good][0].tolist()}, with bases of {list(sizes)}"


def _touched(family: int, columns: np.ndarray) -> list[tuple[Sequence[Any], Sequence[Any]]]:
    """The shape and the strides of the result and of each operand, each number a column."""
    function, n0, n1, n2, rest = columns[1], columns[2], columns[3], columns[4], columns[REST:]
    whole = n0 * n1 * n2
    lengths, one = columns[SECOND : SECOND + 4], [1]
    touched: dict[int, Callable[[], Any]] = {
        UNARY: lambda: [([n0], one), ([n0], one)],
        BINARY: lambda: [([n0, n1], [n1, 1]), ([n0, n1], rest[:2]), ([n0, n1], rest[2:4])],
        MULTIPLY_ADD: lambda: [([n0, n1], [n1, 1]), *(([n0, n1], rest[k : k + 2]) for k in (0, 2, 4))],
        WHERE: lambda: [([n0], one)] * 4,
        REDUCE: lambda: [([np.where(np.isin(function, AS_LONG), whole, n0 * n2)], one), ([whole], one)],
        GATHER: lambda: [([n0 * n2], one), ([n0, n1, n2], [*rest[:2], 1]), ([n0], one)],
        SCATTER: lambda: [([n0, n1, n2], [*rest[:2], 1]), ([n0 * n2], one), ([n0], one)],
        COPY: lambda: [(lengths, columns[SECOND + 4 : SECOND + 8]), (lengths, columns[SECOND + 8 : SECOND + 12])],
        FILL: lambda: [([n0], one)],
        SOLVE: lambda: [([n0, n1], [n1, 1]), ([n0, n0], [n0, 1]), ([n0, n1], [n1, 1]), ([n0, rest[1]], [rest[1], 1])],
        DETERMINANT: lambda: [([1], one), ([n0, n0], [n0, 1]), ([n0, n1], [n1, 1])],
        CHOLESKY: lambda: [([n0, n0], [n0, 1]), ([n0, n0], [n0, 1]), ([n0, n1], [n1, 1])],
        PRODUCT: lambda: [([n0 * n2], one), ([n0 * n1], one), ([n1 * n2], one), ([n0, n2], rest[1:3])],
    }
    return touched[family]()
