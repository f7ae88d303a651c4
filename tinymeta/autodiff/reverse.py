r"""
# The reverse sweep

A scalar $s$ depends on every node $c$ of its graph. Write $\bar c = \partial s / \partial c$ for the *cotangent*
of $c$. If $c$ is used by the nodes $u_1, \dots, u_m$, the chain rule says

$$ \bar c = \sum_{j=1}^m \Big(\frac{\partial u_j}{\partial c}\Big)^{\!\top} \bar u_j . $$

So walk the nodes from the newest to the oldest. When a node's turn comes, all of its users have been visited and its
cotangent is complete; its rule turns it into one term of the cotangent of each of its inputs. That is the whole
algorithm.

**A gradient of a gradient.** The rules are written in NumPy, like any model. Given Tensors, they make nodes: the sweep
lengthens the graph by the computation of the gradient. What comes out is a Tensor like any other, made by ordinary
operations, and can be swept again. There is no second mechanism.

If nobody can ask for a second derivative, because nothing in the graph comes from outside of the function that is
being differentiated, the same rules run on the plain arrays instead, and no graph is made.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .tensor import NEVER, Tensor, watch


def between(outputs: Sequence[Tensor], inputs: Sequence[Tensor], partial: bool = False) -> list[tuple[Tensor, list[bool]]]:
    """The nodes on the way from the inputs to the outputs, oldest first; and with each, which of its own inputs are on the way.

    Two passes: backwards for the ancestors of the outputs (none older than every input, as it can't depend on one), then
    forwards to keep those that an input reaches. An operation without a rule ends the way, and so do integers and
    booleans, and, if the derivatives are partial, an input.
    """
    reached = {x.index for x in inputs}
    ends = reached.copy() if partial else ()
    first = min(reached, default=NEVER)
    seen = {x.index: x for x in outputs if x.index >= first}
    waiting = list(seen.values())
    for node in waiting:  # it grows on the way
        if node.index not in ends and _leads_on(node):
            for x in node.inputs:
                if type(x) is Tensor and x.index >= first and x.index not in seen:
                    seen[x.index] = x
                    waiting.append(x)
    found = []
    for index in sorted(seen):
        node = seen[index]
        wanted = [type(x) is Tensor and x.index in reached for x in node.inputs]
        if True in wanted and index not in ends and _leads_on(node):
            reached.add(index)
            found.append((node, wanted))
        elif index in reached:
            found.append((node, []))  # the way ends here
    return found


def _leads_on(node: Tensor) -> bool:
    """Whether a cotangent goes through: integers and booleans have none, and what has no rule ends it."""
    return node.op is not None and node.op.vjp is not None and not (type(node.data) is np.ndarray and node.data.dtype.kind in "biu")


def sweep(
    outputs: Sequence[Tensor], cotangents: Sequence[Any], inputs: Sequence[Tensor], record: bool = True, partial: bool = False
) -> list[Any]:
    r"""The cotangents of `inputs`, given those of `outputs`; None where no way leads.

    With `record`, the rules are given the nodes, and the cotangents can be differentiated again; otherwise the nodes'
    data, and only what comes in as a Tensor (a given cotangent, one that a rule of the user's captures) stays one.
    Where one input was computed from another, the derivatives are total: the other's includes the way through the one.
    With `partial` it doesn't. For $b = 3a$ and $c = ab$ at $a = 2$, the total $\bar a$ is 12, the partial one 6.
    """
    bars: dict[int, Any] = {}
    for _ in steps(bars, outputs, cotangents, inputs, record, partial):
        pass
    return [bars.get(x.index) for x in inputs]


def steps(
    bars: dict[int, Any],
    outputs: Sequence[Tensor],
    cotangents: Sequence[Any],
    inputs: Sequence[Tensor],
    record: bool = True,
    partial: bool = False,
) -> Iterator[Tensor]:
    """The sweep, one node at a time: the node whose rule has just added its terms to the cotangents, `bars`."""
    record = record or watch() is not None  # whoever looks at nodes is to see the sweep's
    way = between(outputs, inputs, partial)
    reached = {node.index for node, _ in way}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output.index in reached:
            bars[output.index] = cotangent if output.index not in bars else _sum(bars[output.index], cotangent)
    asked = {x.index for x in inputs}
    while way:
        node, wanted = way.pop()
        if wanted and node.index in bars:
            c_bar = bars[node.index] if node.index in asked else bars.pop(node.index)  # free what nobody asks for
            _apply_rule(node, c_bar, wanted, bars, record)
            yield node


def _apply_rule(node: Tensor, c_bar: Any, wanted: list[bool], bars: dict[int, Any], record: bool) -> None:
    r"""One step of the sweep: $\bar c$ becomes a term of the cotangent of each input that leads on."""
    op: Any = node.op
    c, inputs = (node, node.inputs) if record else (node.data, [x.data if type(x) is Tensor else x for x in node.inputs])
    terms = op.pull(c_bar, c, inputs, node.params, wanted)  # one for each input
    for x, want, x_bar in zip(node.inputs, wanted, terms):  # noqa: B905 - `strict` takes longer than the rest of the line
        if want:
            if callable(x_bar):
                x_bar = x_bar()
            if x_bar is not None:
                if type(x_bar) is not dict:
                    x_bar = fit(x_bar, x, op.name)
                bars[x.index] = x_bar if x.index not in bars else _sum(bars[x.index], x_bar)


def _sum(mine: Any, x_bar: Any) -> Any:
    """Cotangents of the same node add up; those of a block's bundle (a dict: see `blocks`), output by output."""
    if type(x_bar) is dict:
        return mine | {i: mine[i] + bar if i in mine else bar for i, bar in x_bar.items()}
    return mine + x_bar


# ## The adjoint of broadcasting
# If an input $a$ of shape $(3, 1)$ met one of shape $(3, 4)$, each of its elements was used four times. Write $\hat a$ for
# $a$ after broadcasting:
# $$ \hat a_{ij} = a_{i1} \qquad\Longrightarrow\qquad \bar a_{i1} = \sum_j \bar{\hat a}_{ij}. $$
# The rules don't know; they return the cotangent of $\hat a$, and this sum is taken here, once for all operations.
# Likewise an input in float32 that met one in float64 was cast, and its cotangent is cast back. (Not from complex
# to real: in the complex step the imaginary part is the derivative.)
def fit(x_bar: Any, x: Tensor, name: str) -> Any:
    """Bring a cotangent to the shape and dtype of the input it belongs to."""
    if type(x_bar) is type(x.data) is np.ndarray and x_bar.shape == x.data.shape and x_bar.dtype == x.data.dtype:
        return x_bar  # nearly always, so it is asked first
    if type(x_bar) is not np.ndarray and type(x_bar) is not Tensor:
        x_bar = np.asarray(x_bar)
    shape, dtype = x.shape, x.dtype
    if x_bar.shape != shape:
        repeated = repeated_axes(shape, x_bar.shape)
        if repeated is None:
            raise ValueError(f"the rule of {name} returned a cotangent of shape {x_bar.shape} for an input of shape {shape}")
        x_bar = np.add.reduce(x_bar, axis=repeated, keepdims=x_bar.ndim == len(shape))
        if x_bar.shape != shape:
            x_bar = x_bar.reshape(shape)
    if x_bar.dtype != dtype and x_bar.dtype.kind != "c":
        x_bar = x_bar.astype(dtype)
    return x_bar


@functools.cache
def repeated_axes(shape: tuple[int, ...], broadcast: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes along which an array of one shape is repeated when it is broadcast to another; None if it can't be."""
    extra = len(broadcast) - len(shape)
    aligned = (1,) * extra + shape
    if extra < 0 or any(m not in (1, n) for m, n in zip(aligned, broadcast, strict=True)):
        return None
    return tuple(i for i, (m, n) in enumerate(zip(aligned, broadcast, strict=True)) if m != n)
