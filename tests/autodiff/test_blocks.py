"""checkpoint, vmap and custom_vjp: whole functions as one node, with everything they capture."""

from collections import namedtuple

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.blocks import Block
from tinymeta.autodiff.tensor import operation, tracing

generator = np.random.default_rng(0)
MATRIX = generator.normal(size=(4, 3))
VECTOR = np.array([0.4, -1.3, 0.7])
Pair = namedtuple("Pair", "first second")


def rows(f):
    """What vmap should compute over the first axis of its only argument."""
    return lambda x: np.stack([f(row) for row in x])


def derivatives(f, x):
    """Of orders 1 to 3, the higher ones along fixed directions."""
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    first = tm.grad(f)
    second = tm.grad(lambda x: np.sum(first(x) * v))
    third = tm.grad(lambda x: np.sum(second(x) * np.sin(x)))
    return [f(x), first(x), second(x), third(x)]


def assert_same_derivatives(f, plain, x):
    for ours, expected in zip(derivatives(f, x), derivatives(plain, x), strict=True):
        assert type(ours) is type(expected)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)


# ## Blocks and the Tensors that they capture, to the third order
# The function uses x as its argument, t and a Tensor that was computed from t: were the derivatives of a block's inputs
# total instead of partial, the way from x through t would count twice.
def capturing(block, x):
    t = np.sum(np.sin(x))
    u = t * t + x[0]
    w = np.exp(0.1 * u) * x
    return np.sum(block(lambda z: np.tanh(z * t) @ w * u)(x * x))


def test_checkpoint_with_captured_tensors():
    assert_same_derivatives(lambda x: capturing(tm.checkpoint, x), lambda x: capturing(lambda f: f, x), VECTOR)


def captured_by_rows(map_rows, x):
    t = np.sum(np.sin(x))
    u = t * t + x[0, 0]
    return np.sum(np.sin(map_rows(lambda row: np.sum(np.tanh(row * t) * x[1]) * u)(x * x)))


def test_vmap_with_captured_tensors():
    assert_same_derivatives(lambda x: captured_by_rows(tm.vmap, x), lambda x: captured_by_rows(rows, x), MATRIX)


def test_nested_blocks_with_captured_tensors():
    def f(x, outer, inner):
        t = np.sum(np.sin(x))

        def one(row):
            s = t * row[0]
            return np.sum(inner(lambda z: np.exp(-z * s) * t)(row * row))

        return np.sum(outer(one)(x))

    for outer, inner in [(tm.vmap, tm.vmap), (tm.vmap, tm.checkpoint)]:
        assert_same_derivatives(lambda x, o=outer, i=inner: f(x, o, i), lambda x: f(x, rows, lambda g: g), MATRIX)
    chained = lambda x: tm.checkpoint(lambda z: tm.checkpoint(lambda w: np.sum(np.sin(w) * z))(z * x[0]))(x)
    plain = lambda x: np.sum(np.sin(x * x[0]) * x)
    assert_same_derivatives(chained, plain, VECTOR)


def test_a_block_that_returns_what_it_captured_or_was_given():
    assert tm.grad(lambda t: tm.checkpoint(lambda x: t)(1.0) ** 2)(3.0) == 6.0
    assert tm.grad(lambda t: tm.checkpoint(lambda x: x)(t) ** 2)(3.0) == 6.0
    assert tm.grad(lambda t: tm.checkpoint(lambda x: 5.0)(t) * t)(3.0) == 5.0
    np.testing.assert_array_equal(tm.grad(lambda t: np.sum(tm.vmap(lambda x: t)(np.ones(4)) ** 2))(3.0), 24.0)


def test_the_same_tensor_as_argument_and_captured():
    assert tm.grad(lambda t: tm.checkpoint(lambda x: x * t**2)(t))(3.0) == 27.0
    assert tm.grad(lambda t: tm.grad(tm.checkpoint(lambda x: x * t**2))(t))(3.0) == 6.0
    np.testing.assert_array_equal(tm.grad(lambda t: np.sum(tm.vmap(lambda row: row @ t)(t * np.eye(3))))(VECTOR), 2 * VECTOR)


def test_a_captured_tensor_is_older_than_the_argument_of_an_inner_derivative():
    assert tm.grad(lambda t: tm.grad(tm.checkpoint(lambda x: x * t**2))(1.0))(3.0) == 6.0
    assert tm.grad(lambda t: np.sum(tm.grad(lambda x: np.sum(tm.vmap(lambda row: row * t**2)(x)))(VECTOR)))(3.0) == 18.0
    square = tm.custom_vjp(lambda x, t: x * t**2, lambda y_bar, y, x, t: (y_bar * t**2, y_bar * 2 * x * t))
    assert tm.grad(lambda t: tm.grad(lambda x: square(x, t))(1.0))(3.0) == 6.0


def test_each_row_may_capture_other_tensors():
    f = lambda t, u, x: np.sum(tm.vmap(lambda row: row * t if row > 0 else row * u)(x))
    of_t, of_u, of_x = tm.grad(f, (0, 1, 2))(2.0, 3.0, VECTOR)
    np.testing.assert_allclose([of_t, of_u], [1.1, -1.3], rtol=1e-15)
    np.testing.assert_array_equal(of_x, [2.0, 3.0, 2.0])


def test_grad_inside_and_outside_of_blocks():
    inner = lambda x: np.sum(np.sin(x) * x**2)
    expected = tm.grad(lambda x: np.sum(tm.grad(inner)(x) ** 2))(VECTOR)
    inside = tm.grad(tm.checkpoint(lambda x: np.sum(tm.grad(inner)(x) ** 2)))(VECTOR)
    between = tm.grad(lambda x: np.sum(tm.grad(tm.checkpoint(inner))(x) ** 2))(VECTOR)
    np.testing.assert_allclose(inside, expected, rtol=1e-13)
    np.testing.assert_allclose(between, expected, rtol=1e-13)
    by_rows = tm.grad(lambda x: np.sum(tm.vmap(tm.grad(lambda z: np.sin(z) * z**2))(x) ** 2))(VECTOR)
    np.testing.assert_allclose(by_rows, expected, rtol=1e-13)


def test_a_block_of_arrays_with_a_captured_outer_tensor_gives_a_tensor():
    kinds = []

    def f(t):
        for block in (tm.checkpoint(lambda x: x * t), tm.vmap(lambda x: x * t)):
            kinds.append(type(block(np.ones(2))))
        return t

    tm.grad(f)(1.0)
    assert kinds == [tm.Tensor, tm.Tensor]
    for block in (tm.checkpoint(lambda x: x * 2), tm.vmap(lambda x: x * 2)):
        assert type(block(np.ones(2))) is np.ndarray


def test_blocks_and_cut_gradients():
    f = lambda x: np.sum(tm.vmap(lambda row: row * tm.stop_gradient(row))(x))
    np.testing.assert_array_equal(tm.grad(f)(VECTOR), VECTOR)
    f = lambda x: tm.checkpoint(lambda z: np.sum(z * tm.stop_gradient(x * x)))(x)
    np.testing.assert_array_equal(tm.grad(f)(VECTOR), VECTOR**2)


def test_masks_and_integers_come_out_of_blocks():
    """An index or a mask that a block returns has derivative zero, also where it meets an infinity."""

    def f(x):
        best, mask = tm.vmap(lambda row: (np.argmax(row), row > 0))(x)
        return np.sum(np.where(mask, np.log(x * mask + ~mask), 0)) + np.sum(np.take_along_axis(x, best[:, None], 1))

    def plain(x):
        mask = x > 0
        return np.sum(np.where(mask, np.log(x * mask + ~mask), 0)) + np.sum(np.max(x, axis=1))

    np.testing.assert_allclose(tm.grad(f)(MATRIX), tm.grad(plain)(MATRIX), rtol=1e-14)
    weighted = lambda x: np.sum(np.array([np.inf, 1.0, 1.0]) * tm.checkpoint(np.argsort)(x))
    np.testing.assert_array_equal(tm.grad(weighted)(VECTOR), np.zeros(3))


def test_blocks_keep_dtypes():
    single = MATRIX.astype(np.float32)
    f = lambda rate, x: np.sum(tm.vmap(lambda row: row * rate)(x) * tm.checkpoint(lambda r: r * 2)(rate))
    assert f(tm.tensor(0.5), tm.tensor(single)).dtype == np.float32
    rate_gradient, gradient = tm.grad(f, (0, 1))(0.5, single)
    assert gradient.dtype == np.float32 and rate_gradient.dtype == np.float64
    assert tm.checkpoint(lambda r: r * 2)(tm.tensor(0.5)).data == 1.0  # weak in, weak out
    assert tm.hessian(lambda x: np.sum(tm.vmap(np.sum)(x) ** 3))(single).dtype == np.float32


# ## What changes between the two runs
@pytest.mark.parametrize("block", [tm.checkpoint, tm.vmap])
def test_a_captured_array_that_changed_is_reported(block):
    factor = VECTOR.copy()
    _, pullback = tm.vjp(lambda x: np.sum(block(lambda row: np.sum(row @ factor))(x)), MATRIX)
    np.testing.assert_allclose(pullback(1.0)[0], np.tile(VECTOR, (4, 1)), rtol=1e-15)
    factor[0] += 0.1
    with pytest.raises(RuntimeError, match=r"second run computed something else.*Pass these as arguments"):
        pullback(1.0)


def test_random_numbers_in_a_block_are_reported():
    draw = np.random.default_rng(0)
    with pytest.raises(RuntimeError, match="draws random numbers"):
        tm.grad(tm.checkpoint(lambda x: np.sum(x * draw.normal(size=3))))(VECTOR)


def test_an_array_argument_that_changed_does_not_matter():
    factor = VECTOR.copy()
    for f in (tm.checkpoint(lambda x, factor: np.sum(x @ factor)), lambda x, c: np.sum(tm.vmap(np.dot, (0, None))(x, c))):
        _, pullback = tm.vjp(lambda x, f=f: f(x, factor), MATRIX)
        factor[:] = 7.0
        np.testing.assert_allclose(pullback(1.0)[0], np.tile(VECTOR, (4, 1)), rtol=1e-15)
        factor[:] = VECTOR
    x = MATRIX.copy()
    _, pullback = tm.vjp(lambda c: np.sum(tm.vmap(lambda row: row @ c)(x)), VECTOR)
    x[:] = 7.0
    np.testing.assert_allclose(pullback(1.0)[0], MATRIX.sum(0), rtol=1e-14)


def test_not_a_number_is_the_same_in_both_runs():
    with np.errstate(invalid="ignore"):
        gradient = tm.grad(tm.checkpoint(lambda x: np.sum(np.where(x > 0, 1.0, np.nan) * x)))(VECTOR)
    np.testing.assert_array_equal(gradient, np.where(VECTOR > 0, 1.0, np.nan))


# ## checkpoint
def test_checkpoint_takes_containers_and_keywords():
    def loss(theta, scale, *, power, note):
        assert note == "text" and scale is None
        return {"loss": np.sum(theta["W"] @ theta["b"].first) ** power, "aux": (theta["b"].second, None, 1)}

    def f(wrap, theta):
        result = wrap(loss)(theta, None, power=2, note="text")
        assert result["aux"][1:] == (None, 1)
        return result["loss"] * result["aux"][0]

    theta = {"W": MATRIX, "b": Pair(VECTOR, 0.5)}
    ours, expected = (tm.grad(lambda theta, wrap=wrap: f(wrap, theta))(theta) for wrap in (tm.checkpoint, lambda f: f))
    np.testing.assert_allclose(ours["W"], expected["W"], rtol=1e-14)
    np.testing.assert_allclose(ours["b"].first, expected["b"].first, rtol=1e-14)
    np.testing.assert_allclose(ours["b"].second, expected["b"].second, rtol=1e-14)


def test_checkpoint_keeps_its_name_and_forgets_its_inside():
    def step(x):
        return np.sin(np.cos(x))

    assert tm.checkpoint(step).__name__ == "step"
    y = tm.checkpoint(step)(tm.tensor(VECTOR))
    assert y.op.name == "item" and y.inputs[0].op.name == "checkpoint"
    assert [x.op for x in y.inputs[0].inputs] == [None]


def test_checkpoint_runs_again_once_for_each_sweep():
    runs = []

    def f(x):
        runs.append(type(x))
        return np.sum(x**3)

    tm.grad(tm.checkpoint(f))(VECTOR)
    assert runs == [tm.Tensor, tm.Tensor]


def test_a_chain_of_checkpoints():
    def f(step, x):
        for _ in range(20):
            x = step(x)
        return np.sum(x)

    step = lambda x: np.sin(x) * 1.1 + 0.1 * x**2
    assert_same_derivatives(lambda x: f(tm.checkpoint(step), x), lambda x: f(step, x), VECTOR)


# ## vmap
def test_in_axes():
    batch = generator.normal(size=(3, 4, 5))
    product = lambda a, b: np.sum(a * b, axis=0)
    for axis in (0, 1, 2, -1, -2, -3):
        slices = np.moveaxis(batch, axis, 0)
        found = tm.vmap(lambda a: np.sum(a, axis=0), axis)(batch)
        np.testing.assert_array_equal(found, np.stack([s.sum(0) for s in slices]))
    found = tm.vmap(product, (2, None))(batch, batch[:, :, 0])
    np.testing.assert_array_equal(found, np.stack([product(batch[:, :, i], batch[:, :, 0]) for i in range(5)]))
    found = tm.vmap(product, [None, -1])(batch[:, :, 0], batch)
    np.testing.assert_array_equal(found, np.stack([product(batch[:, :, i], batch[:, :, 0]) for i in range(5)]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_in_axes_and_their_gradients(axis):
    plain = lambda x: np.sum(np.stack([np.sin(np.sum(s)) for s in np.moveaxis(x, axis, 0)]))
    assert_same_derivatives(lambda x: np.sum(tm.vmap(lambda s: np.sin(np.sum(s)), axis)(x)), plain, MATRIX)


def test_nested_in_axes():
    theta = {"b": VECTOR, "W": MATRIX}  # the prefix names its keys in another order
    f = lambda theta, x, pair: np.sum(theta["W"] * theta["b"]) * x + pair.second[0]
    found = tm.vmap(f, ({"W": 0, "b": None}, 0, Pair(None, (0,))))(theta, np.arange(4.0), Pair(1.0, (np.ones(4),)))
    np.testing.assert_allclose(found, MATRIX @ VECTOR * np.arange(4.0) + 1, rtol=1e-14)
    whole = tm.vmap(lambda theta, x: np.sum(theta["W"]) * x, (None, 0))(theta, np.arange(4.0))
    np.testing.assert_allclose(whole, np.sum(MATRIX) * np.arange(4.0), rtol=1e-14)


def test_shared_arguments_get_the_sum_of_the_slices_cotangents():
    f = lambda c, x: np.sum(tm.vmap(lambda c, row: np.exp(row @ c), (None, 0))(c, x))
    plain = lambda c, x: np.sum(np.exp(x @ c))
    for argnum in (0, 1):
        np.testing.assert_allclose(tm.grad(f, argnum)(VECTOR, MATRIX), tm.grad(plain, argnum)(VECTOR, MATRIX), rtol=1e-13)


def test_out_axes():
    f = lambda row: {"sum": np.sum(row), "row": row, "square": np.outer(row, row)}
    found = tm.vmap(f, out_axes={"sum": 0, "row": 1, "square": -1})(MATRIX)
    np.testing.assert_array_equal(found["row"], MATRIX.T)
    np.testing.assert_array_equal(found["square"], np.moveaxis(np.stack([np.outer(row, row) for row in MATRIX]), 0, -1))
    np.testing.assert_array_equal(tm.vmap(lambda row: row, out_axes=1)(MATRIX), MATRIX.T)
    weights = generator.normal(size=(3, 4))
    np.testing.assert_array_equal(tm.grad(lambda x: np.sum(tm.vmap(lambda row: row, out_axes=1)(x) * weights))(MATRIX), weights.T)


def test_nested_vmap():
    a, b = generator.normal(size=(3, 5)), generator.normal(size=(4, 5))
    table = tm.vmap(lambda x: tm.vmap(lambda y: np.exp(-np.sum((x - y) ** 2)))(b))
    plain = lambda a: np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=-1))
    np.testing.assert_allclose(table(a), plain(a), rtol=1e-14)
    assert_same_derivatives(lambda a: np.sum(np.sin(table(a))), lambda a: np.sum(np.sin(plain(a))), a)


def test_vmap_is_one_node_and_so_is_its_derivative():
    x = tm.tensor(MATRIX)
    y = tm.vmap(lambda row: np.sum(np.sin(row)))(x)
    assert y.inputs[0].op.name == "map" and y.inputs[0].inputs == (x,)
    [x_bar] = tm.gradients(np.sum(y), [x])
    assert x_bar.inputs[0].op.name == "map"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.vmap(np.add)(np.ones(3), np.ones(4)), r"one common length.*\(3,\), \(4,\)"),
        (lambda: tm.vmap(np.add, None)(np.ones(3), np.ones(3)), "one common length"),
        (lambda: tm.vmap(np.sin)(np.ones((0, 2))), "at least 1"),
        (lambda: tm.vmap(np.sin)(3.0), r"can't slice axis 0 of .*=3\.0"),
        (lambda: tm.vmap(np.sin, 2)(MATRIX), r"can't slice axis 2 of .*=float64\[4, 3\]"),
        (lambda: tm.vmap(np.add, (0,))(MATRIX, MATRIX), "in_axes.*doesn't match"),
        (lambda: tm.vmap(lambda d: d["a"], ({"b": 0},))({"a": MATRIX}), "in_axes.*doesn't match"),
        (lambda: tm.vmap(lambda x: x[: int(x[0].item())])(np.array([[1.0, 2.0], [2.0, 3.0]])), "different shapes"),
        (lambda: tm.vmap(lambda x: {"a": x} if x > 0 else {"b": x})(VECTOR), "built differently"),
        (lambda: tm.vmap(lambda x: {"a": x, "b": -x} if x > 0 else {"b": -x, "a": x})(VECTOR), "built differently"),
        (lambda: tm.vmap(lambda x: (x, x), out_axes=(0,))(VECTOR), "out_axes.*doesn't match"),
        (lambda: tm.vmap(lambda x: x, out_axes=None)(VECTOR), "out_axes"),
        (lambda: tm.vmap(lambda x: x, out_axes=1)(VECTOR), r"out_axes=1.*shape \(3,\)"),
        (lambda: tm.vmap(np.sin, in_axes=True), "in_axes=True: the number of an axis"),
    ],
)
def test_vmap_says_what_is_wrong(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


# ### Under a trace
def test_under_a_trace_one_row_stands_for_all():
    runs = []

    def row_loss(row, c):
        runs.append(row)
        return np.sum(np.sin(row) * c)

    x = tm.tensor(MATRIX)
    with tracing():
        y = tm.vmap(row_loss, (0, None))(x, VECTOR)
    made = y.inputs[0].op
    assert len(runs) == 1 and type(made) is Block and made.name == "map" and made.length == 4
    assert y.shape == (4,) and y.inputs[0].inputs == (x,)
    assert [t.shape for t in made.graph.inputs] == [(3,)]
    assert [t.op.name for t in made.graph.outputs] == ["sum"]


@pytest.mark.parametrize("transform", [tm.checkpoint, tm.vmap])
def test_under_a_trace_the_rule_goes_on_from_the_graph_that_is_there(transform):
    runs = []

    def f(x):
        runs.append(x)
        return np.sum(np.tanh(x))

    x = tm.tensor(MATRIX)
    with tracing():
        y = transform(f)(x)
        [x_bar] = tm.gradients(np.sum(y), [x])
        [x_bar_bar] = tm.gradients(np.sum(x_bar), [x])
    assert len(runs) == 1
    graphs = [item.inputs[0].op.graph for item in (y, x_bar, x_bar_bar)]
    found = [[node.index for node in graph.nodes if node.op.name == "tanh"] for graph in graphs]
    assert len(found[0]) == 1 and found[0] == found[1] == found[2]


def test_under_a_trace_captured_tensors_are_inputs():
    t = tm.tensor(2.0)
    with tracing():
        y = tm.vmap(lambda row: np.sum(row) * t)(MATRIX)
        [t_bar] = tm.gradients(np.sum(y), [t])
    assert type(y) is tm.Tensor and y.inputs[0].inputs[-1] is t and y.inputs[0].op.graph.captured == [t]
    assert type(t_bar) is tm.Tensor and t_bar.shape == ()
    with tracing():
        assert type(tm.vmap(np.sum)(MATRIX)) is np.ndarray  # nothing in it to trace


def test_under_a_trace_a_python_if_on_a_row_is_refused():
    with tracing(), pytest.raises(TypeError, match=r"np\.where"):
        tm.vmap(lambda row: row if row > 0 else -row)(tm.tensor(VECTOR))


# ## custom_vjp
def test_custom_rules_are_used_to_any_order():
    sine = tm.custom_vjp(np.sin, lambda y_bar, y, x: (y_bar * np.cos(x),))
    assert_same_derivatives(lambda x: np.sum(sine(x) * x), lambda x: np.sum(np.sin(x) * x), VECTOR)
    tripled = tm.custom_vjp(lambda x: x, lambda y_bar, y, x: (3 * y_bar,))
    assert tm.grad(tripled)(1.0) == 3.0
    exponential = tm.custom_vjp(np.exp, lambda y_bar, y, x: (y_bar * y,))  # through its own value
    assert_same_derivatives(lambda x: np.sum(exponential(x)), lambda x: np.sum(np.exp(x)), VECTOR)


def test_custom_forward_gets_arrays_and_plain_calls_give_arrays():
    def forward(x, n):
        assert not isinstance(x, tm.Tensor) and not x.flags.writeable
        return x**n

    power = tm.custom_vjp(forward, lambda y_bar, y, x, n: (y_bar * n * x ** (n - 1), None))
    np.testing.assert_array_equal(tm.grad(lambda x: np.sum(power(x, 3)))(VECTOR), 3 * VECTOR**2)
    assert type(tm.custom_vjp(np.sin, lambda y_bar, y, x: (y_bar * np.cos(x),))(VECTOR)) is np.ndarray


def test_custom_operations_take_and_return_containers():
    def forward(theta, x):
        return {"y": theta["W"] @ x, "norm": Pair(np.sum(theta["b"] ** 2), None)}

    def rule(bars, y, theta, x):
        assert set(y) == {"y", "norm"} and y["norm"].second is None
        return {"b": 2 * bars["norm"].first * theta["b"], "W": np.outer(bars["y"], x)}, theta["W"].T @ bars["y"]

    custom = tm.custom_vjp(forward, rule)

    def loss(f, theta, x):
        result = f(theta, x)
        return np.sum(np.sin(result["y"])) * result["norm"].first

    theta = {"W": MATRIX, "b": VECTOR}
    ours, expected = (tm.grad(lambda theta, x, f=f: loss(f, theta, x), (0, 1))(theta, VECTOR) for f in (custom, forward))
    np.testing.assert_allclose(ours[0]["W"], expected[0]["W"], rtol=1e-13)
    np.testing.assert_allclose(ours[0]["b"], expected[0]["b"], rtol=1e-13)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-13)
    only = tm.grad(lambda theta: np.sum(custom(theta, VECTOR)["y"]))(theta)  # the other output has no cotangent
    np.testing.assert_allclose(only["W"], np.tile(VECTOR, (4, 1)), rtol=1e-15)
    np.testing.assert_array_equal(only["b"], np.zeros(3))


def test_custom_cotangents_may_be_none_or_postponed():
    f = tm.custom_vjp(lambda a, b: a * b, lambda y_bar, y, a, b: (None, lambda: y_bar * a))
    assert tm.grad(f, (0, 1))(2.0, 3.0) == (0.0, 2.0)
    whole = tm.custom_vjp(lambda theta, x: theta["a"] * x, lambda y_bar, y, theta, x: (None, y_bar * theta["a"]))
    assert tm.grad(whole)({"a": 2.0, "b": (1.0, None)}, 3.0) == {"a": 0.0, "b": (0.0, None)}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda y_bar, y, a, b: (y_bar,), "tuple of 2 cotangents"),
        (lambda y_bar, y, a, b: (y_bar,) * 3, "tuple of 2 cotangents"),
        (lambda y_bar, y, a, b: y_bar, "tuple of 2 cotangents"),
        (lambda y_bar, y, a, b: None, "tuple of 2 cotangents"),
        (lambda y_bar, y, a, b: (np.ones(2), y_bar), r"product.*shape \(2,\).*shape \(3,\)"),
        (lambda y_bar, y, a, b: (np.ones((3, 3)), y_bar), r"product.*shape \(3, 3\).*shape \(3,\)"),
        (lambda y_bar, y, a, b: (1.0, y_bar), r"product.*shape \(\).*shape \(3,\)"),
        (lambda y_bar, y, a, b: ({"a": y_bar}, y_bar), "product"),
    ],
)
def test_custom_rules_that_are_wrong_are_reported(rule, message):
    def product(a, b):
        return a * b

    with pytest.raises((ValueError, TypeError), match=message):
        tm.grad(lambda x: np.sum(tm.custom_vjp(product, rule)(x, x)))(VECTOR)


def test_custom_cotangents_are_summed_over_what_was_broadcast():
    product = tm.custom_vjp(lambda a, b: a * b, lambda y_bar, y, a, b: (y_bar * b, y_bar * a))
    of_matrix, of_vector = tm.grad(lambda a, b: np.sum(product(a, b)), (0, 1))(MATRIX, VECTOR)
    np.testing.assert_array_equal(of_matrix, np.tile(VECTOR, (4, 1)))
    np.testing.assert_allclose(of_vector, MATRIX.sum(0), rtol=1e-14)


def test_a_failing_forward_says_what_it_was_given():
    def product(theta, x):
        return theta["W"] @ x

    with pytest.raises(ValueError, match=r"product\(float64\[4, 3\], float64\[2\], structure=\(\{'W': \*\}, \*\)\)"):
        tm.custom_vjp(product, lambda y_bar, y, theta, x: (None, None))({"W": tm.tensor(MATRIX)}, np.ones(2))


def test_a_custom_forward_that_captures_a_tensor_is_refused():
    def scaled(t):
        return tm.custom_vjp(lambda x: x * t, lambda y_bar, y, x: (y_bar * t,))

    for argument in (lambda t: t, lambda t: 1.0):
        with pytest.raises(TypeError, match="uses a Tensor that it was not given: pass it as an argument"):
            tm.grad(lambda t, argument=argument: scaled(t)(argument(t)))(3.0)


def test_a_custom_rule_may_capture_a_tensor():
    """y = x forward, and the rule says dy/dx = t: the derivative with respect to x is t, and that one's by t is 1."""

    def slope(t, x):
        return tm.grad(tm.custom_vjp(lambda x: x, lambda y_bar, y, x: (y_bar * t**2,)))(x)

    assert tm.grad(slope)(3.0, 1.0) == 6.0
    assert tm.grad(lambda t: slope(t, t))(3.0) == 6.0
    assert tm.grad(lambda t: tm.checkpoint(lambda x: slope(t, x))(t))(3.0) == 6.0
    np.testing.assert_array_equal(tm.grad(lambda t: np.sum(tm.vmap(lambda x: slope(t, x))(VECTOR)))(3.0), 18.0)

    def slope_through_a_block(t, block):  # the captured t arrives at the block in a cotangent
        scaled = tm.custom_vjp(lambda x: x, lambda y_bar, y, x: (y_bar * t**2,))
        return np.sum(tm.grad(lambda x: np.sum(scaled(block(lambda z: z**2)(x))))(VECTOR))

    for transform in (tm.jacobian, lambda f: lambda x: tm.jvp(f, (x,), (1.0,))[1], lambda f: lambda x: tm.vjp(f, x)[1](1.0)[0]):
        scaled = lambda t, d=transform: d(tm.custom_vjp(lambda x: x, lambda y_bar, y, x: (y_bar * t**2,)))(1.0)
        assert tm.grad(scaled)(3.0) == 6.0 and tm.grad(tm.grad(scaled))(3.0) == 2.0
    for block in (tm.checkpoint, tm.vmap):
        np.testing.assert_allclose(tm.grad(slope_through_a_block)(3.0, block), 12 * np.sum(VECTOR), rtol=1e-14)


def test_custom_operations_own_their_values():
    buffer = np.zeros(3)

    def forward(x):
        np.sin(x, out=buffer)
        return buffer

    sine = tm.custom_vjp(forward, lambda y_bar, y, x: (y_bar * np.cos(x),))
    first, second = sine(tm.tensor(VECTOR)), sine(tm.tensor(2 * VECTOR))
    np.testing.assert_array_equal(first.value, np.sin(VECTOR))
    np.testing.assert_array_equal(second.value, np.sin(2 * VECTOR))
    assert buffer.flags.writeable


def test_custom_operations_keep_dtypes():
    single = VECTOR.astype(np.float32)
    square = tm.custom_vjp(lambda x: x**2, lambda y_bar, y, x: (y_bar * 2 * x,))
    assert (square(tm.tensor(0.5)) * single).dtype == np.float32
    assert tm.grad(lambda x: np.sum(square(x)))(single).dtype == np.float32
    assert tm.hessian(lambda x: np.sum(square(x)))(single).dtype == np.float32


def test_custom_operations_in_blocks():
    square = tm.custom_vjp(lambda x: x**2, lambda y_bar, y, x: (y_bar * 2 * x,))
    f = lambda wrap, x: np.sum(wrap(lambda row: np.sum(square(row) * row))(x))
    assert_same_derivatives(lambda x: f(tm.vmap, x), lambda x: np.sum(x**3), MATRIX)
    assert_same_derivatives(lambda x: f(tm.checkpoint, x), lambda x: np.sum(x**3), MATRIX)


def test_a_node_without_a_rule_ends_the_way_into_a_block():
    @operation
    def constant(a):
        return a + 1

    f = lambda x: tm.checkpoint(lambda z: z * x)(constant(x))
    assert tm.grad(f)(3.0) == 4.0
