"""The reverse sweep: any graph, of any size and shape, in linear time, leaving nothing behind."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.reverse import between, fit, sweep
from tinymeta.autodiff.tensor import operation, tracing

VECTOR = np.array([0.3, -1.2, 2.0])


# ## The sweep on a graph that one built
def test_gradients_of_a_leaf_and_of_an_intermediate_node():
    x = tm.tensor(VECTOR)
    y = np.sin(x)
    s = np.sum(y * y)
    of_x, of_y = tm.gradients(s, [x, y])
    np.testing.assert_allclose(of_y.value, 2 * np.sin(VECTOR), rtol=1e-15)
    np.testing.assert_allclose(of_x.value, np.sin(2 * VECTOR), rtol=1e-14)


def test_gradients_are_total_where_one_input_is_an_ancestor_of_another():
    """In s = x y with y = x^2, ds/dx = y + x 2x counts the way through y; ds/dy = x holds x fixed, as y has no say in it."""
    x = tm.tensor(3.0)
    y = x**2
    for inputs in ([x, y], [y, x]):
        found = dict(zip(map(id, inputs), tm.gradients(x * y, inputs), strict=True))
        assert found[id(x)].value == 27.0 and found[id(y)].value == 3.0


def test_partial_derivatives_hold_the_other_inputs_fixed():
    x = tm.tensor(3.0)
    y = x**2
    of_x, of_y = sweep([x * y], [1.0], [x, y], partial=True)
    assert of_x.value == 9.0 and of_y.value == 3.0


def test_partial_derivatives_do_not_walk_from_one_input_to_another():
    """Else a chain of n blocks, each with the whole chain behind it captured, would take n^2 steps."""
    x = tm.tensor(3.0)
    y = np.sin(np.sin(np.sin(x)))
    s = x * y
    assert [node.index for node, _ in between([s], [x, y], partial=True)] == [x.index, y.index, s.index]
    assert len(between([s], [x, y])) == 5


def test_gradients_of_an_input_itself_and_of_the_same_input_twice():
    x = tm.tensor(3.0)
    assert [g.value for g in tm.gradients(x, [x])] == [1.0]
    assert [g.value for g in tm.gradients(x * x, [x, x])] == [6.0, 6.0]


def test_gradients_without_a_way_are_zeros():
    x, other = tm.tensor(3.0), tm.tensor(np.ones((2, 3), np.float32))
    younger = tm.tensor(np.ones(2))
    y = x**2
    for unrelated in (other, younger):
        [zero] = tm.gradients(y, [unrelated])
        assert type(zero) is tm.Tensor and zero.dtype == unrelated.dtype
        np.testing.assert_array_equal(zero.value, np.zeros(unrelated.shape))
    [cut] = tm.gradients(tm.stop_gradient(y) * 2.0, [x])
    assert cut.value == 0.0


def test_gradients_can_be_differentiated_again():
    x = tm.tensor(2.0)
    derivative = x**5
    for order, expected in enumerate([80.0, 160.0, 240.0, 240.0, 120.0, 0.0], 1):
        [derivative] = tm.gradients(derivative, [x])
        assert derivative.value == expected, order


def test_gradients_refuse_what_has_no_gradient():
    x = tm.tensor(VECTOR)
    with pytest.raises(ValueError, match=r"scalar, got shape \(3,\)"):
        tm.gradients(x * 2, [x])
    with pytest.raises(TypeError, match=r"inputs\[1\].*Tensor of floats, got int64\[2\]"):
        tm.gradients(np.sum(x), [x, tm.tensor([1, 2])])
    with pytest.raises(TypeError, match=r"inputs\[0\].*float64\[3\]"):
        tm.gradients(np.sum(x), [VECTOR])
    with pytest.raises(TypeError, match="output must be a Tensor"):
        tm.gradients(1.0, [x])
    with pytest.raises(TypeError, match="int64, which has no derivative"):
        tm.gradients(np.argmax(x), [x])


# ## Large graphs
def test_a_million_nodes_differentiate_and_are_freed_at_once_in_a_small_stack():
    """A thread has room for a few hundred calls in C, or thousands: a recursion along the graph, in any language, would end the process.

    The first graph fills the lists of free objects that Python keeps.
    """
    found = {}

    def work(length):
        before = sys.getallocatedblocks()
        x = y = tm.tensor(1.0)
        for _ in range(length):
            y = -y
        middle = weakref.ref(y.inputs[0])
        found["blocks"] = sys.getallocatedblocks() - before
        [found["gradient"]] = sweep([y], [1.0], [x], record=False)
        del y
        found["freed"] = middle() is None
        found["left"] = sys.getallocatedblocks() - before

    size = threading.stack_size(256 * 1024 if sys.version_info < (3, 13) else 1 << 20)  # 3.13 nests more calls itself
    try:
        thread = threading.Thread(target=lambda: (work(10_000), work(1_000_000)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert found["gradient"] == 1.0 and found["freed"]
    assert found["blocks"] > 3_000_000 and found["left"] < 1000


def test_a_long_gradient_graph_is_freed():
    x = y = tm.tensor(1.0)
    for _ in range(30_000):
        y = np.sin(y) + x
    [gradient] = tm.gradients(y, [x])
    last = weakref.ref(gradient)
    del gradient, y
    assert last() is None


def test_diamonds_are_walked_once():
    assert tm.grad(_doubled_sixty_times)(1.0) == 2.0**60
    assert tm.grad(tm.grad(lambda x: _doubled_sixty_times(x * x)))(1.0) == 2.0**61


def _doubled_sixty_times(y):
    for _ in range(60):
        y = y + y
    return y


def test_the_rule_of_a_node_runs_once():
    calls = []

    @operation
    def same(a):
        return a * 1.0

    @same.rule
    def _(c_bar, c, a):
        calls.append(c_bar)
        return (c_bar,)

    def f(x):
        c = same(x)
        return np.sum(c * c + np.sin(c) + c[0])

    tm.grad(f)(VECTOR)
    assert len(calls) == 1


def test_rules_run_only_for_inputs_that_lead_on():
    @operation
    def product(a, b):
        return a * b

    @product.rule
    def _(c_bar, c, a, b):
        return c_bar * b, lambda: pytest.fail("nobody asked for this cotangent")

    t = tm.tensor(2.0)
    assert tm.grad(lambda x: product(x, 3.0))(2.0) == 3.0
    assert tm.grad(lambda x: product(x, t))(2.0).value == 2.0


# ## Nothing stays behind
def _steps(keep):
    """Ways to use a graph; `keep` notes each Tensor it is shown."""
    x = VECTOR

    def loss(x):
        return keep(np.sum(keep(np.sin(x)) * x))

    def custom(x):
        t = keep(2.0 * x)
        square = tm.custom_vjp(lambda x: x**2, lambda y_bar, y, x: (keep(y_bar * 2 * x * t / t),))
        return np.sum(square(t))

    def blocked(block):
        def f(x):
            t = keep(np.sum(x * x))
            return np.sum(keep(block(lambda row: keep(np.sin(row) * t))(x)))

        return f

    return {
        "grad": lambda: tm.grad(loss)(x),
        "grad of grad": lambda: tm.grad(lambda x: np.sum(tm.grad(loss)(x)))(x),
        "vjp": lambda: tm.vjp(loss, x)[1](1.0),
        "jvp": lambda: tm.jvp(loss, (x,), (x,)),
        "jacobian": lambda: tm.jacobian(lambda x: keep(np.sin(x)))(x),
        "hessian": lambda: tm.hessian(loss)(x),
        "hvp": lambda: tm.hvp(loss, x, x),
        "checkpoint": lambda: tm.grad(blocked(tm.checkpoint))(x),
        "vmap": lambda: tm.grad(blocked(tm.vmap))(x),
        "vmap, order 2": lambda: tm.hvp(blocked(tm.vmap), x, x),
        "custom_vjp": lambda: tm.grad(custom)(x),
        "gradients": lambda: (lambda t: tm.gradients(loss(t), [t]))(keep(tm.tensor(x))),
        "error": lambda: _error(loss),
    }


def _error(loss):
    with pytest.raises(ValueError, match="scalar"):
        tm.grad(lambda x: loss(x) * x)(VECTOR)


@pytest.mark.parametrize("way", _steps(None))
def test_a_finished_graph_is_freed_at_once(way):
    seen = []

    def keep(t):
        if type(t) is tm.Tensor:
            seen.append(weakref.ref(t))
        return t

    gc.collect()
    gc.disable()
    try:
        _steps(keep)[way]()
        alive = [t for t in seen if t() is not None]
    finally:
        gc.enable()
    assert seen and not alive


# ## Rules that are wrong are reported
def _operation_with(rule):
    @operation
    def broken(a, b):
        return a * b

    broken.rule(rule)
    return broken


@pytest.mark.parametrize("shape", [(2,), (), (3, 1), (1,), (4, 2)])
def test_a_cotangent_of_the_wrong_shape_is_reported(shape):
    broken = _operation_with(lambda c_bar, c, a, b: (np.ones(shape), c_bar * a))
    with pytest.raises(ValueError, match=r"rule of broken returned a cotangent of shape .* for an input of shape \(3,\)"):
        tm.grad(lambda x: np.sum(broken(x, x)))(VECTOR)


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_number_of_cotangents_is_reported(count):
    broken = _operation_with(lambda c_bar, c, a, b: (c_bar,) * count)
    with pytest.raises(ValueError, match=rf"rule of broken returned {count} cotangents for 2 inputs"):
        tm.grad(lambda x: np.sum(broken(x, x)))(VECTOR)


@pytest.mark.parametrize(
    ("shape", "given"),
    [((), (2, 3)), ((1,), (3,)), ((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (2, 3)), ((2, 1, 3), (4, 2, 5, 3)),
     ((0,), (2, 0)), ((1,), (0,)), ((1, 1), (1, 1, 1)), ((2, 3), (2, 3))],
)  # fmt: skip
def test_a_cotangent_is_summed_over_what_was_broadcast(shape, given):
    """The adjoint of broadcasting: <broadcast(a), g> = <a, fit(g)> for all a."""
    generator = np.random.default_rng(0)
    a, g = generator.normal(size=shape), generator.normal(size=given)
    fitted = fit(g, tm.tensor(a), "test")
    assert fitted.shape == shape
    np.testing.assert_allclose(np.sum(a * fitted), np.sum(np.broadcast_to(a, given) * g), rtol=1e-13, atol=1e-15)


def test_cotangents_take_the_dtype_of_their_node():
    single = np.array([1.0, 2.0], np.float32)
    assert fit(np.ones(2), tm.tensor(single), "test").dtype == np.float32
    gradient = tm.grad(lambda x: np.sum(x * np.array([0.1, 0.2])))(single)  # a float64 constant
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, np.float32([0.1, 0.2]))


# ## Threads
def test_two_threads_differentiate_at_the_same_time():
    results = {}
    ready = threading.Barrier(4)

    def work(k):
        ready.wait()
        found = [tm.grad(lambda x: np.sum(tm.grad(lambda z: np.sum(np.sin(k * z) * x))(x)))(VECTOR) for _ in range(100)]
        results[k] = found

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        expected = k * np.cos(k * VECTOR) - k**2 * VECTOR * np.sin(k * VECTOR)
        assert len(results[k]) == 100
        for gradient in results[k]:
            assert type(gradient) is np.ndarray
            np.testing.assert_allclose(gradient, expected, rtol=1e-13)


def test_a_trace_in_one_thread_does_not_reach_another():
    answers = []
    with tracing():
        thread = threading.Thread(target=lambda: answers.append(tm.grad(lambda x: x * x if x > 0 else -x)(3.0)))
        thread.start()
        thread.join()
    assert answers == [6.0]
