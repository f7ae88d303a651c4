r"""
# The gradient through the unrolled inner loop

MAML (Finn et al. 2017) adapts by a few steps of gradient descent, and differentiates the steps themselves:

$$ \phi_0 = \phi_0(\theta), \qquad \phi_{t+1} = \phi_t - \alpha\, \nabla_\phi L(\phi_t, \theta), \qquad F(\theta) = f(\phi_K, \theta). $$

That gradient descent is an algorithm makes it no less differentiable: each step is a formula in $\phi_t$. What it costs
is memory, for the sweep needs all $\phi_t$, and one Hessian product for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .autodiff import Tensor, grad, stop_gradient, tree, value_and_grad, vjp
from .autodiff.derivatives import inner_product
from .autodiff.reverse import between
from .bilevel import Bilevel, Info, MetaGradient, arrays_out

LearningRate = Any  # a number, an array, a container shaped like phi, or a function of theta that returns one of them


def learning_rates(lr: LearningRate, theta: Any, phi: Any) -> Any:
    """alpha as a tree shaped like phi: a number is the same for all leaves, a function is called with theta.

    >>> learning_rates(0.1, None, {"W": np.ones(2), "b": np.zeros(1)})
    {'W': 0.1, 'b': 0.1}
    """
    alpha = lr(theta) if callable(lr) else lr
    if tree.children(alpha) is None and np.ndim(alpha) == 0:
        return tree.map(lambda _: alpha, phi)
    return tree.map(lambda _, alpha: alpha, phi, alpha)


def inner_steps(
    problem: Bilevel, theta: Any, task: Any, *, steps: int, lr: LearningRate, order: int = 2, truncate: int | None = None
) -> tuple[list[Any], list[Any]]:
    r"""Gradient descent on the inner loss: $\phi_0, \dots, \phi_K$ and the gradients at $\phi_0, \dots, \phi_{K-1}$.

    First order (`order=1`) takes each inner gradient for a constant; `truncate=k`, for k < K, takes $\phi_{K-k}$ for one.

    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2)
    >>> inner_steps(problem, 1.0, None, steps=2, lr=0.25)[0]
    [1.0, np.float64(0.5), np.float64(0.25)]
    """
    _check_steps(steps, order, truncate)
    phi = problem.start(theta, task)
    alpha = learning_rates(lr, theta, phi)
    phis, gradients = [phi], []
    for t in range(steps):
        # $$ g_t = \nabla_\phi L(\phi_t, \theta) $$
        g = grad(problem.inner)(phi, theta, task)
        if order == 1:
            g = stop_gradient(g)
        # $$ \phi_{t+1} = \phi_t - \alpha\, g_t $$
        phi = tree.map(lambda phi, alpha, g: phi - alpha * g, phi, alpha, g)
        if truncate is not None and t + 1 == steps - truncate:
            phi = stop_gradient(phi)
        phis.append(phi)
        gradients.append(g)
    return phis, gradients


def adapt(problem: Bilevel, theta: Any, task: Any, *, steps: int, lr: LearningRate, order: int = 2) -> Any:
    r"""The adapted parameters $\phi_K$; traceable, and differentiable in theta.

    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2)
    >>> adapt(problem, 1.0, None, steps=2, lr=0.25)
    np.float64(0.25)
    """
    return inner_steps(problem, theta, task, steps=steps, lr=lr, order=order)[0][-1]


def objective(problem: Bilevel, *, steps: int, lr: LearningRate, order: int = 2) -> Callable[[Any, Any], Any]:
    r"""$F(\theta; \mathcal T)$ as a function of (theta, task), for training: to be traced, mapped over tasks, differentiated.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - task) ** 2, lambda phi, theta, task: (phi - task) ** 2)
    >>> F = tm.maml.objective(problem, steps=1, lr=0.25)
    >>> mean = lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks))
    >>> tm.value_and_grad(mean)(0.0, np.array([1.0, 3.0]))
    (array(1.25), array(-1.))
    """

    def F(theta: Any, task: Any) -> Any:
        return problem.outer(adapt(problem, theta, task, steps=steps, lr=lr, order=order), theta, task)

    return F


def meta_gradient(
    problem: Bilevel,
    theta: Any,
    task: Any,
    *,
    steps: int,
    lr: LearningRate,
    order: int = 2,
    by: str = "graph",
    truncate: int | None = None,
) -> MetaGradient:
    r"""$dF/d\theta$ for one task, through `steps` steps of gradient descent.

    Parameters
    ----------
    problem : the inner and outer loss, and where the adaptation starts
    theta, task : nested containers of arrays
    steps : K, the number of inner steps
    lr : alpha: a number, an array or container shaped like phi (Meta-SGD), or a function of theta that returns one
    order : 2 is the gradient; 1 drops the second derivatives (FOMAML), and is *not* the gradient of F
    by : "graph" sweeps over the unrolled graph; "recursion" runs the adjoint recursion that is derived below
    truncate : differentiate the last so many steps only, and take what was before for a constant

    Returns
    -------
    MetaGradient (value, grad, phi, info); info has `inner_losses` (before each step and at the end), `hessian_products`,
    and `nodes`, how many graph nodes were kept for the sweep (for the recursion: in the largest of its small graphs).

    Raises ValueError for a number of steps, an order or a truncation that makes no sense.

    Source: Finn, Abbeel & Levine, Model-agnostic meta-learning (2017), eq. 1; the recursion as in Franceschi et al.,
    Forward and reverse gradient-based hyperparameter optimization (2017), section 3.1.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: (phi - 1) ** 2)
    >>> tm.maml.meta_gradient(problem, 3.0, None, steps=1, lr=0.25).grad  # phi = 1.5, dphi/dtheta = 0.5
    array(0.5)
    """
    methods = {"graph": _by_graph, "recursion": _by_recursion}
    if by not in methods:
        raise ValueError(f"by={by!r}: choose 'graph' or 'recursion'")
    _check_steps(steps, order, truncate)
    return methods[by](problem, theta, task, steps, lr, order, truncate)


# ## By the graph
# Write F down as a function of theta, and let the engine differentiate it. The inner gradients are part of the graph, as
# nodes like any others, and the sweep goes through them.
def _by_graph(problem: Bilevel, theta: Any, task: Any, steps: int, lr: LearningRate, order: int, truncate: int | None) -> MetaGradient:
    def F(theta: Any) -> tuple[Any, Any]:
        phis, _ = inner_steps(problem, theta, task, steps=steps, lr=lr, order=order, truncate=truncate)
        value = problem.outer(phis[-1], theta, task)
        return value, (phis, _graph_size(value, theta))

    (value, (phis, nodes)), gradient = value_and_grad(F, has_aux=True)(theta)
    products = (steps if truncate is None else min(steps, truncate)) if order == 2 else 0
    return MetaGradient(value, gradient, phis[-1], _info(problem, phis, theta, task, products, nodes))


# ## By the recursion
# Let $\lambda_t = (d F / d \phi_t)$, the change of F if $\phi_t$ were moved and all later steps made as before. A step is
# $\phi_{t+1} = \phi_t - \alpha\, g_t$ with $g_t = \nabla_\phi L(\phi_t, \theta)$, so
# $$ d\phi_{t+1} = d\phi_t - \alpha\,(H_t\, d\phi_t + M_t\, d\theta) - g_t\, d\alpha, \qquad
#    H_t = \nabla^2_{\phi\phi} L, \quad M_t = \nabla^2_{\phi\theta} L, $$
# and pairing this with $\lambda_{t+1}$ gives what each of the three receives:
# $$ \lambda_t = \lambda_{t+1} - H_t\,(\alpha \lambda_{t+1}), \qquad \bar\theta \mathrel{-}= M_t^\top (\alpha \lambda_{t+1}), \qquad
#    \bar\alpha \mathrel{-}= g_t\, \lambda_{t+1}. $$
# For a number alpha the first is $(I - \alpha H_t)\,\lambda_{t+1}$. No matrix is formed: both products are the gradient of the
# scalar $\langle \nabla_\phi L(\phi, \theta), \alpha \lambda_{t+1} \rangle$, with respect to $\phi$ and to $\theta$.
def _by_recursion(problem: Bilevel, theta: Any, task: Any, steps: int, lr: LearningRate, order: int, truncate: int | None) -> MetaGradient:
    phis, gradients = inner_steps(problem, theta, task, steps=steps, lr=lr)
    alpha = learning_rates(lr, theta, phis[0])
    # $$ \lambda_K = \frac{\partial f}{\partial \phi}(\phi_K, \theta), \qquad
    #    \bar\theta = \frac{\partial f}{\partial \theta}(\phi_K, \theta), \qquad \bar\alpha = 0 $$
    value, (lambda_, theta_bar) = value_and_grad(problem.outer, argnums=(0, 1))(phis[-1], theta, task)
    alpha_bar = tree.map(np.zeros_like, phis[-1])
    products = nodes = 0
    swept = steps if truncate is None else min(steps, truncate)
    for phi, g in list(zip(phis, gradients, strict=False))[::-1][:swept]:
        alpha_bar = tree.map(lambda alpha_bar, g, lambda_: alpha_bar - g * lambda_, alpha_bar, g, lambda_)
        if order == 2:
            scaled = tree.map(lambda alpha, lambda_: alpha * lambda_, alpha, lambda_)
            (H_product, M_product), size = _second_derivative_products(problem, phi, theta, task, scaled)
            lambda_ = tree.map(lambda lambda_, product: lambda_ - product, lambda_, H_product)
            theta_bar = tree.map(lambda theta_bar, product: theta_bar - product, theta_bar, M_product)
            products, nodes = products + 1, max(nodes, size)
    if swept < steps:
        lambda_ = tree.map(np.zeros_like, lambda_)  # phi_{K-k} is a constant: nothing reaches the start
    # The start and the learning rates may depend on theta: one pullback each.
    _, pullback = vjp(lambda theta: _start_and_rates(problem, theta, task, lr), theta)
    theta_bar = tree.map(lambda theta_bar, rest: theta_bar + rest, theta_bar, pullback((lambda_, alpha_bar))[0])
    return arrays_out(MetaGradient(value, theta_bar, phis[-1], _info(problem, phis, theta, task, products, nodes)))


def _second_derivative_products(problem: Bilevel, phi: Any, theta: Any, task: Any, v: Any) -> tuple[tuple[Any, Any], int]:
    r"""$(H v, M^\top v)$, and the number of graph nodes that it took."""

    def slope(phi: Any, theta: Any) -> tuple[Any, int]:
        value = inner_product(grad(problem.inner)(phi, theta, task), v)
        return value, _graph_size(value, (phi, theta))

    return grad(slope, argnums=(0, 1), has_aux=True)(phi, theta)


def _start_and_rates(problem: Bilevel, theta: Any, task: Any, lr: LearningRate) -> tuple[Any, Any]:
    phi = problem.start(theta, task)
    return phi, tree.map(lambda phi, alpha: alpha * np.ones_like(phi), phi, learning_rates(lr, theta, phi))


def _graph_size(value: Any, inputs: Any) -> int:
    """How many nodes the sweep from a value to these inputs has to keep."""
    return len(between([value], tree.flatten(inputs)[0])) if isinstance(value, Tensor) else 0


def _info(problem: Bilevel, phis: list[Any], theta: Any, task: Any, products: int, nodes: int) -> Info:
    return Info(
        inner_losses=lambda: [float(problem.inner(phi, theta, task)) for phi in phis],
        hessian_products=products,
        nodes=nodes,
    )


def _check_steps(steps: int, order: int, truncate: int | None) -> None:
    if not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"steps={steps!r}: the number of inner steps is an integer, 0 or more")
    if order not in (1, 2):
        raise ValueError(f"order={order!r}: 2 is the gradient, 1 drops the second derivatives")
    if truncate is not None and (not isinstance(truncate, (int, np.integer)) or truncate < 0):
        raise ValueError(f"truncate={truncate!r}: the number of last steps to differentiate is an integer, 0 or more; None for all")
