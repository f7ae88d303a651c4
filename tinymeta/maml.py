r"""
# The gradient through the unrolled inner loop

MAML (Finn et al. 2017) adapts by a few steps of gradient descent, and differentiates the steps themselves:

$$ \phi_0 = \phi_0(\theta), \qquad \phi_{t+1} = \phi_t - \alpha\, \nabla_\phi L(\phi_t, \theta), \qquad F(\theta) = f(\phi_K, \theta). $$

That gradient descent is an algorithm makes it no less differentiable: each step is a formula in $\phi_t$. Any other update
will do, if it is one. Let $z_t = (\phi_t, s_t)$ be the parameters and the optimizer's state (for momentum, the velocity). Then

$$ g_t = \nabla_\phi L(\phi_t, \theta), \qquad z_{t+1} = \Phi(z_t, g_t, \alpha_t), $$

and for gradient descent $\Phi(\phi, g, \alpha) = \phi - \alpha g$. The chain rule can be followed in three ways:

- `by="graph"`: backwards, by the engine, through the graph of all steps. What it costs is memory, for the sweep needs the inside of
  every step. `checkpoint=True` keeps the inside of one segment of $\sqrt K$ steps at a time, and computes each anew;
- `by="recursion"`: backwards, by hand, one step at a time: it keeps the $z_t$, and the graph of a single step;
- `by="forward"`: forwards, by hand, beside the steps: it keeps nothing, and pays for each number in $\theta$.

All are the same gradient. What is something else, and cheaper, is told apart by name: `order=1` (FOMAML), `truncate`, `reptile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arguments import check_array, check_choice, check_count, check_flag, check_function
from .autodiff import Tensor, checkpoint, grad, jvp, ravel, stop_gradient, tree, value_and_grad, vjp
from .autodiff.derivatives import inner_product
from .bilevel import (
    Bilevel,
    Info,
    MetaGradient,
    arrays_out,
    check_problem,
    floats,
    graph_size,
    is_finite,
    merged,
    second_derivative_products,
    started,
    with_gradient,
)
from .optim import Optimizer, PerStep, check_per_step, check_rates, floats_of, rate_at, sgd

LearningRate = Any  # a number, a container shaped like phi, one of them for each step, or a function of theta that returns one of these

Swept = tuple[Any, Any, Any, int]  # F, its gradient, phi_K, and the number of nodes kept


# ## The inner loop
@dataclass(frozen=True)
class InnerLoop:
    """The inner loop on one task, and how it is differentiated: the options of `meta_gradient`, checked."""

    problem: Bilevel
    task: Any
    steps: int
    lr: LearningRate
    update: Callable[[Any], Optimizer] = sgd
    order: int = 2
    truncate: int | None = None
    checkpoint: bool = False
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_problem(self.problem)
        check_count("steps", self.steps, of="the number of inner steps")
        if not callable(self.lr):
            check_rates(self.lr, self.steps)
        check_function("update", self.update, "a function from learning rates to an Optimizer: write update=tm.optim.adam, lr=0.1, "
                                              "not update=tm.optim.adam(0.1)", 1)  # fmt: skip
        check_choice("order", self.order, (1, 2), of="2 is the gradient, 1 drops the second derivatives")
        if self.truncate is not None:
            check_count("truncate", self.truncate, of="the number of last steps to differentiate; None for all")
        check_flag("checkpoint", self.checkpoint)
        if self.weights is not None:
            check_array("weights", self.weights, (self.steps,), of="one for the outer loss after each step")
            if not self.steps:
                raise ValueError("weights are of the outer losses after each step, and with steps=0 there is none")

    @property
    def first(self) -> int:
        """The first step that a derivative goes through."""
        return 0 if self.truncate is None else max(0, self.steps - self.truncate)

    def weight(self, t: int) -> float:
        r"""$w_t$ of $F(\theta) = \sum_t w_t f(\phi_t, \theta)$, for t = 0, ..., K."""
        if self.weights is None:
            return float(t == self.steps)
        return float(self.weights[t - 1]) if t > 0 else 0.0

    def inner(self, phi: Any, theta: Any) -> Any:
        return self.problem.inner(phi, theta, self.task)

    def outer(self, phi: Any, theta: Any) -> Any:
        return self.problem.outer(phi, theta, self.task)

    def begin(self, theta: Any) -> tuple[tuple[Any, Any], Any]:
        r"""$z_0 = (\phi_0, s_0)$, and $\alpha$."""
        alpha = self.lr(theta) if callable(self.lr) else self.lr
        if isinstance(alpha, PerStep):
            check_per_step(alpha, self.steps)
        alpha = tree.map(lambda rate: rate if type(rate) is Tensor else 1.0 * rate, alpha)  # whole numbers are floats here
        phi = started(self.problem, theta, self.task)
        return (phi, self.update(rate_at(alpha, 0) if self.steps else 0.0).init(phi)), alpha

    def walk(self, theta: Any, z: Any, alpha: Any, which: range | None = None) -> Iterator[tuple[Any, Any]]:
        """From z, step by step (all, if not told which): the gradient that each one used, and the z that it led to."""
        for t in range(self.steps) if which is None else which:
            phi, state = z
            # $$ g_t = \nabla_\phi L(\phi_t, \theta) $$
            g = grad(self.inner)(phi, theta)
            if self.order == 1:
                g = stop_gradient(g)
            # $$ z_{t+1} = \Phi(z_t, g_t, \alpha_t) $$
            z = self.update(rate_at(alpha, t)).update(phi, g, state)
            if t < self.first:
                z = stop_gradient(z)
            yield g, z


def inner_steps(
    problem: Bilevel,
    theta: Any,
    task: Any,
    *,
    steps: int,
    lr: LearningRate,
    update: Callable[[Any], Optimizer] = sgd,
    order: int = 2,
    truncate: int | None = None,
) -> tuple[list[Any], list[Any]]:
    r"""The inner loop: $\phi_0, \dots, \phi_K$ and the gradients at $\phi_0, \dots, \phi_{K-1}$; traceable, and differentiable in theta.

    Parameters as for `meta_gradient`.

    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2)
    >>> inner_steps(problem, 1.0, None, steps=2, lr=0.25)[0]
    [1.0, np.float64(0.5), np.float64(0.25)]
    """
    loop = InnerLoop(problem, task, steps, lr, update, order, truncate)
    z, alpha = loop.begin(theta)
    walked = list(loop.walk(theta, z, alpha))
    return [z[0], *(phi for _, (phi, _) in walked)], [g for g, _ in walked]


def adapt(problem: Bilevel, theta: Any, task: Any, **options: Any) -> Any:
    r"""The adapted parameters $\phi_K$; traceable, and differentiable in theta. The options are those of `inner_steps`.

    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: phi**2)
    >>> adapt(problem, 1.0, None, steps=2, lr=0.25)
    np.float64(0.25)
    """
    return inner_steps(problem, theta, task, **options)[0][-1]


def objective(
    problem: Bilevel,
    *,
    steps: int,
    lr: LearningRate,
    update: Callable[[Any], Optimizer] = sgd,
    order: int = 2,
    truncate: int | None = None,
    checkpoint: bool = False,
    weights: Sequence[float] | None = None,
) -> Callable[[Any, Any], Any]:
    r"""$F(\theta; \mathcal T)$ as a function of (theta, task), for training: to be traced, mapped over tasks, differentiated.

    Parameters as for `meta_gradient`. What is diverging goes unnoticed here, as under a trace values aren't known.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: (phi - task) ** 2, lambda phi, theta, task: (phi - task) ** 2)
    >>> F = tm.maml.objective(problem, steps=1, lr=0.25)
    >>> mean = lambda theta, tasks: np.mean(tm.vmap(F, (None, 0))(theta, tasks))
    >>> tm.value_and_grad(mean)(0.0, np.array([1.0, 3.0]))
    (array(1.25), array(-1.))
    """
    loop = InnerLoop(problem, None, steps, lr, update, order, truncate, checkpoint, weights)
    return lambda theta, task: _unrolled(replace(loop, task=task), theta)[0]


def meta_gradient(
    problem: Bilevel,
    theta: Any,
    task: Any,
    *,
    steps: int,
    lr: LearningRate,
    update: Callable[[Any], Optimizer] = sgd,
    order: int = 2,
    by: str = "graph",
    truncate: int | None = None,
    checkpoint: bool = False,
    weights: Sequence[float] | None = None,
) -> MetaGradient:
    r"""$dF/d\theta$ for one task, through `steps` steps of gradient descent or of another update.

    Parameters
    ----------
    problem : the inner and outer loss, and where the adaptation starts; `problem.adapting(...)` adapts a part of phi only (ANIL)
    theta, task : nested containers of arrays
    steps : K, the number of inner steps
    lr : alpha: a number; a container shaped like phi, with a number for each leaf or (Meta-SGD) for each element; `PerStep` of
        these (MAML++); or a function of theta that returns one of these
    update : the update rule, a function of alpha from `optim`: `sgd`, `momentum`, `rmsprop`, `adam`, or your own
    order : 2 is the gradient; 1 drops the second derivatives (FOMAML), and is *not* the gradient of F
    by : "graph" sweeps over the unrolled graph; "recursion" runs the adjoint recursion that is derived below; "forward"
        pushes tangents along, one for each number in theta, and is for few of them
    truncate : differentiate the last so many steps only, and take what was before for a constant
    checkpoint : by the graph, in segments of about sqrt(K) steps whose inside is computed again: less memory, the same gradient
    weights : of the outer losses after each step, whose sum is F then (the multi-step loss of MAML++); by default the last counts alone

    Returns
    -------
    MetaGradient (value, grad, phi, info); info has `inner_losses` (before each step and at the end), `hessian_products`,
    and `nodes`, how many graph nodes were kept for a sweep at once (by recursion or forward: in the largest of the small graphs).

    Raises ValueError or TypeError for options that make no sense, FloatingPointError if the loop diverges or the gradient isn't finite.

    Source: Finn, Abbeel & Levine, Model-agnostic meta-learning (2017), eq. 1; both recursions as in Franceschi et al.,
    Forward and reverse gradient-based hyperparameter optimization (2017), section 3.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: (phi - 1) ** 2)
    >>> tm.maml.meta_gradient(problem, 3.0, None, steps=1, lr=0.25).grad  # phi = 1.5, dphi/dtheta = 0.5
    array(0.5)
    """
    methods = {"graph": _by_graph, "recursion": _by_recursion, "forward": _by_forward}
    check_choice("by", by, methods)
    loop = InnerLoop(problem, task, steps, lr, update, order, truncate, checkpoint, weights)
    if checkpoint and by != "graph":
        raise ValueError(f"checkpoint=True is for by='graph': by={by!r} has no graph of the whole loop to save memory on")
    theta = floats(theta, "theta")
    products = (steps - loop.first) * (order == 2) * (ravel(theta)[0].size if by == "forward" else 1)
    with np.errstate(all="ignore"):  # what isn't finite is told at the end, and where it began
        value, gradient, phi, nodes = methods[by](loop, theta)
        return _result(loop, theta, value, gradient, phi, hessian_products=products, nodes=nodes)


# ## By the graph
# Write F down as a function of theta, and let the engine differentiate it. The inner gradients are part of the graph, as
# nodes like any others, and the sweep goes through them. A segment of steps is a function of z; made a single node by
# `checkpoint`, it forgets its inside. With segments of c steps, the ends of K / c segments and the inside of one are kept at
# once, and $K / c + c$ is smallest for $c = \sqrt K$.
def _unrolled(loop: InnerLoop, theta: Any) -> tuple[Any, Any]:
    r"""$F(\theta)$ and $\phi_K$."""
    z, alpha = loop.begin(theta)

    def weighted_loss(t: int, phi: Any) -> Any:
        return loop.weight(t) * loop.outer(phi, theta) if loop.weight(t) else 0.0

    def segment(z: Any, which: range) -> tuple[Any, Any]:
        zs = [z for _, z in loop.walk(theta, z, alpha, which)]
        return zs[-1], sum(weighted_loss(t + 1, phi) for t, (phi, _) in zip(which, zs, strict=True))

    length = max(1, math.ceil(math.sqrt(loop.steps)) if loop.checkpoint else loop.steps)
    total = weighted_loss(0, z[0])
    for start in range(0, loop.steps, length):
        z, part = (checkpoint(segment) if loop.checkpoint else segment)(z, range(start, min(start + length, loop.steps)))
        total = total + part
    return total, z[0]


def _by_graph(loop: InnerLoop, theta: Any) -> Swept:
    def F(theta: Any) -> tuple[Any, Any]:
        value, phi = _unrolled(loop, theta)
        return value, (phi, graph_size(value, theta))

    (value, (phi, nodes)), gradient = value_and_grad(F, has_aux=True)(theta)
    return value, gradient, phi, nodes


# ## By the recursion
# Let $\lambda_t = dF / dz_t$, the change of F if $z_t$ were moved and all later steps made as before. A step moves by
# $$ dz_{t+1} = \Phi_z\, dz_t + \Phi_g\, dg_t + \Phi_\alpha\, d\alpha_t, \qquad dg_t = H_t\, d\phi_t + M_t\, d\theta, \qquad
#    H_t = \nabla^2_{\phi\phi} L, \quad M_t = \nabla^2_{\phi\theta} L. $$
# Pair it with $\lambda_{t+1}$, and read off what each receives: first through the update, then through the gradient,
# $$ (\bar z, \bar g, \bar\alpha) = (\Phi_z^\top, \Phi_g^\top, \Phi_\alpha^\top)\,\lambda_{t+1}, \qquad
#    \lambda_t = \bar z + H_t\, \bar g, \qquad \bar\theta \mathrel{+}= M_t^\top \bar g. $$
# (H acts on the part of z that is phi.) For gradient descent $\Phi_z = I$, $\Phi_g = -\alpha$, $\Phi_\alpha = -g_t$, so that is
# $$ \lambda_t = \lambda_{t+1} - H_t\,(\alpha \lambda_{t+1}) = (I - \alpha H_t)\,\lambda_{t+1}, \qquad
#    \bar\theta \mathrel{-}= M_t^\top (\alpha \lambda_{t+1}), \qquad \bar\alpha \mathrel{-}= g_t\, \lambda_{t+1}. $$
# And wherever an outer loss counts, $\lambda_t$ receives $w_t\, \partial f / \partial \phi$ at $\phi_t$: at the end that is all.
def _by_recursion(loop: InnerLoop, theta: Any) -> Swept:
    z, alpha = loop.begin(theta)
    walked = list(loop.walk(theta, z, alpha))
    zs, gradients = [z, *(z for _, z in walked)], [g for g, _ in walked]
    value, nodes = 0.0, 0
    theta_bar, alpha_bar, lambda_ = _zeros((theta, alpha, _floats(zs[-1])))
    for t in range(loop.steps, -1, -1):
        if loop.weight(t):
            loss, phi_bar, direct = _outer_terms(loop, t, zs[t][0], theta)
            value, theta_bar, lambda_ = value + loss, _sum(theta_bar, direct), (_sum(lambda_[0], phi_bar), lambda_[1])
        if t > loop.first:  # through the step from t - 1 to t
            z, g = zs[t - 1], gradients[t - 1]
            _, pullback = vjp(_update(loop, t - 1, z), _floats(z), g, alpha)
            (phi_bar, state_bar), g_bar, term = pullback(lambda_)
            alpha_bar = _sum(alpha_bar, term)
            if loop.order == 2:
                (H_product, M_product), size = second_derivative_products(loop.inner, z[0], theta, g_bar)
                phi_bar, theta_bar, nodes = _sum(phi_bar, H_product), _sum(theta_bar, M_product), max(nodes, size)
            lambda_ = (phi_bar, state_bar)
    if loop.first > 0:
        lambda_ = _zeros(lambda_)  # z_{K-k} is a constant: nothing reaches the start
    # The start and the learning rates may depend on theta: one pullback for both.
    _, pullback = vjp(lambda theta: _start(loop, theta), theta)
    theta_bar = _sum(theta_bar, pullback((lambda_, alpha_bar))[0])
    return value, theta_bar, zs[-1][0], nodes


def _start(loop: InnerLoop, theta: Any) -> tuple[Any, Any]:
    z, alpha = loop.begin(theta)
    return _floats(z), alpha


def _update(loop: InnerLoop, t: int, z: Any) -> Callable[[Any, Any, Any], Any]:
    r"""$\Phi$ of step t, as a function of the floats of z, g and $\alpha$."""

    def Phi(floats: Any, g: Any, alpha: Any) -> Any:
        return _floats(loop.update(rate_at(alpha, t)).update(floats[0], g, merged(floats[1], z[1])))

    return Phi


def _floats(z: tuple[Any, Any]) -> tuple[Any, Any]:
    return z[0], floats_of(z[1])


def _outer_terms(loop: InnerLoop, t: int, phi: Any, theta: Any) -> tuple[Any, Any, Any]:
    r"""$w_t f(\phi, \theta)$, and its partial derivatives with respect to $\phi$ and $\theta$."""
    loss, bars = value_and_grad(loop.outer, argnums=(0, 1))(phi, theta)
    return tree.map(lambda x: loop.weight(t) * x, (loss, *bars))


def _sum(a: Any, b: Any) -> Any:
    return tree.map(lambda a, b: a + b, a, b)


def _zeros(x: Any) -> Any:
    return tree.map(np.zeros_like, x)


# ## Forward
# The same step, read from left to right. Let $\dot x$ be the derivative of x as theta moves in the direction $\dot\theta$:
# $$ \dot g_t = H_t\, \dot\phi_t + M_t\, \dot\theta, \qquad
#    \dot z_{t+1} = \Phi_z\, \dot z_t + \Phi_g\, \dot g_t + \Phi_\alpha\, \dot\alpha_t, $$
# for gradient descent
# $$ \dot\phi_{t+1} = (I - \alpha H_t)\, \dot\phi_t - \alpha M_t\, \dot\theta - g_t\, \dot\alpha_t. $$
# The outer losses add
# $$ \dot F = \sum_t w_t \Big( \Big\langle \frac{\partial f}{\partial\phi}, \dot\phi_t \Big\rangle
#    + \Big\langle \frac{\partial f}{\partial\theta}, \dot\theta \Big\rangle \Big). $$
# Nothing of a step is needed after it. One direction for each number in theta gives the gradient, one after the other.
def _by_forward(loop: InnerLoop, theta: Any) -> Swept:
    vector, unravel = ravel(theta)
    theta_dots = [unravel(e) for e in np.eye(vector.size)]
    starts = [jvp(lambda theta: _start(loop, theta), (theta,), (theta_dot,))[1] for theta_dot in theta_dots]
    z_dots = [_zeros(z_dot) if loop.first > 0 else z_dot for z_dot, _ in starts]
    alpha_dots = [alpha_dot for _, alpha_dot in starts]
    z, alpha = loop.begin(theta)
    walk = loop.walk(theta, z, alpha)
    value, nodes = 0.0, 0
    theta_bar, slopes = _zeros(theta), [0.0] * vector.size
    for t in range(loop.steps + 1):
        if t > 0:  # through the step from t - 1 to t
            g, z_next = next(walk)
            if t > loop.first:
                pushed = [_push(loop, t - 1, theta, z, g, alpha, dots) for dots in zip(z_dots, theta_dots, alpha_dots, strict=True)]
                z_dots, nodes = [z_dot for z_dot, _ in pushed], max(nodes, *(size for _, size in pushed))
            z = z_next
        if loop.weight(t):
            loss, phi_bar, direct = _outer_terms(loop, t, z[0], theta)
            value, theta_bar = value + loss, _sum(theta_bar, direct)
            slopes = [slope + inner_product(phi_bar, phi_dot) for slope, (phi_dot, _) in zip(slopes, z_dots, strict=True)]
    return value, _sum(theta_bar, unravel(ravel(slopes)[0])), z[0], nodes


def _push(loop: InnerLoop, t: int, theta: Any, z: Any, g: Any, alpha: Any, dots: tuple[Any, Any, Any]) -> tuple[Any, int]:
    r"""$\dot z_{t+1}$ from $(\dot z_t, \dot\theta, \dot\alpha)$, and the number of graph nodes that it took."""
    z_dot, theta_dot, alpha_dot = dots
    g_dot, size = gradient_tangent(loop.inner, z[0], theta, z_dot[0], theta_dot) if loop.order == 2 else (_zeros(g), 0)
    return jvp(_update(loop, t, z), (_floats(z), g, alpha), (z_dot, g_dot, alpha_dot))[1], size


# Second derivatives are symmetric, so the change of the gradient is the gradient of the change:
# $$ H \dot\phi + M \dot\theta
#    = \nabla_\phi \big( \langle \nabla_\phi L, \dot\phi \rangle + \langle \nabla_\theta L, \dot\theta \rangle \big). $$
def gradient_tangent(inner: Callable[[Any, Any], Any], phi: Any, theta: Any, phi_dot: Any, theta_dot: Any) -> tuple[Any, int]:
    r"""$H \dot\phi + M \dot\theta$, and the number of graph nodes that it took.

    >>> gradient_tangent(lambda phi, theta: theta * phi**2, 3.0, 0.5, 1.0, 1.0)[0]
    array(7.)
    """

    def slope(phi: Any) -> tuple[Any, int]:
        value = inner_product(grad(inner, argnums=(0, 1))(phi, theta), (phi_dot, theta_dot))
        return value, graph_size(value, phi)

    return grad(slope, has_aux=True)(phi)


# ## Reptile's direction
# Follow the inner loop to its end, and move towards it (Nichol, Achiam & Schulman 2018). With one step of gradient descent
# that is the gradient of the *inner* loss; with more, the sum of the gradients on the way:
# $$ \theta - \phi_K = \alpha \sum_{t<K} g_t. $$
def reptile(
    problem: Bilevel, theta: Any, task: Any, *, steps: int, lr: LearningRate, update: Callable[[Any], Optimizer] = sgd
) -> MetaGradient:
    r"""$\theta - \phi_K$ in the place of a gradient. It is *not* the gradient of anything, and has nothing to do with the outer loss.

    Parameters as for `meta_gradient`. Returns MetaGradient, whose `value` is the outer loss at phi_K all the same.

    Raises ValueError if the problem has an `init`: theta and phi must be the same kind of thing.

    Source: Nichol, Achiam & Schulman, On first-order meta-learning algorithms (2018), algorithm 1.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: (phi - 1) ** 2)
    >>> tm.maml.reptile(problem, 3.0, None, steps=1, lr=0.25).grad  # phi = 1.5
    array(1.5)
    """
    loop = InnerLoop(problem, task, steps, lr, update)
    if problem.init is not None:
        raise ValueError("Reptile moves theta towards phi_K, so the adaptation must start at theta itself: a problem without init")
    with np.errstate(all="ignore"):
        phi = adapt(problem, theta, task, steps=steps, lr=lr, update=update)
        direction = tree.map(lambda theta, phi: theta - phi, theta, phi)
        return _result(loop, theta, loop.outer(phi, theta), direction, phi, hessian_products=0, nodes=0)


def reptile_objective(
    problem: Bilevel, *, steps: int, lr: LearningRate, update: Callable[[Any], Optimizer] = sgd
) -> Callable[[Any, Any], Any]:
    r"""A function of (theta, task) whose value is the outer loss at phi_K and whose "gradient" is $\theta - \phi_K$, for training.

    >>> problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: (phi - 1) ** 2)
    >>> grad(reptile_objective(problem, steps=1, lr=0.25))(3.0, None)
    array(1.5)
    """

    InnerLoop(problem, None, steps, lr, update)  # which checks them

    def F(theta: Any, task: Any) -> Any:
        phi = adapt(problem, theta, task, steps=steps, lr=lr, update=update, order=1)
        return with_gradient(problem.outer(phi, theta, task), tree.map(lambda theta, phi: theta - phi, theta, phi), theta)

    return F


# ## What every estimator returns
def _result(loop: InnerLoop, theta: Any, value: Any, gradient: Any, phi: Any, **info: Any) -> MetaGradient:
    """Value, gradient and phi with their diagnostics; an error that says where it began, if anything isn't finite."""

    def path() -> Iterator[tuple[Any, Any]]:
        """phi and its inner loss, after 0, 1, ... steps: the loop is run again when this is asked for."""
        z, alpha = loop.begin(theta)
        for phi, _ in (z, *(z for _, z in loop.walk(theta, z, alpha))):
            yield phi, loop.inner(phi, theta)

    if not is_finite((value, gradient, phi)):
        for t, (phi, loss) in enumerate(path()):
            if not is_finite((phi, loss)):
                raise FloatingPointError(_diverged("the inner loss" if is_finite(phi) else "phi", t, loop, theta))
        raise FloatingPointError(f"{'the meta-gradient' if is_finite(value) else 'the outer loss'} isn't finite, though phi and the inner "
                                 "loss are after every step: a loss has no derivative where it was taken, or the product of the steps' "
                                 "derivatives has overflowed; fewer steps, or truncate=, keep that small")  # fmt: skip
    return arrays_out(MetaGradient(value, gradient, phi, Info(inner_losses=lambda: [float(loss) for _, loss in path()], **info)))


def _diverged(what: str, t: int, loop: InnerLoop, theta: Any) -> str:
    if t == 0:
        return f"{what} isn't finite before the first inner step: look at theta and at the task"
    alpha = rate_at(loop.lr(theta) if callable(loop.lr) else loop.lr, t - 1)
    rates = np.concatenate([np.ravel(rate) for rate in tree.flatten(alpha)[0]])
    between = f"{rates.min():g}" if rates.min() == rates.max() else f"{rates.min():g} to {rates.max():g}"
    return (f"the inner loop diverged: {what} isn't finite after step {t} of {loop.steps}, made with alpha = {between}. Take a smaller "
            "learning rate (gradient descent is stable below 2 / the largest eigenvalue of the inner Hessian), or fewer steps")  # fmt: skip
