"""What the tests of the inner loop share: a quadratic with its closed form, a network with everything nested, the ways to a gradient."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.tasks import quadratics, sinusoids

N, STEPS, ALPHA = 6, 5, 0.3
rng = np.random.default_rng(0)
TASK = quadratics.draw(rng, N)
THETA, IDENTITY = rng.standard_normal(N), np.eye(N)
E0 = THETA - np.linalg.solve(TASK.A, TASK.b)  # how far the start is from the minimum
QUADRATIC = tm.Bilevel(quadratics.inner, quadratics.outer)
WAYS = {"graph": {}, "checkpointed graph": {"checkpoint": True}, "recursion": {"by": "recursion"}, "forward": {"by": "forward"}}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def outer_gradient(phi):
    return TASK.C @ (phi - TASK.d)


def power(k):
    return np.linalg.matrix_power(IDENTITY - ALPHA * TASK.A, k)


def adapted(k):
    return THETA - E0 + power(k) @ E0


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## Nested containers, everything at once
def nested_problem():
    """phi is nested and starts at a function of theta; both losses depend on theta as well."""

    def inner(phi, theta, task):
        prediction = tm.nn.mlp(phi["layers"], task.support.x, np.tanh) * phi["scale"]
        return tm.nn.mean_squared_error(prediction, task.support.y) + np.exp(theta["log_decay"]) * np.sum(phi["layers"][0]["W"] ** 2)

    def outer(phi, theta, task):
        prediction = tm.nn.mlp(phi["layers"], task.query.x, np.tanh) * phi["scale"]
        return tm.nn.mean_squared_error(prediction, task.query.y) + 0.1 * np.sum(theta["log_decay"] ** 2) + phi["scale"] * theta["rate"][0]

    return tm.Bilevel(inner, outer, init=lambda theta, task: {"layers": theta["layers"], "scale": 1 + theta["log_decay"] ** 2})


def nested_theta():
    generator = np.random.default_rng(1)
    return {"layers": tm.nn.initialize_mlp(generator, (1, 4, 1)), "log_decay": np.array(-1.5), "rate": np.array([-3.5, -4.0])}


def nested_rate(theta):
    """A rate for each layer, and one for the scale, from two numbers: a container shaped like phi."""
    slow, fast = np.exp(theta["rate"][1]), np.exp(theta["rate"][0])
    return {"layers": [{"W": slow, "b": fast}, {"W": fast, "b": fast}], "scale": slow}


SINUSOID = tm.tree.map(lambda x: x[0], sinusoids.draw(np.random.default_rng(2), 1))
