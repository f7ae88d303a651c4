"""The two-level problem: where the adaptation starts, and diagnostics that are computed when asked for."""

import dataclasses
import functools

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import bilevel, maml


def loss(phi, theta, task):
    return (phi - task) ** 2


def test_by_default_the_adaptation_starts_at_theta_itself():
    theta = {"W": np.ones(2)}
    assert tm.Bilevel(loss, loss).start(theta, None) is theta


def test_init_says_where_the_adaptation_starts():
    problem = tm.Bilevel(loss, loss, init=lambda theta, task: theta["start"] + task)
    assert problem.start({"start": 1.0}, 2.0) == 3.0


def test_a_problem_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tm.Bilevel(loss, loss).inner = None


# ## A part of phi
PHI = {"body": [np.array([1.0, 2.0]), np.array(3.0)], "head": {"W": np.array([4.0]), "b": 5.0}}


def whole_loss(phi, theta, task):
    return sum(np.sum(x) ** k for k, x in enumerate(tm.tree.flatten(phi)[0], 1))


@pytest.mark.parametrize("adapted, part", [
    ({"body": False, "head": True}, {"body": [None, None], "head": {"W": PHI["head"]["W"], "b": 5.0}}),
    ({"head": {"b": True, "W": False}, "body": [False, True]}, {"body": [None, PHI["body"][1]], "head": {"W": None, "b": 5.0}}),
    (lambda name: name.startswith("phi['head']"), {"body": [None, None], "head": {"W": PHI["head"]["W"], "b": 5.0}}),
    (True, PHI),
])  # fmt: skip
def test_a_part_of_phi(adapted, part):
    problem = tm.Bilevel(whole_loss, lambda *args: 2 * whole_loss(*args)).adapting(adapted)
    found = problem.start(PHI, None)
    assert tm.tree.flatten(found)[1] == tm.tree.flatten(part)[1]
    assert all(x is y for x, y in zip(tm.tree.flatten(found)[0], tm.tree.flatten(part)[0], strict=True))
    assert problem.inner(found, PHI, None) == whole_loss(PHI, PHI, None) == problem.outer(found, PHI, None) / 2
    # What adapts is the part's, the rest is where theta says now.
    moved, doubled = tm.tree.map(lambda x: x + 1, part), tm.tree.map(lambda x: 2 * x, PHI)
    expected = bilevel.merged(moved, doubled)
    assert problem.inner(moved, doubled, None) == whole_loss(expected, doubled, None)


def test_merged_puts_each_leaf_in_its_place():
    assert bilevel.merged({"b": None, "a": [1, None]}, {"a": [5, 6], "b": 7}) == {"a": [1, 6], "b": 7}
    assert bilevel.merged(None, None) is None and bilevel.merged(1.0, 2.0) == 1.0 and bilevel.merged(None, 2.0) == 2.0


@pytest.mark.parametrize("adapted, message", [
    (False, r"adapted chooses no leaf of phi, so nothing adapts; there are phi\['body'\]\[0\], phi\['body'\]\[1\], phi\['head'\]\['W'\]"),
    (lambda name: "tail" in name, "adapted chooses no leaf of phi"),
    ({"head": True}, r"adapted=\{'head': True\} doesn't match the structure of what it is for"),
])  # fmt: skip
def test_a_part_that_makes_no_sense(adapted, message):
    problem = tm.Bilevel(whole_loss, whole_loss).adapting(adapted)
    with pytest.raises(ValueError, match=message):
        problem.start(PHI, None)


def test_the_implicit_gradient_of_a_part():
    """With the body held fast, the head is a ridge regression, and the body a hyperparameter of it."""
    X, y, body = np.random.default_rng(0).standard_normal((5, 2)), np.ones(5), np.array([1.5, -0.5])
    inner = lambda phi, theta, task: 0.5 * np.sum(((X * phi["body"]) @ phi["head"] - y) ** 2) + 0.5 * np.sum(phi["head"] ** 2)
    outer = lambda phi, theta, task: np.sum(phi["head"] ** 2)
    problem = tm.Bilevel(inner, outer).adapting({"body": False, "head": True})

    def F(body):
        Z = X * body
        return np.sum(np.linalg.solve(Z.T @ Z + np.eye(2), Z.T @ y) ** 2)

    with pytest.warns(RuntimeWarning, match="theta.'head'. enters neither"):
        result = tm.implicit.meta_gradient(problem, {"body": body, "head": np.zeros(2)}, None)
    np.testing.assert_allclose(result.grad["body"], tm.grad(F)(body), rtol=1e-10)
    assert result.phi["body"] is None and result.grad["head"].tolist() == [0.0, 0.0]


def test_a_meta_gradient_is_a_named_tuple():
    result = tm.maml.meta_gradient(tm.Bilevel(loss, loss), 3.0, 1.0, steps=1, lr=0.25)
    value, gradient, phi, info = result
    assert (result.value, result.grad, result.phi, result.info) == (value, gradient, phi, info)
    assert (value, gradient, phi) == (1.0, 1.0, 2.0)


# ## Info
def test_info_is_a_mapping_that_computes_what_is_costly_once_and_when_it_is_asked_for():
    calls = []

    def spectrum():
        calls.append(1)
        return 71.0

    info = tm.Info(steps=5, spectrum=spectrum)
    assert repr(info) == "Info(steps=5, spectrum=<computed when asked for>)" and calls == []
    assert info["spectrum"] == info["spectrum"] == 71.0 and len(calls) == 1
    assert repr(info) == "Info(steps=5, spectrum=71.0)"
    assert dict(info) == {"steps": 5, "spectrum": 71.0} and len(info) == 2 and list(info) == ["steps", "spectrum"]
    assert "steps" in info and "residual" not in info


def test_info_without_the_entry():
    with pytest.raises(KeyError, match="residual"):
        tm.Info(steps=5)["residual"]


# ## What is shared by the estimators
def test_the_size_of_a_graph():
    x = tm.tensor(np.array([2.0, 3.0]))
    chain = lambda x: np.sum(np.sin(np.cos(x)))  # three nodes
    assert bilevel.graph_size(chain(x), x) == 4 and bilevel.graph_size(chain(x), tm.tensor(1.0)) == 0 == bilevel.graph_size(1.0, x)
    # A block is a node that holds the results, one for each of them, and what is in it while it is swept.
    assert bilevel.graph_size(tm.checkpoint(chain)(x), x) == 3 + 3
    assert bilevel.graph_size(tm.checkpoint(lambda y: chain(y) * x[0])(np.exp(x)), x) == 5 + 4
    assert bilevel.graph_size(tm.vmap(np.sin)(x), x) == 3 + 1


def test_finite():
    assert bilevel.is_finite({"a": 1.0, "b": (np.ones(2), None)})
    assert not bilevel.is_finite([1.0, np.array([1.0, np.nan])]) and not bilevel.is_finite(-np.inf)


def test_a_function_with_a_given_gradient():
    theta = {"a": np.array([1.0, 2.0]), "b": 3.0}
    direction = {"a": np.array([5.0, -1.0]), "b": 0.5}
    F = lambda theta: bilevel.with_gradient(theta["b"] ** 2, direction, theta)
    for make in (tm.value_and_grad, lambda F: tm.jit(tm.value_and_grad(F))):
        value, gradient = make(F)(theta)
        assert value == 9.0 and np.array_equal(gradient["a"], direction["a"]) and gradient["b"] == 0.5


# ## What makes no sense
@pytest.mark.parametrize("parts, message", [
    ({"inner": lambda phi, theta: phi}, r"inner=.*: a function of \(phi, theta, task\)"),
    ({"outer": 1.0}, r"outer=1.0: a function of \(phi, theta, task\)"),
    ({"init": np.ones(2)}, r"init=float64\[2\]: a function of \(theta, task\) that returns phi_0; None starts at theta"),
])  # fmt: skip
def test_losses_of_other_arguments(parts, message):
    loss = lambda phi, theta, task: phi
    with pytest.raises(TypeError, match=message):
        tm.Bilevel(**({"inner": loss, "outer": loss} | parts))


def test_losses_with_more_arguments_than_are_needed():
    wrapped = functools.wraps(np.sin)(lambda *args: args[0])
    tm.Bilevel(lambda *args: args[0], lambda phi, theta, task, more=0.0: phi, functools.partial(lambda scale, theta, task: theta, 2.0))
    tm.Bilevel(tm.jit(lambda phi, theta, task: phi), wrapped, tm.checkpoint(lambda theta, task: theta))


def test_what_adapts_is_said_by_booleans():
    problem = tm.Bilevel(lambda phi, theta, task: phi["a"] ** 2, None).adapting({"a": "no"})
    with pytest.raises(TypeError, match=r"adapted='no': True or False, for phi\['a'\]"):
        problem.start({"a": 1.0}, None)


@pytest.mark.parametrize("x, error, message", [
    ({}, ValueError, "phi=.*: there is no number in it that could change"),
    ([np.zeros((0, 3))], ValueError, "phi=.*: there is no number in it that could change"),
    ([np.ma.masked_array([1.0, 2.0], [True, False])], TypeError, r"phi\[0\]=.*: an array without a mask"),
    ([1.0, 1j], TypeError, r"with respect to phi\[1\]"),
])  # fmt: skip
def test_what_has_no_derivative(x, error, message):
    with pytest.raises(error, match=message):
        bilevel.floats(x, "phi")


def test_a_problem_without_an_outer_loss_has_an_inner_level_alone():
    problem = tm.Bilevel(lambda phi, theta, task: (phi - 1) ** 2, None)
    assert abs(tm.implicit.solve_inner(problem, 3.0, None) - 1) < 1e-12
    with pytest.raises(TypeError, match=r"problem\.outer=None: a function of"):
        maml.meta_gradient(problem, 3.0, None, steps=1, lr=0.1)
