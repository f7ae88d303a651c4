"""Antithetic evolution strategies: exact and unbiased where they should be, and as uncertain as they say."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import evolution, learned_optimizer, optim
from tinymeta.evolution import evolution_strategies
from tinymeta.tasks import quadratics

N = 5
rng = np.random.default_rng(0)
TASK, THETA = quadratics.draw(rng, N), rng.standard_normal(N)
TRUTH = TASK.A @ THETA - TASK.b


def F(theta, task):
    return quadratics.inner(theta, None, task)


def axes(rng, shape):
    """sqrt(d) e_i: the mean of their squares is the identity."""
    assert shape == (N, N)
    return np.sqrt(N) * np.eye(N)


def relative_error(estimate, truth):
    return np.linalg.norm(estimate - truth) / np.linalg.norm(truth)


def estimate(sigma, pairs, seed=0, f=F, **options):
    return evolution_strategies(f, THETA, TASK, np.random.default_rng(seed), sigma=sigma, pairs=pairs, **options)


# ## On a quadratic
@pytest.mark.parametrize("sigma", [1e-2, 1.0, 30.0])
def test_exact_on_a_quadratic_with_the_directions_of_the_axes(sigma):
    result = estimate(sigma, N, directions=axes)
    assert relative_error(result.grad, TRUTH) < 1e-10
    assert abs(result.value - F(THETA, TASK)) < 1e-14 and result.phi is None and result.info["evaluations"] == 2 * N + 1


def test_unbiased_on_a_quadratic_for_any_sigma():
    """(F(theta + s e) - F(theta - s e)) / 2s is g'e whatever s is: the same directions give the same estimate, (g'e) e."""
    epsilon = np.random.default_rng(0).standard_normal((7, N))
    each = (epsilon @ TRUTH)[:, None] * epsilon
    for sigma in (1e-2, 1.0, 30.0):
        result = estimate(sigma, 7)
        assert relative_error(result.grad, np.mean(each, axis=0)) < 1e-10
        assert relative_error(result.info["standard_error"], np.std(each, axis=0, ddof=1) / np.sqrt(7)) < 1e-10


@pytest.mark.parametrize("sigma", [0.01, 3.0])
def test_the_mean_of_many_is_the_gradient_within_the_standard_error(sigma):
    result = estimate(sigma, 20_000)
    assert np.all(np.abs(result.grad - TRUTH) < 4 * result.info["standard_error"])
    # $$ \operatorname{Var} \hat g_i = |g|^2 + g_i^2 $$
    np.testing.assert_allclose(result.info["standard_error"], np.sqrt((TRUTH @ TRUTH + TRUTH**2) / 20_000), rtol=0.05)


def test_the_standard_error_is_the_spread_between_runs():
    runs = [estimate(1.0, 50, seed) for seed in range(400)]
    spread = np.std([run.grad for run in runs], axis=0, ddof=1)
    said = np.sqrt(np.mean([run.info["standard_error"] ** 2 for run in runs], axis=0))
    np.testing.assert_allclose(said, spread, rtol=0.12)
    assert np.all(np.isnan(estimate(1.0, 1).info["standard_error"]))


def test_one_sided_and_misscaled_estimates_are_caught():
    """(F(theta + s e) - F(theta)) e / s keeps the curvature, and directions of half the variance give half the gradient."""
    one_sided = np.sqrt(N) * np.array([(F(THETA + np.sqrt(N) * e, TASK) - F(THETA, TASK)) for e in np.eye(N)]) / N
    assert relative_error(one_sided, TRUTH) > 0.1
    assert relative_error(estimate(1.0, N, directions=lambda rng, shape: axes(rng, shape) / np.sqrt(2)).grad, TRUTH) > 0.4


# ## On anything else
def test_the_bias_of_smoothing_is_that_of_the_smoothed_function():
    """E sin(x + s e) = exp(-s^2 / 2) sin x, so the gradient shrinks by that factor."""
    sigma = 0.8
    result = evolution_strategies(lambda x, task: np.sin(x), np.array(0.3), None, np.random.default_rng(0), sigma=sigma, pairs=40_000)
    smoothed = np.exp(-(sigma**2) / 2) * np.cos(0.3)
    assert abs(result.grad - smoothed) < 4 * result.info["standard_error"] < 0.1 * abs(np.cos(0.3) - smoothed)


PROBLEM = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: np.ones(N))
UNROLLED = learned_optimizer.objective(PROBLEM, steps=4, second_derivatives=True, losses="sum")


def test_of_a_learned_optimizer_it_tends_to_the_gradient():
    weights = learned_optimizer.initialize(np.random.default_rng(1), hidden=2, layers=1)
    truth = tm.ravel(tm.grad(UNROLLED)(weights, TASK))[0]
    d = truth.size
    exact = lambda rng, shape: np.sqrt(d) * np.eye(d)
    coarse, fine = (evolution_strategies(UNROLLED, weights, TASK, rng, sigma=sigma, pairs=d, directions=exact) for sigma in (1e-2, 1e-3))
    errors = [relative_error(tm.ravel(result.grad)[0], truth) for result in (coarse, fine)]
    assert errors[1] < 1e-4 and 80 < errors[0] / errors[1] < 120  # of order sigma^2
    assert fine.grad["lstm"][0]["W"].shape == fine.info["standard_error"]["lstm"][0]["W"].shape == (5, 8)
    assert abs(fine.value - UNROLLED(weights, TASK)) < 1e-12 * abs(fine.value)


def test_a_short_training():
    weights = learned_optimizer.initialize(np.random.default_rng(1), hidden=2, layers=1)
    optimizer, generator, values = optim.adam(0.05), np.random.default_rng(0), []
    state = optimizer.init(weights)
    for _ in range(60):
        result = evolution_strategies(UNROLLED, weights, TASK, generator, sigma=0.05, pairs=20)
        weights, state = optimizer.update(weights, result.grad, state)
        values.append(result.value)
    assert values[-1] < 0.8 * values[0]
    assert evolution._of_each.cache_info().hits >= 59  # traced once


def test_float32_stays_float32():
    single = lambda tree: tm.tree.map(np.float32, tree)
    result = evolution_strategies(F, single(THETA), single(TASK), np.random.default_rng(0), sigma=0.1, pairs=3)
    assert result.grad.dtype == result.value.dtype == np.float32


# ## What is refused
@pytest.mark.parametrize("sigma, pairs, message", [
    (0.0, 3, "sigma=0.0: a number above 0, how far the weights are shifted"),
    (np.nan, 3, "sigma=nan"),
    (0.1, 0, "pairs=0: an integer, 1 or more, the number of directions"),
    (0.1, 2.5, "pairs=2.5"),
])  # fmt: skip
def test_options_that_make_no_sense(sigma, pairs, message):
    with pytest.raises(ValueError) as caught:
        estimate(sigma, pairs)
    assert message in str(caught.value)


def test_values_that_are_not_finite():
    with pytest.raises(FloatingPointError, match=r"of the 7 values of F are not finite: sigma=1000\.0 shifts the weights too far"):
        estimate(1e3, 3, f=lambda theta, task: np.sum(np.exp(theta)))


def test_a_whole_number_is_a_float_and_integers_in_an_array_have_no_derivative():
    whole, theta = (evolution_strategies(lambda t, task: t**2, theta, None, np.random.default_rng(0), sigma=0.1, pairs=50)
                    for theta in (2, 2.0))  # fmt: skip
    assert whole.grad == theta.grad != 0
    with pytest.raises(TypeError, match=r"with respect to theta\['w'\]: it is int64\[2\], and only floats have derivatives"):
        evolution_strategies(lambda t, task: np.sum(t["w"]), {"w": np.array([1, 2])}, None, np.random.default_rng(0), sigma=0.1, pairs=1)
