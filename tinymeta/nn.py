r"""
# Networks, losses and the papers' initialisations

Everything is a plain function of parameters in nested containers, written in NumPy: no classes, no state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .arguments import check_count, check_counts, check_function, check_generator, check_number, check_numbers, explained_by, shown, wanted
from .autodiff import Tensor, log_softmax, relu, sigmoid
from .autodiff.reverse import repeated_axes


# ## Initial weights
def truncated_normal(rng: np.random.Generator, shape: Sequence[int], sigma: float = 0.01) -> np.ndarray:
    """Normal with standard deviation `sigma`, drawn again where it lies beyond two of them (Finn et al. 2017's code).

    >>> bool(np.abs(truncated_normal(np.random.default_rng(0), (100,))).max() <= 0.02)
    True
    """
    check_generator("rng", rng)
    check_counts("shape", shape, 1, of="the lengths of the axes")
    check_number("sigma", sigma, least=0, of="the standard deviation")
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return sigma * values


def glorot_uniform(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Uniform with variance 2 / (fan in + fan out): keeps the scale of values and of cotangents (Glorot & Bengio 2010).

    >>> glorot_uniform(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """
    check_generator("rng", rng)
    check_counts("shape", shape, 2, of="the inputs and the outputs")
    limit = np.sqrt(6 / (shape[0] + shape[1]))
    return rng.uniform(-limit, limit, shape)


def _check_parameters(theta: Any, *keys: str) -> None:
    """A dict of arrays that have axes."""
    if not isinstance(theta, dict) or not set(keys) <= theta.keys():
        raise wanted("theta", theta, f"a dict with {' and '.join(keys)}", TypeError)
    for key in keys:
        check_numbers(f"theta[{key!r}]", theta[key], "with an axis or more", axes=1)


# ## A multi-layer perceptron
def initialize_mlp(
    rng: np.random.Generator, sizes: Sequence[int], weights: Callable[..., np.ndarray] = glorot_uniform
) -> list[dict[str, np.ndarray]]:
    """Parameters for `mlp`: a list of layers {"W": (inputs, outputs), "b": (outputs,)}, biases 0, in float64.

    >>> [layer["W"].shape for layer in initialize_mlp(np.random.default_rng(0), (1, 40, 40, 1))]
    [(1, 40), (40, 40), (40, 1)]
    """
    check_generator("rng", rng)
    check_counts("sizes", sizes, 2, of="the inputs, the hidden layers', and the outputs")
    check_function("weights", weights, "a function of rng and a shape, such as nn.glorot_uniform")
    return [{"W": weights(rng, (m, n)), "b": np.zeros(n)} for m, n in pairwise(sizes)]


def _check_network(theta: Any, x: Any, activation: Any = relu, hidden: tuple[str, ...] = ("W", "b")) -> None:
    """Layers, the hidden ones with such parameters and the last with W and b, and what fits the first."""
    layers: Any = theta if isinstance(theta, (list, tuple)) and theta else [None]
    for i, layer in enumerate(layers):
        keys = hidden if i < len(layers) - 1 else ("W", "b")
        if not isinstance(layer, dict) or not set(keys) <= layer.keys():
            raise wanted("theta", theta, f"a list of layers, and number {i} a dict with {', '.join(keys)}", TypeError)
    check_function("activation", activation, "a function of arrays, such as np.tanh")
    check_numbers("theta[0]['W']", layers[0]["W"], "of shape (inputs, outputs)", axes=2)
    inputs = np.shape(layers[0]["W"])[0]
    check_numbers("x", x, f"of shape (points, {inputs}), for theta's first layer", axes=1, last=inputs)


@explained_by(_check_network)
def mlp(theta: Sequence[Any], x: Any, activation: Callable[[Any], Any] = relu) -> Any:
    r"""$x \mapsto \sigma(\dots \sigma(x W_1 + b_1) \dots) W_n + b_n$ for x of shape (points, inputs).

    >>> theta = initialize_mlp(np.random.default_rng(0), (1, 40, 1))
    >>> mlp(theta, np.zeros((10, 1))).shape
    (10, 1)
    """
    *hidden, last = theta
    for layer in hidden:
        x = activation(x @ layer["W"] + layer["b"])
    return x @ last["W"] + last["b"]


# ## Batch normalisation
def _check_normalisation(theta: Any, x: Any, epsilon: Any = None) -> None:
    _check_parameters(theta, "scale", "shift")
    check_numbers("x", x, "of shape (rows, columns), a scale for each column", axes=2, last=np.shape(theta["scale"])[-1])


@explained_by(_check_normalisation)
def batch_norm(theta: Any, x: Any, epsilon: float = 1e-5) -> Any:
    r"""Each column of x with mean 0 and variance 1 over the batch's own rows, then with a scale and a shift that are learned.

    $$ m = \operatorname{mean}_i x_i, \qquad v = \operatorname{mean}_i (x_i - m)^2, \qquad
       y_i = (x_i - m)\,\frac{\gamma}{\sqrt{v + \epsilon}} + \beta $$

    Parameters: theta {"scale": gamma, "shift": beta}, both (columns,); x (rows, columns); epsilon, which keeps a constant column finite.
    There are no running averages: what a row becomes depends on the rows that it comes with (transductive, as in MAML's experiments).
    Source: Ioffe & Szegedy (2015).

    >>> theta = {"scale": np.array([1.0, 2.0]), "shift": np.array([0.0, 5.0])}
    >>> batch_norm(theta, np.array([[1.0, 30.0], [3.0, 10.0]])).round(3)
    array([[-1.,  7.],
           [ 1.,  3.]])
    """
    if type(epsilon) is not Tensor:
        check_number("epsilon", epsilon, least=0)
    deviation = x - np.mean(x, axis=-2, keepdims=True)
    variance = np.mean(deviation**2, axis=-2, keepdims=True)
    return deviation * (theta["scale"] / np.sqrt(variance + epsilon)) + theta["shift"]


def initialize_normalised_mlp(
    rng: np.random.Generator, sizes: Sequence[int], weights: Callable[..., np.ndarray] = glorot_uniform
) -> list[dict[str, np.ndarray]]:
    """Parameters for `normalised_mlp`: hidden layers {"W", "scale", "shift"}, whose shift is their bias, and the last one {"W", "b"}.

    >>> [list(layer) for layer in initialize_normalised_mlp(np.random.default_rng(0), (784, 64, 5))]
    [['W', 'scale', 'shift'], ['W', 'b']]
    """
    *hidden, last = initialize_mlp(rng, sizes, weights)
    return [*({"W": layer["W"], "scale": np.ones_like(layer["b"]), "shift": layer["b"]} for layer in hidden), last]


@explained_by(functools.partial(_check_network, hidden=("W", "scale", "shift")))
def normalised_mlp(theta: Sequence[Any], x: Any, activation: Callable[[Any], Any] = relu) -> Any:
    """A multi-layer perceptron with batch normalisation before each activation.

    >>> theta = initialize_normalised_mlp(np.random.default_rng(0), (784, 64, 5))
    >>> normalised_mlp(theta, np.random.default_rng(1).random((10, 784))).shape
    (10, 5)
    """
    *hidden, last = theta
    for layer in hidden:
        x = activation(batch_norm(layer, x @ layer["W"]))
    return x @ last["W"] + last["b"]


# ## A long short-term memory
def initialize_lstm(rng: np.random.Generator, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    """Parameters for `lstm_cell`; the forget gate's bias is 1, so that at first the cell remembers.

    >>> initialize_lstm(np.random.default_rng(0), 3, 20)["W"].shape
    (23, 80)
    """
    check_generator("rng", rng)
    check_count("inputs", inputs, 1)
    check_count("hidden", hidden, 1)
    bias = np.zeros(4 * hidden)
    bias[hidden : 2 * hidden] = 1
    return {"W": glorot_uniform(rng, (inputs + hidden, 4 * hidden)), "b": bias}


def _check_cell(theta: Any, x: Any, state: Any) -> None:
    _check_parameters(theta, "W", "b")
    inputs, hidden = np.shape(theta["W"])[0], np.shape(theta["b"])[-1] // 4
    check_numbers("x", x, f"of shape (rows, {inputs - hidden})", axes=2, last=inputs - hidden)
    try:
        h, c = state
    except (TypeError, ValueError):
        raise wanted("state", state, "a pair (h, c)", TypeError) from None
    for part in (h, c):
        check_numbers("state", part, f"(h, c), both of shape (rows, {hidden})", axes=2, last=hidden)
        if len(part) != len(x):
            raise ValueError(f"state has {len(part)} rows for the {len(x)} of x={shown(x)}")


@explained_by(_check_cell)
def lstm_cell(theta: Any, x: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
    r"""One step of an LSTM for a batch of rows: the new state (h, c).

    $$ (i, f, o, g) = [x, h]\,W + b, \qquad c' = \sigma(f)\,c + \sigma(i) \tanh g, \qquad h' = \sigma(o) \tanh c' $$

    Parameters: theta {"W": (inputs + hidden, 4 hidden), "b": (4 hidden,)}; x (rows, inputs); h and c (rows, hidden).
    Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    >>> theta = initialize_lstm(np.random.default_rng(0), 3, 20)
    >>> h, c = lstm_cell(theta, np.ones((5, 3)), (np.zeros((5, 20)), np.zeros((5, 20))))
    >>> h.shape
    (5, 20)
    """
    h, c = state
    i, f, o, g = np.split(np.concatenate([x, h], axis=1) @ theta["W"] + theta["b"], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


# ## Losses
def _check_two(prediction: Any, y: Any) -> None:
    check_numbers("prediction", prediction, "to be compared with y")
    check_numbers("y", y, "to compare with")


@explained_by(_check_two)
def mean_squared_error(prediction: Any, y: Any) -> Any:
    """The mean over all elements of (prediction - y)^2, where one of the two may be repeated to the shape of the other.

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(2.0)
    """
    shapes = np.shape(prediction), np.shape(y)
    if shapes[0] != shapes[1] and repeated_axes(*shapes) is None and repeated_axes(*shapes[::-1]) is None:  # (n, 1) and (n,) make (n, n)
        raise ValueError(f"prediction={shown(prediction)} and y={shown(y)}: arrays of one shape are wanted")
    return np.mean((prediction - y) ** 2)


def _check_labels(logits: Any, labels: Any) -> None:
    """An integer for each row, the number of a class where that can be known."""
    check_numbers("logits", logits, "of shape (rows, classes)", axes=2)
    check_numbers("labels", labels, "an integer for each row")
    kind, shape, classes = getattr(labels, "dtype", np.dtype(float)).kind, np.shape(labels), np.shape(logits)[-1]
    if kind not in "iu" or shape != np.shape(logits)[:-1]:
        raise ValueError(f"labels={shown(labels)}: an array with an integer for each row of logits={shown(logits)} is wanted")
    if isinstance(labels, np.ndarray) and not 0 <= labels.min(initial=0) <= labels.max(initial=0) < classes:
        raise ValueError(f"labels={shown(labels)}: from 0 to {classes - 1} are wanted, and there are {labels.min()} and {labels.max()}")


@explained_by(_check_labels)
def cross_entropy(logits: Any, labels: Any) -> Any:
    r"""The mean over the rows of $-\log \mathrm{softmax}(\text{logits})_{\text{label}}$, for integer labels (rows,).

    >>> round(float(cross_entropy(np.zeros((4, 2)), np.array([0, 1, 1, 0]))), 6)
    0.693147
    """
    if labels.shape != np.shape(logits)[:1] or (type(labels) is np.ndarray and labels.min(initial=0) < 0):
        raise ValueError(f"labels={shown(labels)}: the number of a class for each row of logits={shown(logits)} is wanted")
    return -np.mean(np.take_along_axis(log_softmax(logits), labels[:, None], 1))


def accuracy(logits: Any, labels: Any) -> Any:
    """The share of rows whose largest logit is the label's.

    >>> accuracy(np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([0, 0]))
    np.float64(0.5)
    """
    _check_labels(logits, labels)
    return np.mean(np.argmax(logits, axis=-1) == labels)
