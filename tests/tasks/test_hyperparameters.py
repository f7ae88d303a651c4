"""Regressions with a strength for each weight: what the data follow, the losses as loops, and that the strengths matter."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit
from tinymeta.tasks import hyperparameters as h

LINEAR, LOGISTIC = tm.Bilevel(h.linear_inner, h.linear_outer, h.start), tm.Bilevel(h.logistic_inner, h.logistic_outer, h.start)
BOTH = pytest.mark.parametrize("draw, problem", [(h.draw_linear, LINEAR), (h.draw_logistic, LOGISTIC)])


# ## Data
@BOTH
def test_shapes_halves_and_seeds(draw, problem):
    task = draw(np.random.default_rng(0))
    assert [part.shape for data in task for part in data] == [(500, 20), (500,)] * 2
    assert [part.shape for data in draw(np.random.default_rng(0), n=31, d=4) for part in data] == [(15, 4), (15,), (16, 4), (16,)]
    same, again, other = (tm.ravel(draw(np.random.default_rng(seed), 10, 6))[0] for seed in (0, 0, 1))
    assert same.tolist() == again.tolist() != other.tolist()
    assert not np.isin(task.support.x, task.query.x).any()
    assert problem.start(None, task).tolist() == [0] * 20


def test_the_targets_are_the_relevant_features_and_noise():
    (x, y), _ = h.draw_linear(np.random.default_rng(0), n=40_000, d=5, relevant=2)
    noise = y - x[:, 0] - x[:, 1]
    np.testing.assert_allclose(np.corrcoef(np.column_stack([x, noise]).T), np.eye(6), atol=0.03)
    np.testing.assert_allclose([noise.mean(), noise.std(), x.mean(), x.std()], [0, 1, 0, 1], atol=0.02)


def test_the_labels_follow_the_logistic_model():
    (x, y), _ = h.draw_logistic(np.random.default_rng(0), n=80_000, d=4, relevant=2)
    s = 3 * (x[:, 0] + x[:, 1])
    assert set(y) == {-1, 1}
    for low in (-4, -2, -0.5, 1, 3):
        chosen = (s > low) & (s < low + 0.5)
        np.testing.assert_allclose(np.mean(y[chosen] == 1), 1 / (1 + np.exp(-(low + 0.25))), atol=0.04)


# ## Losses
@BOTH
def test_the_losses_are_those_of_a_loop(draw, problem):
    task = draw(np.random.default_rng(0), n=10, d=3, relevant=2)
    w, theta = np.array([0.3, -0.7, 1.1]), np.array([0.1, -2.0, 0.5])
    one = {LINEAR: lambda s, y: 0.5 * (s - y) ** 2, LOGISTIC: lambda s, y: np.log(1 + np.exp(-y * s))}[problem]
    fit = [sum(one(sum(x[j] * w[j] for j in range(3)), y) for x, y in zip(*data, strict=True)) / 5 for data in task]
    penalty = sum(0.5 * np.exp(theta[j]) * w[j] ** 2 for j in range(3))
    np.testing.assert_allclose(problem.inner(w, theta, task), fit[0] + penalty, rtol=1e-13)
    np.testing.assert_allclose(problem.outer(w, theta, task), fit[1], rtol=1e-13)
    assert tm.check_grad(lambda w, theta: problem.inner(w, theta, task), w, theta) and tm.check_grad(problem.outer, w, None, task)


@BOTH
def test_holding_what_does_not_matter_halves_the_validation_loss(draw, problem):
    """From a strength of 1 for all, and without any strength it is worse as well."""
    task = draw(np.random.default_rng(0))
    validation = lambda theta: problem.outer(implicit.solve_inner(problem, theta, task), theta, task)
    relevant = np.arange(20) < 5
    chosen = validation(np.where(relevant, -8.0, 4.0))
    assert chosen < 0.5 * validation(np.zeros(20)) and chosen < validation(np.full(20, -20.0))
    gradient = implicit.meta_gradient(problem, np.zeros(20), task).grad
    assert np.all(gradient[relevant] > 0) and np.all(np.abs(gradient[~relevant]) < 0.1 * gradient[relevant].min())


def test_the_strengths_can_be_learned_on_the_machine():
    """A few steps of Adam along the implicit gradient, through the same functions traced."""
    task = h.draw_logistic(np.random.default_rng(0), n=200)
    F = tm.jit(tm.value_and_grad(tm.maml.objective(LOGISTIC, steps=20, lr=0.5)))
    theta, optimizer = np.zeros(20), tm.optim.adam(0.1)
    state, values = optimizer.init(theta), []
    for _ in range(40):
        value, gradient = F(theta, task)
        values.append(value)
        theta, state = optimizer.update(theta, gradient, state)
    assert values[-1] < 0.7 * values[0] and theta[:5].max() < theta[5:].mean()
