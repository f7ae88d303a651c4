r"""
# Where the boxes of a picture go

A graph is laid out in layers: a box stands below all of its inputs, a leaf just above the first of its users. An edge
that crosses several layers has a *bend* in each of them, which takes a place of its own, so no edge runs behind a box;
the edges that leave a box together share their bends. Where a box stands in its layer is settled by sweeps down and up:
each goes to the mean place of its neighbours in the layer before (the *barycentre*), as nearly as the others' widths allow.

Nothing here knows what is in the boxes, but the number of letters.

Source: Sugiyama, Tagawa & Toda, Methods for visual understanding of hierarchical system structures (1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Lengths are in inches; text is monospaced, so its width is known without drawing it.
FONT = 9.0  # points
LETTER, LINE = 0.602 * FONT / 72, 1.3 * FONT / 72
MARGIN, GAP, LAYER_GAP = 0.1, 0.22, 0.34
ROUNDS = 24  # of sweeps to find the order, and of sweeps to straighten the edges
LOOSE, FIRM, STIFF = 0.1, 1.0, 3.0  # leaves give way, bends make straight lines


class Box(NamedTuple):
    """A node of the picture."""

    kind: str  # leaf, operation, output or constant
    lines: tuple[str, ...]
    inputs: tuple[int, ...]  # numbers of boxes, in the order of the rule's arguments


class Spot(NamedTuple):
    """A box or a bend."""

    layer: int
    width: float
    weight: float


class Link(NamedTuple):
    """A piece of an edge, from a spot to one in the next layer, which it meets so far off its centre."""

    upper: int
    lower: int
    port: float


class Layout(NamedTuple):
    """Places for the boxes and, after them, the bends; y points up."""

    centres: np.ndarray  # (spots, 2)
    sizes: np.ndarray  # (spots, 2)
    links: list[Link]


def layers_of(boxes: Sequence[Box]) -> list[int]:
    """The layer of each box: one below the lowest of its inputs; what has none, just above the first of its users."""
    layers: list[int] = []
    highest_user: dict[int, int] = {}
    for box in boxes:
        layers.append(1 + max((layers[i] for i in box.inputs), default=-1))
        for i in box.inputs:
            highest_user[i] = min(layers[-1], highest_user.get(i, layers[-1]))
    return [layer if box.inputs else highest_user.get(k, 1) - 1 for k, (box, layer) in enumerate(zip(boxes, layers, strict=True))]


def lay_out(boxes: Sequence[Box]) -> Layout:
    """Layers, then bends, then places; no two boxes overlap."""
    layers = layers_of(boxes)
    sizes = np.array([[LETTER * max(map(len, box.lines)), LINE * len(box.lines)] for box in boxes]) + 2 * MARGIN
    spots, links = bend(boxes, layers, sizes[:, 0])
    tallest = np.zeros(max(layers) + 1)
    np.maximum.at(tallest, layers, sizes[:, 1])
    middle = tallest / 2 - np.cumsum(tallest + LAYER_GAP)
    bends = [(0.0, tallest[spot.layer]) for spot in spots[len(boxes) :]]
    centres = np.stack([places(spots, links), middle[[spot.layer for spot in spots]]], axis=1)
    return Layout(centres, np.array([*sizes, *bends]), links)


def bend(boxes: Sequence[Box], layers: Sequence[int], widths: np.ndarray) -> tuple[list[Spot], list[Link]]:
    """Give the edges a bend in each layer that they cross."""
    spots = [Spot(layer, width, FIRM if box.inputs else LOOSE) for box, layer, width in zip(boxes, layers, widths, strict=True)]
    trails = [[k] for k in range(len(boxes))]  # a box and the bends below it
    links = []
    for k, box in enumerate(boxes):
        for place, i in enumerate(box.inputs, 1):
            trail, crossed = trails[i], layers[k] - layers[i] - 1
            while len(trail) <= crossed:
                links.append(Link(trail[-1], len(spots), 0.0))
                trail.append(len(spots))
                spots.append(Spot(layers[i] + len(trail) - 1, 0.0, STIFF))
            links.append(Link(trail[crossed], k, widths[k] * (place / (len(box.inputs) + 1) - 0.5)))
    return spots, links


def places(spots: Sequence[Spot], links: Sequence[Link]) -> np.ndarray:
    """The x of each spot: near its neighbours', and clear of the spots beside it."""
    rows = [[k for k, spot in enumerate(spots) if spot.layer == layer] for layer in range(1 + max(spot.layer for spot in spots))]
    above: list[list[tuple[int, float, float]]] = [[] for _ in spots]
    below: list[list[tuple[int, float, float]]] = [[] for _ in spots]
    for upper, lower, port in links:
        weight = spots[upper].weight * spots[lower].weight
        above[lower].append((upper, -port, weight))
        below[upper].append((lower, port, weight))
    both = [a + b for a, b in zip(above, below, strict=True)]
    x = best = np.zeros(len(spots))
    fewest: float = np.inf
    for turn in range(ROUNDS):  # to find an order
        for row in rows[:: 1 if turn % 2 == 0 else -1]:
            x = settle(x, row, spots, above if turn % 2 == 0 else below, reorder=True)
        if (found := crossings(x, spots, links)) < fewest:
            best, fewest = x, found
    for turn in range(ROUNDS):  # to straighten the edges
        for row in rows[:: 1 if turn % 2 == 0 else -1]:
            best = settle(best, row, spots, both, reorder=False)
    return best


def settle(x: np.ndarray, row: Sequence[int], spots: Sequence[Spot], near: Sequence[Any], reorder: bool) -> np.ndarray:
    """The x of all spots, with those of a row moved toward the means of their neighbours."""
    wishes = np.array([np.average([x[j] + port for j, port, _ in near[k]], weights=[w for _, _, w in near[k]]) if near[k] else x[k]
                       for k in row])  # fmt: skip
    order = np.argsort(wishes if reorder else x[row], kind="stable")
    sorted_row = np.array(row)[order]
    widths, weights = np.array([(spots[k].width, spots[k].weight) for k in sorted_row]).T
    x = x.copy()
    x[sorted_row] = apart(wishes[order], widths, weights)
    return x


def crossings(x: np.ndarray, spots: Sequence[Spot], links: Sequence[Link]) -> int:
    """How many pairs of edges cross."""
    count = 0
    for layer in {spots[link.upper].layer for link in links}:
        here = [link for link in links if spots[link.upper].layer == layer]
        top, bottom = x[[link.upper for link in here]], np.array([x[link.lower] + link.port for link in here])
        count += int(np.sum(np.subtract.outer(top, top) * np.subtract.outer(bottom, bottom) < 0)) // 2
    return count


# Wishes $w_i$ for places in a row, in order, and distances $d_i$ to keep: minimise $\sum_i (x_i - w_i)^2$ (weighted) where
# $x_{i+1} - x_i \ge d_i$. With $x_i = z_i + d_0 + \dots + d_{i-1}$ it says that z must not fall: an isotonic regression.
def apart(wishes: np.ndarray, widths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The places nearest to the wishes where things of these widths, in this order, don't overlap."""
    from scipy.optimize import isotonic_regression

    shift = np.concatenate([[0.0], np.cumsum((widths[1:] + widths[:-1]) / 2 + GAP)])
    return isotonic_regression(wishes - shift, weights=weights).x + shift
