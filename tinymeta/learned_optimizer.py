r"""
# An optimizer that is learned

Gradient descent is one update rule; a small recurrent network can learn another. Its weights are the meta-parameters
$\theta$; what it updates are the task's parameters $\phi$. In each step it is shown where it stands, the loss, and the gradient:

$$ g_t = \nabla_\phi L(\phi_t), \qquad (\Delta\phi_t, s_{t+1}) = U_\theta(\phi_t, L_t, g_t, s_t), \qquad
   \phi_{t+1} = \phi_t - \Delta\phi_t. $$

$U_\theta$ is *coordinatewise*: LSTM layers, one upon the other, with the same weights for every coordinate of $\phi$, each coordinate
with a state of its own. So it can be applied to any number of parameters. It is trained on the query loss after the steps on the
support set,

$$ F(\theta) = f(\phi_K(\theta)), $$

and $\phi_K$ depends on $\theta$ along two ways: through each update that the network computed, and through the gradients that it
was shown, because $g_t$ depends on $\phi_t$, which depends on all earlier updates. The second way brings the inner Hessian:
$dg_t = H_t\, d\phi_t$. Andrychowicz et al. drop it, which is cheaper, and is not the gradient of F. Here one has to say which.

(Sources: Andrychowicz et al., Learning to learn by gradient descent by gradient descent, 2016; Ravi & Larochelle,
Optimization as a model for few-shot learning, 2017.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import nn
from .autodiff import Tensor, ravel, stop_gradient, tree, value_and_grad
from .autodiff.reverse import between
from .bilevel import Bilevel, Info, MetaGradient

State = list[tuple[Any, Any]]  # (h, c) of each layer
OUTPUT_SCALE = 0.1  # of the update, so that an untrained network does little harm


def initialize(rng: np.random.Generator, hidden: int = 20, layers: int = 2) -> dict[str, Any]:
    """Weights of the update rule: LSTM layers of `hidden` units, the first with 3 inputs (phi, L, g), and a linear output.

    >>> [layer["W"].shape for layer in initialize(np.random.default_rng(0))["lstm"]]
    [(23, 80), (40, 80)]
    """
    inputs = [3] + [hidden] * (layers - 1)
    return {"lstm": [nn.initialize_lstm(rng, n, hidden) for n in inputs], "output": nn.initialize_mlp(rng, (hidden, 1))[0]}


def initial_state(theta: Any, phi: Any) -> State:
    """(h, c) of each layer, all zero, of shape (n, hidden) for phi of shape (n,).

    >>> [(h.shape, c.shape) for h, c in initial_state(initialize(np.random.default_rng(0)), np.ones(5))]
    [((5, 20), (5, 20)), ((5, 20), (5, 20))]
    """
    zero = np.zeros((np.size(phi), np.shape(theta["output"]["W"])[0]), phi.dtype)
    return [(zero, zero) for _ in theta["lstm"]]


def update(theta: Any, phi: Any, loss: Any, g: Any, state: State) -> tuple[Any, State]:
    r"""$U_\theta$: the update $\Delta\phi$ of shape (n,) and the new state, from phi and g of shape (n,) and a scalar loss.

    >>> theta = initialize(np.random.default_rng(0))
    >>> phi = np.ones(5)
    >>> delta, state = update(theta, phi, 1.0, phi, initial_state(theta, phi))
    >>> delta.shape
    (5,)
    """
    # One row for each coordinate i: $x_i = (\phi_i, L, g_i)$.
    x = np.stack([phi, loss * np.ones_like(phi), g], axis=1)
    # Layer by layer, each sees what the one below it puts out, $x \leftarrow h'$:
    # $$ (h', c') = \mathrm{LSTM}_\theta(x, (h, c)) $$
    new_state = []
    for layer, (h, c) in zip(theta["lstm"], state, strict=True):
        x, c = nn.lstm_cell(layer, x, (h, c))
        new_state.append((x, c))
    # $$ \Delta\phi = 0.1\,(h' w + b) $$
    delta = OUTPUT_SCALE * (x @ theta["output"]["W"] + theta["output"]["b"])
    return delta[:, 0], new_state


def unroll(theta: Any, loss: Callable[[Any], Any], phi: Any, *, steps: int, second_derivatives: bool) -> tuple[Any, list[Any]]:
    r"""Let the network optimise: $\phi_K$, and the losses $L_0, \dots, L_{K-1}$ on the way.

    Parameters
    ----------
    theta : the network's weights, from `initialize`
    loss : scalar function of phi
    phi : where to start, nested containers
    steps : K
    second_derivatives : whether a derivative with respect to theta goes through the gradients g_t as well

    Example
    -------
    >>> theta = initialize(np.random.default_rng(0))
    >>> phi, losses = unroll(theta, lambda phi: np.sum(phi**2), np.ones(5), steps=3, second_derivatives=True)
    >>> len(losses)
    3
    """
    vector, phi_tree = ravel(phi)
    state = initial_state(theta, vector)
    losses = []
    for _ in range(steps):
        # $$ L_t = L(\phi_t), \qquad g_t = \nabla L(\phi_t) $$
        value, g = value_and_grad(lambda phi: loss(phi_tree(phi)))(vector)
        seen, g = (value, g) if second_derivatives else stop_gradient((value, g))
        # $$ \phi_{t+1} = \phi_t - \Delta\phi_t $$
        delta, state = update(theta, vector, seen, g, state)
        vector = vector - delta
        losses.append(value)
    return phi_tree(vector), losses


def objective(problem: Bilevel, *, steps: int, second_derivatives: bool) -> Callable[[Any, Any], Any]:
    r"""$F(\theta; \mathcal T)$ as a function of (theta, task), for training: to be traced, mapped, differentiated.

    theta are the network's weights; `problem.init` says where phi starts.

    >>> problem = Bilevel(lambda phi, theta, task: np.sum((phi - task) ** 2), lambda phi, theta, task: np.sum((phi - task) ** 2),
    ...                   init=lambda theta, task: np.zeros(2))
    >>> F = objective(problem, steps=2, second_derivatives=True)
    >>> bool(F(initialize(np.random.default_rng(0)), np.ones(2)) > 0)
    True
    """

    def F(theta: Any, task: Any) -> Any:
        return problem.outer(_adapted(problem, theta, task, steps, second_derivatives)[0], theta, task)

    return F


def _adapted(problem: Bilevel, theta: Any, task: Any, steps: int, second_derivatives: bool) -> tuple[Any, list[Any]]:
    if problem.init is None:
        raise ValueError("theta are the weights of the optimizer here, so the problem must say where phi starts: "
                         "tm.Bilevel(inner, outer, init=lambda theta, task: phi_0)")  # fmt: skip
    phi = problem.start(theta, task)
    return unroll(theta, lambda phi: problem.inner(phi, theta, task), phi, steps=steps, second_derivatives=second_derivatives)


def meta_gradient(problem: Bilevel, theta: Any, task: Any, *, steps: int, second_derivatives: bool) -> MetaGradient:
    r"""$dF/d\theta$ of the network's weights for one task, through `steps` steps of it, by the unrolled graph.

    Parameters
    ----------
    problem : inner and outer loss, and `init`, where phi starts
    theta : weights, from `initialize`
    task : nested containers of arrays
    steps : K, the number of updates
    second_derivatives : True is the gradient; False drops $d g_t / d\phi_t$, and is *not* the gradient of F

    Returns
    -------
    MetaGradient (value, grad, phi, info); info has `inner_losses` (before each step) and `nodes` (graph nodes kept).

    Raises ValueError if the problem doesn't say where phi starts.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: np.sum(phi**2), lambda phi, theta, task: np.sum(phi**2),
    ...                      init=lambda theta, task: np.ones(2))
    >>> weights = tm.learned_optimizer.initialize(np.random.default_rng(0))
    >>> result = tm.learned_optimizer.meta_gradient(problem, weights, None, steps=3, second_derivatives=True)
    >>> result.grad["output"]["W"].shape
    (20, 1)
    """

    def F(theta: Any) -> tuple[Any, Any]:
        phi, losses = _adapted(problem, theta, task, steps, second_derivatives)
        value = problem.outer(phi, theta, task)
        nodes = len(between([value], tree.flatten(theta)[0])) if isinstance(value, Tensor) else 0
        return value, (phi, losses, nodes)

    (value, (phi, losses, nodes)), gradient = value_and_grad(F, has_aux=True)(theta)
    return MetaGradient(value, gradient, phi, Info(inner_losses=[float(loss) for loss in losses], nodes=nodes))
