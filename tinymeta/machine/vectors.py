r"""
# Vectors

A processor multiplies four float64 or eight float32 numbers in one instruction, if they are given to it as a vector.
Compilers find such vectors in simple loops, and lose them in loops that matter. So the kernels say what they mean: `Vec`
is a Numba type for a register full of numbers, with the usual operators lane by lane,

    x = vload(W, offset)                   # 256 bits, from anywhere in memory
    vstore(W, offset, fma(x, 2.0, y))      # scalars become vectors of their neighbours' type

and comparisons that give a mask, for `choose(x < y, a, b)`. What is left over at the end of an array is loaded and stored
by parts: the lanes from `count` on are not touched in memory.

**Offsets.** An operand is an offset of elements from the start of the flat array `W`, and may lie outside of `W`, in another
array: only its address counts, modulo $2^{64}$, so that int64 and uint64 offsets are the same. Nothing is checked here.
"""

import operator
from inspect import Parameter, Signature

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from .compiling import inner

REGISTER = 256  # bits

class Vec(types.Type):
    """A vector of `lanes` numbers of one type; of booleans, it is a mask."""

    def __init__(self, element, lanes):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vec({element} x {lanes})")

    def can_convert_from(self, typingctx, other):
        return typingctx.can_convert(other, self.element) if isinstance(other, types.Number) else None


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    def __init__(self, manager, vec):
        super().__init__(manager, vec, ir.VectorType(manager.lookup(vec.element).get_value_type(), vec.lanes))


def vec_of(W, registers=1):
    """The type of vectors of the elements of an array."""
    if not (isinstance(W, types.Array) and isinstance(W.dtype, types.Float)):
        raise TypingError(f"kernels work on a flat array of floats, not on {W}")
    return Vec(W.dtype, registers * REGISTER // W.dtype.bitwidth)


def splatted(builder, value, lanes):
    """The same value in all lanes."""
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return shuffled(builder, first, first, [0] * lanes)


def shuffled(builder, a, b, places):
    """The lanes at these places in `a` followed by `b`."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(a, b, mask)


@lower_cast(types.Number, Vec)
@lower_cast(types.IntegerLiteral, Vec)
def cast_to_vector(context, builder, from_type, to_type, value):
    return splatted(builder, context.cast(builder, value, from_type, to_type.element), to_type.lanes)


# ## Operators
# One line each: the instruction for floats, and the one for integers (which are bit patterns, thus unsigned).
ARITHMETIC = {
    operator.add: ("fadd", "add"),
    operator.sub: ("fsub", "sub"),
    operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", None),
    operator.and_: (None, "and_"),
    operator.or_: (None, "or_"),
    operator.lshift: (None, "shl"),
    operator.rshift: (None, "lshr"),
}
COMPARISONS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}


def vector_among(args):
    """The type of the vectors among the operands; None if there is none, or if they differ."""
    vectors = {t for t in args if isinstance(t, Vec)}
    return vectors.pop() if len(vectors) == 1 else None


def register_operator(function, result_of, emit):
    """The operator for a vector; if it has two operands, for a vector and another one or a scalar."""

    @infer_global(function)
    class Operator(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            vec = vector_among(args)
            return vec and signature(result_of(vec), *[vec] * len(args))

    lower_builtin(function, Vec, Vec)(emit)
    lower_builtin(function, Vec)(emit)


def register_arithmetic(function, for_floats, for_integers):
    def emit(context, builder, sig, args):
        name = for_floats if isinstance(sig.return_type.element, types.Float) else for_integers
        return getattr(builder, name)(*args)

    register_operator(function, lambda vec: vec, emit)


def register_comparison(function, symbol):
    def emit(context, builder, sig, args):
        return builder.fcmp_ordered(symbol, *args)  # false where one is NaN

    register_operator(function, lambda vec: Vec(types.boolean, vec.lanes), emit)


def emit_negation(context, builder, sig, args):
    return builder.fneg(*args)


register_operator(operator.neg, lambda vec: vec, emit_negation)
for function, names in ARITHMETIC.items():
    register_arithmetic(function, *names)
for function, symbol in COMPARISONS.items():
    register_comparison(function, symbol)


# ## Functions that the processor has
def call(builder, name, result, args):
    """Call one of LLVM's own functions."""
    function = ir.FunctionType(result, [x.type for x in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)


def suffix(vector):
    """How the names of LLVM's functions end for vectors of this type, as in `llvm.sqrt.v4f64`."""
    return f"v{vector.count}f{64 if isinstance(vector.element, ir.DoubleType) else 32}"


def lane_by_lane(name, *operands):
    """An intrinsic: LLVM's function of this name, in each lane."""

    def emit(context, builder, sig, args):
        return call(builder, f"llvm.{name}.{suffix(args[0].type)}", args[0].type, args)

    def function(typingctx, *args):
        vec = vector_among(args)
        return vec and (signature(vec, *[vec] * len(args)), emit)

    function.__signature__ = Signature([Parameter(x, Parameter.POSITIONAL_ONLY) for x in ("typingctx", *operands)])
    return intrinsic(function)


fma = lane_by_lane("fmuladd", "a", "b", "c")  # a * b + c, rounded once where the processor can
magnitude = lane_by_lane("fabs", "a")
square_root = lane_by_lane("sqrt", "a")
copy_sign = lane_by_lane("copysign", "a", "sign")
greatest = lane_by_lane("maximum", "a", "b")  # NaN if one is NaN
least = lane_by_lane("minimum", "a", "b")


@intrinsic
def choose(typingctx, mask, a, b):
    """`a` in the lanes where the mask is true, `b` in the others."""
    vec = vector_among([a, b])
    return vec and (vec(mask, vec, vec), lambda context, builder, sig, args: builder.select(*args))


def horizontal(name, start, flags=()):
    """An intrinsic: all the lanes of a vector, combined into a scalar."""

    @intrinsic
    def function(typingctx, v):
        def emit(context, builder, sig, args):
            [v] = args
            start_of = [] if start is None else [ir.Constant(v.type.element, start)]
            parameters = [x.type for x in (*start_of, v)]
            reduce = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(v.type.element, parameters), f"llvm.vector.reduce.{name}.{suffix(v.type)}"
            )
            return builder.call(reduce, [*start_of, v], fastmath=flags)

        return v.element(v), emit

    return function


sum_of_lanes = horizontal("fadd", -0.0, ("reassoc",))  # by halves, instead of from left to right
greatest_of_lanes = horizontal("fmaximum", None)
least_of_lanes = horizontal("fminimum", None)


# ## Bits
# For what is done to exponents: the same bits as unsigned integers, and back.
def reinterpreted(to_element):
    @intrinsic
    def function(typingctx, v):
        result = Vec(to_element[v.element.bitwidth], v.lanes)
        return result(v), lambda context, builder, sig, args: builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return function


bits_of = reinterpreted({64: types.uint64, 32: types.uint32})
float_of = reinterpreted({64: types.float64, 32: types.float32})


# ## Memory
def pointer(context, builder, W_type, W, offset):
    """The address of the element at this offset from the start of the array."""
    return builder.gep(context.make_array(W_type)(context, builder, W).data, [offset])


def read_vector(context, builder, address, vec):
    vector = context.get_value_type(vec)
    return builder.load(builder.bitcast(address, vector.as_pointer()), align=vec.element.bitwidth // 8, typ=vector)


def write_vector(builder, address, vec, value):
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=vec.element.bitwidth // 8)


def require_offsets(*offsets):
    for offset in offsets:
        if not isinstance(offset, types.Integer):
            raise TypingError(f"offsets and sizes are integers, not {offset}")


@intrinsic
def load(typingctx, W, offset):
    """One element."""
    require_offsets(offset)

    def emit(context, builder, sig, args):
        return builder.load(pointer(context, builder, W, *args))

    return W.dtype(W, types.int64), emit


@intrinsic
def store(typingctx, W, offset, value):
    """Write one element."""
    require_offsets(offset)

    def emit(context, builder, sig, args):
        builder.store(args[2], pointer(context, builder, W, *args[:2]))

    return types.void(W, types.int64, W.dtype), emit


SCRATCH = 1 << 14  # bytes


@intrinsic
def scratch(typingctx, W):
    """The offset of a little memory that lives as long as the kernel runs: on the stack, there is nothing to give back."""

    def emit(context, builder, sig, args):
        with builder.goto_entry_block():
            space = builder.alloca(ir.ArrayType(ir.IntType(8), SCRATCH))
        space.align = 64
        ours = context.make_array(W)(context, builder, args[0]).data
        distance = builder.sub(*(builder.ptrtoint(address, ir.IntType(64)) for address in (space, ours)))
        return builder.sdiv(distance, ir.Constant(ir.IntType(64), W.dtype.bitwidth // 8))

    return types.int64(W), emit


@intrinsic
def lanes(typingctx, W):
    """How many elements of W are in a register: 4 of float64, 8 of float32."""
    count = vec_of(W).lanes
    return types.int64(W), lambda context, builder, sig, args: ir.Constant(ir.IntType(64), count)


@intrinsic
def unknown(typingctx, number):
    """The same integer, but nothing the compiler can reckon with: a loop with such a step is not unrolled.

    Loops over a matrix's few rows or columns are short, and to set up an unrolled one takes longer than it saves.
    """

    def emit(context, builder, sig, args):
        integer = ir.IntType(64)
        return builder.asm(ir.FunctionType(integer, [integer]), "", "=r,0", args, side_effect=False)

    return types.int64(types.int64), emit


def vector_of(registers):
    """An intrinsic: a vector of one or more registers with the same value everywhere."""

    @intrinsic
    def function(typingctx, W, value):
        vec = vec_of(W, registers)
        return vec(W, vec), lambda context, builder, sig, args: args[1]

    return function


splat = vector_of(1)
splat_pair = vector_of(2)
splat_four = vector_of(4)


@intrinsic
def vload(typingctx, W, offset):
    """A register full of elements."""
    require_offsets(offset)

    def emit(context, builder, sig, args):
        return read_vector(context, builder, pointer(context, builder, W, *args), sig.return_type)

    return vec_of(W)(W, types.int64), emit


@intrinsic
def vload_like(typingctx, W, offset, like):
    """As many elements as another vector has."""
    require_offsets(offset)

    def emit(context, builder, sig, args):
        return read_vector(context, builder, pointer(context, builder, W, *args[:2]), sig.return_type)

    return like(W, types.int64, like), emit


@intrinsic
def vstore(typingctx, W, offset, v):
    """Write all lanes."""
    require_offsets(offset)

    def emit(context, builder, sig, args):
        write_vector(builder, pointer(context, builder, W, *args[:2]), v, args[2])

    return types.void(W, types.int64, v), emit


def first_lanes(builder, count, lanes):
    """The mask of the first `count` lanes."""
    number = ir.VectorType(count.type, lanes)
    return builder.icmp_signed("<", ir.Constant(number, list(range(lanes))), splatted(builder, count, lanes))


@intrinsic
def vload_part(typingctx, W, offset, count, others):
    """The first `count` lanes from memory, the others from `others`."""
    require_offsets(offset, count)

    def emit(context, builder, sig, args):
        address, count, others = pointer(context, builder, W, *args[:2]), *args[2:]
        alignment = ir.Constant(ir.IntType(32), W.dtype.bitwidth // 8)
        mask = first_lanes(builder, count, others.type.count)
        return call(builder, f"llvm.masked.load.{suffix(others.type)}.p0", others.type, [address, alignment, mask, others])

    return others(W, types.int64, types.int64, others), emit


@intrinsic
def vstore_part(typingctx, W, offset, v, count):
    """Write the first `count` lanes."""
    require_offsets(offset, count)

    def emit(context, builder, sig, args):
        address, v, count = pointer(context, builder, W, *args[:2]), *args[2:]
        alignment = ir.Constant(ir.IntType(32), W.dtype.bitwidth // 8)
        mask = first_lanes(builder, count, v.type.count)
        call(builder, f"llvm.masked.store.{suffix(v.type)}.p0", ir.VoidType(), [v, address, alignment, mask])

    return types.void(W, types.int64, v, types.int64), emit


@intrinsic
def width(typingctx, v):
    """The number of lanes of a vector."""
    return types.int64(v), lambda context, builder, sig, args: ir.Constant(ir.IntType(64), v.lanes)


@intrinsic
def at(typingctx, M, i, j):
    """The offset of the element in row i and column j of a matrix (offset, row stride, column stride)."""
    require_offsets(*M.types, i, j)

    def emit(context, builder, sig, args):
        offset, row, column = cgutils.unpack_tuple(builder, args[0])
        return builder.add(offset, builder.add(builder.mul(args[1], row), builder.mul(args[2], column)))

    return types.int64(types.UniTuple(types.int64, 3), types.int64, types.int64), emit


# `read` and `write` are for loops whose last step has fewer elements than lanes. The whole vectors before it don't take the masked
# way: what a masked store has written can't be loaded again before it has reached the cache, which takes long.
@inner
def read(W, offset, count, others):
    """The first `count` lanes from memory, which may be all of them."""
    return vload_like(W, offset, others) if count == width(others) else vload_part(W, offset, count, others)


@inner
def write(W, offset, v, count):
    """Write the first `count` lanes, which may be all of them."""
    if count == width(v):
        vstore(W, offset, v)
    else:
        vstore_part(W, offset, v, count)


# ## Across lanes
@intrinsic
def sums_of_four(typingctx, a, b, c, d):
    """The sums of the lanes of four vectors, in the first four lanes.

    Even lanes of two vectors plus their odd lanes: that makes one vector of both, in half as many lanes each. Twice, and
    four numbers have become one, of each of the four vectors; eight have become two, which are added in the same way.
    """

    def pairs(builder, x, y):
        places = list(range(2 * x.type.count))
        return builder.fadd(shuffled(builder, x, y, places[::2]), shuffled(builder, x, y, places[1::2]))

    def emit(context, builder, sig, args):
        sums = pairs(builder, pairs(builder, *args[:2]), pairs(builder, *args[2:]))
        for _ in range(a.lanes.bit_length() - 3):
            sums = pairs(builder, sums, sums)
        return sums

    return a(a, b, c, d), emit


@intrinsic
def transpose_tile(typingctx, W, y, y_row, x, x_row):
    """Copy a square of L x L elements, transposed (L lanes).

    An element's place is its row's bits, then its column's. Writing row i and row i + L/2 with their elements by turns as
    the new rows 2i and 2i + 1 moves the first of these bits to the end. After log2 L times, rows and columns have changed places.
    """
    require_offsets(y, y_row, x, x_row)
    vec = vec_of(W)
    by_turns = [place for i in range(vec.lanes) for place in (i, i + vec.lanes)]

    def emit(context, builder, sig, args):
        array, y, y_row, x, x_row = args

        def address(first, row, i):
            return pointer(context, builder, W, array, builder.add(first, builder.mul(row, ir.Constant(row.type, i))))

        rows = [read_vector(context, builder, address(x, x_row, i), vec) for i in range(vec.lanes)]
        half = vec.lanes // 2
        for _ in range(half.bit_length()):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [shuffled(builder, *pair, part) for pair in pairs for part in (by_turns[: vec.lanes], by_turns[vec.lanes :])]
        for i, row in enumerate(rows):
            write_vector(builder, address(y, y_row, i), vec, row)

    return types.void(W, *[types.int64] * 4), emit


# ## Numbers that depend on the precision
def polynomial(for_float64, for_float32):
    r"""An intrinsic: $c_0 + c_1 x + c_2 x^2 + \dots$ by Horner's rule, with the coefficients that the precision asks for."""
    coefficients_of = {64: for_float64, 32: for_float32}

    @intrinsic
    def function(typingctx, x):
        coefficients = coefficients_of[x.element.bitwidth]

        def emit(context, builder, sig, args):
            [x] = args
            terms = [ir.Constant(x.type, [c] * x.type.count) for c in coefficients]
            value = terms.pop()
            while terms:
                value = call(builder, f"llvm.fmuladd.{suffix(x.type)}", x.type, [value, x, terms.pop()])
            return value

        return x(x), emit

    return function


def constant(for_float64, for_float32):
    """An intrinsic: the number, in vectors like `x`."""
    return polynomial([for_float64], [for_float32])
