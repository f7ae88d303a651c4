"""The gradient through one step of MAML, for one task and for twenty: in tinymeta."""

import numpy as np

import tinymeta as tm


def loss(phi, x, y):
    return np.mean((np.tanh(x @ phi["W"] + phi["b"]) @ phi["v"] - y) ** 2)


def after_one_step(theta, support, query):
    g = tm.grad(loss)(theta, *support)
    phi = {name: theta[name] - 0.05 * g[name] for name in theta}
    return loss(phi, *query)


def mean(theta, support, query):
    return np.mean(tm.vmap(after_one_step, (None, 0, 0))(theta, support, query))


rng = np.random.default_rng(0)
theta = {"W": rng.normal(size=(1, 4)), "b": rng.normal(size=4), "v": rng.normal(size=4)}
x = rng.uniform(-5, 5, size=(20, 2, 10, 1))
y = rng.uniform(0.1, 5, size=(20, 1, 1)) * np.sin(x[..., 0])
one = tm.value_and_grad(after_one_step)(theta, (x[0, 0], y[0, 0]), (x[0, 1], y[0, 1]))
batch = tm.jit(tm.value_and_grad(mean))(theta, (x[:, 0], y[:, 0]), (x[:, 1], y[:, 1]))

for value, gradient in (one, batch):
    numbers = [value, *(element for name in theta for element in gradient[name].ravel())]
    print("\n".join(f"{number:.12f}" for number in numbers))
