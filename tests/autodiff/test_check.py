"""check_grad: it must fail on every wrong rule, and never on a right one."""

from collections import namedtuple

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.check import approximate_gradient, complex_step, extrapolated_difference
from tinymeta.autodiff.operations import elementwise, linear_algebra, products, reductions
from tinymeta.autodiff.tensor import NotAnalytic, Operation

generator = np.random.default_rng(0)
MATRIX = generator.normal(size=(4, 4))
VECTOR = generator.normal(size=4)
Pair = namedtuple("Pair", "first second")


# ## Wrong rules of a user's own operation
def own(rule):
    """tanh(x) W, with `rule` for its rule."""
    return tm.custom_vjp(lambda x, W: np.tanh(x) @ W, rule)


def right_rule(y_bar, y, x, W):
    return y_bar @ W.T * (1 - np.tanh(x) ** 2), np.outer(np.tanh(x), y_bar)


WRONG_RULES = {
    "off by 1e-6": lambda y_bar, y, x, W: (y_bar @ W.T * (1 - np.tanh(x) ** 2) * (1 + 1e-6), np.outer(np.tanh(x), y_bar)),
    "second cotangent off by 1e-6": lambda y_bar, y, x, W: (y_bar @ W.T * (1 - np.tanh(x) ** 2), np.outer(np.tanh(x), y_bar) * (1 + 1e-6)),
    "a term dropped": lambda y_bar, y, x, W: (y_bar @ W.T, np.outer(np.tanh(x), y_bar)),
    "an operand transposed": lambda y_bar, y, x, W: (y_bar @ W * (1 - np.tanh(x) ** 2), np.outer(np.tanh(x), y_bar)),
    "a result transposed": lambda y_bar, y, x, W: (y_bar @ W.T * (1 - np.tanh(x) ** 2), np.outer(y_bar, np.tanh(x))),
    "zeros": lambda y_bar, y, x, W: (np.zeros(4), np.zeros((4, 4))),
    "nothing": lambda y_bar, y, x, W: (None, None),
    "a wrong sign": lambda y_bar, y, x, W: (-y_bar @ W.T * (1 - np.tanh(x) ** 2), np.outer(np.tanh(x), y_bar)),
}


@pytest.mark.parametrize("method", ["auto", "differences"])
def test_the_right_rule_passes(method):
    check = tm.check_grad(own(right_rule), VECTOR, MATRIX, method=method)
    assert check.ok, check


@pytest.mark.parametrize("method", ["auto", "differences"])
@pytest.mark.parametrize("rule", WRONG_RULES.values(), ids=WRONG_RULES.keys())
def test_a_wrong_rule_fails(rule, method):
    assert not tm.check_grad(own(rule), VECTOR, MATRIX, order=1, method=method)


def test_a_rule_right_once_but_not_differentiable_fails_at_order_two():
    def rule(y_bar, y, x):
        return (y_bar * 3 * tm.stop_gradient(x) ** 2,)

    cube = tm.custom_vjp(lambda x: x**3, rule)
    assert tm.check_grad(cube, VECTOR, order=1)
    check = tm.check_grad(cube, VECTOR)
    assert not check
    assert check.worst.order == 2


# ## Wrong built-in rules
def perturbed(rule, changed, k=0):
    """The rule with its k-th cotangent changed."""

    def wrong(*args, **params):
        terms = list(rule(*args, **params))
        term = terms[k]() if callable(terms[k]) else terms[k]
        terms[k] = changed(term, args[0])
        return tuple(terms)

    return wrong


MUTATIONS = {
    "off by 1e-6": lambda x_bar, c_bar: x_bar * (1 + 1e-6),
    "zeros": lambda x_bar, c_bar: x_bar * 0,
    "a factor dropped": lambda x_bar, c_bar: x_bar + 0.1 * np.sum(c_bar),
    "a wrong sign": lambda x_bar, c_bar: -x_bar,
}
VICTIMS = [
    (elementwise.exp, 0, np.exp, (VECTOR,)),
    (elementwise.tanh, 0, np.tanh, (VECTOR,)),
    (elementwise.multiply, 1, np.multiply, (VECTOR, VECTOR[::-1])),
    (elementwise.divide, 1, np.divide, (VECTOR, VECTOR[::-1])),
    (elementwise.power, 1, np.power, (VECTOR**2, VECTOR)),
    (reductions.sum_, 0, lambda x: np.sum(np.sin(x), axis=0), (MATRIX,)),
    (products.matmul_, 0, lambda a, b: a @ b, (MATRIX, MATRIX[::-1])),
    (products.matmul_, 1, lambda a, b: a @ b, (MATRIX, MATRIX[::-1])),
    (linear_algebra.solve_, 0, np.linalg.solve, (MATRIX, VECTOR)),
    (linear_algebra.det, 0, np.linalg.det, (MATRIX,)),
]


@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: f"{victim[0].name} {victim[1]}")
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
@pytest.mark.parametrize("method", ["complex", "differences"])
def test_a_wrong_built_in_rule_fails(monkeypatch, victim, mutation, method):
    operation, k, f, args = victim
    assert tm.check_grad(f, *args, order=1, method=method)
    monkeypatch.setattr(operation, "vjp", perturbed(operation.vjp, mutation, k))
    assert not tm.check_grad(f, *args, order=1, method=method)


def test_transposed_operand_of_a_built_in_rule(monkeypatch):
    monkeypatch.setattr(products.matmul_, "vjp", lambda c_bar, c, a, b: (lambda: c_bar @ b, lambda: a.T @ c_bar))
    assert not tm.check_grad(lambda a, b: a @ b, MATRIX, MATRIX[::-1])


def test_a_second_order_error_is_found(monkeypatch):
    """The rule's value is right, and its own derivative isn't."""
    monkeypatch.setattr(elementwise.sin, "vjp", lambda c_bar, c, a: (c_bar * tm.stop_gradient(np.cos(a)),))
    assert tm.check_grad(np.sin, VECTOR, order=1)
    assert not tm.check_grad(np.sin, VECTOR, order=2)


def test_a_third_order_error_is_found(monkeypatch):
    def rule(c_bar, c, a):  # cos a, and its derivative -sin a, whose derivative is missing
        first = tm.stop_gradient(np.cos(a)) - (a - tm.stop_gradient(a)) * tm.stop_gradient(np.sin(a))
        return (c_bar * first,)

    monkeypatch.setattr(elementwise.sin, "vjp", rule)
    assert tm.check_grad(np.sin, VECTOR, order=2)
    check = tm.check_grad(np.sin, VECTOR, order=3)
    assert not check
    assert check.worst.order == 3


def test_a_softmax_rule_of_zeros_fails():
    """The sum of a softmax is 1, so a cotangent of ones would not see it."""
    wrong = tm.custom_vjp(tm.softmax, lambda y_bar, y, x: (np.zeros_like(x),))
    assert not tm.check_grad(wrong, VECTOR)
    ones = tm.check_grad(lambda x: np.sum(wrong(x)), VECTOR)
    assert ones.ok, "with a cotangent of ones, zeros are the right answer"


# ## No blindness
@pytest.mark.parametrize(("method", "size"), [("complex", 1e-3), ("complex", 1e-4), ("differences", 1e-2)])
def test_one_small_entry_of_a_big_gradient(monkeypatch, method, size):
    weights = generator.normal(size=150)
    weights[70] = size
    error = np.ones(150)
    error[70] += 1e-6
    monkeypatch.setattr(elementwise.sin, "vjp", lambda c_bar, c, a: (c_bar * np.cos(a) * error,))
    check = tm.check_grad(lambda x: np.sin(x) * weights, generator.normal(size=150), method=method, order=1)
    assert not check
    assert check.worst.where == "x[70]"


def test_one_entry_of_many_is_caught_by_the_random_direction(monkeypatch):
    def f(x):
        return np.sin(x) * np.arange(1, 5001)

    x = generator.normal(size=5000)
    chosen = {row.where for row in tm.check_grad(f, x, order=1).rows}
    place = next(i for i in range(2500, 5000) if f"x[{i}]" not in chosen)
    error = np.ones(5000)
    error[place] += 1e-6
    monkeypatch.setattr(elementwise.sin, "vjp", lambda c_bar, c, a: (c_bar * np.cos(a) * error,))
    check = tm.check_grad(f, x, order=1)
    assert not check
    assert check.worst.where == "a random direction"


@pytest.mark.parametrize("wrong", ["large", "small"])
@pytest.mark.parametrize("method", ["complex", "differences"])
def test_arguments_of_very_different_units(monkeypatch, wrong, method):
    """A gradient of 1e-8 beside one of 1e8 is judged by its own size."""
    operation = {"large": elementwise.sinh, "small": elementwise.sin}[wrong]

    def f(large, small):
        return np.sum(np.sin(large * 1e-8)) + np.sum(np.sinh(small * 1e8))

    assert tm.check_grad(f, VECTOR * 1e8, VECTOR * 1e-8, method=method)
    monkeypatch.setattr(operation, "vjp", perturbed(operation.vjp, MUTATIONS["off by 1e-6"]))
    assert not tm.check_grad(f, VECTOR * 1e8, VECTOR * 1e-8, method=method)


def test_a_gradient_cut_by_stop_gradient_fails():
    assert not tm.check_grad(lambda x: tm.stop_gradient(x) * x, VECTOR)


def test_nan_fails():
    with np.errstate(invalid="ignore"):
        check = tm.check_grad(lambda x: np.log(x), -np.abs(VECTOR))
    assert not check
    assert np.isnan(check.max_error)
    assert "FAIL" in str(check)


def test_nan_in_one_output_fails_though_the_gradient_is_finite():
    assert not tm.check_grad(lambda x: (x**2, np.array(np.nan)), VECTOR)


def test_nan_in_one_derivative_is_the_worst(monkeypatch):
    nan_at_one = np.array([0, np.nan, 0, 0])
    monkeypatch.setattr(elementwise.sin, "vjp", lambda c_bar, c, a: (c_bar * np.cos(a) + nan_at_one,))
    check = tm.check_grad(np.sin, VECTOR, order=1)
    assert not check
    assert np.isnan(check.worst.error)


def test_infinite_derivative_fails():
    assert not tm.check_grad(np.sqrt, np.array([0.0, 1.0]), order=1)


# ## No false alarms
SOUND = {
    "zero gradient of a sum of a softmax": (lambda x: np.sum(tm.softmax(x)), (VECTOR,)),
    "zero gradient of cos^2 + sin^2": (lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, (VECTOR,)),
    "constant": (lambda x: 0 * x + 3, (VECTOR,)),
    "linear": (lambda x: 3 * x, (VECTOR,)),
    "independent of an argument": (lambda x, y: x * 2, (VECTOR, VECTOR)),
    "integer output": (lambda x: np.argmax(x), (VECTOR,)),
    "large arguments": (lambda x: x**3, (VECTOR * 1e8,)),
    "small arguments": (lambda x: x**3, (VECTOR * 1e-8,)),
    "logarithm of small": (lambda x: np.log(x), (np.abs(VECTOR) * 1e-8,)),
    "root of small": (np.sqrt, (np.abs(VECTOR) * 1e-8,)),
    "logarithm of large": (np.log, (np.abs(VECTOR) * 1e8,)),
    "a large constant": (lambda x: np.sum(x**2) + 1e8, (VECTOR,)),
    "softmax of small, scaled up": (lambda x: np.sum(tm.softmax(1e8 * x)), (VECTOR * 1e-8,)),
    "softmax of large, scaled down": (lambda x: np.sum(tm.softmax(1e-8 * x)), (VECTOR * 1e8,)),
    "zeros": (np.tanh, (np.zeros(3),)),
    "large values": (lambda x: 1e300 * np.sin(x), (VECTOR,)),
    "small values": (lambda x: 1e-200 * np.sin(x), (VECTOR,)),
    "inverse": (np.linalg.inv, (MATRIX,)),
    "determinant": (np.linalg.det, (MATRIX,)),
    "near a singular matrix": (lambda a: np.linalg.solve(a, VECTOR), (1 / (np.arange(4)[:, None] + np.arange(1.0, 5)),)),
    "variance": (np.var, (VECTOR,)),
    "norm": (np.linalg.norm, (VECTOR,)),
    "digits lost to a large constant": (lambda x: (x + 1e6) - 1e6, (VECTOR,)),
    "digits lost in (exp(x) - 1) / x": (lambda x: (np.exp(x) - 1) / x, (VECTOR * 1e-5,)),
    "near a kink": (lambda x: tm.relu(x) ** 2 + np.abs(x), (np.array([1e-6, 1.0, -2.0]),)),
}


@pytest.mark.parametrize("method", ["auto", "differences"])
@pytest.mark.parametrize("case", SOUND.values(), ids=SOUND.keys())
def test_a_sound_function_passes(case, method):
    f, args = case
    check = tm.check_grad(f, *args, method=method)
    assert check.ok, check


UNARY = [np.sin, np.cos, np.tanh, np.exp, np.arctan, np.square, tm.sigmoid, tm.softplus, tm.relu, np.abs, tm.softmax, tm.log_softmax,
         lambda x: np.log(1 + x**2), lambda x: np.cumsum(x, axis=-1), lambda x: x / (2 + np.cos(x)), lambda x: x - np.mean(x),
         lambda x: np.sort(x, axis=-1), lambda x: x[::-1], lambda x: x.T @ x]  # fmt: skip
BINARY = [np.add, np.subtract, np.multiply, np.maximum, lambda a, b: a / (1 + b**2), lambda a, b: np.where(a > b, a, 3 * b), np.matmul]


def random_function(rng):
    steps = [(UNARY[rng.integers(len(UNARY))], BINARY[rng.integers(len(BINARY))], UNARY[rng.integers(len(UNARY))]) for _ in range(3)]

    def f(x, y):
        for one, two, three in steps:
            x, y = two(one(x), y), np.tanh(three(y))
        return x * 0.3 + y

    return f


@pytest.mark.parametrize(("seed", "method"), [*((i, "auto") for i in range(30)), *((i, "differences") for i in range(10))])
def test_random_functions_pass(seed, method):
    rng = np.random.default_rng(seed)
    check = tm.check_grad(random_function(rng), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), method=method)
    assert check.ok, check


@pytest.mark.parametrize("seed", range(20))
def test_random_functions_with_a_wrong_operation_fail(seed):
    """The last step is off by 1e-6, whatever comes before it."""
    rng = np.random.default_rng(seed)
    f = random_function(rng)
    wrong = tm.custom_vjp(lambda x: x + 0.0, lambda y_bar, y, x: (y_bar * (1 + 1e-6),))
    assert not tm.check_grad(lambda x, y: wrong(f(x, y)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), order=1)


# ## Which method
REAL_SINE = Operation(np.sin, "real sine").not_analytic()
REAL_SINE.rule(lambda c_bar, c, a: (c_bar * np.cos(a),))


def test_the_complex_step_is_chosen_where_every_operation_is_analytic():
    assert tm.check_grad(lambda x: np.sin(x) @ np.linalg.inv(MATRIX), VECTOR).method == "complex"


@pytest.mark.parametrize("f", [lambda a: np.linalg.cholesky(a @ a.T + np.eye(4)), lambda a: np.linalg.slogdet(a).logabsdet,
                               lambda a: REAL_SINE(a)])  # fmt: skip
def test_differences_are_chosen_where_one_is_not(f):
    check = tm.check_grad(f, MATRIX)
    assert check.ok, check
    assert check.method == "differences"
    with pytest.raises(NotAnalytic):
        tm.check_grad(f, MATRIX, method="complex")


def test_an_operation_met_only_in_the_second_order_decides_too():
    f = Operation(np.cos, "cosine")
    f.rule(lambda c_bar, c, a: (-c_bar * REAL_SINE(a),))
    assert tm.check_grad(f, VECTOR, order=1).method == "complex"
    assert tm.check_grad(f, VECTOR, order=2).method == "differences"


def test_the_methods_agree():
    complex_check = tm.check_grad(tm.softmax, VECTOR, method="complex")
    differences = tm.check_grad(tm.softmax, VECTOR, method="differences")
    assert complex_check.max_error < 1e-13
    assert differences.ok, differences
    ours, others = ([row.approximate for row in check.rows] for check in (differences, complex_check))
    np.testing.assert_allclose(ours, others, rtol=1e-7, atol=1e-10)


def test_unknown_method_and_order():
    with pytest.raises(ValueError, match="choose one of 'auto', 'complex', 'differences'"):
        tm.check_grad(np.sin, VECTOR, method="forward")
    with pytest.raises(ValueError, match="order=0: an integer, 1 or more, where 1 is the gradient"):
        tm.check_grad(np.sin, VECTOR, order=0)


# ## Kinks
@pytest.mark.parametrize("f", [tm.relu, np.abs, lambda x: np.maximum(x, 0)])
def test_on_a_kink_the_differences_take_the_middle(f):
    """Differences see the mean of both sides. The complex step sees what the rule states."""
    x = np.array([0.0, 1.0, -2.0])
    assert tm.check_grad(f, np.array([0.5, 1.0, -2.0]), method="differences")
    middle = extrapolated_difference(lambda x: np.sum(f(x)), x, np.array([1.0, 0.0, 0.0]))[0]
    assert middle == pytest.approx(0.0 if f is np.abs else 0.5, abs=1e-12)


TIED = np.array([0.1, -1.0, 0.1, 0.1])  # three equal numbers: their sum, divided by 3, isn't 0.1
TIES = [lambda x: np.maximum(x, 0.1), lambda x: np.minimum(0.1, x), lambda x: np.maximum(x, x[::-1]), lambda x: np.clip(x, -1, 0.1),
        np.max, lambda x: np.min(-x), lambda x: np.max(np.reshape(x, (2, 2)), axis=1, keepdims=True), lambda x: np.abs(x - 0.1),
        lambda x: np.linalg.norm(x - 0.1, np.inf), lambda x: np.linalg.norm(x[2:] - 0.1), lambda x: tm.relu(x - 0.1)]  # fmt: skip


@pytest.mark.parametrize("f", TIES)
def test_on_a_kink_the_complex_step_takes_what_the_rule_states(f):
    check = tm.check_grad(lambda x: np.exp(f(x)), TIED)
    assert check.ok, check
    assert check.method == "complex"


def test_another_share_in_a_tie_is_caught(monkeypatch):
    monkeypatch.setattr(elementwise.maximum, "vjp", lambda c_bar, c, a, b: (c_bar * (a >= b), c_bar * (b > a)))
    monkeypatch.setattr(reductions.max_, "vjp", lambda c_bar, c, a, axis, keepdims: (c_bar * (a == c),))
    assert not tm.check_grad(lambda x: np.maximum(x, x[::-1]), TIED)
    assert not tm.check_grad(np.max, TIED)


def test_a_kink_does_not_hide_a_wrong_rule_beside_it(monkeypatch):
    monkeypatch.setattr(elementwise.sin, "vjp", perturbed(elementwise.sin.vjp, MUTATIONS["off by 1e-6"]))
    x = np.array([-2.0, -1.0, 0.3, 1.0, 0.7])  # on both kinks of the clip, and beside them
    assert not tm.check_grad(lambda x: np.sin(np.clip(x, -1, 1)), x)


# ## Arguments
def test_containers_of_arguments_and_their_names():
    def loss(theta, scale):
        return theta["W"] @ theta["b"][0] * scale.first + scale.second

    check = tm.check_grad(loss, {"W": MATRIX, "b": [VECTOR, None]}, Pair(2.0, np.float64(3.0)), order=1)
    assert check.ok, check
    names = [row.where for row in check.rows]
    assert names[0] == "theta['W'][0, 0]"
    assert "theta['b'][0][3]" in names
    assert names[-2:] == ["scale.first", "scale.second"]
    assert len(names) == 16 + 4 + 2


def test_integers_and_booleans_are_left_alone():
    def f(x, exponent, mask, times):
        assert exponent.dtype.kind == "i"
        assert type(times) is int
        return np.where(mask, x**exponent, 0) * times

    check = tm.check_grad(f, VECTOR, np.arange(4), np.array([True, True, False, True]), 3)
    assert check.ok, check
    assert {row.where.split("[")[0] for row in check.rows} == {"x"}


@pytest.mark.parametrize("args", [(), (3,), (np.arange(3),), (None,), (np.zeros(0),), ({},), (np.ones(2, bool),)])
def test_nothing_to_differentiate(args):
    with pytest.raises(TypeError, match="nothing to differentiate"):
        tm.check_grad(lambda *args: 1.0, *args)


def test_float32_arguments_are_checked_in_float64():
    def f(x):
        assert x.dtype != np.float32
        return np.exp(x)

    assert tm.check_grad(f, VECTOR.astype(np.float32)).max_error < 1e-13


@pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.array(2.0), tm.tensor(2.0)])
def test_a_single_number(x):
    check = tm.check_grad(lambda x: x**3, x)
    assert check.ok, check
    assert [row.where for row in check.rows] == ["x", "x"]


def test_containers_of_outputs():
    assert tm.check_grad(lambda x: {"a": np.sin(x), "b": (x[0], None, 3, "text"), "c": Pair(np.argmax(x), 1.0)}, VECTOR)


def test_a_wrong_rule_in_one_of_the_outputs():
    wrong = tm.custom_vjp(np.cos, lambda y_bar, y, x: (np.zeros_like(x),))
    assert not tm.check_grad(lambda x: {"right": np.sin(x), "wrong": [wrong(x)]}, VECTOR)


def test_arguments_are_not_modified():
    x = VECTOR.copy()
    tm.check_grad(np.sin, x, method="differences")
    np.testing.assert_array_equal(x, VECTOR)


# ## The report
def test_it_names_the_worst(monkeypatch):
    def rule(c_bar, c, a, b):
        wrong = np.zeros((2, 3))
        wrong[1, 2] = 1e-3
        return c_bar * b + wrong, c_bar * a

    monkeypatch.setattr(elementwise.multiply, "vjp", rule)
    check = tm.check_grad(lambda first, second: first * second, np.ones((2, 3)), np.full((2, 3), 2.0), order=1)
    assert check.worst.where == "first[1, 2]"
    assert check.worst.exact - check.worst.approximate == pytest.approx(1e-3)
    first, combination, _, header, row, *_ = str(check).splitlines()
    assert first.startswith("FAIL")
    assert "at first[1, 2], order 1" in first
    assert combination.startswith("Order 1 differentiates a random combination of the outputs")
    assert header.split() == ["order", "where", "exact", "approximate", "difference", "error"]
    assert row.split()[:3] == ["1", "first[1,", "2]"]
    assert float(row.split()[3]) == pytest.approx(check.worst.exact, rel=1e-15)
    assert float(row.split()[4]) == pytest.approx(check.worst.approximate, rel=1e-15)


def test_the_report_is_short_and_aligned():
    check = tm.check_grad(lambda a_rather_long_name: np.sin(a_rather_long_name["with a long key"]), {"with a long key": VECTOR})
    lines = str(check).splitlines()
    assert lines[0].startswith("PASS")
    assert len(lines) == 4 + 2 * 3
    assert len({len(line) for line in lines[3:]}) == 1
    assert repr(check) == str(check)


def test_a_random_choice_of_many_is_announced():
    check = tm.check_grad(np.sin, generator.normal(size=(20, 30)), order=1)
    assert check.ok, check
    assert len(check.rows) == 201
    assert len({row.where for row in check.rows}) == 201
    assert "400 left out" in str(check)


def test_exactly_200_are_all_checked():
    check = tm.check_grad(np.sin, generator.normal(size=200), order=1)
    assert len(check.rows) == 200
    assert "left out" not in str(check)


def test_it_can_be_asserted():
    assert tm.check_grad(np.sin, VECTOR)
    with pytest.raises(AssertionError, match="FAIL"):
        assert tm.check_grad(own(WRONG_RULES["zeros"]), VECTOR, MATRIX)


def test_it_is_repeatable():
    assert tm.check_grad(np.sin, VECTOR).rows == tm.check_grad(np.sin, VECTOR).rows


@pytest.mark.parametrize("f", [np.sin, lambda x: own(right_rule)(x, MATRIX), lambda x: 0 * x])
def test_plot(f):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    check = tm.check_grad(f, VECTOR, order=1)
    axes = check.plot()
    assert isinstance(axes, plt.Axes)
    assert check.plot(axes) is axes
    axes.figure.canvas.draw()
    plt.close("all")


# ## The approximations themselves
def test_complex_step_to_the_last_digits():
    found, _ = complex_step(lambda x: np.sum(np.exp(np.sin(x))), VECTOR, np.eye(4)[2])
    assert found == pytest.approx(np.cos(VECTOR[2]) * np.exp(np.sin(VECTOR[2])), rel=1e-15)


def test_extrapolated_difference_at_the_end_of_the_domain():
    found, uncertain = extrapolated_difference(lambda x: float(np.sum(np.log(np.where(x > 0, x, np.nan)))), np.array([1e-6]), np.ones(1))
    assert found == pytest.approx(1e6, rel=1e-9)
    assert uncertain < 1e-3


def test_approximate_gradient_of_containers():
    found = approximate_gradient(lambda p: np.sum(p["a"] ** 3) * p["b"], {"a": VECTOR, "b": 2.0}, "differences")
    np.testing.assert_allclose(found["a"], 6 * VECTOR**2, rtol=1e-9)
    assert found["b"] == pytest.approx(np.sum(VECTOR**3), rel=1e-9)
