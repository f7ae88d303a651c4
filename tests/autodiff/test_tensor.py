"""The Tensor: a value that owns its data, refuses what would cut its gradient, and makes a node of everything else."""

import copy
import math
import pickle

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.tensor import is_tracing, tracing

VECTOR = np.array([3.0, 1.0, 2.0])


# ## A value, with its own data
def test_a_leaf_copies_what_it_is_given():
    array = VECTOR.copy()
    t = tm.tensor(array)
    array[0] = 99.0
    np.testing.assert_array_equal(t.value, VECTOR)
    array[1] = 0.0  # and the caller's array stays writable


def test_value_is_read_only():
    for t in (tm.tensor(VECTOR), np.sin(tm.tensor(VECTOR)), tm.tensor(1.0), np.sum(tm.tensor(VECTOR))):
        assert not isinstance(t.data, np.ndarray) or not t.data.flags.writeable
        assert type(t.value) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            t.value[...] = 0.0


def test_a_captured_array_that_changes_later_does_not_change_the_gradient():
    factor = VECTOR.copy()
    _, pullback = tm.vjp(lambda x: np.sum(factor * np.sin(x) @ np.diag(factor)), VECTOR)
    expected = pullback(1.0)[0]
    factor[:] = np.nan
    np.testing.assert_array_equal(pullback(1.0)[0], expected)


def test_an_argument_that_changes_later_does_not_change_the_gradient():
    x = VECTOR.copy()
    _, pullback = tm.vjp(lambda x: np.sum(x**3), x)
    x[:] = 0.0
    np.testing.assert_allclose(pullback(1.0)[0], 3 * VECTOR**2, rtol=1e-15)


def test_operations_leave_the_callers_arrays_writable():
    a, index = VECTOR.copy(), np.array([0, 1])
    t = tm.tensor(VECTOR)
    _ = t + a, np.where(a > 0, t, a), t[index], np.concatenate([t, a]), tm.set_at(t, index, a[:2])
    assert a.flags.writeable and index.flags.writeable


def test_in_place_operators_rebind():
    t = before = tm.tensor(VECTOR)
    t += 1.0
    t *= 2.0
    np.testing.assert_array_equal(before.value, VECTOR)
    np.testing.assert_array_equal(t.value, 2 * (VECTOR + 1))
    assert tm.grad(lambda x: _accumulate(x))(3.0) == 12.0


def _accumulate(x):
    total = x
    total *= x
    total += total
    return total


def test_assignment_names_set_at():
    t = tm.tensor(VECTOR)
    with pytest.raises(TypeError, match=r"tm\.set_at\(t, index, value\)"):
        t[0] = 1.0


def test_a_tensor_has_no_attributes_to_set():
    with pytest.raises(AttributeError):
        tm.tensor(1.0).grad = 2.0


# ## What would cut a gradient is refused
SCALAR = tm.tensor(2.0)
ONE_ELEMENT = tm.tensor([2.0])
CUTS = {
    "float": lambda: float(SCALAR),
    "float of one element": lambda: float(ONE_ELEMENT),
    "int": lambda: int(SCALAR),
    "complex": lambda: complex(SCALAR),
    "math.sin": lambda: math.sin(SCALAR),
    "math.floor": lambda: math.floor(SCALAR),
    "np.asarray": lambda: np.asarray(SCALAR),
    "np.array of a list": lambda: np.array([SCALAR, SCALAR]),
    "np.array of objects": lambda: np.array([SCALAR], dtype=object),
    "np.float64": lambda: np.float64(SCALAR),
    "a list in a NumPy function": lambda: np.sum([SCALAR, SCALAR]),
    "array times list": lambda: np.ones(2) * [SCALAR, SCALAR],
    "tm.tensor of nested lists": lambda: tm.tensor([[SCALAR]]),
    "a[:] = t": lambda: np.zeros(1).__setitem__(slice(None), ONE_ELEMENT),
    "range": lambda: range(tm.tensor(2)),
    "list[t]": lambda: [1, 2, 3][tm.tensor(1)],
    "array[t]": lambda: np.arange(3)[tm.tensor(1)],
    "array.dot": lambda: np.ones(1).dot(ONE_ELEMENT),
    "percent": lambda: "%f".__mod__(SCALAR),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("traced", [False, True])
def test_what_would_cut_a_gradient_is_refused_always(cut, traced):
    if traced:
        with tracing(), pytest.raises(TypeError) as caught:
            CUTS[cut]()
    else:
        with pytest.raises(TypeError) as caught:
            CUTS[cut]()
    for advice in (".value", "np.sin", "tm.set_at"):
        assert advice in str(caught.value)


@pytest.mark.parametrize("index", [tm.tensor(1), tm.tensor([2, 0])])
def test_indexing_an_array_with_a_tensor_is_refused_by_name(index):
    with pytest.raises(TypeError, match=r"a\[t\] .* would turn a Tensor into a plain number.*tm\.tensor\(a\)\[t\] to index"):
        VECTOR[index]
    np.testing.assert_array_equal(tm.tensor(VECTOR)[index].value, VECTOR[index.value])


@pytest.mark.parametrize("assign", [lambda a: a.__setitem__(0, SCALAR), lambda a: a.__setitem__(0, ONE_ELEMENT), lambda a: a.fill(SCALAR)])
def test_assigning_an_element_into_an_array_is_refused(assign):
    """NumPy puts a ValueError of its own on top; the advice is in its cause, which the traceback shows first."""
    array = np.zeros(2)
    with pytest.raises((TypeError, ValueError)) as caught:
        assign(array)
    assert "tm.set_at" in str(caught.value.__cause__ or caught.value)
    np.testing.assert_array_equal(array, 0.0)


def test_in_place_operators_on_arrays_are_refused():
    array = np.zeros(3)
    with pytest.raises(TypeError, match=r"a = a \+ t instead of a \+= t"):
        array += tm.tensor(VECTOR)
    with pytest.raises(TypeError, match=r"out="):
        np.add(tm.tensor(VECTOR), 1.0, out=array)
    with pytest.raises(TypeError, match=r"tm\.set_at"):
        np.add.at(array, [0], tm.tensor(VECTOR[:1]))
    np.testing.assert_array_equal(array, 0.0)


def test_a_list_of_tensors_is_not_an_array():
    with pytest.raises(TypeError, match=r"np\.stack"):
        tm.tensor([SCALAR, SCALAR])
    with pytest.raises(TypeError, match=r"np\.stack"):
        _ = tm.tensor(VECTOR[:2]) * [SCALAR, SCALAR]


@pytest.mark.parametrize("value", ["text", None, object(), np.array(["a"]), [[1.0], ["a"]]])
def test_what_is_not_numeric_is_refused(value):
    with pytest.raises(TypeError, match="numeric"):
        tm.tensor(value)


def test_a_missing_function_is_named():
    with pytest.raises(TypeError, match=r"np\.interp.*tm\.custom_vjp"):
        np.interp(tm.tensor(VECTOR), VECTOR, VECTOR)
    with pytest.raises(TypeError, match=r"spacing.*tm\.custom_vjp"):
        np.spacing(tm.tensor(VECTOR))
    with pytest.raises(AttributeError, match=r"no \.tobytes"):
        tm.tensor(VECTOR).tobytes()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tm.tensor(VECTOR).nonsense


def test_a_failing_operation_says_what_it_was_given():
    with pytest.raises(ValueError, match=r"add\(float64\[3\], float64\[2\]\)"):
        tm.tensor(VECTOR) + np.ones(2)


# ## Truth
def test_truth_of_one_element():
    assert tm.tensor(1.0) and tm.tensor([[2.0]]) and not tm.tensor(0.0)
    assert (tm.tensor(1.0) > 0.5) and not (tm.tensor(1.0) > 1.5)
    with pytest.raises(ValueError, match=r"shape \(3,\) is ambiguous.*np\.any"):
        bool(tm.tensor(VECTOR))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(tm.tensor(np.zeros(0)))


def test_under_a_trace_a_tensor_has_no_truth_and_no_value():
    t = tm.tensor(1.0)
    with tracing():
        assert is_tracing()
        with pytest.raises(TypeError, match=r"its truth.*traced.*np\.where"):
            bool(t)
        with pytest.raises(TypeError, match=r"\.value can't be known while the function is traced"):
            _ = t.value
        with pytest.raises(TypeError, match="traced"):
            f"{t:.2f}"
        assert repr(np.sin(t)) == "Tensor(shape=(), dtype=float64, op=sin)"
        assert t.shape == () and t.ndim == 0 and t.size == 1 and t.dtype == float
    assert not is_tracing()
    assert t and t.value == 1.0


def test_a_trace_ends_with_an_error_too():
    with pytest.raises(RuntimeError), tracing():
        raise RuntimeError
    assert not is_tracing()


# ## Everything makes a node
NODES = {
    "less": (lambda t: t < 2.0, lambda a: a < 2.0),
    "less reflected": (lambda t: 2.0 > t, lambda a: a < 2.0),
    "less_equal": (lambda t: t <= VECTOR, lambda a: a <= VECTOR),
    "array comparison": (lambda t: VECTOR >= t, lambda a: VECTOR >= a),
    "equal": (lambda t: t == 2.0, lambda a: a == 2.0),
    "not_equal": (lambda t: t != 2.0, lambda a: a != 2.0),
    "mask logic": (lambda t: ~(t > 1) & (t < 3) | (t == 3), lambda a: ~(a > 1) & (a < 3) | (a == 3)),
    "mask xor": (lambda t: (t > 1) ^ (t > 2), lambda a: (a > 1) ^ (a > 2)),
    "logical_not": (lambda t: np.logical_not(t > 2), lambda a: a <= 2),
    "argmax": (lambda t: t.argmax(), lambda a: a.argmax()),
    "argmin": (lambda t: np.argmin(t), lambda a: a.argmin()),
    "argsort": (lambda t: t.argsort(), lambda a: a.argsort()),
    "sort": (lambda t: np.sort(t), lambda a: np.sort(a)),
    "floor": (lambda t: np.floor(t / 2), lambda a: np.floor(a / 2)),
    "floor_divide": (lambda t: t // 2, lambda a: a // 2),
    "remainder": (lambda t: t % 2, lambda a: a % 2),
    "round": (lambda t: (t / 3).round(1), lambda a: (a / 3).round(1)),
    "sign": (lambda t: np.sign(t - 2), lambda a: np.sign(a - 2)),
    "isfinite": (lambda t: np.isfinite(t), lambda a: np.isfinite(a)),
    "astype int": (lambda t: t.astype(int), lambda a: a.astype(int)),
    "astype bool": (lambda t: t.astype(bool), lambda a: a.astype(bool)),
    "astype float32": (lambda t: t.astype("float32"), lambda a: a.astype("float32")),
    "zeros_like": (lambda t: np.zeros_like(t), lambda a: np.zeros_like(a)),
    "ones_like": (lambda t: np.ones_like(t), lambda a: np.ones_like(a)),
    "take_along_axis": (
        lambda t: np.take_along_axis(t, np.argsort(t), -1),
        lambda a: np.take_along_axis(a, np.argsort(a), -1),
    ),
    "take_along_axis of an array": (
        lambda t: np.take_along_axis(VECTOR, np.argsort(t), -1),
        lambda a: np.take_along_axis(VECTOR, np.argsort(a), -1),
    ),
    "any": (lambda t: np.any(t > 2), lambda a: np.any(a > 2)),
    "all": (lambda t: (t > 2).all(), lambda a: (a > 2).all()),
    "array op": (lambda t: VECTOR - t, lambda a: VECTOR - a),
    "scalar op": (lambda t: np.float64(2) ** t, lambda a: 2**a),
    "matmul": (lambda t: np.ones((2, 3)) @ t, lambda a: np.ones((2, 3)) @ a),
    "abs": (lambda t: abs(-t), lambda a: abs(-a)),
    "positive": (lambda t: +t, lambda a: +a),
}


@pytest.mark.parametrize("name", NODES)
def test_every_function_makes_a_node(name):
    on_tensor, on_array = NODES[name]
    for context in (False, True):
        t = tm.tensor(VECTOR)
        if context:
            with tracing():
                c = on_tensor(t)
        else:
            c = on_tensor(t)
        assert type(c) is tm.Tensor and c.op is not None
    expected = np.asarray(on_array(VECTOR))
    np.testing.assert_array_equal(c.value, expected)
    assert c.dtype == expected.dtype and c.shape == expected.shape


@pytest.mark.parametrize("name", ["less", "mask logic", "argmax", "argsort", "floor", "sign", "astype int", "zeros_like", "round"])
def test_what_is_piecewise_constant_has_gradient_zero(name):
    on_tensor = NODES[name][0]
    gradient = tm.grad(lambda x: np.sum(on_tensor(x) * 1.0))(VECTOR)
    np.testing.assert_array_equal(gradient, np.zeros(3))


# ## An array's attributes, methods and manners
def test_attributes():
    matrix = np.arange(6.0).reshape(2, 3)
    t = tm.tensor(matrix)
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 3), 2, 6, np.dtype(float), 2)
    assert t.op is None and t.inputs == ()
    assert t.T.shape == t.mT.shape == (3, 2)
    assert tm.tensor(3).dtype == int and tm.tensor(True).dtype == bool and tm.tensor(np.float32(3)).dtype == np.float32


@pytest.mark.parametrize(
    "method",
    ["sum", "mean", "prod", "max", "min", "var", "std", "cumsum", "argmax", "argmin", "argsort", "all", "any", "ravel", "flatten",
     "trace", "diagonal", "squeeze", "copy", "transpose"],
)  # fmt: skip
def test_methods(method):
    matrix = np.array([[3.0, 1.0, 2.0], [0.5, 0.0, 4.0]])
    ours = getattr(tm.tensor(matrix), method)()
    np.testing.assert_allclose(ours.value, getattr(matrix, method)(), rtol=1e-15)


def test_methods_with_arguments():
    matrix = np.arange(6.0).reshape(2, 3)
    t = tm.tensor(matrix)
    pairs = [
        (t.sum(axis=1, keepdims=True), matrix.sum(axis=1, keepdims=True)),
        (t.mean(0), matrix.mean(0)),
        (t.reshape(3, 2), matrix.reshape(3, 2)),
        (t.reshape((6,)), matrix.reshape(6)),
        (t.reshape(-1), matrix.reshape(-1)),
        (t.transpose(1, 0), matrix.T),
        (t.transpose((1, 0)), matrix.T),
        (t.swapaxes(0, 1), matrix.T),
        (t.clip(1.0, 4.0), matrix.clip(1.0, 4.0)),
        (t.repeat(2, axis=0), matrix.repeat(2, axis=0)),
        (t.take([0, 2], axis=1), matrix.take([0, 2], axis=1)),
        (t.dot(matrix.T), matrix.dot(matrix.T)),
        (t.round(1), matrix.round(1)),
    ]
    for ours, expected in pairs:
        assert type(ours) is tm.Tensor
        np.testing.assert_array_equal(ours.value, expected)


def test_iteration_and_length():
    t = tm.tensor(VECTOR)
    assert len(t) == 3 and [row.value.item() for row in t] == VECTOR.tolist()
    first, *rest = t
    assert first.op.name == "getitem" and len(rest) == 2
    assert tm.grad(lambda x: sum(a * b for a, b in zip(x, x[::-1], strict=True)))(VECTOR).tolist() == (2 * VECTOR[::-1]).tolist()
    for broken in (len, list):
        with pytest.raises(TypeError, match=r"len\(\) of a Tensor of shape \(\)"):
            broken(tm.tensor(1.0))


def test_as_a_key_a_tensor_is_itself():
    a, b = tm.tensor(1.0), tm.tensor(1.0)
    assert len({a, b}) == 2 and {a: "first"}[a] == "first"


def test_printing():
    t = tm.tensor([1.0, 2.0])
    assert repr(t) == "Tensor([1., 2.])" and str(t) == repr(t) and f"{t}" == repr(t)
    assert repr(t + 1) == "Tensor([2., 3.], op=add)"
    assert f"{tm.tensor(3.14159):.2f}" == "3.14"


# ## Copies
def test_a_copy_of_a_value_is_the_value_itself():
    """A second node with the same place in the order of creation would take the first one's cotangents."""
    t = tm.tensor(VECTOR)
    assert copy.copy(t) is t and copy.deepcopy({"t": t})["t"] is t and t.copy() is t
    assert tm.grad(lambda x: x * copy.deepcopy(x))(3.0) == 6.0


def test_leaves_can_be_pickled_and_are_new_leaves():
    t = tm.tensor(VECTOR)
    other = pickle.loads(pickle.dumps(t))
    np.testing.assert_array_equal(other.value, VECTOR)
    assert other.index > t.index and other.op is None and not other.value.flags.writeable
    weak = pickle.loads(pickle.dumps(tm.tensor(0.5)))
    assert (np.ones(2, np.float32) * weak).dtype == np.float32
    with pytest.raises(TypeError, match=r"pickle t\.value"):
        pickle.dumps(t + 1)


# ## dtypes: NumPy 2's rules, Python's scalars weak
SINGLE = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize("number", [2, 2.0, True])
@pytest.mark.parametrize("operator", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "less"])
@pytest.mark.parametrize("place", ["constant", "Tensor", "reflected"])
def test_python_scalars_are_weak(operator, number, place):
    function = getattr(np, operator)
    if place == "constant":
        result, expected = function(tm.tensor(SINGLE), number), function(SINGLE, number)
    elif place == "Tensor":
        result, expected = function(SINGLE, tm.tensor(number)), function(SINGLE, number)
    else:
        result, expected = function(tm.tensor(number), SINGLE), function(number, SINGLE)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.value, expected)


def test_weak_stays_weak_through_operations():
    weak = tm.tensor(0.1)
    for derived in (-weak, weak * 2, np.exp(weak), weak**2, weak / 3, np.tanh(weak) + 1, tm.stop_gradient(weak), tm.sigmoid(weak)):
        assert (derived * SINGLE).dtype == np.float32
        assert (tm.tensor(SINGLE) - derived).dtype == np.float32


@pytest.mark.parametrize("strong", [np.float64(2.0), np.array(2.0), np.array([2.0, 3.0])])
def test_numpys_scalars_and_0d_arrays_are_strong(strong):
    assert (tm.tensor(SINGLE) * strong).dtype == (SINGLE * strong).dtype == np.float64
    assert (SINGLE * tm.tensor(strong)).dtype == np.float64


def test_integers_and_booleans_promote_as_in_numpy():
    for a in (np.array([1, 2]), np.array([True, False]), np.array([1, 2], np.int32), np.array([1, 2], np.uint8)):
        for b in (2, 0.5, SINGLE, np.array([3, 4])):
            for function in (np.add, np.multiply, np.divide):
                assert function(tm.tensor(a), b).dtype == function(a, b).dtype
