"""The learned optimizer: its derivative against the complex step, what dropping second derivatives does, and its state."""

from itertools import pairwise

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import learned_optimizer, maml, nn, optim, train
from tinymeta.autodiff.check import approximate_gradient
from tinymeta.learned_optimizer import LSTM
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


def unrolled(weights, phi=START, *, steps, rule=LSTM, state=None, task=TASK):
    """On the quadratic."""
    return learned_optimizer.unroll(weights, lambda phi: quadratics.inner(phi, None, task), phi, steps=steps, second_derivatives=True,
                                    rule=rule, state=state, task=task)  # fmt: skip


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
        delta, state = LSTM.update(WEIGHTS, phi, *shown[-1], state)
        phi = phi - delta

    def F(theta):
        phi, state = START, learned_optimizer.initial_state(theta, START)
        for loss, g in shown:
            delta, state = LSTM.update(theta, phi, loss, g, state)
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
    delta, state = LSTM.update(WEIGHTS, phi, loss, g, [tuple(below), tuple(above)])
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
    run = lambda phi, scale: learned_optimizer.unroll(WEIGHTS, lambda phi: loss(phi, scale), phi, steps=4, second_derivatives=False).phi
    phi, permuted = run(START, scale), run(START[order], scale[order])
    np.testing.assert_allclose(permuted, phi[order], rtol=1e-13)
    assert len(set(phi)) == 4


def test_the_state_is_carried_from_step_to_step():
    """On a constant loss only the state can make two updates differ; and it starts at zero."""
    constant = lambda phi: 0.0 * np.sum(phi)
    first, second = WEIGHTS["lstm"]
    blind = {"W": first["W"] * np.concatenate([np.zeros((1, 1)), np.ones((2 + HIDDEN, 1))]), "b": first["b"] + 0.5}  # to phi itself
    weights = WEIGHTS | {"lstm": [blind, second]}
    phis = learned_optimizer.unroll(weights, constant, START, steps=3, second_derivatives=True).phis
    moves = [before - after for before, after in pairwise(phis)]
    assert phis[0].tolist() == START.tolist()
    assert np.abs(moves[1] - moves[0]).min() > 1e-4 and np.abs(moves[2] - moves[1]).min() > 1e-4
    state = learned_optimizer.initial_state(weights, START)
    assert all(h.shape == c.shape == (N, HIDDEN) and not h.any() and not c.any() for h, c in state)
    move, _ = LSTM.update(weights, START, 0.0, np.zeros(N), state)
    np.testing.assert_allclose(moves[0], move, rtol=1e-13)


def test_the_losses_on_the_way():
    result = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=3, second_derivatives=True)
    losses = []
    for k in range(3):
        losses.append(float(quadratics.inner(unrolled(WEIGHTS, steps=k).phi, None, TASK)))
    assert result.info["inner_losses"] == losses


def test_nested_parameters_are_updated_coordinate_by_coordinate():
    phi = {"W": START.reshape(2, 2), "b": np.array(3.0)}
    loss = lambda phi: np.sum(phi["W"] ** 2) + phi["b"] ** 2
    nested = learned_optimizer.unroll(WEIGHTS, loss, phi, steps=3, second_derivatives=True).phi
    flat = learned_optimizer.unroll(WEIGHTS, lambda phi: np.sum(phi**2), tm.ravel(phi)[0], steps=3, second_derivatives=True).phi
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


# ## Every rule, every loss
def embedding(theta, task):
    """With weights of its own, which are trained along."""
    return np.tanh(theta["embedding"] @ np.stack([np.sum(task.b), np.mean(task.A)]))


EMBEDDING, BIG = {"embedding": rng.standard_normal((2, 2))}, {"preprocess": True, "embedding": embedding, "embedding_size": 2}
RULES = {
    "LSTM": (LSTM, WEIGHTS),
    "LSTM, logarithms": (rule := learned_optimizer.lstm(preprocess=True), rule.initialize(rng, hidden=HIDDEN, layers=1)),
    "LSTM, all": (rule := learned_optimizer.lstm(**BIG), rule.initialize(rng, hidden=HIDDEN) | EMBEDDING),
    "meta-LSTM": (rule := learned_optimizer.meta_lstm(), rule.initialize(rng, alpha=0.2, forget=0.9)),
    "meta-LSTM, all": (rule := learned_optimizer.meta_lstm(**BIG), rule.initialize(rng, alpha=0.2, forget=0.9) | EMBEDDING),
    "momentum": (learned_optimizer.classical(lambda theta: optim.momentum(theta["alpha"], theta["mu"])),
                 {"alpha": np.array(0.2), "mu": np.array(0.7)}),
    "Adam": (learned_optimizer.classical(optim.adam), np.array(0.2)),
}  # fmt: skip
EACH_RULE = pytest.mark.parametrize("rule, weights", RULES.values(), ids=RULES)
EACH_LOSS = pytest.mark.parametrize("losses", ["query", "sum"])


@EACH_RULE
@EACH_LOSS
def test_each_rule_against_both_oracles(rule, weights, losses):
    options = {"steps": STEPS, "second_derivatives": True, "losses": losses, "rule": rule}
    result = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, **options)
    F = learned_optimizer.objective(PROBLEM, **options)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, TASK), weights)) < 1e-12
    program = tm.trace(F, weights, TASK)
    assert relative_error(result.grad, approximate_gradient(lambda theta: program(theta, TASK), weights, "differences")) < 1e-8
    outer = [quadratics.outer(phi, None, TASK) for phi in unrolled(weights, steps=STEPS, rule=rule).phis]
    np.testing.assert_allclose(result.value, outer[-1] if losses == "query" else sum(outer[1:]), rtol=1e-14)
    np.testing.assert_allclose(result.value, F(weights, TASK), rtol=1e-15)
    assert all(np.any(x) for x in tm.tree.flatten(result.grad)[0])


@EACH_RULE
def test_each_rule_eagerly_and_on_the_machine(rule, weights):
    generator = np.random.default_rng(1)
    tasks = tm.tree.map(lambda *x: np.stack(x), *(quadratics.draw(generator, N) for _ in range(3)))
    F = learned_optimizer.objective(PROBLEM, steps=4, second_derivatives=True, losses="sum", truncate=2, rule=rule)
    mean = tm.value_and_grad(lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks)))
    value, gradient = mean(weights, tasks)
    fast_value, fast_gradient = tm.jit(mean)(weights, tasks)
    assert abs(fast_value - value) <= 1e-12 * abs(value) and relative_error(fast_gradient, gradient) < 1e-12
    one_by_one = [learned_optimizer.meta_gradient(PROBLEM, weights, tm.tree.map(lambda x: x[i], tasks), steps=4, second_derivatives=True,  # noqa: B023
                                                  losses="sum", truncate=2, rule=rule).grad for i in range(3)]  # fmt: skip
    assert relative_error(gradient, tm.tree.map(lambda *x: sum(x) / 3, *one_by_one)) < 1e-13


@pytest.mark.parametrize("part", ["sigmoid", "lstm_cell", "log_and_sign", "outer"])
def test_a_rule_that_is_off_by_a_millionth_is_caught(monkeypatch, part):
    """The derivative is of something else than the value: once in each piece that a rule is made of."""
    off = lambda f: lambda *args: tm.tree.map(lambda y: y + 1e-6 * (y - tm.stop_gradient(y)), f(*args))
    rule, weights = RULES["LSTM, all" if part == "lstm_cell" else "meta-LSTM, all"]
    F = learned_optimizer.objective(PROBLEM, steps=3, second_derivatives=True, rule=rule)
    truth = approximate_gradient(lambda theta: F(theta, TASK), weights)
    home = {"lstm_cell": nn, "outer": quadratics}.get(part, learned_optimizer)
    monkeypatch.setattr(home, part, off(getattr(home, part)))
    broken = tm.Bilevel(quadratics.inner, quadratics.outer, init=PROBLEM.init)
    result = learned_optimizer.meta_gradient(broken, weights, TASK, steps=3, second_derivatives=True, rule=rule)
    assert relative_error(result.grad, truth) > 1e-10  # a hundred times what is accepted above


def test_second_derivatives_kept_and_dropped_on_a_parabola():
    """f = x^2 from 1, learning rate 0.1, the losses after steps 1 to 6: Andrychowicz's choice makes -dF/d alpha 34 % too large.

    x_t = r^t with r = 1 - 2 alpha. Kept, dx_t/d alpha = -2t r^(t-1); with constant gradients it is -sum_{s<t} 2 r^s = -(1 - r^t) / alpha.
    """
    square = lambda phi, theta, task: np.sum(phi**2)
    problem = tm.Bilevel(square, square, init=lambda theta, task: np.ones(1))
    rule, alpha = learned_optimizer.classical(optim.sgd), np.array(0.1)
    kept, dropped = (learned_optimizer.meta_gradient(problem, alpha, None, steps=6, second_derivatives=both, losses="sum", rule=rule)
                     for both in (True, False))  # fmt: skip
    t, r = np.arange(1, 7), 0.8
    np.testing.assert_allclose(kept.value, np.sum(r ** (2 * t)), rtol=1e-13)
    np.testing.assert_allclose(kept.grad, -np.sum(4 * t * r ** (2 * t - 1)), rtol=1e-13)
    np.testing.assert_allclose(dropped.grad, -np.sum(2 * r**t * (1 - r**t)) / 0.1, rtol=1e-13)
    assert (round(-float(kept.grad), 2), round(-float(dropped.grad), 2)) == (19.33, 25.92)
    assert kept.value == dropped.value
    assert kept.info["hessian_products"] == 5 and dropped.info["hessian_products"] == 0  # phi_0 is a constant


# ## Truncation
def truncated_by_hand(rule, weights, losses, lengths, carried_state=True):
    """What truncation claims, by the complex step: the sum over the parts, each a function of theta from a start that is a number."""
    phi, state, total = START, None, 0.0
    for i, steps in enumerate(lengths):
        first = steps if losses == "query" else 1  # of the outer losses that are judged
        if losses == "sum" or i == len(lengths) - 1:

            def share(theta, phi=phi, state=state if carried_state else None, steps=steps, first=first):
                phis = unrolled(theta, phi, steps=steps, rule=rule, state=state).phis
                return sum(quadratics.outer(phi, None, TASK) for phi in phis[first:])

            total = total + tm.ravel(approximate_gradient(share, weights))[0]
        done = unrolled(weights, phi, steps=steps, rule=rule, state=state)
        phi, state = done.phi, done.state
    return total


@pytest.mark.parametrize("name", ["LSTM", "meta-LSTM, all", "Adam"])
@pytest.mark.parametrize("truncate, lengths", [(2, [1, 2, 2]), (1, [1] * 5), (3, [2, 3]), (5, [5]), (9, [5])])
@EACH_LOSS
def test_truncation_carries_phi_and_the_state_over_as_constants(name, truncate, lengths, losses):
    rule, weights = RULES[name]
    options = {"steps": STEPS, "second_derivatives": True, "losses": losses, "rule": rule}
    result = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, truncate=truncate, **options)
    assert relative_error(result.grad, truncated_by_hand(rule, weights, losses, lengths)) < 1e-12
    F = learned_optimizer.objective(PROBLEM, truncate=truncate, **options)
    value, gradient = tm.value_and_grad(F)(weights, TASK)
    assert relative_error(result.grad, gradient) < 1e-13 and abs(result.value - value) <= 1e-15 * abs(value)
    full = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, **options)
    assert abs(result.value - full.value) <= 1e-15 * abs(full.value) and result.phi.tolist() == full.phi.tolist()
    assert result.info["inner_losses"] == full.info["inner_losses"] and len(full.info["inner_losses"]) == STEPS
    if truncate < STEPS:
        assert relative_error(result.grad, full.grad) > 1e-5 and result.info["nodes"] < full.info["nodes"]
        judged = lengths if losses == "sum" else lengths[-1:]
        assert result.info["hessian_products"] == sum(length - 1 for length in judged)  # each part starts at a constant
    else:
        assert relative_error(result.grad, full.grad) < 1e-15 and full.info["hessian_products"] == STEPS - 1


def test_a_truncation_that_forgets_the_state_or_cuts_nothing_is_caught(monkeypatch):
    rule, weights = RULES["LSTM"]
    options = {"steps": STEPS, "second_derivatives": True, "losses": "sum", "truncate": 2}
    result = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, **options)
    assert relative_error(result.grad, truncated_by_hand(rule, weights, "sum", [1, 2, 2], carried_state=False)) > 1e-4
    monkeypatch.setattr(learned_optimizer, "stop_gradient", lambda x: x)
    uncut = tm.grad(learned_optimizer.objective(PROBLEM, **options))(weights, TASK)
    assert relative_error(uncut, truncated_by_hand(rule, weights, "sum", [1, 2, 2])) > 1e-4


@EACH_RULE
def test_a_run_can_go_on_where_another_one_ended(rule, weights):
    run = lambda phi, steps, state: unrolled(weights, phi, steps=steps, rule=rule, state=state)
    first, whole = run(START, 3, None), run(START, 5, None)
    rest, forgetful = run(first.phi, 2, first.state), run(first.phi, 2, None)
    assert rest.phi.tolist() == whole.phi.tolist() and rest.losses == whole.losses[3:]
    assert tm.ravel(rest.state)[0].tolist() == tm.ravel(whole.state)[0].tolist()
    assert np.abs(forgetful.phi - whole.phi).min() > 1e-6


# ## What a rule is shown
def test_logarithm_and_sign_as_the_paper_has_them():
    for x in (3e4, 1.0, 1e-3, -0.2, -7.0, 1e-4, np.exp(-9.999), np.exp(-10.001), -2e-5, 1e-300, 0.0):
        expected = (np.log(abs(x)) / 10, np.sign(x)) if abs(x) >= np.exp(-10) else (-1.0, np.exp(10) * x)
        np.testing.assert_allclose(learned_optimizer.log_and_sign(np.array(x)), expected, rtol=1e-14)
    np.testing.assert_allclose(learned_optimizer.log_and_sign(np.array(0.1), p=2.0), (-1.0, 0.1 * np.exp(2)), rtol=1e-14)
    below, above = (np.array(learned_optimizer.log_and_sign(np.exp(-10) * factor)) for factor in (1 - 1e-9, 1 + 1e-9))
    np.testing.assert_allclose(below, above, atol=3e-9)  # continuous
    single = learned_optimizer.log_and_sign(np.ones(2, np.float32))
    assert {part.dtype for part in single} == {np.dtype(np.float32)}


def test_the_derivatives_of_logarithm_and_sign_are_finite_also_at_zero():
    size, sign = (tm.jacobian(lambda x, k=k: learned_optimizer.log_and_sign(x)[k])(np.array([2.0, -0.5, 1e-5, 0.0])) for k in (0, 1))
    np.testing.assert_allclose(np.diag(size), [0.05, -0.2, 0, 0], rtol=1e-14)
    np.testing.assert_allclose(np.diag(sign), [0, 0, np.exp(10), np.exp(10)], rtol=1e-14)


def test_the_inputs_of_one_coordinate():
    """Through a linear 'network': what reaches the first layer's pre-activation is (phi, L, g), or their logarithms, and the embedding."""
    phi, loss, g, e = np.array([1.0, -2.0]), 5.0, np.array([0.3, 0.4]), np.array([7.0, 8.0])
    plain = np.array([[1.0, 5.0, 0.3], [-2.0, 5.0, 0.4]])
    logarithms = np.array([[1.0, np.log(5) / 10, 1, np.log(0.3) / 10, 1], [-2.0, np.log(5) / 10, 1, np.log(0.4) / 10, 1]])
    np.testing.assert_allclose(learned_optimizer._rows(phi, loss, g, False, None), plain)
    np.testing.assert_allclose(learned_optimizer._rows(phi, loss, g, True, None), logarithms)
    np.testing.assert_allclose(learned_optimizer._rows(phi, loss, g, False, e), np.hstack([plain, [e, e]]))
    for preprocess, size, inputs in ((False, 0, 3), (True, 0, 5), (False, 2, 5), (True, 4, 9)):
        shown = {"preprocess": preprocess, "embedding": embedding if size else None, "embedding_size": size}
        rule = learned_optimizer.lstm(**shown)
        assert rule.initialize(rng, hidden=HIDDEN)["lstm"][0]["W"].shape == (inputs + HIDDEN, 4 * HIDDEN)
        rule = learned_optimizer.meta_lstm(**shown)
        assert rule.initialize(rng)["i"]["W"].shape == rule.initialize(rng)["f"]["W"].shape == (inputs + 1, 1)


def test_the_embedding_is_what_tells_two_tasks_apart():
    """Two tasks with the same loss: only the embedding differs."""
    rule, weights = RULES["LSTM, all"]
    run = lambda b: learned_optimizer.unroll(weights, lambda phi: np.sum(phi**2), START, steps=2, second_derivatives=True, rule=rule,
                                             task=TASK._replace(b=b)).phi  # fmt: skip
    assert np.abs(run(TASK.b) - run(-TASK.b)).min() > 1e-5


def test_the_output_scale():
    small, large = (learned_optimizer.lstm(output_scale=scale).update(WEIGHTS, START, 1.0, START, LSTM.initial_state(WEIGHTS, START))[0]
                    for scale in (0.1, 0.3))  # fmt: skip
    np.testing.assert_allclose(large, 3 * small, rtol=1e-14)


# ## The cell whose state is phi
def gradient_descent_weights(alpha, forget=40.0):
    """Gates that see nothing: sigma(40) is 1 to the last bit."""
    b = np.log(alpha) - np.log(1 - alpha)
    return {"i": {"W": np.zeros((4, 1)), "b": np.array([b])}, "f": {"W": np.zeros((4, 1)), "b": np.array([forget])}}


def test_with_forget_gate_one_it_is_gradient_descent_to_the_bit():
    weights, rule = gradient_descent_weights(0.1), learned_optimizer.meta_lstm()
    alpha = tm.sigmoid(weights["i"]["b"])[0]
    assert tm.sigmoid(weights["f"]["b"])[0] == 1.0 and abs(alpha - 0.1) < 1e-15
    run = unrolled(weights, steps=20, rule=rule)
    phis, gradients = maml.inner_steps(PROBLEM, None, TASK, steps=20, lr=alpha)
    assert np.array_equal(run.phis, phis) and np.array_equal(run.gradients, gradients)
    almost = gradient_descent_weights(0.1, forget=30.0)  # 1 - 1e-13
    assert not np.array_equal(unrolled(almost, steps=20, rule=rule).phis, phis)


@pytest.mark.parametrize("both, order", [(True, 2), (False, 1)])
def test_its_meta_gradient_is_then_that_of_the_learning_rate(both, order):
    """i = sigma(b), so dF/db = alpha (1 - alpha) dF/d alpha."""
    weights, rule = gradient_descent_weights(0.1), learned_optimizer.meta_lstm()
    result = learned_optimizer.meta_gradient(PROBLEM, weights, TASK, steps=STEPS, second_derivatives=both, rule=rule)
    alpha = np.array(0.1)
    of_alpha = maml.meta_gradient(PROBLEM, alpha, TASK, steps=STEPS, lr=lambda alpha: alpha, order=order)
    assert relative_error(result.grad["i"]["b"], [0.1 * 0.9 * of_alpha.grad]) < 1e-13


def test_one_step_of_the_cell_by_hand():
    rule, weights = RULES["meta-LSTM"]
    phi, loss, g, before = START, 2.0, rng.standard_normal(N), (rng.random(N), rng.random(N))
    delta, after = rule.update(weights, phi, loss, g, before, None)
    for j in range(N):
        i, f = (1 / (1 + np.exp(-(np.array([phi[j], loss, g[j], gate[j]]) @ weights[k]["W"][:, 0] + weights[k]["b"][0])))
                for k, gate in zip("if", before, strict=True))  # fmt: skip
        np.testing.assert_allclose(phi[j] - delta[j], f * phi[j] - i * g[j], rtol=1e-13)
        np.testing.assert_allclose([after[0][j], after[1][j]], [i, f], rtol=1e-14)
    fresh = rule.initialize(np.random.default_rng(0), alpha=0.03, forget=0.99)
    np.testing.assert_allclose([tm.sigmoid(fresh[k]["b"]).item() for k in "if"], [0.03, 0.99], rtol=1e-13)


def test_the_start_is_learned_along():
    """c_0 is phi_0: Ravi and Larochelle learn it as well."""
    rule, weights = RULES["meta-LSTM"]
    weights = weights | {"start": START}
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"])
    F = learned_optimizer.objective(problem, steps=STEPS, second_derivatives=True, rule=rule)
    result = learned_optimizer.meta_gradient(problem, weights, TASK, steps=STEPS, second_derivatives=True, rule=rule)
    assert relative_error(result.grad, approximate_gradient(lambda theta: F(theta, TASK), weights)) < 1e-12
    assert result.info["hessian_products"] == STEPS and np.all(result.grad["start"])


# ## Classical optimizers as rules
@pytest.mark.parametrize("make", [optim.sgd, optim.momentum, optim.rmsprop, optim.adam])
def test_a_classical_rule_does_what_the_optimizer_does(make):
    rule, phi, state = learned_optimizer.classical(make), START, make(0.1).init(START)
    run = unrolled(0.1, steps=4, rule=rule)
    for k in range(4):
        phi, state = make(0.1).update(phi, tm.grad(quadratics.inner)(phi, None, TASK), state)
        np.testing.assert_allclose(run.phis[k + 1], phi, rtol=1e-13)
    assert rule.initialize(rng) == 0.01


# ## What is refused
@pytest.mark.parametrize("options, message", [
    ({"steps": -1}, "steps=-1: an integer, 0 or more, the number of updates"),
    ({"steps": 2.0}, "steps=2.0: an integer"),
    ({"losses": "mean"}, "losses='mean': choose one of 'query', 'sum': the outer loss at the end, or the sum"),
    ({"truncate": 0}, "truncate=0: an integer, 1 or more, the number of steps to differentiate through at a time; None for all"),
])  # fmt: skip
def test_options_that_make_no_sense(options, message):
    options = {"steps": 2, "second_derivatives": True} | options
    for call in (lambda: learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, **options),
                 lambda: learned_optimizer.objective(PROBLEM, **options)):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            call()
        assert message in str(caught.value)


def test_an_embedding_of_another_size():
    rule = learned_optimizer.lstm(embedding=lambda theta, task: np.ones(3), embedding_size=2)
    weights = rule.initialize(rng, hidden=HIDDEN)
    with pytest.raises(ValueError, match=r"the task's embedding has shape \(3,\), but the rule was made for embedding_size=2"):
        learned_optimizer.meta_gradient(PROBLEM, weights, TASK, steps=1, second_derivatives=True, rule=rule)


def test_an_unroll_that_diverges_says_where():
    rule, rate = learned_optimizer.classical(optim.sgd), np.array(1e80)
    with pytest.raises(FloatingPointError, match=r"the outer loss is (inf|nan): the updates diverge, and .* ends before step 2"):
        learned_optimizer.meta_gradient(PROBLEM, rate, TASK, steps=4, second_derivatives=True, rule=rule)


def test_a_gradient_that_is_not_finite_although_the_loss_is():
    problem = tm.Bilevel(quadratics.inner, lambda phi, theta, task: np.sum(np.sqrt(np.abs(phi) * 0)), init=PROBLEM.init)
    with pytest.raises(FloatingPointError, match="the meta-gradient through 1 steps is not finite, although the outer loss is: 0"):
        learned_optimizer.meta_gradient(problem, WEIGHTS, TASK, steps=1, second_derivatives=True)


def test_no_steps():
    result = learned_optimizer.meta_gradient(PROBLEM, WEIGHTS, TASK, steps=0, second_derivatives=True)
    assert result.value == quadratics.outer(START, None, TASK) and not tm.ravel(result.grad)[0].any()
    assert result.info["hessian_products"] == result.info["nodes"] == 0 and result.info["inner_losses"] == []


# ## Training
@pytest.mark.parametrize("name, options", [("LSTM, logarithms", {}), ("LSTM", {"truncate": 2}), ("meta-LSTM", {})])
def test_a_short_training_on_the_machine(name, options):
    """Forty iterations on small quadratics, judged on others."""
    rule = RULES[name][0]
    weights = rule.initialize(np.random.default_rng(0))
    problem = tm.Bilevel(quadratics.distance, quadratics.distance, quadratics.start)
    F = learned_optimizer.objective(problem, steps=6, second_derivatives=False, losses="sum", rule=rule, **options)
    draw = lambda rng, count: quadratics.draw_distances(rng, count, 3, distribution="uniform")
    trained = train.fit(F, weights, draw, optim.adam(0.03), iterations=40, meta_batch=16, seed=0, quiet=True)
    unseen = draw(np.random.default_rng(1), 64)
    mean = lambda theta: np.mean(tm.vmap(F, (None, 0))(theta, unseen))
    assert mean(trained.theta) < 0.7 * mean(weights)


def test_a_start_with_a_whole_number_and_one_of_integers():
    loss = lambda phi, theta, task: (phi["a"] - 0.5) ** 2 + np.sum(phi["b"] ** 2)
    problem = lambda a: tm.Bilevel(loss, loss, init=lambda theta, task: {"a": a, "b": np.ones(2)})
    run = lambda a: learned_optimizer.meta_gradient(problem(a), WEIGHTS, None, steps=3, second_derivatives=True)
    assert run(1).phi["a"] == run(1.0).phi["a"] != 1 and relative_error(run(1).grad, run(1.0).grad) == 0
    with pytest.raises(TypeError, match=r"with respect to init\(theta, task\)\['a'\]: it is int64\[\], and only floats have derivatives"):
        run(np.array(1))


@pytest.mark.parametrize("state, message", [
    ([], "state has another structure"), ([(np.zeros((6, HIDDEN)),) * 2] * 5, "state has another structure"), (0.5, "state has another"),
    ([(np.zeros((7, HIDDEN)),) * 2] * len(WEIGHTS["lstm"]), r"state\[0\]\[0\]=float64.*: an array of shape"),
])  # fmt: skip
def test_a_state_of_other_layers(state, message):
    with pytest.raises(ValueError, match=message):
        learned_optimizer.unroll(WEIGHTS, lambda phi: np.sum(phi**2), np.ones(6), steps=1, second_derivatives=True, state=state)


@pytest.mark.parametrize("make", [learned_optimizer.lstm, learned_optimizer.meta_lstm])
def test_weights_for_other_inputs(make):
    theta, rule = make().initialize(rng), make(preprocess=True)
    with pytest.raises(ValueError, match=r"theta has weights for [34] inputs, but a rule with preprocess=True .* has [56]"):
        learned_optimizer.unroll(theta, lambda phi: np.sum(phi**2), np.ones(6), steps=1, second_derivatives=True, rule=rule)


@pytest.mark.parametrize("options", [{"embedding_size": 2}, {"embedding": lambda theta, task: task}])
@pytest.mark.parametrize("make", [learned_optimizer.lstm, learned_optimizer.meta_lstm])
def test_an_embedding_and_its_size_go_together(make, options):
    with pytest.raises(ValueError, match=r"embedding_size=.* with embedding=.*: they go together"):
        make(**options)


@pytest.mark.parametrize("gate, value", [("alpha", 0.0), ("alpha", -0.1), ("forget", 1), ("forget", np.nan)])
def test_gates_are_between_0_and_1(gate, value):
    with pytest.raises(ValueError, match=f"{gate}={value}: a number above 0 and below 1"):
        learned_optimizer.meta_lstm().initialize(rng, **{gate: value})
