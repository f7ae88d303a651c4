"""Where tasks come from: ranges, shapes, seeds, and the formulas behind them."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.tasks import Data, Task, quadratics, sinusoids


# ## Sinusoids
def test_the_shapes_of_a_batch():
    task = sinusoids.draw(np.random.default_rng(0), 25, support=5, query=7)
    assert isinstance(task, Task) and isinstance(task.support, Data)
    assert task.support.x.shape == task.support.y.shape == (25, 5, 1)
    assert task.query.x.shape == task.query.y.shape == (25, 7, 1)
    task = sinusoids.draw(np.random.default_rng(0), 2)
    assert task.support.x.shape == task.query.x.shape == (2, 10, 1)


FINN, REPTILE, META_SGD = (0.1, 5, 0, np.pi, 1, 1), (0.1, 5, 0, 2 * np.pi, 1, 1), (0.1, 5, 0, np.pi, 0.8, 1.2)


@pytest.mark.parametrize("variant, ranges", [("finn", FINN), ("reptile", REPTILE), ("meta-sgd", META_SGD)])
def test_the_ranges_of_the_papers_are_filled_and_kept(variant, ranges):
    waves = sinusoids.draw_waves(np.random.default_rng(0), 100_000, variant)
    task = sinusoids.draw(np.random.default_rng(0), 10_000, variant=variant)
    frequency = np.broadcast_to(waves.frequency, 100_000)
    found = [waves.amplitude, waves.phase, frequency, task.support.x, task.query.x]
    for values, low, high in zip(found, (*ranges[::2], -5, -5), (*ranges[1::2], 5, 5), strict=True):
        width = high - low
        assert low <= values.min() <= low + 1e-3 * width and high - 1e-3 * width <= values.max() <= high
        if width:
            np.testing.assert_allclose(np.histogram(values, 10, (low, high))[0] / values.size, 0.1, atol=0.005)


@pytest.mark.parametrize("variant, sign", [("finn", -1), ("reptile", 1), ("meta-sgd", 1)])
def test_the_wave_of_each_paper(variant, sign):
    waves = sinusoids.draw_waves(np.random.default_rng(0), 7, variant)
    x = np.random.default_rng(1).uniform(-5, 5, (7, 4, 1))
    omega = waves.frequency if variant == "meta-sgd" else np.ones(7)
    for i in range(7):
        np.testing.assert_allclose(waves.at(x).y[i], waves.amplitude[i] * np.sin(omega[i] * x[i] + sign * waves.phase[i]), rtol=1e-14)
    task = sinusoids.draw(np.random.default_rng(0), 7, 3, 4, variant)
    np.testing.assert_array_equal(task.query.y, waves.at(task.query.x).y)


def test_the_same_seed_gives_the_same_waves_as_ever():
    """To the bit: results that stand somewhere depend on it."""
    rng = np.random.default_rng(3)
    amplitude, phase = rng.uniform(0.1, 5, 25)[:, None, None], rng.uniform(0, np.pi, 25)[:, None, None]
    support, query = rng.uniform(-5, 5, (25, 5, 1)), rng.uniform(-5, 5, (25, 7, 1))
    task = sinusoids.draw(np.random.default_rng(3), 25, 5, 7)
    for data, x in zip(task, (support, query), strict=True):
        assert data.x.tolist() == x.tolist() and data.y.tolist() == (amplitude * np.sin(x - phase)).tolist()


def test_a_variant_that_is_none():
    with pytest.raises(ValueError, match="variant='maml': choose one of 'finn', 'reptile', 'meta-sgd'"):
        sinusoids.draw(np.random.default_rng(0), 1, variant="maml")


def test_support_and_query_lie_on_the_same_wave():
    task = sinusoids.draw(np.random.default_rng(1), 50, support=20, query=20)
    for i in range(50):
        # A sin(x - p) = a sin x + b cos x: fit a and b to the support, and predict the query.
        features = lambda x: np.hstack([np.sin(x), np.cos(x)])
        coefficients = np.linalg.lstsq(features(task.support.x[i]), task.support.y[i], rcond=None)[0]
        np.testing.assert_allclose(features(task.query.x[i]) @ coefficients, task.query.y[i], atol=1e-12)
        amplitude, phase = np.hypot(*coefficients[:, 0]), np.arctan2(-coefficients[1, 0], coefficients[0, 0])
        assert 0.1 <= amplitude <= 5 and -1e-9 <= phase <= np.pi + 1e-9


def test_a_wave_at_a_point():
    waves = sinusoids.Waves(np.array([2.0, 3.0]), np.array([0.0, np.pi / 2]))
    data = waves.at(np.array([[[np.pi / 2]], [[np.pi]]]))
    np.testing.assert_allclose(data.y, [[[2.0]], [[3.0]]], rtol=1e-15)


def test_waves_differ_from_task_to_task_and_so_do_points():
    task = sinusoids.draw(np.random.default_rng(0), 25)
    assert len(np.unique(task.support.x)) == len(np.unique(task.query.x)) == 250
    assert not np.isin(task.support.x, task.query.x).any()


@pytest.mark.parametrize("draw", [lambda rng: sinusoids.draw(rng, 3), lambda rng: quadratics.draw(rng, 3)])
def test_the_same_seed_gives_the_same_tasks(draw):
    same, again, other = (tm.ravel(draw(np.random.default_rng(seed)))[0] for seed in (0, 0, 1))
    assert same.tolist() == again.tolist() and not np.any(same == other)


# ## Quadratics
@pytest.mark.parametrize("n, condition", [(2, 10.0), (6, 10.0), (6, 100.0), (1, 10.0)])
def test_the_spectrum(n, condition):
    task = quadratics.draw(np.random.default_rng(0), n, condition)
    for matrix in (task.A, task.C):
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.linspace(1 / condition, 1, n), rtol=1e-12)
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-13)
    assert task.b.shape == task.d.shape == (n,)
    assert np.linalg.norm(task.b - task.d) > 0.1
    if n > 1:
        assert np.linalg.norm(task.A - task.C) > 0.1


def test_the_losses_and_their_derivatives():
    task = quadratics.draw(np.random.default_rng(0), 4)
    phi = np.random.default_rng(1).standard_normal(4)
    inner = 0.5 * sum(phi[i] * task.A[i, j] * phi[j] for i in range(4) for j in range(4)) - sum(task.b * phi)
    away = phi - task.d
    outer = 0.5 * sum(away[i] * task.C[i, j] * away[j] for i in range(4) for j in range(4))
    np.testing.assert_allclose(quadratics.inner(phi, None, task), inner, rtol=1e-13)
    np.testing.assert_allclose(quadratics.outer(phi, None, task), outer, rtol=1e-13)
    np.testing.assert_allclose(tm.grad(quadratics.inner)(phi, None, task), task.A @ phi - task.b, rtol=1e-13)
    np.testing.assert_allclose(tm.grad(quadratics.outer)(phi, None, task), task.C @ away, rtol=1e-13)
    np.testing.assert_allclose(tm.hessian(quadratics.inner)(phi, None, task), task.A, rtol=1e-12)


# ## Distances
@pytest.mark.parametrize("distribution, mean, deviation", [("uniform", 0.5, np.sqrt(1 / 12)), ("normal", 0, 1)])
def test_the_distributions_of_the_code_and_of_the_paper(distribution, mean, deviation):
    tasks = quadratics.draw_distances(np.random.default_rng(0), 2000, distribution=distribution)
    assert [x.shape for x in tasks] == [(2000, 10, 10), (2000, 10), (2000, 10)]
    for values, center, spread in ((tasks.W, mean, deviation), (tasks.y, mean, deviation), (tasks.phi_0, 0, 0.01)):
        assert abs(values.mean() - center) < 5 * spread / np.sqrt(values.size)
        np.testing.assert_allclose(values.std(), spread, rtol=0.02)
    if distribution == "uniform":
        assert tasks.W.min() >= 0 and tasks.W.max() <= 1
    same, again = (quadratics.draw_distances(np.random.default_rng(5), 2, distribution=distribution) for _ in range(2))
    assert tm.ravel(same)[0].tolist() == tm.ravel(again)[0].tolist()


def test_another_distribution():
    with pytest.raises(ValueError, match=r"distribution='cauchy': choose 'uniform' \(the authors' code\) or 'normal' \(the paper's text\)"):
        quadratics.draw_distances(np.random.default_rng(0), 2, distribution="cauchy")


def test_the_distance_and_its_derivatives():
    task = quadratics.Distance(*(x[0] for x in quadratics.draw_distances(np.random.default_rng(0), 1, 4, distribution="normal")))
    phi = np.arange(4.0)
    residual = [sum(task.W[i, j] * phi[j] for j in range(4)) - task.y[i] for i in range(4)]
    np.testing.assert_allclose(quadratics.distance(phi, None, task), sum(r**2 for r in residual), rtol=1e-13)
    np.testing.assert_allclose(tm.grad(quadratics.distance)(phi, None, task), 2 * task.W.T @ residual, rtol=1e-13)
    assert quadratics.start(None, task) is task.phi_0
