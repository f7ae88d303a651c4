"""Element by element: broadcasting, corners and kinks, nodes without a derivative, operators."""

import operator

import numpy as np
import pytest
from catalogue import BINARY, UNARY, errors, normal, value

import tinymeta as tm

SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 1, 3)]


def gradient(f, *xs):
    """The gradient of the sum with respect to every argument."""
    return tm.grad(lambda *xs: np.sum(f(*xs)), argnums=range(len(xs)))(*map(np.asarray, xs))


# ## Broadcasting
@pytest.mark.parametrize("a_shape", SHAPES, ids=str)
@pytest.mark.parametrize("b_shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_every_broadcasting_pair(name, a_shape, b_shape):
    f, sample = BINARY[name]
    a, b = sample(*a_shape), sample(*b_shape)
    np.testing.assert_array_equal(value(f, [a, b]), f(a, b))
    assert [x.shape for x in gradient(f, a, b)] == [a_shape, b_shape]
    assert max(errors(f, [np.asarray(a), np.asarray(b)])) < 1e-13


@pytest.mark.parametrize("name", BINARY)
def test_empty_arrays(name):
    f, _ = BINARY[name]
    a_bar, b_bar = gradient(f, np.ones((0, 3)), np.ones((1, 3)))
    assert a_bar.shape == (0, 3)
    np.testing.assert_array_equal(b_bar, np.zeros((1, 3)))


@pytest.mark.parametrize("name", [name for name in UNARY if "softmax" not in name])
def test_python_floats(name):
    f = UNARY[name][0]
    array = np.array(0.7)
    for order in (f, tm.grad(f), tm.grad(tm.grad(f))):
        assert order(0.7) == pytest.approx(order(array), rel=1e-15)


# ## Powers
def test_power_zero_is_constant_even_at_zero():
    np.testing.assert_array_equal(gradient(lambda a: a**0, [0.0, 2.0])[0], [0, 0])
    np.testing.assert_array_equal(gradient(lambda a: a ** np.zeros(2), [0.0, 2.0])[0], [0, 0])


def test_power_of_base_zero():
    x = np.array([0.0, 0.0, 0.0])
    np.testing.assert_array_equal(gradient(lambda a: a ** np.array([1.0, 2.0, 3.0]), x)[0], [1, 0, 0])
    np.testing.assert_array_equal(tm.hessian(lambda a: np.sum(a**2))(x), 2 * np.eye(3))
    np.testing.assert_array_equal(tm.hessian(lambda a: np.sum(a**2.0 + np.power(a, 2)))(x), 4 * np.eye(3))


def test_exponent_of_base_zero_has_derivative_zero():
    np.testing.assert_array_equal(gradient(lambda b: np.zeros(2) ** b, [1.0, 2.5])[0], [0, 0])


def test_mixed_second_derivative_of_power_at_exponent_zero():
    """d/db of b a^(b-1) is 1/a at b = 0."""
    slope = lambda a, b: tm.grad(lambda a: np.sum(np.power(a, b)))(a)
    np.testing.assert_allclose(gradient(lambda b: slope(np.array([2.0, 4.0]), b), np.zeros(2))[0], [0.5, 0.25], rtol=1e-15)


@pytest.mark.parametrize("exponent", [-1, -2, -3, 2, 3, 0.5, 1.5])
def test_power_with_scalar_exponents(exponent):
    x = np.array([0.5, 2.0, 3.0])
    np.testing.assert_allclose(gradient(lambda a: a**exponent, x)[0], exponent * x ** (exponent - 1), rtol=1e-15)
    np.testing.assert_allclose(tm.hessian(lambda a: np.sum(a**exponent))(x).diagonal(),
                               exponent * (exponent - 1) * x ** (exponent - 2.0), rtol=1e-14)  # fmt: skip
    assert gradient(lambda a: a**exponent, x.astype(np.float32))[0].dtype == np.float32


def test_power_with_array_of_integer_exponents_on_negative_bases():
    n = np.array([-2, 3, 0])
    np.testing.assert_allclose(gradient(lambda a: a**n, [-2.0, -2.0, -2.0])[0], [0.25, 12, 0], rtol=1e-15)


def test_square_of_a_tensor_is_one_node():
    assert (tm.tensor([3.0]) ** 2).op.name == "square"


# ## Kinks and singular points: what each rule states
@pytest.mark.parametrize(("f", "x", "expected"), [
    (np.abs, 0.0, 0.0), (tm.relu, 0.0, 0.0), (lambda x: np.maximum(x, 0.0), 0.0, 0.5), (lambda x: np.minimum(0.0, x), 0.0, 0.5),
    (lambda x: np.maximum(x, x), 3.0, 1.0), (lambda x: np.clip(x, 0, 1), 0.0, 0.5), (lambda x: np.clip(x, 0, 1), 1.0, 0.5),
    (lambda x: np.clip(x, 0, 1), -1.0, 0.0), (lambda x: np.clip(x, 0, 1), 0.5, 1.0), (lambda x: np.clip(x, None, 1), -5.0, 1.0),
    (lambda x: np.clip(x, 1, 1), 1.0, 0.25),
])  # fmt: skip
def test_derivative_at_a_kink(f, x, expected):
    assert tm.grad(f)(x) == expected
    assert gradient(f, [x, x])[0].tolist() == [expected, expected]
    assert tm.grad(tm.grad(f))(x) == 0


def test_sqrt_at_zero_has_an_infinite_derivative():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert tm.grad(np.sqrt)(np.array(0.0)) == np.inf
    assert tm.grad(lambda x: np.sqrt(x + 1e-12))(0.0) == pytest.approx(5e5)


def test_where_ignores_nan_in_the_branch_not_taken():
    bad_bar, a_bar = gradient(lambda bad, a: np.where([False, True], bad, 3 * a), [np.nan, 0.0], [1.0, 2.0])
    np.testing.assert_array_equal(bad_bar, [0, 1])
    np.testing.assert_array_equal(a_bar, [3, 0])


def test_where_with_a_guarded_argument():
    def guarded(x):
        return np.where(x > 0, np.log(np.where(x > 0, x, 1)), 0)

    np.testing.assert_array_equal(gradient(guarded, [0.0, -1.0, 2.0])[0], [0, 0, 0.5])


def test_where_without_a_guard_makes_nan_further_up():
    with np.errstate(all="ignore"):
        assert np.isnan(gradient(lambda x: np.where(x > 0, np.log(x), 0), [0.0])[0]).all()


# ## No derivative, but a node all the same
ZERO = {
    "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint, "round": lambda a: np.round(a, 1),
    "around": np.around, "isfinite": np.isfinite, "isnan": np.isnan, "isinf": np.isinf, "signbit": np.signbit,
    "less": lambda a: a < 0.1, "less_equal": lambda a: a <= 0.1, "greater": lambda a: 0.1 < a, "greater_equal": lambda a: a >= 0.1,
    "equal": lambda a: a == a[0], "not_equal": lambda a: a != a[0], "logical_and": lambda a: np.logical_and(a > 0, a < 1),
    "logical_or": lambda a: np.logical_or(a > 0, a < -1), "logical_xor": lambda a: np.logical_xor(a > 0, a < 1),
    "logical_not": np.logical_not, "&": lambda a: (a > 0) & (a < 1), "|": lambda a: (a > 0) | (a < -1),
    "^": lambda a: (a > 0) ^ (a < 1), "~": lambda a: ~(a > 0), "//": lambda a: a // 0.3, "reflected //": lambda a: 7 // a,
    "zeros_like": np.zeros_like, "ones_like": np.ones_like, "full_like": lambda a: np.full_like(a, 2.5),
    "integers": lambda a: a.astype(int), "stop_gradient": lambda a: tm.stop_gradient(a), "argmax": lambda a: np.argmax(a, -1),
    "argmin": lambda a: np.argmin(a), "argsort": lambda a: np.argsort(a, 0), "all": lambda a: np.all(a > 0, axis=0),
    "any": lambda a: np.any(a > 0, axis=(0, 1)), "count_nonzero": lambda a: np.count_nonzero(a > 0, axis=0),
}  # fmt: skip


@pytest.mark.parametrize("name", ZERO)
def test_nodes_without_derivative(name):
    f, x = ZERO[name], 3 * normal(2, 3)
    result = f(tm.tensor(x))
    np.testing.assert_array_equal(result.value, f(x))
    assert result.dtype == np.asarray(f(x)).dtype
    assert result.op is not None
    np.testing.assert_array_equal(gradient(lambda a: np.sum(a) + np.sum(f(a) * 2.0), x)[0], np.ones((2, 3)))
    np.testing.assert_array_equal(f(tm.tensor(x + 1e-30j)).value, f(x) + (1e-30j if name == "stop_gradient" else 0))


@pytest.mark.parametrize(("a", "b"), [(5.5, -2.0), (-5.5, 2.0), (5.0, np.inf), (1e-20, -1.0), (7, 3)])
def test_remainder_is_numpys(a, b):
    assert np.remainder(tm.tensor(np.array(a)), b).value == np.remainder(a, b)


def test_comparison_with_real_part_on_complex_tensors():
    t = tm.tensor(np.array([1 - 1e-30j, 2 + 1e-30j]))
    np.testing.assert_array_equal((t > 1).value, [False, True])
    np.testing.assert_array_equal(np.maximum(t, 1.5).value.imag, [0, 1e-30])
    np.testing.assert_array_equal(np.abs(-t).value, t.value)


# ## Casts
def test_astype_casts_the_cotangent_back():
    x = np.ones(2, np.float32)
    assert gradient(lambda a: a.astype(np.float64) * np.pi, x)[0].dtype == np.float32
    assert gradient(lambda a: a.astype(np.float32), np.ones(2))[0].dtype == np.float64
    assert tm.tensor(x).astype(np.float64, copy=False).dtype == np.float64


# ## Operators, from both sides
BINARY_OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
                    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]  # fmt: skip
OTHERS = [2, 2.5, np.float64(1.5), np.array([1.0, 2.0, 3.0]), np.array([[2.0], [3.0]]), [1, 2, 3], [1.5, 2.5, 3.5]]


@pytest.mark.parametrize("apply", BINARY_OPERATORS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_operators_and_their_reflections(apply, other):
    x = np.array([[0.5, 1.5, 2.5], [1.25, 3.0, 0.75]])
    t = tm.tensor(x)
    np.testing.assert_allclose(apply(t, other).value, apply(x, other), rtol=1e-15)
    np.testing.assert_allclose(apply(other, t).value, apply(other, x), rtol=1e-15)


@pytest.mark.parametrize("apply", [operator.and_, operator.or_, operator.xor])
@pytest.mark.parametrize("other", [True, np.array([True, False])], ids=repr)
def test_logical_operators_and_their_reflections(apply, other):
    x = np.array([[True, True], [False, False]])
    np.testing.assert_array_equal(apply(tm.tensor(x), other).value, apply(x, other))
    np.testing.assert_array_equal(apply(other, tm.tensor(x)).value, apply(other, x))


@pytest.mark.parametrize("apply", [operator.neg, operator.pos, operator.abs])
def test_unary_operators(apply):
    x = normal(3)
    np.testing.assert_array_equal(apply(tm.tensor(x)).value, apply(x))


def test_matmul_operator_from_both_sides():
    a, b = normal(2, 3), normal(3, 2)
    for result in (tm.tensor(a) @ b, a @ tm.tensor(b), a.tolist() @ tm.tensor(b), tm.tensor(a) @ b.tolist()):
        np.testing.assert_allclose(result.value, a @ b, rtol=1e-15)


# ## Refusals
def test_in_place_operators_refuse():
    a = np.ones(3)
    with pytest.raises(TypeError, match=r"a = a \+ t"):
        a += tm.tensor(np.ones(3))


@pytest.mark.parametrize("option", [{"where": np.array([True, False])}, {"dtype": np.float32}, {"out": np.zeros(2)}])
def test_options_of_ufuncs_are_refused_by_name(option):
    with pytest.raises(TypeError, match=rf"{next(iter(option))}="):
        np.sin(tm.tensor([1.0, 2.0]), **option)


def test_where_with_one_argument_is_refused():
    with pytest.raises(TypeError, match=r"np\.nonzero"):
        np.where(tm.tensor([1.0]))


def test_at_is_refused():
    with pytest.raises(TypeError, match=r"tm\.set_at"):
        np.add.at(tm.tensor([1.0]), 0, 2.0)


@pytest.mark.parametrize("call", [
    lambda t: np.arctan2(t, t), lambda t: np.linalg.svd(t), lambda t: np.median(t), lambda t: np.add.reduceat(t, [0]),
    lambda t: np.fft.fft(t), lambda t: np.linalg.eigh(t),
])  # fmt: skip
def test_unknown_operations_are_named_with_advice(call):
    with pytest.raises(TypeError, match=r"(arctan2|svd|median|add.reduceat|fft|eigh) has no differentiable form.*tm\.custom_vjp"):
        call(tm.tensor(np.eye(2)))


# ## What the catalogue's generic values don't reach
def test_relu_is_the_number_or_zero():
    x = np.array([-2.5, -0.0, 0.0, 1.75, np.inf])
    assert tm.relu(tm.tensor(x)).value.tolist() == tm.relu(x).tolist() == [0, 0, 0, 1.75, np.inf]


def test_the_complex_step_of_a_tie_takes_half_of_each():
    for f in (np.maximum, np.minimum):
        tie = f(tm.tensor(1 + 2e-20j), tm.tensor(1 + 6e-20j)).value
        assert tie.real == 1 and np.isclose(tie.imag, 4e-20, rtol=1e-15, atol=0)
