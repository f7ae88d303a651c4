"""Lesson 12, Characters: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.experiments import few_shot


@pytest.mark.exercise_12_1
def test_the_experiment_is_that_of_the_ways(student):
    experiment, theta = student("learn_ways")(8)
    outputs = np.shape(theta[-1]["b"])
    assert outputs == (8,), f"for 8 ways the network has the outputs {outputs}: one score for each label"
    assert experiment.evaluation_tasks == 100, f"judged on {experiment.evaluation_tasks} tasks, not on 100: a tuple has `_replace`"
    hint = "0.4 belongs to a loss that is summed over the classes, what does the mean over all images make of it?"
    assert np.isclose(experiment.alpha, 0.4 * 8), f"with 8 ways α is {experiment.alpha:.2g}: {hint}"


@pytest.mark.exercise_12_1
def test_the_training_has_found_the_least_loss_without_adaptation(student):
    experiment, theta = student("learn_ways")(8)
    tasks = experiment.draw_unseen(np.random.default_rng(121), 50)
    scores = [tm.nn.normalised_mlp(theta, x) for x in tasks.query.x]
    loss = np.mean([tm.nn.cross_entropy(z, y) for z, y in zip(scores, tasks.query.y, strict=True)])
    hint = "is it the trained θ, and has `learn` drawn tasks with all of the labels?"
    assert loss < np.log(8) + 0.15, f"without adaptation the loss is {loss:.2f}, by (3) the least is log 8 = {np.log(8):.2f}: {hint}"


@pytest.mark.exercise_12_2
def test_with_the_support_set_s_statistics_the_layer_is_linear(student):
    rng = np.random.default_rng(122)
    support, query = rng.random((6, 9)), rng.random((4, 9))
    phi = [
        {"W": rng.standard_normal((9, 7)), "scale": rng.uniform(0.5, 2, 7), "shift": rng.standard_normal(7)},
        {"W": rng.standard_normal((7, 3)), "b": rng.standard_normal(3)},
    ]
    phi[0]["W"][:, :2] *= 0.01  # there epsilon counts
    found, given = student("scores_without_leak")(phi, support, query), support @ phi[0]["W"]
    factor = phi[0]["scale"] / np.sqrt(np.mean((given - np.mean(given, axis=0)) ** 2, axis=0) + 1e-5)
    linear = [{"W": phi[0]["W"] * factor, "b": phi[0]["shift"] - factor * np.mean(given, axis=0)}, phi[1]]
    alone = np.concatenate([student("scores_without_leak")(phi, support, image[None]) for image in query])
    assert np.allclose(alone, found), "an image asked alone gets other scores: whose mean and variance does it see?"
    hint = "(x W - mean) / sqrt(variance + ε) · scale + shift, with mean and variance of the hidden layer on the support images, by n"
    assert np.allclose(found, tm.nn.mlp(linear, query)), f"the scores differ from those of the linear layer: {hint}"


@pytest.mark.exercise_12_3
def test_the_interval_is_that_of_the_differences(student):
    rng = np.random.default_rng(123)
    for n in (20, 150):
        hard = rng.uniform(0.3, 0.8, n)
        a, b = hard + rng.uniform(0, 0.2, n), hard + rng.uniform(-0.1, 0.1, n)
        mean, half = student("difference")(a, b)
        differences = few_shot.Evaluation((a - b)[:, None])
        assert np.isclose(mean, differences.mean[0]), f"a is better by {differences.mean[0]:.4f}, not by {mean:.4f}"
        hint = "(4) is for one number a task: which one is it here? (And s divides by n - 1, the interval by the root of n.)"
        assert np.isclose(half, differences.confidence[0]), f"half the interval is {differences.confidence[0]:.4f}, not {half:.4f}: {hint}"
