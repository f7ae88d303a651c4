"""Lesson 11, Few-shot sinusoids: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.experiments import sinusoid
from tinymeta.tasks import sinusoids


def pairs(task, i):
    """The points (x, y) of a set of the batch's task i, in order."""
    return sorted(zip(task.x[i].ravel().tolist(), task.y[i].ravel().tolist(), strict=True))


@pytest.mark.exercise_11_1
def test_the_query_points_are_among_those_given(student):
    tasks = sinusoids.draw(np.random.default_rng(111), 4, support=3, query=7)
    leaking = student("leak")(tasks)
    shape = np.shape(leaking.support.x)
    assert shape == (4, 10, 1), f"of 4 tasks with 3 and 7 points the support has the shape {shape}: join along the axis of the points"
    for i in range(4):
        hint = "each x keeps its y, and each task its points, the given ones as well"
        assert pairs(leaking.support, i) == sorted(pairs(tasks.support, i) + pairs(tasks.query, i)), f"other points are given: {hint}"
        assert pairs(leaking.query, i) == pairs(tasks.query, i), "other points are asked: the leak changes what is given alone"


@pytest.mark.exercise_11_2
def test_the_errors_are_those_of_the_rate(student):
    """Of a network of zeros only the last bias moves, towards the mean y given: b_k = mean(y) (1 - (1 - 2 alpha)^k)."""
    zeros = tm.tree.map(np.zeros_like, sinusoid.initial_parameters(0))
    waves = sinusoid.experiment().draw_unseen(np.random.default_rng((0, 2)), 600)  # those that `evaluate` takes, for seed 0
    mean = np.mean(waves.support.y, axis=1, keepdims=True)
    for alpha in (0.05, 0.3):
        found = student("errors_at")(alpha, zeros)
        assert np.shape(found) == (6,), f"0 to 5 steps are six numbers, the means over the waves, not an array of {np.shape(found)}"
        errors = [np.mean((mean * (1 - (1 - 2 * alpha) ** k) - waves.query.y) ** 2) for k in range(6)]
        hint = "is it this α that adapts, this θ that is adapted, and the mean over the 600 waves of seed 0? (A tuple doesn't change.)"
        assert np.allclose(found, errors), f"with α = {alpha} a network of zeros has the errors {np.round(errors, 4)}, not {found}: {hint}"


@pytest.mark.exercise_11_3
def test_the_sum_makes_the_same_step(student):
    theta, alpha = 0.7, 0.03
    for points in (1, 4, 20):
        x, y = np.random.default_rng(points).standard_normal((2, points))
        slopes = 2 * (theta * x - y) * x  # of each square (theta x - y)^2
        ours, hers = alpha * np.mean(slopes), student("rate_for_the_sum")(alpha, points) * np.sum(slopes)
        hint = "by what factor is the sum, and so its gradient, larger than the mean?"
        assert np.isclose(ours, hers), f"with {points} points her step is {hers / ours:.3g} times ours: {hint}"
