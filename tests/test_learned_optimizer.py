"""The learned optimizer: its derivative against the complex step, what dropping second derivatives does, and its state."""

from itertools import pairwise

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import learned_optimizer, nn
from tinymeta.autodiff.check import approximate_gradient
from tinymeta.machine.execute import Executable
from tinymeta.tasks import quadratics

N, HIDDEN, STEPS = 4, 3, 5
rng = np.random.default_rng(0)
TASK, START = quadratics.draw(rng, N), rng.standard_normal(N)
WEIGHTS = learned_optimizer.initialize(rng, hidden=HIDDEN)
PROBLEM = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: START)


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## Its derivative
def test_the_complex_step_on_every_weight():
    F = learned_optimizer.objective(PROBLEM, steps=STEPS, second_derivatives=True)
    result = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=STEPS, second_derivatives=True)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, TASK), WEIGHTS)) < 1e-12
    assert result.value == F(WEIGHTS, TASK) == quadratics.outer(result.phi, None, TASK)


def test_dropping_second_derivatives_changes_the_gradient_and_nothing_else():
    exact, dropped = (
        learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=STEPS, second_derivatives=both) for both in (True, False)
    )
    assert exact.value == dropped.value and exact.phi.tolist() == dropped.phi.tolist()
    assert relative_error(dropped.grad, exact.grad) > 1e-4
    assert dropped.info["nodes"] < exact.info["nodes"]


def test_dropping_second_derivatives_takes_the_gradients_and_losses_for_constants():
    """The definition, written down: what the network is shown comes from a run that was made before."""
    shown, phi = [], START
    state = learned_optimizer.initial_state(WEIGHTS, phi)
    for _ in range(STEPS):
        shown.append(tm.value_and_grad(quadratics.inner)(phi, None, TASK))
        delta, state = learned_optimizer.update(WEIGHTS, phi, *shown[-1], state)
        phi = phi - delta

    def F(theta):
        phi, state = START, learned_optimizer.initial_state(theta, START)
        for loss, g in shown:
            delta, state = learned_optimizer.update(theta, phi, loss, g, state)
            phi = phi - delta
        return quadratics.outer(phi, None, TASK)

    result = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=STEPS, second_derivatives=False)
    assert relative_error(result.grad, tm.grad(F)(WEIGHTS)) < 1e-13


def test_the_first_step_has_no_second_derivatives():
    exact, dropped = (
        learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=1, second_derivatives=both) for both in (True, False)
    )
    assert relative_error(dropped.grad, exact.grad) < 1e-14


def test_the_first_output_bias_moves_all_coordinates_alike():
    """With output weights 0 the step is the constant 0.1 beta: phi_K = phi_0 - K 0.1 beta, and dF/d beta = -K 0.1 sum g."""
    weights = WEIGHTS | {"output": {"W": np.zeros((HIDDEN, 1)), "b": np.array([0.7])}}
    result = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, steps=STEPS, second_derivatives=True)
    phi = START - STEPS * 0.07
    assert relative_error(result.phi, phi) < 1e-14
    assert relative_error(result.grad["output"]["b"], [-STEPS * 0.1 * np.sum(TASK.C @ (phi - TASK.d))]) < 1e-12


@pytest.mark.parametrize("call", [
    lambda: learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=1),
    lambda: learned_optimizer.objective(PROBLEM, steps=1),
    lambda: learned_optimizer.unroll(WEIGHTS, lambda phi: np.sum(phi**2), START, steps=1),
])  # fmt: skip
def test_one_has_to_say_whether_second_derivatives_are_wanted(call):
    with pytest.raises(TypeError, match="second_derivatives"):
        call()


@pytest.mark.parametrize("both", [True, False])
def test_without_a_start_there_is_an_error_that_says_what_to_write(both):
    problem = tm.Bilevel(quadratics.inner, quadratics.outer)
    message = r"the problem must say where phi starts: tm.Bilevel\(inner, outer, init="
    with pytest.raises(ValueError, match=message):
        learned_optimizer.meta_gradient(problem, WEIGHTS, TASK, steps=1, second_derivatives=both)
    with pytest.raises(ValueError, match=message):
        learned_optimizer.objective(problem, steps=1, second_derivatives=both)(WEIGHTS, TASK)


# ## The update rule
def test_an_update_by_hand():
    phi, loss, g = np.array([1.0, -2.0]), 5.0, np.array([0.3, 0.4])
    below, above = (rng.standard_normal((2, 2, HIDDEN)) for _ in range(2))  # (h, c) of the two layers
    delta, state = learned_optimizer.update(WEIGHTS, phi, loss, g, [tuple(below), tuple(above)])
    for i in range(2):  # coordinate by coordinate
        first = nn.lstm_cell(WEIGHTS["lstm"][0], np.array([[phi[i], loss, g[i]]]), below[:, i : i + 1])
        second = nn.lstm_cell(WEIGHTS["lstm"][1], first[0], above[:, i : i + 1])
        np.testing.assert_allclose(delta[i], 0.1 * (second[0] @ WEIGHTS["output"]["W"] + WEIGHTS["output"]["b"])[0, 0], rtol=1e-14)
        for new, by_hand in zip(state, (first, second), strict=True):
            np.testing.assert_allclose([new[0][i], new[1][i]], [by_hand[0][0], by_hand[1][0]], rtol=1e-14)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_any_number_of_layers(layers):
    weights = learned_optimizer.initialize(np.random.default_rng(3), hidden=2, layers=layers)
    assert [layer["W"].shape for layer in weights["lstm"]] == [(5, 8), *[(4, 8)] * (layers - 1)]
    assert len(learned_optimizer.initial_state(weights, START)) == layers
    F = learned_optimizer.objective(PROBLEM, steps=3, second_derivatives=True)
    gradient = tm.grad(F)(weights, TASK)
    assert relative_error(gradient, approximate_gradient(lambda theta: F(theta, TASK), weights)) < 1e-12
    assert all(np.any(layer["W"]) for layer in gradient["lstm"])


def test_coordinates_share_the_weights_and_keep_their_own_states():
    """Permuting the coordinates of the problem permutes the result."""
    order = np.array([2, 0, 3, 1])
    loss = lambda phi, scale: np.sum(scale * phi**2)
    scale = np.array([1.0, 2.0, 3.0, 4.0])
    phi, _ = learned_optimizer.unroll(WEIGHTS, lambda phi: loss(phi, scale), START, steps=4, second_derivatives=False)
    permuted, _ = learned_optimizer.unroll(WEIGHTS, lambda phi: loss(phi, scale[order]), START[order], steps=4, second_derivatives=False)
    np.testing.assert_allclose(permuted, phi[order], rtol=1e-13)
    assert len(set(phi)) == 4


def test_the_state_is_carried_from_step_to_step():
    """On a constant loss only the state can make two updates differ; and it starts at zero."""
    constant = lambda phi: 0.0 * np.sum(phi)
    first, second = WEIGHTS["lstm"]
    blind = {"W": first["W"] * np.concatenate([np.zeros((1, 1)), np.ones((2 + HIDDEN, 1))]), "b": first["b"] + 0.5}  # to phi itself
    weights = WEIGHTS | {"lstm": [blind, second]}
    phis = [learned_optimizer.unroll(weights, constant, START, steps=k, second_derivatives=True)[0] for k in range(4)]
    moves = [before - after for before, after in pairwise(phis)]
    assert phis[0].tolist() == START.tolist()
    assert np.abs(moves[1] - moves[0]).min() > 1e-4 and np.abs(moves[2] - moves[1]).min() > 1e-4
    state = learned_optimizer.initial_state(weights, START)
    assert all(h.shape == c.shape == (N, HIDDEN) and not h.any() and not c.any() for h, c in state)
    move, _ = learned_optimizer.update(weights, START, 0.0, np.zeros(N), state)
    np.testing.assert_allclose(moves[0], move, rtol=1e-13)


def test_the_losses_on_the_way():
    result = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=3, second_derivatives=True)
    losses = []
    for k in range(3):
        phi, _ = learned_optimizer.unroll(WEIGHTS, lambda phi: quadratics.inner(phi, None, TASK), START, steps=k, second_derivatives=True)
        losses.append(float(quadratics.inner(phi, None, TASK)))
    assert result.info["inner_losses"] == losses


def test_nested_parameters_are_updated_coordinate_by_coordinate():
    phi = {"W": START.reshape(2, 2), "b": np.array(3.0)}
    loss = lambda phi: np.sum(phi["W"] ** 2) + phi["b"] ** 2
    nested, _ = learned_optimizer.unroll(WEIGHTS, loss, phi, steps=3, second_derivatives=True)
    flat, _ = learned_optimizer.unroll(WEIGHTS, lambda phi: np.sum(phi**2), tm.ravel(phi)[0], steps=3, second_derivatives=True)
    assert nested["W"].shape == (2, 2) and nested["b"].shape == ()
    np.testing.assert_allclose(tm.ravel(nested)[0], flat, rtol=1e-14)


@pytest.mark.parametrize("both", [True, False])
def test_float32_stays_float32(both):
    single = lambda tree: tm.tree.map(np.float32, tree)
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: START.astype(np.float32))
    result = learned_optimizer.meta_gradient(problem, single(WEIGHTS), single(TASK), steps=2, second_derivatives=both)
    assert {x.dtype for x in tm.tree.flatten((result.value, result.grad, result.phi))[0]} == {np.dtype(np.float32)}
    double = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=2, second_derivatives=both)
    assert 0 < relative_error(result.grad, double.grad) < 1e-5


@pytest.mark.parametrize("both", [True, False])
def test_the_objective_traced_and_mapped_is_the_objective(both):
    F = learned_optimizer.objective(PROBLEM, steps=3, second_derivatives=both)
    generator = np.random.default_rng(1)
    tasks, others = (tm.tree.map(lambda *x: np.stack(x), *(quadratics.draw(generator, N) for _ in range(3))) for _ in range(2))
    mean = tm.value_and_grad(lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks)))
    program = tm.trace(mean, WEIGHTS, others)
    value, gradient = program(WEIGHTS, tasks)
    eager_value, eager_gradient = mean(WEIGHTS, tasks)
    in_numpy = Executable(program.code, machine=False)(tm.tree.flatten((WEIGHTS, tasks))[0], program.captured)
    for ours, theirs in zip(in_numpy, tm.tree.flatten((eager_value, eager_gradient))[0], strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-12 * np.linalg.norm(theirs)
    assert abs(value - eager_value) <= 1e-12 * abs(eager_value)  # the machine's promise
    assert relative_error(gradient, eager_gradient) < 1e-12
