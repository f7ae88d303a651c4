"""The gradient through one step of MAML, for one task and for twenty: in JAX."""

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def loss(phi, x, y):
    return jnp.mean((jnp.tanh(x @ phi["W"] + phi["b"]) @ phi["v"] - y) ** 2)


def after_one_step(theta, support, query):
    g = jax.grad(loss)(theta, *support)
    phi = {name: theta[name] - 0.05 * g[name] for name in theta}
    return loss(phi, *query)


def mean(theta, support, query):
    return jnp.mean(jax.vmap(after_one_step, (None, 0, 0))(theta, support, query))


rng = np.random.default_rng(0)
theta = {"W": rng.normal(size=(1, 4)), "b": rng.normal(size=4), "v": rng.normal(size=4)}
x = rng.uniform(-5, 5, size=(20, 2, 10, 1))
y = rng.uniform(0.1, 5, size=(20, 1, 1)) * jnp.sin(x[..., 0])
one = jax.value_and_grad(after_one_step)(theta, (x[0, 0], y[0, 0]), (x[0, 1], y[0, 1]))
batch = jax.jit(jax.value_and_grad(mean))(theta, (x[:, 0], y[:, 0]), (x[:, 1], y[:, 1]))

for value, gradient in (one, batch):
    numbers = [value, *(element for name in theta for element in gradient[name].ravel())]
    print("\n".join(f"{number:.12f}" for number in numbers))
