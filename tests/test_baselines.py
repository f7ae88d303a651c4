"""Classical optimizers, tuned on the same tasks, and the curves past the horizon: each against a plain loop."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import baselines, learned_optimizer, optim
from tinymeta.tasks import quadratics

PROBLEM = tm.Bilevel(quadratics.distance, quadratics.distance, quadratics.start)
TASKS = quadratics.draw_distances(np.random.default_rng(0), 6, 4, distribution="normal")
STEPS = 5


def losses_of_a_loop(make, rate):
    """Of each task, after 0, 1, ... steps, with nothing of what is tested."""
    losses = np.zeros((6, STEPS + 1))
    for i in range(6):
        W, y, phi = (x[i] for x in TASKS)
        optimizer = make(rate)
        state = optimizer.init(phi)
        losses[i, 0] = np.sum((W @ phi - y) ** 2)
        for t in range(STEPS):
            phi, state = optimizer.update(phi, 2 * W.T @ (W @ phi - y), state)
            losses[i, t + 1] = np.sum((W @ phi - y) ** 2)
    return losses


# ## Tuning
@pytest.mark.parametrize("name", baselines.BASELINES)
@pytest.mark.parametrize("losses", ["query", "sum"])
def test_the_scores_are_those_of_a_loop(name, losses):
    make, rates = baselines.BASELINES[name], np.logspace(-3.5, 0.5, 9)
    with np.errstate(all="ignore"):
        tuned = baselines.tune(make, PROBLEM, TASKS, rates, steps=STEPS, losses=losses)
    loops = [losses_of_a_loop(make, rate) for rate in rates]
    scores = [loop[:, -1].mean() if losses == "query" else loop[:, 1:].sum(axis=1).mean() for loop in loops]
    np.testing.assert_allclose(tuned.scores, scores, rtol=1e-10)
    assert tuned.rate == rates[np.argmin(scores)] and tuned.rates.tolist() == rates.tolist()


def test_the_baselines_are_the_four():
    assert baselines.BASELINES == {"SGD": optim.sgd, "momentum": optim.momentum, "RMSProp": optim.rmsprop, "Adam": optim.adam}


def test_rates_that_diverge_lose():
    tuned = baselines.tune(optim.sgd, PROBLEM, TASKS, np.array([1e-3, 1e-2, 1e80]), steps=STEPS)
    assert tuned.rate == 1e-2 and tuned.scores[-1] == np.inf


@pytest.mark.parametrize("rates", [np.array([1e-5, 1e-6]), np.array([1e-6, 1e-5])])
def test_a_best_rate_at_the_end_of_the_grid_is_a_warning(rates):
    with pytest.warns(UserWarning, match=r"the best learning rate, 1e-05, is at the end of those that were tried .* may lie beyond"):
        assert baselines.tune(optim.sgd, PROBLEM, TASKS, rates, steps=STEPS).rate == 1e-5
    assert baselines.tune(optim.sgd, PROBLEM, TASKS, rates[:1], steps=STEPS).rate == rates[0]  # nothing to choose from: silent


def test_if_all_diverge_there_is_an_error():
    with pytest.raises(FloatingPointError, match="the loss is not finite after 5 steps with any of the 2 rates: try smaller ones"):
        baselines.tune(optim.sgd, PROBLEM, TASKS, np.array([1e80, 1e90]), steps=STEPS)


# ## Curves
def test_the_curves_are_those_of_a_loop_and_go_past_the_horizon():
    rule = learned_optimizer.LSTM
    weights = rule.initialize(np.random.default_rng(0), hidden=3)
    rules = {name: (learned_optimizer.classical(make), 0.01) for name, make in baselines.BASELINES.items()} | {"learned": (rule, weights)}
    curves = baselines.learning_curves(PROBLEM, rules, TASKS, steps=STEPS)
    assert list(curves) == [*baselines.BASELINES, "learned"]
    for name, make in baselines.BASELINES.items():
        np.testing.assert_allclose(curves[name], losses_of_a_loop(make, 0.01).mean(axis=0), rtol=1e-12)
    by_hand = np.zeros((6, STEPS + 1))
    for i in range(6):
        loss = lambda phi, i=i: np.sum((TASKS.W[i] @ phi - TASKS.y[i]) ** 2)
        run = learned_optimizer.unroll(weights, loss, TASKS.phi_0[i], steps=STEPS, second_derivatives=False)
        by_hand[i] = [loss(phi) for phi in run.phis]
    np.testing.assert_allclose(curves["learned"], by_hand.mean(axis=0), rtol=1e-12)


def test_a_curve_that_diverges_is_drawn_as_far_as_it_goes():
    curve = baselines.learning_curves(PROBLEM, {"SGD": (learned_optimizer.classical(optim.sgd), 1e80)}, TASKS, steps=4)["SGD"]
    assert np.isfinite(curve[0]) and not np.isfinite(curve[-1])
