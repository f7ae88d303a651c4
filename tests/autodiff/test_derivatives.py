"""grad and its relatives: structure, dtypes, who gets arrays and who gets Tensors, and nothing silently zero."""

import gc
import math
import weakref
from collections import namedtuple

import numpy as np
import pytest

import tinymeta as tm

generator = np.random.default_rng(0)
VECTOR = np.array([0.4, -1.3, 0.7])
MATRIX = generator.normal(size=(4, 3))
SINGLE = VECTOR.astype(np.float32)
Pair = namedtuple("Pair", "first second")
THETA = {"W": MATRIX, "layers": [(VECTOR, None), Pair(0.5, {"c": np.array(2.0)})], "none": None}


def loss(theta):
    vector, pair = theta["layers"][0][0], theta["layers"][1]
    return np.sum(np.sin(theta["W"] @ vector)) * pair.first + pair.second["c"] ** 3 * np.sum(vector)


# ## Structure
def test_the_gradient_has_the_structure_of_the_argument():
    gradient = tm.grad(loss)(THETA)
    assert list(gradient) == ["W", "layers", "none"] and gradient["none"] is None
    assert type(gradient["layers"]) is list and type(gradient["layers"][0]) is tuple and gradient["layers"][0][1] is None
    assert type(gradient["layers"][1]) is Pair
    cosine = np.cos(MATRIX @ VECTOR)
    np.testing.assert_allclose(gradient["W"], 0.5 * np.outer(cosine, VECTOR), rtol=1e-14)
    np.testing.assert_allclose(gradient["layers"][0][0], 0.5 * MATRIX.T @ cosine + 8.0, rtol=1e-14)
    np.testing.assert_allclose(gradient["layers"][1].first, np.sum(np.sin(MATRIX @ VECTOR)), rtol=1e-14)
    np.testing.assert_allclose(gradient["layers"][1].second["c"], 12 * np.sum(VECTOR), rtol=1e-14)


@pytest.mark.parametrize("empty", [None, {}, [], (), {"a": None, "b": ()}])
def test_empty_containers(empty):
    assert tm.grad(lambda theta, x: x**2)(empty, 3.0) == empty
    assert tm.grad(lambda theta, x: x**2, (0, 1))(empty, 3.0) == (empty, 6.0)
    assert tm.jacobian(lambda theta, x: x**2)(empty, 3.0) == empty
    assert tm.vjp(lambda theta, x: x**2, empty, 3.0)[1](1.0) == (empty, 6.0)
    assert tm.jvp(lambda theta, x: (x**2, theta), (empty, 3.0), (empty, 1.0)) == ((9.0, empty), (6.0, empty))


def test_argnums():
    f = lambda a, b, c: a * b**2 * c**3
    assert tm.grad(f)(2.0, 3.0, 5.0) == 9 * 125.0
    assert tm.grad(f, 1)(2.0, 3.0, 5.0) == 12 * 125.0
    assert tm.grad(f, -1)(2.0, 3.0, 5.0) == 18 * 75.0
    assert tm.grad(f, (0, 2))(2.0, 3.0, 5.0) == (9 * 125.0, 18 * 75.0)
    assert tm.grad(f, [-1, 0])(2.0, 3.0, 5.0) == (18 * 75.0, 9 * 125.0)
    assert tm.grad(f, (1,))(2.0, 3.0, 5.0) == (12 * 125.0,)
    assert tm.value_and_grad(f, (0, 2))(2.0, 3.0, 5.0) == (2250.0, (1125.0, 1350.0))
    assert tm.grad(f, 1)(2.0, 3.0, c=5.0) == 12 * 125.0
    assert tm.grad(f, ())(2.0, 3.0, 5.0) == ()


@pytest.mark.parametrize("transform", [tm.grad, tm.value_and_grad, tm.jacobian, tm.hessian])
def test_argnums_that_are_wrong(transform):
    f = lambda a, b: a * b
    for argnums in (2, -3, (0, 2)):
        with pytest.raises(ValueError, match="argument that wasn't given: there are 2 positional"):
            transform(f, argnums)(2.0, 3.0)
    with pytest.raises(ValueError, match="wasn't given: there are 0"):
        transform(f)(a=2.0, b=3.0)
    for argnums in ((0, 0), (0, -2)):
        with pytest.raises(ValueError, match="twice"):
            transform(f, argnums)(2.0, 3.0)


def test_functions_keep_their_names():
    for transform in (tm.grad, tm.value_and_grad, tm.jacobian, tm.hessian, tm.checkpoint, tm.vmap):
        assert transform(loss).__name__ == "loss"


# ## Arrays in, arrays out
def arrays(result):
    leaves = tm.tree.flatten(result)[0]
    assert leaves
    return leaves


TRANSFORMS = {
    "grad": lambda f, x: tm.grad(f)(x),
    "grad, argnums": lambda f, x: tm.grad(lambda a, b: f(a) * f(b), (0, 1))(x, x),
    "grad, aux": lambda f, x: tm.grad(lambda x: (f(x), {"twice": f(x) * 2, "x": x}), has_aux=True)(x),
    "value_and_grad": lambda f, x: tm.value_and_grad(f)(x),
    "vjp": lambda f, x: (lambda y, pull: (y, pull(1.0), pull(2.0)))(*tm.vjp(f, x)),
    "jvp": lambda f, x: tm.jvp(f, (x,), (tm.tree.map(np.ones_like, x) if not isinstance(x, tm.Tensor) else np.ones(x.shape),)),
    "jacobian": lambda f, x: tm.jacobian(lambda x: {"f": f(x), "g": f(x) * np.ones((2, 1))})(x),
    "hessian": lambda f, x: tm.hessian(f)(x),
    "hvp": lambda f, x: tm.hvp(f, x, np.ones(3)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_arrays_of_the_callers_own(transform, dtype):
    x = VECTOR.astype(dtype)
    for f in (lambda x: np.sum(np.sin(x)), lambda x: np.sum(x), lambda x: np.sum(x[::-1].T), lambda x: np.sum(x * 0 + 1) * 2):
        for leaf in arrays(TRANSFORMS[transform](f, x)):
            assert type(leaf) is np.ndarray and leaf.dtype == dtype
            assert leaf.flags.owndata and leaf.flags.writeable and leaf.flags.c_contiguous
            leaf[...] = 99.0
    np.testing.assert_array_equal(x, VECTOR.astype(dtype))  # none of them was the argument


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_results_that_depend_on_an_outer_tensor_are_tensors(transform):
    f = lambda x: np.sum(np.sin(x) ** 2)
    by_argument, by_closure = {}, {}

    def outer(t):
        by_argument["found"] = TRANSFORMS[transform](f, t)
        by_closure["found"] = TRANSFORMS[transform](lambda x: f(x * t), VECTOR)
        inside = [np.sum(leaf) for found in (by_argument, by_closure) for leaf in arrays(found["found"]) if type(leaf) is tm.Tensor]
        return sum(inside)

    assert np.all(tm.grad(outer)(VECTOR) != 0)
    assert all(type(leaf) is tm.Tensor for leaf in arrays(by_argument["found"]))
    # Captured by the function's code, t reaches all but the argument itself, which aux hands back.
    assert sum(type(leaf) is not tm.Tensor for leaf in arrays(by_closure["found"])) == (transform == "grad, aux")


def test_only_what_depends_on_an_outer_tensor_is_one():
    kinds = {}

    def outer(t):
        f = lambda x: {"with": x * t, "without": np.sin(x)}
        value, pullback = tm.vjp(f, VECTOR)
        kinds["value"] = {k: type(v) for k, v in value.items()}
        kinds["pulled"] = type(pullback({"with": np.zeros(3), "without": VECTOR})[0])
        of_x, of_y = tm.vjp(lambda x, y: np.sum(x * t) + np.sum(y**2), VECTOR, VECTOR)[1](1.0)
        kinds["each"] = [type(of_x), type(of_y)]
        kinds["jacobian"] = {k: type(v) for k, v in tm.jacobian(f)(VECTOR).items()}
        kinds["tangent"] = {k: type(v) for k, v in tm.jvp(f, (VECTOR,), (VECTOR,))[1].items()}
        kinds["gradient"] = [type(g) for g in tm.grad(lambda x, y: np.sum(x * t) + np.sum(y**2), (0, 1))(VECTOR, VECTOR)]
        return np.sum(t)

    tm.grad(outer)(VECTOR)
    expected = {"with": tm.Tensor, "without": np.ndarray}
    assert kinds == {
        "value": expected, "pulled": tm.Tensor, "jacobian": expected, "tangent": expected,
        "gradient": [tm.Tensor, np.ndarray], "each": [tm.Tensor, np.ndarray],
    }  # fmt: skip


def test_a_tensor_made_before_the_call_counts_as_outer():
    t = tm.tensor(3.0)
    slope = tm.grad(lambda x: x**2 * t)(2.0)
    assert type(slope) is tm.Tensor and slope.value == 12.0
    [of_t] = tm.gradients(slope, [t])
    assert of_t.value == 4.0
    assert type(tm.grad(lambda x: x**2 * tm.tensor(3.0))(2.0)) is np.ndarray


def test_values_and_aux_are_unwrapped():
    def f(x):
        aux = {"x": x, "mask": x > 0, "best": np.argmax(x), "text": "note", "count": 3, "nothing": None, "weak": tm.tensor(2)}
        return np.sum(x**2), aux

    (value, aux), gradient = tm.value_and_grad(f, has_aux=True)(VECTOR)
    again, same_aux = tm.grad(f, has_aux=True)(VECTOR)
    np.testing.assert_array_equal(gradient, 2 * VECTOR)
    np.testing.assert_array_equal(again, gradient)
    assert type(value) is np.ndarray and value == np.sum(VECTOR**2)
    for found in (aux, same_aux):
        assert [type(found[key]) for key in ("x", "mask", "best", "weak")] == [np.ndarray] * 4
        assert found["mask"].tolist() == [True, False, True] and found["best"] == 2
        assert (found["text"], found["count"], found["nothing"]) == ("note", 3, None)
        found["x"][:] = 0.0


@pytest.mark.parametrize("result", [lambda x: x, lambda x: (x, x, x), lambda x: [x, x]])
def test_has_aux_needs_a_pair(result):
    with pytest.raises(TypeError, match=r"pair \(value, aux\)"):
        tm.grad(result, has_aux=True)(1.0)


# ## Perturbation confusion
def test_argument_and_captured_tensor_are_told_apart():
    derivative = tm.grad(lambda x, y: x * y)
    assert tm.grad(lambda x: x * 3.0)(3.0) == derivative(3.0, 3.0) == 3.0
    assert tm.grad(lambda y: tm.grad(lambda x: x * y)(y))(3.0) == 1.0
    assert tm.grad(lambda y: y * tm.grad(lambda x: x * y)(y))(3.0) == 6.0
    y = tm.tensor(3.0)
    inner = tm.grad(lambda x: x * y)(y)
    assert type(inner) is tm.Tensor and inner.value == 3.0
    assert tm.gradients(inner, [y])[0].value == 1.0


def test_the_classic_confusion():
    """d/dx [x d/dy (x + y)] = 1, not 2."""
    assert tm.grad(lambda x: x * tm.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert tm.grad(lambda x: x * tm.grad(lambda y: x + y)(x))(1.0) == 1.0


def test_three_levels_deep():
    """With f = x y z, each innermost derivative sees the others as constants, although all are at the same Tensor."""
    f = lambda z: tm.grad(lambda y: tm.grad(lambda x: x * y**2 * z**3)(y) * y)(z) * z
    # d/dx = y^2 z^3; times y, d/dy = 3 y^2 z^3 at y = z: 3 z^5; times z, d/dz = 18 z^5
    assert tm.grad(f)(2.0) == 18 * 2.0**5
    for transform in (
        lambda g, x: tm.vjp(g, x)[1](1.0)[0],
        lambda g, x: tm.jvp(g, (x,), (1.0,))[1],
        lambda g, x: tm.jacobian(g)(x),
    ):
        h = lambda z, d=transform: d(lambda y: d(lambda x: x * y**2 * z**3, y) * y, z) * z
        assert transform(h, 2.0) == 18 * 2.0**5
        assert tm.grad(h)(2.0) == 18 * 2.0**5


def test_an_outer_tensor_in_two_places():
    t = tm.tensor(VECTOR)
    for result in (tm.grad(lambda x: x @ t)(t), tm.vjp(lambda x: x @ t, t)[1](1.0)[0], tm.jacobian(lambda x: x @ t)(t)):
        np.testing.assert_array_equal(result.value, VECTOR)
    np.testing.assert_array_equal(tm.grad(lambda x, y: x @ y, (0, 1))(t, t)[1].value, VECTOR)
    np.testing.assert_allclose(tm.hessian(lambda x: x @ t * (x @ x))(t).value, _hessian_of_cubic(VECTOR), rtol=1e-14)


def _hessian_of_cubic(t):
    """Of (x.t)(x.x) at x = t, t held fixed: 2 t x' + 2 x t' + 2 (x.t) I."""
    return 4 * np.outer(t, t) + 2 * (t @ t) * np.eye(3)


# ## Orders
def test_derivatives_of_every_order():
    derivative, value = np.sin, 0.7
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin, np.cos):
        derivative = tm.grad(derivative)
        assert type(derivative(value)) is np.ndarray
        np.testing.assert_allclose(derivative(value), expected(value), rtol=1e-14)


def test_vector_functions_in_jacobians_of_gradients():
    f = lambda x: np.sum(np.sin(x) ** 2) * np.sum(x[1:] * x[:-1])
    hessian = tm.hessian(f)(VECTOR)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-13)
    np.testing.assert_allclose(hessian, np.stack([tm.hvp(f, VECTOR, e) for e in np.eye(3)]), rtol=1e-13)
    np.testing.assert_allclose(hessian, tm.jacobian(tm.jacobian(f))(VECTOR), rtol=1e-13)
    third = tm.jacobian(tm.hessian(f))(VECTOR)
    np.testing.assert_allclose(third, np.transpose(third, (1, 2, 0)), rtol=1e-12)
    np.testing.assert_allclose(third, np.transpose(third, (0, 2, 1)), rtol=1e-12)


@pytest.mark.parametrize("transform", [tm.hessian, lambda f: tm.jacobian(tm.grad(f))])
def test_the_gradient_of_a_hessian(transform):
    f = lambda x: np.sum(np.sin(x) * x**3) + np.prod(x)
    direction = np.array([1.0, -2.0, 0.5])
    found = tm.grad(lambda x: direction @ transform(f)(x) @ direction)(VECTOR)
    expected = tm.grad(lambda x: direction @ tm.hvp(f, x, direction))(VECTOR)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ### Derivatives within derivatives, compared with differences
def inner_loss(phi, t):
    return np.sum(np.sin(phi * t) + phi**2 * t[::-1])


def adapted(t, wrap):
    step = wrap(lambda phi: phi - 0.1 * tm.grad(inner_loss)(phi, t))
    return step(step(step(t)))


def of_tasks(t):
    tasks = np.arange(6.0).reshape(2, 3) / 5
    return np.mean(tm.vmap(lambda t, x: np.sum(np.cos(adapted(t * x + 1, tm.checkpoint))), (None, 0))(t, tasks))


def by_implicit_solve(t):
    hessian = tm.hessian(lambda phi: np.sum(phi**2 * np.exp(t)) + np.sum(phi) ** 4)(t)
    return np.sum(np.linalg.solve(hessian, t))


def pulled_back_twice(t):
    _, pullback = tm.vjp(lambda phi: np.sin(phi) * phi[0] * t, t)
    return np.sum(pullback(pullback(t)[0])[0])


def by_slices(t):
    return np.sum(tm.vmap(lambda s: tm.hessian(lambda phi: np.sum(phi**3 * t))(s))(np.outer(t, t)) ** 2)


COMPOSITIONS = {
    "adaptation": lambda t: np.sum(np.cos(adapted(t, lambda f: f))),
    "checkpointed adaptation": lambda t: np.sum(np.cos(adapted(t, tm.checkpoint))),
    "adaptation to many tasks": of_tasks,
    "implicit solve": by_implicit_solve,
    "pullback of a pullback": pulled_back_twice,
    "hessian in vmap": by_slices,
    "jacobian in vmap": lambda t: np.sum(tm.vmap(lambda s: tm.jacobian(lambda phi: phi**2 * t)(s))(t) ** 2),
    "product of jacobians": lambda t: np.sum(tm.jacobian(lambda phi: np.sin(phi) * t)(t) @ tm.jacobian(lambda phi: phi * t)(t)),
    "jvp": lambda t: np.sum(tm.jvp(lambda phi: np.sin(phi) * t, (t * 2,), (t**2,))[1]),
    "hvp": lambda t: np.sum(tm.hvp(lambda phi: np.sum(np.sin(phi * t) * phi[0]), t, t)),
    "blocks in blocks": lambda t: tm.checkpoint(lambda z: np.sum(tm.vmap(tm.checkpoint(lambda r: np.sin(r) * z[0] * t[1]))(z)))(t * t),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_derivatives_within_derivatives(name):
    f = COMPOSITIONS[name]
    gradient = tm.grad(f)
    for g, derivative in ((f, gradient), (gradient, tm.hessian(f))):
        found = derivative(VECTOR)
        assert type(found) is np.ndarray and found.any()
        expected = np.stack([five_points(g, direction) for direction in np.eye(3)], axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8 * np.abs(found).max())


def five_points(g, direction, h=1e-3):
    """The directional derivative, to the fourth order of h."""
    at = lambda k: g(VECTOR + k * h * direction)
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


# ## vjp and jvp
def test_vjp_of_containers():
    f = lambda a, b: {"product": a["x"] * b, "sum": (np.sum(a["x"]), None)}
    value, pullback = tm.vjp(f, {"x": VECTOR}, 2.0)
    np.testing.assert_array_equal(value["product"], 2 * VECTOR)
    assert type(value["sum"]) is tuple and value["sum"][1] is None
    a_bar, b_bar = pullback({"sum": (1.0, None), "product": VECTOR})  # keys in another order
    np.testing.assert_allclose(a_bar["x"], 2 * VECTOR + 1, rtol=1e-15)
    np.testing.assert_allclose(b_bar, VECTOR @ VECTOR, rtol=1e-15)


def test_pullbacks_are_linear_and_can_be_called_again():
    _, pullback = tm.vjp(lambda x: np.sin(x) * x[0], VECTOR)
    first = pullback(VECTOR)[0]
    np.testing.assert_allclose(pullback(2 * VECTOR)[0], 2 * first, rtol=1e-15)
    np.testing.assert_array_equal(pullback(VECTOR)[0], first)


@pytest.mark.parametrize("cotangent", [np.ones(2), 1.0, np.ones((3, 1)), {"y": np.ones(3)}, [1.0, 1.0, 1.0], None])
def test_cotangents_of_another_shape_are_refused(cotangent):
    _, pullback = tm.vjp(np.sin, VECTOR)
    with pytest.raises(ValueError, match=r"cotangent.*(value's shape \(3,\)|expected an array)"):
        pullback(cotangent)


def test_pullbacks_of_tensor_cotangents_can_be_differentiated():
    _, pullback = tm.vjp(lambda x: np.sin(x) * x, VECTOR)
    c = np.cos(VECTOR) * VECTOR + np.sin(VECTOR)
    np.testing.assert_allclose(tm.grad(lambda u: np.sum(pullback(u)[0] ** 2))(VECTOR), 2 * c**2 * VECTOR, rtol=1e-14)
    late = pullback(tm.tensor(VECTOR))[0]
    assert type(late) is tm.Tensor and late.value.shape == (3,)


def test_vjp_of_functions_that_ignore_an_argument_or_return_constants():
    value, pullback = tm.vjp(lambda a, b: (a * 2, 7.0, np.arange(3)), SINGLE, MATRIX)
    assert value[1] == 7.0 and value[2].tolist() == [0, 1, 2]
    a_bar, b_bar = pullback((np.ones(3), 1.0, np.ones(3)))
    assert a_bar.dtype == np.float32 and b_bar.shape == (4, 3) and not b_bar.any()


def test_jvp_is_the_jacobian_times_the_tangent():
    f = lambda x: np.tanh(MATRIX @ x) * x[0]
    v = np.array([1.0, 0.5, -2.0])
    value, tangent = tm.jvp(f, (VECTOR,), (v,))
    np.testing.assert_array_equal(value, f(VECTOR))
    np.testing.assert_allclose(tangent, tm.jacobian(f)(VECTOR) @ v, rtol=1e-13)


def test_jvp_of_containers_constants_and_repeated_outputs():
    def f(theta, x):
        y = np.sin(theta["W"]) * x
        constants = {"constant": 3.0, "fixed": np.ones(2), "mask": theta["W"] > 0, "cut": tm.stop_gradient(x)}
        return {"y": y, "again": y, "theta": theta["b"], **constants}

    primals, tangents = ({"W": VECTOR, "b": 1.0}, 2.0), ({"b": 5.0, "W": np.ones(3)}, 3.0)
    value, tangent = tm.jvp(f, primals, tangents)
    expected = np.cos(VECTOR) * 2 + np.sin(VECTOR) * 3
    np.testing.assert_allclose(tangent["y"], expected, rtol=1e-15)
    np.testing.assert_allclose(tangent["again"], expected, rtol=1e-15)
    assert tangent["theta"] == 5.0 and tangent["constant"] == 0.0 and tangent["cut"] == 0.0
    assert tangent["fixed"].tolist() == [0, 0] and tangent["mask"].shape == (3,) and not tangent["mask"].any()
    assert value["mask"].dtype == bool and value["constant"] == 3.0


@pytest.mark.parametrize(("primals", "tangents"), [((VECTOR,), (np.ones(2),)), ((VECTOR,), ({"x": VECTOR},)), ((VECTOR, 1.0), (VECTOR,))])
def test_tangents_of_another_structure_are_refused(primals, tangents):
    with pytest.raises(ValueError, match="tangent"):
        tm.jvp(lambda *xs: xs[0], primals, tangents)


def test_derivatives_of_a_jvp():
    f = lambda x: np.sum(np.sin(x) * x[0])
    direction = np.array([1.0, 2.0, 3.0])
    by_primal = tm.grad(lambda x: tm.jvp(f, (x,), (direction,))[1])(VECTOR)
    by_tangent = tm.grad(lambda v: tm.jvp(f, (VECTOR,), (v,))[1])(direction)
    np.testing.assert_allclose(by_primal, tm.hvp(f, VECTOR, direction), rtol=1e-14)
    np.testing.assert_allclose(by_tangent, tm.grad(f)(VECTOR), rtol=1e-14)


# ## jacobian and hessian
def test_jacobians_nest_output_outside_argument_inside():
    f = lambda theta, x: {"matrix": theta["W"] * x, "pair": Pair(np.sum(theta["b"]), theta["W"][0])}
    theta = {"W": MATRIX, "b": VECTOR}
    jacobian = tm.jacobian(f)(theta, 2.0)
    assert type(jacobian["pair"]) is Pair and set(jacobian["matrix"]) == {"W", "b"}
    shapes = tm.tree.map(np.shape, jacobian)
    assert shapes["matrix"] == {"W": (4, 3, 4, 3), "b": (4, 3, 3)}
    assert shapes["pair"] == Pair({"W": (4, 3), "b": (3,)}, {"W": (3, 4, 3), "b": (3, 3)})
    np.testing.assert_array_equal(jacobian["matrix"]["W"].reshape(12, 12), 2 * np.eye(12))
    np.testing.assert_array_equal(jacobian["matrix"]["b"], np.zeros((4, 3, 3)))
    both = tm.jacobian(f, (0, 1))(theta, 2.0)
    assert type(both["matrix"]) is tuple
    np.testing.assert_array_equal(both["matrix"][0]["W"], jacobian["matrix"]["W"])
    np.testing.assert_array_equal(both["matrix"][1], MATRIX)
    assert both["pair"].first[1] == 0.0
    single = tm.jacobian(lambda x: [x, x**2], (0,))(VECTOR)
    assert type(single) is list and type(single[0]) is tuple and len(single[0]) == 1


def test_hessians_nest_twice():
    f = lambda theta: np.sum(theta["W"] @ theta["b"]) ** 2
    theta = {"W": MATRIX, "b": VECTOR}
    hessian = tm.hessian(f)(theta)
    for i in theta:
        for j in theta:
            assert hessian[i][j].shape == theta[i].shape + theta[j].shape
    np.testing.assert_allclose(hessian["W"]["b"].reshape(12, 3), hessian["b"]["W"].reshape(3, 12).T, rtol=1e-13)
    vector, unravel = tm.ravel(theta)
    flat = tm.hessian(lambda v: f(unravel(v)))(vector)
    np.testing.assert_allclose(flat, flat.T, rtol=1e-13)
    np.testing.assert_allclose(flat[:12, 12:], hessian["W"]["b"].reshape(12, 3), rtol=1e-13)
    pair = tm.hessian(lambda a, b: np.sum(a * b**2), (0, 1))(VECTOR, VECTOR)
    np.testing.assert_allclose(pair[0][1], np.diag(2 * VECTOR), rtol=1e-15)
    np.testing.assert_allclose(pair[1][1], np.diag(2 * VECTOR), rtol=1e-15)


def test_jacobians_of_constants_and_scalars():
    assert tm.jacobian(lambda x: x**2)(3.0) == 6.0
    assert tm.jacobian(lambda x: x**2)(3.0).shape == ()
    np.testing.assert_array_equal(tm.jacobian(lambda x: np.ones(2))(VECTOR), np.zeros((2, 3)))
    np.testing.assert_array_equal(tm.jacobian(lambda x: x > 0)(VECTOR), np.zeros((3, 3)))
    assert tm.jacobian(lambda x: np.ones(2))(SINGLE).dtype == np.float32
    assert tm.jacobian(lambda x: x[:0])(VECTOR).shape == (0, 3)
    assert tm.jacobian(lambda x: np.ones(2))(np.zeros(0)).shape == (2, 0)
    np.testing.assert_array_equal(tm.hessian(np.sum)(VECTOR), np.zeros((3, 3)))


def test_hvp():
    f = lambda theta: np.sum(np.sin(theta["W"]) @ theta["b"]) * theta["b"][0]
    theta, v = {"W": MATRIX, "b": VECTOR}, {"b": np.ones(3), "W": np.cos(MATRIX)}
    product = tm.hvp(f, theta, v)
    hessian = tm.hessian(f)(theta)
    for i, axes in (("W", 2), ("b", 1)):
        assert hessian[i]["W"].ndim == axes + 2
        expected = np.tensordot(hessian[i]["W"], v["W"], 2) + np.tensordot(hessian[i]["b"], v["b"], 1)
        np.testing.assert_allclose(product[i], expected, rtol=1e-13)
    np.testing.assert_array_equal(tm.hvp(np.sum, VECTOR, np.ones(3)), np.zeros(3))
    assert tm.hvp(lambda x: x**3, 2, 1.0) == 12.0
    assert tm.hvp(lambda x: np.sum(x**3), SINGLE, np.ones(3)).dtype == np.float32
    with pytest.raises(ValueError, match="shapes"):
        tm.hvp(np.sum, VECTOR, np.ones(2))
    with pytest.raises(ValueError, match="v, which must be built like x, has another structure"):
        tm.hvp(f, theta, {"W": MATRIX})


# ## What can't be differentiated
@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.arange(3), r"int64\[3\]"), (np.array([True]), r"bool\[1\]"), (True, "True"), (np.int32(3), r"int32\[\]"),
     (np.array(3), r"int64\[\]"), (tm.tensor([1, 2]), r"int64\[2\]"), (tm.tensor(3), "3"), (1 + 2j, r"\(1\+2j\)"),
     (VECTOR + 0j, r"complex128\[3\]")],
)  # fmt: skip
@pytest.mark.parametrize("transform", [tm.grad, tm.value_and_grad, tm.jacobian, tm.hessian])
def test_integers_and_complex_numbers_are_refused(value, dtype, transform):
    def f(x, theta):
        return np.sum(theta["W"] * 1.0)

    with pytest.raises(TypeError, match=rf"with respect to theta\['W'\]: it is {dtype}.*floats have derivatives"):
        transform(f, 1)(1.0, {"W": value})
    with pytest.raises(TypeError, match=r"argument 0|with respect to x"):
        tm.vjp(lambda x: np.sum(x), value)


@pytest.mark.parametrize("value", ["text", object(), np.array(["a"])])
def test_what_is_not_numeric_is_refused(value):
    with pytest.raises(TypeError, match="with respect to x"):
        tm.grad(lambda x: 1.0)(value)


def test_a_python_integer_means_a_float():
    assert tm.grad(lambda x: x**2)(3) == 6.0
    assert tm.grad(lambda theta: theta["a"] ** 2 / 4)({"a": 3}) == {"a": 1.5}
    assert tm.jvp(lambda x: x**2, (3,), (1,))[1] == 6.0
    assert tm.vjp(lambda x: x**2, 3)[1](1)[0] == 6.0
    assert tm.hessian(lambda x: x**3)(2) == 12.0


def test_integers_and_masks_may_be_inputs_beside():
    f = lambda x, index, mask: np.sum(np.where(mask, x[index], 0) ** 2)
    np.testing.assert_array_equal(tm.grad(f)(VECTOR, np.array([2, 0, 2]), np.array([True, True, False])), [0.8, 0.0, 1.4])


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: x, ValueError, r"scalar, got shape \(3,\).*tm\.jacobian"),
        (lambda x: x[:1], ValueError, r"scalar, got shape \(1,\)"),
        (lambda x: [np.sum(x)], TypeError, "returns a scalar, got list"),
        (lambda x: (np.sum(x), 1), TypeError, "got tuple; with has_aux=True"),
        (lambda x: None, TypeError, "got NoneType"),
        (lambda x: "text", TypeError, "got str"),
        (lambda x: np.argmax(x), TypeError, "scalar of floats, got int64"),
        (lambda x: x[0] > 0, TypeError, "scalar of floats, got bool"),
        (lambda x: np.sum(x) * (1 + 2j), TypeError, "real scalar, got a complex one.*as two real functions"),
        (lambda x: np.ones(2), ValueError, r"shape \(2,\)"),
    ],
)
def test_values_that_are_no_scalars_are_refused(f, error, message):
    with pytest.raises(error, match=message):
        tm.grad(f)(VECTOR)


@pytest.mark.parametrize(
    "f", [lambda x: 3.0, lambda x: 0, lambda x: np.float32(2), lambda x: np.sum(np.sign(x)), lambda x: np.sum(tm.stop_gradient(x))]
)
def test_a_missing_dependency_gives_zeros(f):
    for x in (MATRIX, MATRIX.astype(np.float32), np.zeros((0, 2))):
        gradient = tm.grad(f)(x)
        assert type(gradient) is np.ndarray and gradient.shape == x.shape and gradient.dtype == x.dtype and not gradient.any()
    value, gradient = tm.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR) and gradient.shape == (3,)
    assert tm.grad(f)(1.0).shape == ()


# ## dtypes
def test_float32_stays_float32():
    f = lambda x: np.mean(np.tanh(x * 0.1 + 1) ** 2 / 3) - 2 * np.sum(np.maximum(x, 0.1) ** 1.5) + math.pi
    assert f(SINGLE).dtype == np.float32
    value, gradient = tm.value_and_grad(f)(SINGLE)
    assert value.dtype == gradient.dtype == np.float32
    assert tm.hessian(f)(SINGLE).dtype == np.float32
    assert tm.jacobian(lambda x: np.exp(x) * 2)(SINGLE).dtype == np.float32
    assert tm.hvp(f, SINGLE, SINGLE).dtype == np.float32
    assert [leaf.dtype for leaf in tm.jvp(f, (SINGLE,), (np.ones(3),))] == [np.float32] * 2
    for f in (np.sin, lambda x: x):
        assert tm.vjp(f, SINGLE)[1](np.ones(3))[0].dtype == tm.jacobian(f)(SINGLE).dtype == np.float32
        assert tm.jvp(f, (SINGLE,), (np.ones(3),))[1].dtype == np.float32
    y, pullback = tm.vjp(np.sin, SINGLE)
    assert y.dtype == pullback(np.ones(3))[0].dtype == np.float32


def test_every_node_of_a_float32_graph_is_float32():
    x = tm.tensor(SINGLE)
    [gradient] = tm.gradients(np.mean((x * 0.5) ** 2 + np.exp(-x) / 3), [x])
    [second] = tm.gradients(np.sum(gradient * 2), [x])
    waiting = [second]
    while waiting:
        node = waiting.pop()
        if node.op is not None and node.dtype.kind == "f":
            assert node.dtype == np.float32 or type(node.data) is float, node
        waiting.extend(t for t in node.inputs if type(t) is tm.Tensor)


def test_a_differentiated_learning_rate_is_weak():
    def adapted(rate, theta):
        for _ in range(2):
            theta = theta - rate * tm.grad(lambda theta: np.sum(np.sin(theta)))(theta)
        return theta

    dtypes = []

    def outer(rate, theta):
        phi = adapted(rate, theta)
        dtypes.append(phi.dtype)
        return np.sum(phi**2)

    by_rate, by_theta = tm.grad(outer, (0, 1))(0.1, SINGLE)
    assert dtypes == [np.float32] and by_theta.dtype == np.float32
    reference = tm.grad(outer, (0, 1))(0.1, VECTOR)
    np.testing.assert_allclose(by_rate, reference[0], rtol=1e-5)
    np.testing.assert_allclose(by_theta, reference[1], rtol=1e-5)
    tm.grad(lambda theta: np.sum(tm.grad(outer)(0.1, theta)))(SINGLE)
    tm.grad(lambda log_rate: outer(np.exp(log_rate), SINGLE))(-2.0)
    assert set(dtypes) == {np.dtype(np.float32), np.dtype(np.float64)} and dtypes.count(np.float64) == 1
    assert tm.grad(outer)(np.float64(0.1), SINGLE).dtype == np.float64 and dtypes[-1] == np.float64  # NumPy's scalars are strong


def test_mixed_precisions_go_back_to_each_argument():
    f = lambda a, b: np.sum(np.sin(a) * b)
    a_bar, b_bar = tm.grad(f, (0, 1))(SINGLE, VECTOR)
    assert (a_bar.dtype, b_bar.dtype) == (np.float32, np.float64)
    hessian = tm.hessian(f, (0, 1))(SINGLE, VECTOR)
    assert hessian[0][0].dtype == np.float32 and hessian[1][1].dtype == np.float64
    np.testing.assert_allclose(hessian[0][1], np.diag(np.cos(SINGLE)), rtol=1e-6)


# ## 0-d arrays and Python scalars
@pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.array(2.0), np.float32(2.0)])
def test_scalars_of_every_kind(x):
    kind = np.asarray(x).dtype
    for result, expected in [
        (tm.grad(lambda x: x**3)(x), 12.0),
        (tm.grad(tm.grad(lambda x: x**3))(x), 12.0),
        (tm.jacobian(lambda x: x**3)(x), 12.0),
        (tm.hessian(lambda x: x**3)(x), 12.0),
        (tm.hvp(lambda x: x**3, x, 1.0), 12.0),
        (tm.jvp(lambda x: x**3, (x,), (1.0,))[1], 12.0),
        (tm.vjp(lambda x: x**3, x)[1](1.0)[0], 12.0),
        (tm.grad(lambda x: np.sum(x * VECTOR.astype(kind)))(x), np.sum(VECTOR)),
        (tm.grad(lambda x: np.sum(np.stack([x, 2 * x, x**2])))(x), 7.0),
        (tm.grad(lambda x: tm.set_at(np.zeros(3), 1, x)[1] ** 2)(x), 4.0),
    ]:
        assert type(result) is np.ndarray and result.shape == () and result.dtype == kind
        np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_arrays_without_elements():
    empty = np.zeros((0, 3))
    assert tm.grad(lambda x: np.sum(x**2))(empty).shape == (0, 3)
    assert tm.hessian(lambda x: np.sum(x**2))(empty).shape == (0, 3, 0, 3)
    assert tm.jvp(np.sin, (empty,), (empty,))[1].shape == (0, 3)


# ## stop_gradient
def test_stop_gradient_lets_go_of_what_came_before():
    gc.disable()
    try:
        x = tm.tensor(1.0)
        before = np.sin(x)
        gone = weakref.ref(before)
        cut = tm.stop_gradient(before)
        del before
        assert gone() is None and cut.value == np.sin(1.0)
        assert tm.gradients(x * cut, [x])[0].value == np.sin(1.0)
    finally:
        gc.enable()


def test_stop_gradient_of_containers():
    f = lambda theta: np.sum(theta["W"] * tm.stop_gradient(theta)["W"]) + tm.stop_gradient(theta["b"])[0]
    gradient = tm.grad(f)({"W": VECTOR, "b": (1.0, None)})
    np.testing.assert_array_equal(gradient["W"], VECTOR)
    assert gradient["b"] == (0.0, None)
    assert tm.grad(tm.grad(lambda x: x**2 * tm.stop_gradient(x)))(3.0) == 6.0
