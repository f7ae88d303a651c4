r"""
# An optimizer that is learned

Gradient descent is one update rule; a small recurrent network can learn another. Its weights are the meta-parameters
$\theta$; what it updates are the task's parameters $\phi$. In each step it is shown where it stands, the loss, the gradient, and perhaps
the task:

$$ g_t = \nabla_\phi L(\phi_t), \qquad (\Delta\phi_t, s_{t+1}) = U_\theta(\phi_t, L_t, g_t, s_t, \mathcal T), \qquad
   \phi_{t+1} = \phi_t - \Delta\phi_t. $$

$U_\theta$ is *coordinatewise*: the same weights for every coordinate of $\phi$, each coordinate with a state of its own. So it can be
applied to any number of parameters. Three such rules are here: an LSTM (`lstm`), a cell whose state is $\phi$ itself (`meta_lstm`), and
any classical optimizer, whose weight is its learning rate (`classical`). They are trained on the query loss after the steps on the
support set, or on the sum of these losses along the way,

$$ F(\theta) = f(\phi_K(\theta)) \qquad\text{or}\qquad F(\theta) = \sum_{t=1}^{K} f(\phi_t(\theta)), $$

and $\phi_t$ depends on $\theta$ along two ways: through each update that the rule computed, and through the gradients that it
was shown, because $g_t$ depends on $\phi_t$, which depends on all earlier updates. The second way brings the inner Hessian:
$dg_t = H_t\, d\phi_t$. Andrychowicz et al. drop it, which is cheaper, and is not the gradient of F. Here one has to say which.

(Sources: Andrychowicz et al., Learning to learn by gradient descent by gradient descent, 2016; Ravi & Larochelle,
Optimization as a model for few-shot learning, 2017.)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import nn
from .arguments import check_choice, check_count, check_flag, check_function, check_generator, check_number, check_type, shown, wanted
from .autodiff import Tensor, ravel, sigmoid, stop_gradient, tree, value_and_grad
from .autodiff.reverse import between
from .bilevel import Bilevel, Info, MetaGradient, arrays_out, check_problem, floats, started
from .optim import Optimizer

State = list[tuple[Any, Any]]  # (h, c) of each layer
OUTPUT_SCALE = 0.1  # of the update, so that an untrained network does little harm


class Rule(NamedTuple):
    """An update rule with weights, for phi as a vector of shape (n,). What has this form can be unrolled and trained."""

    initialize: Callable[..., Any]
    """initialize(rng) -> theta, the weights"""
    initial_state: Callable[[Any, Any], Any]
    """initial_state(theta, phi) -> state"""
    update: Callable[..., tuple[Any, Any]]
    """update(theta, phi, loss, g, state, task) -> (delta phi, state)"""


# ## What a rule is shown
# Gradients differ by many powers of ten, between tasks and along the way, and a network sees little of a number that is tiny.
# So a number may be shown as two, its size on a logarithmic scale and its sign; below $e^{-p}$, where a logarithm would run away,
# the sign fades out instead:
# $$ x \;\mapsto\; \begin{cases} \big(\tfrac1p \log|x|,\; \operatorname{sign} x\big) & |x| \ge e^{-p} \\
#    \big(-1,\; e^p x\big) & \text{otherwise.} \end{cases} $$
# Both parts are continuous: at $|x| = e^{-p}$ the two cases meet in $(-1, \pm 1)$. Hence a maximum and a clip say the same, and no
# logarithm of 0 is taken, whose derivative would spoil the case that isn't chosen:
# $$ x \;\mapsto\; \big(\tfrac1p \log \max(|x|, e^{-p}),\; \operatorname{clip}(e^p x, -1, 1)\big). $$
def log_and_sign(x: Any, p: float = 10.0) -> tuple[Any, Any]:
    r"""Two numbers of moderate size for each one of any size.

    Their slopes, 1 / (p x) and $e^p$, are large where x is small. With second derivatives kept they multiply the Hessian in each step, and
    the meta-gradient may explode: train a rule that is shown logarithms with `second_derivatives=False`, as the paper does.

    Source: Andrychowicz et al. (2016), appendix A.

    >>> log_and_sign(np.array([np.exp(5.0), -1.0, 0.0]))
    (array([ 0.5,  0. , -1. ]), array([ 1., -1.,  0.]))
    """
    return np.log(np.maximum(np.abs(x), math.exp(-p))) / p, np.clip(math.exp(p) * x, -1, 1)


Embedding = Callable[[Any, Any], Any]  # (theta, task) -> vector


def _rows(phi: Any, loss: Any, g: Any, preprocess: bool, vector: Any) -> Any:
    r"""One row for each coordinate i: $(\phi_i, L, g_i)$, L and $g_i$ perhaps as two numbers each, then the task's vector."""
    shown = [loss * np.ones_like(phi), g]
    if preprocess:
        shown = [part for x in shown for part in log_and_sign(x)]
    x = np.stack([phi, *shown], axis=1)
    return x if vector is None else np.concatenate([x, np.broadcast_to(vector, (len(phi), len(vector)))], axis=1)


def _check_shown(preprocess: bool, embedding: Embedding | None, size: int) -> None:
    """What is shown to a rule."""
    check_flag("preprocess", preprocess)
    check_count("embedding_size", size, of="how many numbers the embedding has")
    if embedding is not None:
        check_function("embedding", embedding, "a function of (theta, task) that returns a vector", 2)
    if (embedding is None) != (size == 0):
        raise ValueError(f"embedding_size={size} with embedding={shown(embedding)}: they go together, a function and how many numbers "
                         "its vector has")  # fmt: skip


def _check_inputs(x: Any, inputs: int, preprocess: bool, size: int) -> None:
    if x.shape[1] != inputs:
        raise ValueError(f"theta has weights for {inputs} inputs, but a rule with preprocess={preprocess} and embedding_size={size} "
                         f"has {x.shape[1]}: let the rule itself initialize them")  # fmt: skip


def _embedded(embedding: Embedding | None, size: int, theta: Any, task: Any) -> Any:
    vector = None if embedding is None else embedding(theta, task)
    if vector is not None and np.shape(vector) != (size,):
        raise ValueError(f"the task's embedding has shape {np.shape(vector)}, but the rule was made for embedding_size={size}: "
                         f"a vector of {size} numbers")  # fmt: skip
    return vector


# ## An LSTM
def initialize(rng: np.random.Generator, hidden: int = 20, layers: int = 2, inputs: int = 3) -> dict[str, Any]:
    """Weights of the LSTM rule: layers of `hidden` units, the first with 3 inputs (phi, L, g) or more, and a linear output.

    >>> [layer["W"].shape for layer in initialize(np.random.default_rng(0))["lstm"]]
    [(23, 80), (40, 80)]
    """
    check_generator("rng", rng)
    check_count("hidden", hidden, least=1, of="the units of a layer")
    check_count("layers", layers, least=1)
    check_count("inputs", inputs, least=1)
    widths = [inputs] + [hidden] * (layers - 1)
    return {"lstm": [nn.initialize_lstm(rng, n, hidden) for n in widths], "output": nn.initialize_mlp(rng, (hidden, 1))[0]}


def initial_state(theta: Any, phi: Any) -> State:
    """(h, c) of each layer, all zero, of shape (n, hidden) for phi of shape (n,).

    >>> [(h.shape, c.shape) for h, c in initial_state(initialize(np.random.default_rng(0)), np.ones(5))]
    [((5, 20), (5, 20)), ((5, 20), (5, 20))]
    """
    if not (isinstance(theta, dict) and isinstance(theta.get("lstm"), (list, tuple)) and "output" in theta):
        raise wanted("theta", theta, "the weights of an LSTM, as its rule's `initialize` makes them", TypeError)
    zero = np.zeros((np.size(phi), np.shape(theta["output"]["W"])[0]), phi.dtype)
    return [(zero, zero) for _ in theta["lstm"]]


def lstm(
    *, preprocess: bool = False, embedding: Embedding | None = None, embedding_size: int = 0, output_scale: float = OUTPUT_SCALE
) -> Rule:
    r"""$U_\theta$ as an LSTM: layers one upon the other, and a linear output.

    Parameters
    ----------
    preprocess : whether loss and gradient are shown by their logarithms and signs, see `log_and_sign`
    embedding : function (theta, task) -> vector, which every coordinate is shown as well; it may use weights that are in theta
    embedding_size : how many numbers that vector has
    output_scale : what the network's output is multiplied by

    How many units and layers there are is said to `initialize`, and can be seen from the weights.

    >>> rule = lstm(preprocess=True, embedding=lambda theta, task: task, embedding_size=2)
    >>> theta = rule.initialize(np.random.default_rng(0), hidden=20, layers=1)
    >>> phi = np.ones(5)
    >>> delta, state = rule.update(theta, phi, 1.0, phi, rule.initial_state(theta, phi), np.array([0.3, 0.4]))
    >>> theta["lstm"][0]["W"].shape, delta.shape
    ((27, 80), (5,))
    """

    _check_shown(preprocess, embedding, embedding_size)
    check_number("output_scale", output_scale)

    def update(theta: Any, phi: Any, loss: Any, g: Any, state: State, task: Any = None) -> tuple[Any, State]:
        x = _rows(phi, loss, g, preprocess, _embedded(embedding, embedding_size, theta, task))
        _check_inputs(x, theta["lstm"][0]["W"].shape[0] - state[0][0].shape[1], preprocess, embedding_size)
        # Layer by layer, each sees what the one below it puts out, $x \leftarrow h'$:
        # $$ (h', c') = \mathrm{LSTM}_\theta(x, (h, c)) $$
        new_state = []
        for layer, (h, c) in zip(theta["lstm"], state, strict=True):
            x, c = nn.lstm_cell(layer, x, (h, c))
            new_state.append((x, c))
        # $$ \Delta\phi = 0.1\,(h' w + b) $$
        delta = output_scale * (x @ theta["output"]["W"] + theta["output"]["b"])
        return delta[:, 0], new_state

    return Rule(functools.partial(initialize, inputs=(5 if preprocess else 3) + embedding_size), initial_state, update)


def _check_state(state: Any, begun: Any) -> None:
    """That a state has the layers, and the shapes, of the one that a rule begins with."""
    leaves, structure = tree.flatten(begun)
    for name, leaf, like in zip(tree.names(begun, "state"), tree.leaves_like(structure, state, "state"), leaves, strict=True):
        if np.shape(leaf) != np.shape(like):
            raise wanted(name, leaf, f"an array of shape {np.shape(like)}: the state of a rule with these weights, and of this phi")


LSTM = lstm()


# ## A cell whose state is phi
# An LSTM's cell moves by $c_t = f_t \odot c_{t-1} + i_t \odot \tilde c_t$. Let c be the parameters themselves, and the candidate
# $\tilde c_t = -g_t$: with the forget gate 1 and the input gate $\alpha$ this *is* gradient descent,
# $$ \phi_t = f_t \odot \phi_{t-1} - i_t \odot g_t. $$
# What is learned is how the gates depend on what is seen: a learning rate for each coordinate and step, and a decay that lets it escape
# from where it stands. Each gate $k \in \{i, f\}$ also sees what it was before,
# $$ k_t = \sigma\big([\phi_{t-1}, L_t, g_t, k_{t-1}]\, W_k + b_k\big). $$
# As an update that is subtracted:
# $$ \Delta\phi = \phi_{t-1} - \phi_t = (1 - f_t) \odot \phi_{t-1} + i_t \odot g_t. $$
def meta_lstm(*, preprocess: bool = False, embedding: Embedding | None = None, embedding_size: int = 0) -> Rule:
    r"""$U_\theta$ as the cell of Ravi & Larochelle (2017), eq. 2. The start can be learned too: `init=lambda theta, task: theta["start"]`.

    At first the rule is nearly gradient descent: `initialize(rng, alpha=0.01)` sets the gates' biases so that i is alpha and f is 0.998.

    Parameters: as those of `lstm`. The state is the pair of gates, of shape (n,) each.

    >>> rule = meta_lstm()
    >>> theta = rule.initialize(np.random.default_rng(0), alpha=0.1)
    >>> phi = np.array([1.0, 2.0])
    >>> delta, (i, f) = rule.update(theta, phi, 1.0, phi, rule.initial_state(theta, phi))
    >>> bool(np.all(np.abs(i - 0.1) < 0.01) and np.all(f > 0.99))
    True
    """
    _check_shown(preprocess, embedding, embedding_size)
    inputs = (5 if preprocess else 3) + embedding_size + 1

    def initialize(rng: np.random.Generator, alpha: float = 0.01, forget: float = 0.998) -> dict[str, Any]:
        check_generator("rng", rng)
        check_number("alpha", alpha, above=0, below=1, of="the input gate at first")
        check_number("forget", forget, above=0, below=1, of="the forget gate at first")
        # $$ \sigma(b) = a \iff b = \log a - \log (1 - a) $$
        biases = {"i": math.log(alpha) - math.log(1 - alpha), "f": math.log(forget) - math.log(1 - forget)}
        return {gate: {"W": nn.truncated_normal(rng, (inputs, 1)), "b": np.array([b])} for gate, b in biases.items()}

    def initial_state(theta: Any, phi: Any) -> tuple[Any, Any]:
        if not (isinstance(theta, dict) and "i" in theta and "f" in theta):
            raise wanted("theta", theta, "the weights of a meta-LSTM, as its rule's `initialize` makes them", TypeError)
        return np.zeros_like(phi), np.zeros_like(phi)

    def update(theta: Any, phi: Any, loss: Any, g: Any, state: tuple[Any, Any], task: Any = None) -> tuple[Any, tuple[Any, Any]]:
        x = _rows(phi, loss, g, preprocess, _embedded(embedding, embedding_size, theta, task))
        _check_inputs(x, theta["i"]["W"].shape[0] - 1, preprocess, embedding_size)
        i, f = (sigmoid(np.concatenate([x, before[:, None]], axis=1) @ theta[gate]["W"] + theta[gate]["b"])[:, 0]
                for gate, before in zip(("i", "f"), state, strict=True))  # fmt: skip
        return (1 - f) * phi + i * g, (i, f)

    return Rule(initialize, initial_state, update)


# ## Classical optimizers
def classical(optimizer: Callable[[Any], Optimizer]) -> Rule:
    r"""An optimizer as a rule, whose weights are its learning rate: to be tuned, or differentiated, like any other.

    Parameters: optimizer, a function of theta that returns an Optimizer, such as `optim.adam`, or
    `lambda theta: optim.momentum(theta["alpha"], theta["mu"])`.

    >>> from tinymeta import optim
    >>> rule = classical(optim.sgd)
    >>> run = unroll(0.25, lambda phi: np.sum(phi**2), np.ones(2), steps=2, second_derivatives=True, rule=rule)
    >>> run.phi
    array([0.25, 0.25])
    """

    check_function("optimizer", optimizer, "a function of theta that returns an Optimizer, such as tm.optim.adam", 1)

    def update(theta: Any, phi: Any, loss: Any, g: Any, state: Any, task: Any = None) -> tuple[Any, Any]:
        new, state = optimizer(theta).update(phi, g, state)
        return phi - new, state

    return Rule(lambda rng: np.array(0.01), lambda theta, phi: optimizer(theta).init(phi), update)


# ## Unrolled
class Unrolled(NamedTuple):
    """What K steps leave behind."""

    phis: list[Any]
    """phi_0, ..., phi_K"""
    losses: list[Any]
    """L at phi_0, ..., phi_{K-1}"""
    gradients: list[Any]
    """the gradients there, as the rule was shown them: vectors"""
    state: Any
    """of the rule, after the last step: to go on from"""

    @property
    def phi(self) -> Any:
        """phi_K."""
        return self.phis[-1]


def unroll(
    theta: Any, loss: Callable[[Any], Any], phi: Any, *, steps: int, second_derivatives: bool, rule: Rule = LSTM, state: Any = None,
    task: Any = None,
) -> Unrolled:  # fmt: skip
    r"""Let the rule optimise: $\phi_0, \dots, \phi_K$, and what it saw on the way.

    Parameters
    ----------
    theta : the rule's weights, from `rule.initialize`
    loss : scalar function of phi
    phi : where to start, nested containers
    steps : K
    second_derivatives : whether a derivative with respect to theta goes through the gradients g_t as well
    rule : how phi changes
    state : of the rule, from an earlier run that this one goes on from; at the beginning None
    task : what the rule may embed

    Example
    -------
    >>> theta, loss = initialize(np.random.default_rng(0)), lambda phi: np.sum(phi**2)
    >>> run = unroll(theta, loss, np.ones(5), steps=3, second_derivatives=True)
    >>> len(run.losses)
    3
    >>> more = unroll(theta, loss, run.phi, steps=2, second_derivatives=True, state=run.state)
    >>> np.array_equal(more.phi, unroll(theta, loss, np.ones(5), steps=5, second_derivatives=True).phi)
    True
    """
    check_function("loss", loss, "a function of phi", 1)
    check_count("steps", steps, of="the number of updates")
    check_flag("second_derivatives", second_derivatives)
    check_type("rule", rule, Rule, "a Rule, such as tm.learned_optimizer.lstm() makes")
    phi = floats(phi, "phi")
    vector, phi_tree = ravel(phi)
    begun = rule.initial_state(theta, vector)
    if state is None:
        state = begun
    else:
        _check_state(state, begun)
    run = Unrolled(phis=[phi], losses=[], gradients=[], state=None)
    for _ in range(steps):
        # $$ L_t = L(\phi_t), \qquad g_t = \nabla L(\phi_t) $$
        value, g = value_and_grad(lambda phi: loss(phi_tree(phi)))(vector)
        seen, g = (value, g) if second_derivatives else stop_gradient((value, g))
        # $$ \phi_{t+1} = \phi_t - \Delta\phi_t $$
        delta, state = rule.update(theta, vector, seen, g, state, task)
        vector = vector - delta
        run.phis.append(phi_tree(vector))
        run.losses.append(value)
        run.gradients.append(g)
    return run._replace(state=state)


# ## Trained
# A long unroll is expensive, and its derivatives may explode. Cut it into parts of k steps: each part starts where the one before it ended,
# with $\phi$ and the state carried over as constants,
# $$ \frac{dF}{d\theta} \approx \sum_j \frac{\partial F_j}{\partial \theta}\Big|_{\phi,\, s \text{ where part } j \text{ starts}}. $$
# What is lost is how the weights move the start of a later part. Parts are counted from the end, so that the query loss there is
# differentiated through the last k steps. F itself is the same.
Part = Callable[[Any, Any, Any], tuple[Any, Unrolled]]  # (theta, task, (phi, state) or None) -> its share of F, and the run


def _parts(problem: Bilevel, steps: int, second_derivatives: bool, losses: str, truncate: int | None, rule: Rule) -> list[Part]:
    """The parts of the unroll; without truncation there is one."""
    _check(problem, steps, second_derivatives, losses, truncate, rule)
    length = max(steps if truncate is None else truncate, 1)
    lengths = [steps % length] * (steps % length > 0) + [length] * (steps // length) or [0]

    def part(theta: Any, task: Any, carried: Any, *, steps: int, last: bool) -> tuple[Any, Unrolled]:
        phi, state = (started(problem, theta, task), None) if carried is None else carried
        run = unroll(theta, lambda phi: problem.inner(phi, theta, task), phi, steps=steps, second_derivatives=second_derivatives,
                     rule=rule, state=state, task=task)  # fmt: skip
        judged = run.phis[1:] if losses == "sum" else [run.phi] * last
        return sum((problem.outer(phi, theta, task) for phi in judged), 0.0), run

    return [functools.partial(part, steps=steps, last=i == len(lengths) - 1) for i, steps in enumerate(lengths)]


def objective(
    problem: Bilevel, *, steps: int, second_derivatives: bool, losses: str = "query", truncate: int | None = None, rule: Rule = LSTM
) -> Callable[[Any, Any], Any]:
    r"""$F(\theta; \mathcal T)$ as a function of (theta, task), for training: to be traced, mapped, differentiated.

    theta are the rule's weights; `problem.init` says where phi starts. The parameters are those of `meta_gradient`.

    >>> problem = Bilevel(lambda phi, theta, task: np.sum((phi - task) ** 2), lambda phi, theta, task: np.sum((phi - task) ** 2),
    ...                   init=lambda theta, task: np.zeros(2))
    >>> F = objective(problem, steps=2, second_derivatives=True)
    >>> bool(F(initialize(np.random.default_rng(0)), np.ones(2)) > 0)
    True
    """
    parts = _parts(problem, steps, second_derivatives, losses, truncate, rule)

    def F(theta: Any, task: Any) -> Any:
        total, carried = 0.0, None
        for part in parts:
            value, run = part(theta, task, carried)
            total, carried = total + value, stop_gradient((run.phi, run.state))
        return total

    return F


def meta_gradient(
    problem: Bilevel,
    theta: Any,
    task: Any,
    *,
    steps: int,
    second_derivatives: bool,
    losses: str = "query",
    truncate: int | None = None,
    rule: Rule = LSTM,
) -> MetaGradient:
    r"""$dF/d\theta$ of the rule's weights for one task, through `steps` steps of it, by the unrolled graph.

    Parameters
    ----------
    problem : inner and outer loss, and `init`, where phi starts
    theta : weights, from `rule.initialize`
    task : nested containers of arrays
    steps : K, the number of updates
    second_derivatives : True is the gradient; False drops $d g_t / d\phi_t$, and is *not* the gradient of F
    losses : "query": F is the outer loss at the end; "sum": F is the sum of the outer losses after each step
    truncate : how many steps at a time are differentiated through; None for all. With less than all it is *not* the gradient of F
    rule : how phi changes

    Returns
    -------
    MetaGradient (value, grad, phi, info); info has `inner_losses` (before each step), `hessian_products`, and `nodes` (graph nodes kept at
    once; with a truncation, those of the largest part).

    Raises ValueError if the problem doesn't say where phi starts, or for options that make no sense; FloatingPointError if it diverges.

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
    theta = floats(theta, "theta")
    total, gradient, carried = 0.0, tree.map(np.zeros_like, theta), None
    losses_seen: list[Any] = []
    products = nodes = 0
    with np.errstate(all="ignore"):  # what isn't finite is told
        for part in _parts(problem, steps, second_derivatives, losses, truncate, rule):

            def measured(theta: Any, part: Part = part, carried: Any = carried) -> tuple[Any, Any]:
                value, run = part(theta, task, carried)
                return value, (run, *_cost(value, theta, run.gradients))

            (value, (run, made, size)), share = value_and_grad(measured, has_aux=True)(theta)
            total, gradient, carried = total + value, tree.map(lambda sum_, share: sum_ + share, gradient, share), (run.phi, run.state)
            losses_seen += run.losses
            products, nodes = products + made, max(nodes, size)
    _check_finite(total, gradient, losses_seen)
    info = Info(inner_losses=lambda: [float(loss) for loss in losses_seen], hessian_products=products, nodes=nodes)
    return arrays_out(MetaGradient(total, gradient, run.phi, info))


def _cost(value: Any, theta: Any, gradients: list[Any]) -> tuple[int, int]:
    """How many inner gradients the sweep from a value to theta goes through, each a Hessian product, and how many nodes it keeps."""
    kept = {id(node) for node, _ in between([value], tree.flatten(theta)[0])} if isinstance(value, Tensor) else set()
    return sum(id(g) in kept for g in gradients), len(kept)


def _check(problem: Bilevel, steps: int, second_derivatives: bool, losses: str, truncate: int | None, rule: Rule) -> None:
    check_problem(problem, started=True)
    check_count("steps", steps, of="the number of updates")
    check_flag("second_derivatives", second_derivatives)
    check_choice("losses", losses, ("query", "sum"), of="the outer loss at the end, or the sum of the outer losses after each step")
    if truncate is not None:
        check_count("truncate", truncate, least=1, of="the number of steps to differentiate through at a time; None for all")
    check_type("rule", rule, Rule, "a Rule, such as tm.learned_optimizer.lstm() makes")


def _check_finite(value: Any, gradient: Any, inner_losses: list[Any]) -> None:
    if not np.isfinite(value):
        finite = next((t for t, loss in enumerate(inner_losses) if not np.isfinite(loss)), len(inner_losses))
        raise FloatingPointError(f"the outer loss is {value}: the updates diverge, and what is finite ends before step {finite}. "
                                 "Take fewer steps, smaller weights, or a smaller output scale or learning rate")  # fmt: skip
    if not np.all(np.isfinite(ravel(gradient)[0])):
        raise FloatingPointError(f"the meta-gradient through {len(inner_losses)} steps is not finite, although the outer loss is: {value}. "
                                 "Take fewer steps, or truncate")  # fmt: skip
