r"""
# How each operation is lowered

A function for each kind of operation, which writes its rows. It raises `Unsupported` where the operation can't run on the
machine, and may say so late: then the rows so far are thrown away with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.operations import elementwise, indexing, linear_algebra, products, reductions, shapes, special
from ..autodiff.tensor import Operation
from .code import Code, Instruction, Type
from .fusion import multiply_add, product
from .lower import (
    BINARY,
    CHOLESKY,
    CONSTANTS,
    DETERMINANT,
    DETERMINANTS,
    FILL,
    FUNCTIONS_OF_ONE,
    FUNCTIONS_OF_TWO,
    GATHER,
    LEFT,
    MULTIPLY_ADD,
    ONE,
    PRODUCT,
    REDUCE,
    REDUCTIONS,
    RIGHT,
    SCATTER,
    SOLVE,
    UNARY,
    WHERE,
    ZERO,
    Lowered,
    Lowering,
    Place,
    Unsupported,
    contiguous,
    repeating,
)

LOWERINGS: dict[Operation, Callable[[Lowering, Instruction], None]] = {}


def lowers(*operations: Operation) -> Callable[[Any], Any]:
    """Decorator: this lowers these operations."""

    def register(lowering: Any) -> Any:
        LOWERINGS.update(dict.fromkeys(operations, lowering))
        return lowering

    return register


def _named(names: Sequence[str]) -> list[Operation]:
    return [(vars(elementwise) | vars(special))[name] for name in names]


@lowers(*_named(FUNCTIONS_OF_ONE))
def _unary(state: Lowering, i: Instruction) -> None:
    function = FUNCTIONS_OF_ONE.index(i.operation.name)
    state.floats(i.operands[0])
    operand = state.place(i.operands[0])
    state.emit(UNARY, function, [state.size(i.slot)], [state.new(i), operand])


# What logic does to truth values, arithmetic does to 1 and 0.
LOGIC = {"logical_and": "multiply", "bitwise_and": "multiply", "logical_or": "maximum", "bitwise_or": "maximum",
         "logical_xor": "not_equal", "bitwise_xor": "not_equal"}  # fmt: skip
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


@lowers(elementwise.logical_not, elementwise.invert)
def _not(state: Lowering, i: Instruction) -> None:
    if state.types[i.operands[0]].dtype.kind != "b":  # type: ignore[union-attr]
        raise Unsupported
    n, operand = state.size(i.slot), state.place(i.operands[0])
    state.emit(BINARY, FUNCTIONS_OF_TWO.index("equal"), [1, n], [state.new(i), operand, Place(CONSTANTS, ZERO), Place(0, 0)], [n, 1, 0, 0])


# The result has m rows and n columns. An operand steps through it with strides of its own: (n, 1) if it is as large, (0, 1) if it is a
# row, (1, 0) a column, (0, 0) a number. If the operands don't agree on n, they are copied into the shape of the result first.
@lowers(*_named(FUNCTIONS_OF_TWO), *_named(list(LOGIC)))
def _binary(state: Lowering, i: Instruction) -> None:
    name = i.operation.name
    kinds = {state.types[slot].dtype.kind for slot in i.operands}  # type: ignore[union-attr]
    if name in LOGIC and kinds != {"b"}:
        raise Unsupported
    if i.type.dtype.kind == "b" and i.operation in (elementwise.add, elementwise.subtract):  # type: ignore[union-attr]
        raise Unsupported  # of truth values, they are something else
    if any(map(state.is_integer, i.operands)) and name in COMPARISONS and not _small_integers(state, i.operands):
        raise Unsupported
    result, total = state.shape(i.slot), state.size(i.slot)
    n, places, steps = _met(state, i.operands, result)
    state.emit(BINARY, FUNCTIONS_OF_TWO.index(LOGIC.get(name, name)), [total // max(n, 1), n], [state.new(i), *places, Place(0, 0)], steps)
    state.give_back(places, i.operands, total)


# An integer that is too large to be a float of this precision becomes another one that is too large. So it is compared with
# what isn't too large, and it counts rows where there are fewer, as if it were exact.
def _small_integers(state: Lowering, operands: Sequence[int]) -> bool:
    constants = [np.asarray(state.code.constants[slot]) for slot in operands if slot in state.code.constants]
    return any(np.all(np.abs(x.astype(float)) < state.most_integers) and x.dtype.kind in "iu" for x in constants)


def _met(state: Lowering, operands: Sequence[int], result: tuple[int, ...]) -> tuple[int, list[Place], list[int]]:
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
def _multiply_add(state: Lowering, i: Instruction) -> None:
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
def _where(state: Lowering, i: Instruction) -> None:
    shape = state.shape(i.slot)
    places = [state.place(slot) if state.shape(slot) == shape else state.broadcast(slot, shape) for slot in i.operands]
    state.emit(WHERE, 0, [state.size(i.slot)], [state.new(i), *places])
    state.give_back(places, i.operands, state.size(i.slot))


@lowers(reductions.sum_, reductions.max_, reductions.min_, reductions.cumsum_)
def _reduce(state: Lowering, i: Instruction) -> None:
    shape, axis = state.shape(i.operands[0]), i.params["axis"]
    axes = (axis,) if isinstance(axis, int) else axis
    operand = state.place(i.operands[0])
    state.floats(i.operands[0])
    if not axes or 0 in shape:
        raise Unsupported
    p, q, r = math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])
    if any(shape[k] != 1 for k in range(axes[0], axes[-1] + 1) if k not in axes):
        raise Unsupported
    state.emit(REDUCE, REDUCTIONS.index(i.operation.name), [p, q, r], [state.new(i), operand])


# The kernel takes rows. Along another axis than the last, the array is copied so that it is the last, and back.
@lowers(reductions.softmax_, reductions.log_softmax_)
def _softmax(state: Lowering, i: Instruction) -> None:
    shape, axis = state.shape(i.slot), i.params["axis"]
    operand, function = state.place(i.operands[0]), REDUCTIONS.index(i.operation.name)
    state.floats(i.operands[0])
    if 0 in shape:
        raise Unsupported
    p, q, r = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if r == 1:
        return state.emit(REDUCE, function, [p, q, 1], [state.new(i), operand])
    rows, results, whole = state.allocate(p * q * r), state.allocate(p * q * r), state.new(i)
    state.copy(rows, operand, [p, r, q], contiguous([p, r, q]), [q * r, 1, r])
    state.emit(REDUCE, function, [p * r, q, 1], [results, rows])
    state.copy(whole, results, [p, q, r], contiguous([p, q, r]), [q * r, 1, q])
    state.release(rows, p * q * r)
    state.release(results, p * q * r)


@lowers(shapes.reshape_, elementwise.stop_gradient)
def _same(state: Lowering, i: Instruction) -> None:
    state.alias(i)


@lowers(elementwise.astype)
def _astype(state: Lowering, i: Instruction) -> None:
    state.alias(i)  # truth values are numbers already, and there is one float dtype


@lowers(shapes.broadcast_to_)
def _broadcast_to(state: Lowering, i: Instruction) -> None:
    state.places[i.slot] = state.broadcast(i.operands[0], state.shape(i.slot))


@lowers(shapes.transpose_)
def _transpose(state: Lowering, i: Instruction) -> None:
    shape, axes = state.shape(i.operands[0]), i.params["axes"]
    if [k for k in axes if shape[k] != 1] == [k for k in range(len(shape)) if shape[k] != 1]:
        return state.alias(i)  # only axes of length 1 have moved
    strides = contiguous(shape)
    source, result = state.place(i.operands[0]), state.shape(i.slot)
    state.copy(state.new(i), source, result, contiguous(result), [strides[k] for k in axes])


@lowers(shapes.concatenate_)
def _concatenate(state: Lowering, i: Instruction) -> None:
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
def _getitem(state: Lowering, i: Instruction) -> None:
    a, *arrays = i.operands
    if arrays:
        state.floats(a)
        rows = _rows(state, i, state.shape(a), state.place(a))
        places = [state.new(i), rows.first, rows.numbers, Place(0, 0)]
        return state.emit(GATHER, 0, [rows.rows, rows.bound, rows.n], places, [rows.apart, rows.step])
    start, shape, strides = _view(state.shape(a), i.params["key"])
    if [s for n, s in zip(shape, strides, strict=True) if n != 1] == [s for n, s in zip(shape, contiguous(shape), strict=True) if n != 1]:
        return state.alias(i, start)
    base, offset = state.place(a)
    state.copy(state.new(i), Place(base, offset + start), shape, contiguous(shape), strides)


@lowers(indexing.add_at)
def _add_at(state: Lowering, i: Instruction) -> None:
    a, *arrays = i.operands
    source, place = state.place(a), state.new(i)
    state.emit(FILL, 0, [state.size(i.slot)], [place])
    if arrays:
        state.floats(a)
        rows = _rows(state, i, i.params["shape"], place)
        places = [rows.first, source, rows.numbers, Place(0, 0)]
        return state.emit(SCATTER, 0, [rows.rows, rows.bound, rows.n], places, [rows.apart, rows.step])
    start, shape, strides = _view(i.params["shape"], i.params["key"])
    state.copy(Place(place.base, place.offset + start), source, shape, strides, contiguous(shape))


@lowers(indexing.put)
def _put(state: Lowering, i: Instruction) -> None:
    a, v, *arrays = i.operands
    if arrays:
        raise Unsupported
    start, shape, strides = _view(state.shape(a), i.params["key"])
    size, old, new = state.size(a), state.place(a), state.place(v)
    base, offset = state.new(i)
    state.copy(Place(base, offset), old, [size], [1], [1])
    state.copy(Place(base, offset + start), new, shape, strides, repeating(state.shape(v), shape))


# An index with arrays reads rows of n elements. Where would they begin if the one array that isn't constant were zero? NumPy says so.
# From there, its numbers count steps along its axis.
class _Rows(NamedTuple):
    """Row i begins at first + i * apart + numbers[i] * step, and numbers[i] is less than the bound."""

    first: Place
    apart: int
    numbers: Place
    step: int
    rows: int
    bound: int
    n: int


def _rows(state: Lowering, i: Instruction, shape: tuple[int, ...], place: Place) -> _Rows:
    """The rows that an index with arrays reads from, or adds to, an array of this shape in this place."""
    _, *arrays = i.operands
    moving = [slot for slot in arrays if slot not in state.code.constants]
    values = [state.code.constants.get(slot, np.zeros(state.shape(slot), int)) for slot in arrays]
    elements = np.arange(math.prod(shape)).reshape(shape)[indexing.assemble(i.params["key"], values)]
    if len(moving) > 1 or not elements.size or max(shape) > state.most_integers:
        raise Unsupported
    n = next(n for k in range(elements.ndim + 1) if _are_runs(elements.reshape(-1, n := math.prod(elements.shape[k:]))))
    starts = elements.reshape(-1, n)[:, 0]
    if not moving:
        return _Rows(place, 0, state.constant(starts), 1, len(starts), math.prod(shape) - n + 1, n)
    axis = _axis_of(i.params["key"], arrays.index(moving[0]))
    apart = np.unique(np.diff(starts))
    numbers = np.broadcast_shapes(*map(np.shape, values))
    if axis is None or len(apart) > 1 or math.prod(numbers) != len(starts) or state.shape(moving[0]) != numbers:
        raise Unsupported
    first = Place(place.base, place.offset + int(starts[0]))
    return _Rows(first, int(apart[0]) if len(apart) else 0, state.place(moving[0]), contiguous(shape)[axis], len(starts), shape[axis], n)


def _are_runs(numbers: np.ndarray) -> bool:
    return bool(np.all(numbers == numbers[:, :1] + np.arange(numbers.shape[1])))


def _axis_of(key: tuple[Any, ...], number: int) -> int | None:
    """The axis that an index array is for, if nothing but whole axes and arrays stand before it."""
    places = [k for k, part in enumerate(key) if part is indexing.ARRAY]
    before = key[: places[number]]
    return places[number] if all(part is indexing.ARRAY or part == slice(None) for part in before) else None


@lowers(products.matmul_)
def _matmul(state: Lowering, i: Instruction) -> None:
    """Matrix by matrix, with leading axes that are repeated where one factor has fewer."""
    state.floats(i.slot)
    (*batch, m, n), k = state.shape(i.slot), state.shape(i.operands[0])[-1]
    for places in _matrices(state, i, batch):
        state.emit(PRODUCT, 0, [m, k, n], [*places, Place(CONSTANTS, ZERO)], [0, 0, 0, CONSTANTS, ONE])


MOST_MATRICES = 64  # each has a row


def _matrices(state: Lowering, i: Instruction, batch: Sequence[int]) -> Iterator[list[Place]]:
    """For each of a batch of results, its place and those of the matrices that it is made of."""
    if math.prod(batch) > MOST_MATRICES:
        raise Unsupported
    shapes = [state.shape(slot) for slot in i.operands]
    operands = [state.place(slot) for slot in i.operands]
    origins = [state.new(i), *operands]
    sizes = [math.prod(state.shape(i.slot)[len(batch) :]), *(math.prod(shape[-2:]) for shape in shapes)]
    leads = [tuple(batch), *(shape[:-2] for shape in shapes)]
    numbers = [np.broadcast_to(np.arange(math.prod(lead)).reshape(lead), batch).ravel().tolist() for lead in leads]
    for steps in zip(*numbers, strict=True):
        yield [Place(base, offset + step * size) for (base, offset), step, size in zip(origins, steps, sizes, strict=True)]


# Elimination works in scratch memory, on rows of whole vectors. Where matrices are larger, LAPACK's blocks are faster.
LARGEST = 128


def _scratch(state: Lowering, i: Instruction, *widths: int) -> tuple[Place, list[int]]:
    """Room for the matrix and what stands beside it, and where each of them ends."""
    n, lanes = state.shape(i.operands[0])[-1], 32 // state.dtype.itemsize
    if not 0 < n <= LARGEST or 0 in widths:
        raise Unsupported
    state.floats(i.slot)
    ends = np.cumsum([-(-width // lanes) * lanes for width in (n, *widths)]).tolist()
    return state.allocate(n * ends[-1]), ends


@lowers(linear_algebra.solve_)
def _solve(state: Lowering, i: Instruction) -> None:
    *batch, n, k = state.shape(i.slot)
    scratch, ends = _scratch(state, i, k)
    for places in _matrices(state, i, batch):
        state.emit(SOLVE, 0, [n, k], [*places, scratch], ends)
    state.release(scratch, n * ends[-1])


@lowers(linear_algebra.cholesky, *(getattr(linear_algebra, name) for name in DETERMINANTS))
def _factor(state: Lowering, i: Instruction) -> None:
    *batch, n, _ = state.shape(i.operands[0])
    scratch, [row] = _scratch(state, i)
    family, function = (CHOLESKY, 0) if i.operation is linear_algebra.cholesky else (DETERMINANT, DETERMINANTS.index(i.operation.name))
    for places in _matrices(state, i, batch):
        state.emit(family, function, [n, row], [*places, scratch, Place(0, 0)])
    state.release(scratch, n * row)


@lowers(product)
def _product(state: Lowering, i: Instruction) -> None:
    a, b, *rest = i.operands
    state.floats(i.slot)
    m, n = state.shape(i.slot)
    flags = i.params["transposed"]
    k = state.shape(a)[0 if flags[0] else 1]
    d, d_row, d_column = Place(CONSTANTS, ZERO), 0, 0
    if (place := state.accumulated.get(i.slot)) is not None:
        state.places[i.slot] = place
        d, d_row, d_column = place, n, 1
    elif i.params["bias"]:
        d, d_row, d_column = state.place(rest[0]), n if state.shape(rest[0]) == (m, n) else 0, 1
    scale = state.place(rest[-1]) if i.params["scaled"] else Place(CONSTANTS, ONE)
    operands = [state.place(a), state.place(b)]
    result = state.new(i) if place is None else place
    state.emit(PRODUCT, 0, [m, k, n], [result, *operands, d], [flags[0] * LEFT + flags[1] * RIGHT, d_row, d_column, *scale])


# What may be done to integers on the machine.
WITH_INTEGERS = {indexing.getitem, indexing.add_at, shapes.reshape_, shapes.transpose_, shapes.broadcast_to_, shapes.concatenate_,
                 *_named(COMPARISONS)}  # fmt: skip


def lower(code: Code, summed: Sequence[bool] = ()) -> Lowered:
    """The table for the machine; the outputs that are `summed` are added up over the rows of a map.

    Raises Unsupported if an instruction has to stay with NumPy.
    """
    return Lowering(code, summed or [False] * len(code.outputs)).result(_write)


def _write(state: Lowering, i: Instruction) -> None:
    """The rows of an instruction."""
    if i.operation not in LOWERINGS or not isinstance(i.type, Type):
        raise Unsupported
    for slot in (i.slot, *i.operands):
        if not state.is_integer(slot):
            state.checked(slot)
        elif slot not in state.code.constants and i.operation not in WITH_INTEGERS:
            raise Unsupported
    LOWERINGS[i.operation](state, i)
