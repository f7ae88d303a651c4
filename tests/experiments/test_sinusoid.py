"""The sinusoid experiment: the paper's numbers, and an evaluation that is what a loop would give."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import maml, nn
from tinymeta.experiments import few_shot, sinusoid
from tinymeta.tasks import Data, Task, sinusoids


def test_the_configuration_is_the_papers():
    expected = {"network": [1, 40, 40, 1], "activation": "relu", "alpha": 0.01, "inner_steps": 1, "support_points": 10, "query_points": 10,
                "meta_batch": 25, "optimizer": "adam", "learning_rate": 1e-3, "evaluation_tasks": 600, "evaluation_support_points": 5,
                "evaluation_steps": 10}  # fmt: skip
    assert {key: sinusoid.CONFIGURATION[key] for key in expected} == expected


def test_the_network_before_training():
    theta = sinusoid.initial_parameters(3)
    assert [(layer["W"].shape, layer["b"].shape) for layer in theta] == [((1, 40), (40,)), ((40, 40), (40,)), ((40, 1), (1,))]
    assert all(np.abs(layer["W"]).max() <= 0.02 and not layer["b"].any() for layer in theta)
    same, other = (tm.ravel(sinusoid.initial_parameters(seed))[0] for seed in (3, 4))
    assert tm.ravel(theta)[0].tolist() == same.tolist() and np.mean(same != other) > 0.9


def test_the_losses_are_means_of_squares_on_their_own_points():
    theta = nn.initialize_mlp(np.random.default_rng(0), (1, 5, 1))
    task = Task(Data(np.array([[1.0], [2.0]]), np.array([[0.5], [-0.5]])), Data(np.array([[3.0]]), np.array([[1.0]])))
    predict = lambda x: nn.mlp(theta, np.array([[x]]), tm.relu).item()
    np.testing.assert_allclose(sinusoid.support_loss(theta, None, task), ((predict(1.0) - 0.5) ** 2 + (predict(2.0) + 0.5) ** 2) / 2)
    np.testing.assert_allclose(sinusoid.query_loss(theta, None, task), (predict(3.0) - 1) ** 2)


# ## Training
@pytest.mark.parametrize("train", [sinusoid.train_maml, sinusoid.pretrain])
def test_training_depends_on_the_seed_alone(train):
    one, again, other = (train(seed, 3, quiet=True) for seed in (0, 0, 1))
    assert tm.ravel(one.theta)[0].tobytes() == tm.ravel(again.theta)[0].tobytes() and one.losses.tolist() == again.losses.tolist()
    assert len(one.losses) == 3 and not np.any(one.losses == other.losses)


@pytest.mark.parametrize("train", [sinusoid.train_maml, sinusoid.pretrain])
def test_the_first_loss_is_that_of_the_network_before_training(train):
    """MAML's is the query loss after one step, the pretrained network's the loss on all points, on the same 25 tasks."""
    theta = sinusoid.initial_parameters(3)
    batch = sinusoids.draw(np.random.default_rng((3, 1)), 25, 10, 10)
    losses = []
    for i in range(25):
        task = tm.tree.map(lambda x: x[i], batch)  # noqa: B023 - used at once
        if train is sinusoid.train_maml:
            phi = maml.adapt(sinusoid.PROBLEM, theta, task, steps=1, lr=0.01)
            losses.append(sinusoid.query_loss(phi, None, task))
        else:
            x, y = (np.concatenate([task.support[k], task.query[k]]) for k in (0, 1))
            losses.append(np.mean((nn.mlp(theta, x) - y) ** 2))
    np.testing.assert_allclose(train(3, 1, quiet=True).losses, [np.mean(losses)], rtol=1e-13)


# ## Evaluation
@pytest.fixture(scope="module")
def theta():
    return nn.initialize_mlp(np.random.default_rng(0), sinusoid.CONFIGURATION["network"])


@pytest.fixture(scope="module")
def evaluation(theta):
    return sinusoid.evaluate(theta, seed=0)


def test_the_evaluation_is_what_a_loop_gives(theta, evaluation):
    tasks = sinusoids.draw(np.random.default_rng((0, 2)), 600, 5, 100)
    assert evaluation.errors.shape == (600, 11)
    for i in (0, 1, 599):
        task, phi = tm.tree.map(lambda x: x[i], tasks), theta  # noqa: B023 - used at once
        for k in range(11):
            np.testing.assert_allclose(evaluation.errors[i, k], sinusoid.query_loss(phi, None, task), rtol=1e-12)
            g = tm.grad(lambda phi: nn.mean_squared_error(nn.mlp(phi, task.support.x), task.support.y))(phi)  # noqa: B023
            phi = tm.tree.map(lambda phi, g: phi - 0.01 * g, phi, g)


def test_another_seed_evaluates_on_other_tasks(theta, evaluation):
    assert not np.any(sinusoid.evaluate(theta, seed=1).errors == evaluation.errors)


def test_evaluation_tasks_are_not_training_tasks():
    streams = [np.random.default_rng(seed).random(100) for seed in ((0, 1), (0, 2), (0, 3), 0)]
    assert len(np.unique(streams)) == 400


def test_the_mean_and_its_confidence():
    errors = np.random.default_rng(0).exponential(2.0, (400, 3))
    evaluation = few_shot.Evaluation(errors)
    np.testing.assert_allclose(evaluation.mean, np.sum(errors, axis=0) / 400)
    deviation = np.sqrt(np.sum((errors - evaluation.mean) ** 2, axis=0) / 399)
    np.testing.assert_allclose(evaluation.confidence, 1.96 * deviation / 20)


def test_adaptation_lists_the_parameters_after_each_step(theta):
    task, _ = sinusoid.example_task(0)
    phis = sinusoid.adaptation(theta, task)
    assert len(phis) == 11 and phis[0] is theta
    last = maml.adapt(sinusoid.PROBLEM, theta, task, steps=10, lr=0.01)
    np.testing.assert_allclose(tm.ravel(phis[-1])[0], tm.ravel(last)[0], rtol=1e-14)


def test_the_example():
    task, truth = sinusoid.example_task(0)
    assert task.support.x.shape == (5, 1) and truth.x.shape == truth.y.shape == (200, 1)
    assert np.floor((task.support.x[:, 0] + 5) / 2).tolist() == [0, 1, 2, 3, 4]  # a point in each fifth
    assert truth.x[[0, -1], 0].tolist() == [-5, 5] and task.query.y.tolist() == truth.y.tolist()
    # The points lie on the wave: A sin(x - p) = a sin x + b cos x.
    features = lambda x: np.hstack([np.sin(x), np.cos(x)])
    coefficients = np.linalg.lstsq(features(truth.x), truth.y, rcond=None)[0]
    np.testing.assert_allclose(features(task.support.x) @ coefficients, task.support.y, atol=1e-12)
    assert sinusoid.example_task(0)[0].support.x.tolist() == task.support.x.tolist() != sinusoid.example_task(1)[0].support.x.tolist()


def test_the_table():
    errors = np.zeros((100, 11))
    errors[:, 1] = np.tile([1.0, 3.0], 50)
    lines = few_shot.table({"MAML": few_shot.Evaluation(errors)}, steps=(0, 1)).splitlines()
    assert lines == ["inner steps                0              1", "MAML           0.000 ± 0.000  2.000 ± 0.197"]
