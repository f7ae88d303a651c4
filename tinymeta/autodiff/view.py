r"""
# To look at a graph, and to step through a sweep

A graph is small enough to look at more often than one thinks. Here it becomes a picture, in three forms:

    draw(loss)            a figure, with Matplotlib
    dot(loss)             text for Graphviz
    mermaid(loss)         text for Mermaid, which Markdown on GitHub and in notebooks draws

and the reverse sweep over it becomes a table, one step for each node that the sweep visits:

    sweep_table(loss, [W, b])    the node, its rule, its cotangent; what each input had gathered before and after

A node that has no name is called $v_i$, numbered in the order of creation, in the picture and in the table alike. So the
one can be read beside the other.

## The picture
It is laid out in layers: a node stands below all of its inputs, a leaf just above the first of its users. An edge that
crosses several layers has a *bend* in each of them, which takes a place of its own, so no edge runs behind a node; the
edges that leave a node together share their bends. Where a node stands in its layer is settled by sweeps down and up: each
goes to the mean place of its neighbours in the layer before (the *barycentre*), as nearly as the others' widths allow.

Source: Sugiyama, Tagawa & Toda, Methods for visual understanding of hierarchical system structures (1981).
"""

from __future__ import annotations

import ast
import functools
import html
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import tree
from .blocks import Block
from .derivatives import _check_scalar, _one
from .reverse import steps
from .tensor import Operation, Tensor, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NODES = 200  # in a picture that can still be read
MOST_ELEMENTS = 4  # of a value that is written out


# ## What is in the graph
class Graph(NamedTuple):
    """The nodes between some leaves and some outputs."""

    nodes: list[Tensor]  # oldest first
    outputs: set[int]  # by index
    ends: set[int]  # where the graph was cut, by index
    names: dict[int, str]  # by index

    def name(self, x: Any) -> str:
        """What to call an operand; a constant by its value."""
        return self.names[x.index] if type(x) is Tensor else numbers(x) if np.size(x) <= MOST_ELEMENTS else describe(x)

    def call(self, node: Tensor) -> str:
        """How the node was made, as a call."""
        return f"{node.op.name}({', '.join(map(self.name, node.inputs))})"


def graph_of(outputs: Any, inputs: Sequence[Tensor] | None, names: dict[str, Any] | None) -> Graph:
    """Everything that `outputs` were computed from, and nothing that `inputs` were computed from."""
    ends = {x.index for x in inputs or ()}
    waiting = tree.flatten(outputs)[0]
    if not waiting or not all(type(y) is Tensor for y in waiting):
        raise TypeError(f"a graph hangs on its output, which must be a Tensor, got {', '.join(map(describe, waiting)) or 'nothing'}; "
                        "build it from tm.tensor(...) leaves (tm.grad returns arrays, tm.gradients Tensors)")  # fmt: skip
    found = {y.index for y in waiting}
    seen: dict[int, Tensor] = {}
    while waiting:
        node = waiting.pop()
        if node.index not in seen:
            seen[node.index] = node
            waiting.extend(x for x in node.inputs if type(x) is Tensor and node.index not in ends)
    nodes = [seen[index] for index in sorted(seen)]
    given = {x.index: name for root, part in (names or {}).items()
             for x, name in zip(tree.flatten(part)[0], tree.names(part, root), strict=True) if type(x) is Tensor}  # fmt: skip
    return Graph(nodes, found, ends, {node.index: given.get(node.index, f"v{i}") for i, node in enumerate(nodes)})


def numbers(x: Any) -> str:
    """The elements of a small array, on one line."""
    rounded = {"float_kind": "{:.4g}".format, "complex_kind": "{:.4g}".format}
    return np.array2string(np.asarray(x), max_line_width=1000, separator=", ", formatter=rounded).replace("\n", "")  # type: ignore[call-overload]


def summary(x: Any) -> str:
    """A value in a few words: its shape, and its elements if they are few."""
    if isinstance(x, tuple):  # a block's
        return " and ".join(str(np.shape(part)) for part in x if not isinstance(part, tree.Structure))
    return f"{np.shape(x)} = {numbers(x)}" if 0 < np.size(x) <= MOST_ELEMENTS else str(np.shape(x))


# ## What is in the picture
class Box(NamedTuple):
    """A node of the picture. Each use of a constant is a box of its own."""

    kind: str  # leaf, operation, output or constant
    lines: tuple[str, ...]
    inputs: tuple[int, ...]  # numbers of boxes, in the order of the rule's arguments


COLOURS = {"leaf": ("#dcefdc", "#3c7a3c"), "operation": ("#e3ecf7", "#4a6fa5"), "output": ("#fde3c0", "#c2711a"),
           "constant": ("#f7f7f7", "#8a8a8a")}  # fmt: skip  # kind -> (inside, border)


def boxes_of(graph: Graph) -> list[Box]:
    """A box for each node and constant, inputs before their users."""
    boxes: list[Box] = []
    place: dict[int, int] = {}
    for node in graph.nodes:
        name, leaf = graph.names[node.index], node.op is None or node.index in graph.ends
        inputs = []
        for x in () if leaf else node.inputs:
            if type(x) is not Tensor:
                boxes.append(Box("constant", (numbers(x) if np.size(x) <= MOST_ELEMENTS else f"constant {np.shape(x)}",), ()))
            inputs.append(place[x.index] if type(x) is Tensor else len(boxes) - 1)
        kind = "output" if node.index in graph.outputs else "leaf" if leaf else "operation"
        place[node.index] = len(boxes)
        boxes.append(Box(kind, (name if leaf else f"{name} = {node.op.name}", summary(node.data)), tuple(inputs)))
    return boxes


# ## Where the boxes go
# Lengths are in inches; text is monospaced, so its width is known without drawing it.
FONT = 9.0  # points
LETTER, LINE = 0.602 * FONT / 72, 1.3 * FONT / 72
MARGIN, GAP, LAYER_GAP = 0.1, 0.22, 0.34
ROUNDS = 24  # of sweeps to find the order, and of sweeps to straighten the edges
LOOSE, FIRM, STIFF = 0.1, 1.0, 3.0  # leaves give way, bends make straight lines


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
    """Places for the boxes, and paths for the edges."""

    centres: np.ndarray  # (boxes, 2), y pointing up
    sizes: np.ndarray  # (boxes, 2)
    edges: list[np.ndarray]  # (points, 2): from below a box, by its bends, to the top of another


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
    spots, links, trails = _bend(boxes, layers, sizes[:, 0])
    tallest = np.zeros(max(layers) + 1)
    np.maximum.at(tallest, layers, sizes[:, 1])
    middle = tallest / 2 - np.cumsum(tallest + LAYER_GAP)
    centres = np.stack([places(spots, links), middle[[spot.layer for spot in spots]]], axis=1)
    edges = []
    for link, trail in trails:
        tops = [centres[k] + (0, tallest[spots[k].layer] / 2) for k in trail[1:]]
        bottoms = [centres[k] - (0, tallest[spots[k].layer] / 2) for k in trail]
        bottoms[0] = centres[trail[0]] - (0, sizes[trail[0], 1] / 2)
        end = centres[link.lower] + (link.port, sizes[link.lower, 1] / 2)
        edges.append(np.array([bottoms[0], *(point for pair in zip(tops, bottoms[1:], strict=True) for point in pair), end]))
    return Layout(centres[: len(boxes)], sizes, edges)


def _bend(boxes: Sequence[Box], layers: Sequence[int], widths: np.ndarray) -> tuple[list[Spot], list[Link], list[tuple[Link, list[int]]]]:
    """Give every edge a bend in each layer that it crosses: all spots, all links, and for each edge its last link and its way there."""
    spots = [Spot(layer, width, FIRM if box.inputs else LOOSE) for box, layer, width in zip(boxes, layers, widths, strict=True)]
    trails = [[k] for k in range(len(boxes))]  # a box and its bends
    links, ways = [], []
    for k, box in enumerate(boxes):
        for place, i in enumerate(box.inputs):
            trail, crossed = trails[i], layers[k] - layers[i] - 1
            while len(trail) <= crossed:
                links.append(Link(trail[-1], len(spots), 0.0))
                trail.append(len(spots))
                spots.append(Spot(layers[i] + len(trail) - 1, 0.0, STIFF))
            links.append(Link(trail[crossed], k, widths[k] * ((place + 1) / (len(box.inputs) + 1) - 0.5)))
            ways.append((links[-1], trail[: crossed + 1]))
    return spots, links, ways


def places(spots: Sequence[Spot], links: Sequence[Link]) -> np.ndarray:
    """The x of each spot: near its neighbours', and clear of the spots beside it."""
    rows = [[k for k, spot in enumerate(spots) if spot.layer == layer] for layer in range(1 + max(spot.layer for spot in spots))]
    above, below = ([[] for _ in spots] for _ in range(2))
    for upper, lower, port in links:
        weight = spots[upper].weight * spots[lower].weight
        above[lower].append((upper, -port, weight))
        below[upper].append((lower, port, weight))
    both = [a + b for a, b in zip(above, below, strict=True)]
    x = best = np.zeros(len(spots))
    fewest = np.inf
    for turn in range(ROUNDS):  # to find an order
        for row in rows[:: 1 if turn % 2 == 0 else -1]:
            x = _settle(x, row, spots, above if turn % 2 == 0 else below, reorder=True)
        if (found := crossings(x, spots, links)) < fewest:
            best, fewest = x, found
    for turn in range(ROUNDS):  # to straighten the edges
        for row in rows[:: 1 if turn % 2 == 0 else -1]:
            best = _settle(best, row, spots, both, reorder=False)
    return best


def _settle(x: np.ndarray, row: Sequence[int], spots: Sequence[Spot], near: Sequence[Any], reorder: bool) -> np.ndarray:
    """The x of all spots, with those of a row moved toward the mean of their neighbours."""
    wishes = np.array([np.average([x[j] + port for j, port, _ in near[k]], weights=[w for _, _, w in near[k]]) if near[k] else x[k]
                       for k in row])  # fmt: skip
    order = np.argsort(wishes if reorder else x[row], kind="stable")
    widths, weights = np.array([spots[row[i]][1:] for i in order]).T
    x = x.copy()
    x[np.array(row)[order]] = apart(wishes[order], widths, weights)
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


# ## The picture in three forms
def draw(output: Any, inputs: Sequence[Tensor] | None = None, names: dict[str, Any] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the graph of `output` with Matplotlib, from the leaves at the top to the output at the bottom.

    A box says which operation made a node, its shape, and its value if it has few elements. Leaves are green, operations
    blue, outputs orange, constants grey. Arrows enter a box in the order of the operation's arguments, from left to right.

    Parameters
    ----------
    output : Tensor of any shape, or a container of several
    inputs : Tensors where the graph is cut: what they were computed from isn't drawn
    names : what to call Tensors, as in `{"x": x, "theta": {"W": W, "b": b}}`: a name for each, containers included
    ax : the Axes to draw in, scaled to fit; by default a new figure, as large as it needs to be

    Returns
    -------
    The Axes; `draw(loss).figure.savefig("loss.svg")` keeps the picture.

    Raises TypeError if the output isn't a Tensor, and ValueError if there are more than 200 nodes: `dot` and `mermaid`
    take any number.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> from tinymeta.autodiff import view
    >>> x = tm.tensor([1.0, 2.0])
    >>> ax = view.draw(np.sum(x * x), names={"x": x})
    >>> [text.get_text() for text in ax.texts]
    ['x', '(2,) = [1, 2]', 'v1 = multiply', '(2,) = [1, 4]', 'v2 = sum', '() = 5']
    """
    import matplotlib.pyplot as plt

    boxes = boxes_of(graph_of(output, inputs, names))
    if len(boxes) > MOST_NODES:
        raise ValueError(f"nobody can read a picture of {len(boxes)} nodes, draw stops at {MOST_NODES}: cut the graph with inputs=[...], "
                         "draw a smaller case, or let Graphviz or Mermaid draw the text of view.dot or view.mermaid")  # fmt: skip
    layout = lay_out(boxes)
    low = (layout.centres - layout.sizes / 2).min(axis=0) - GAP
    high = (layout.centres + layout.sizes / 2).max(axis=0) + GAP
    ax = ax or plt.figure(figsize=tuple(high - low)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.set_axis_off()
    inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    _paint(ax, boxes, layout, scale=min(inches.width / (high - low)[0], inches.height / (high - low)[1]))
    return ax


def _paint(ax: Axes, boxes: Sequence[Box], layout: Layout, scale: float) -> None:
    """The arrows, then the boxes, then their text."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    for points in layout.edges:
        codes, corners = [Path.MOVETO], [points[0]]
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            codes += [Path.CURVE4] * 3
            corners += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
        ax.add_patch(FancyArrowPatch(path=Path(corners, codes), arrowstyle="-|>", mutation_scale=8 * scale, color="#777777", linewidth=scale))
    for box, (x, y), (width, height) in zip(boxes, layout.centres, layout.sizes, strict=True):
        inside, border = COLOURS[box.kind]
        ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06",
                                    facecolor=inside, edgecolor=border, linewidth=scale))  # fmt: skip
        for i, line in enumerate(box.lines):
            ax.text(x, y + LINE * ((len(box.lines) - 1) / 2 - i), line, family="monospace", fontsize=FONT * scale, parse_math=False,
                    color=border if box.kind == "constant" else "black", weight="normal" if i or box.kind == "constant" else "bold",
                    horizontalalignment="center", verticalalignment="center")  # fmt: skip


def dot(output: Any, inputs: Sequence[Tensor] | None = None, names: dict[str, Any] | None = None) -> str:
    """The same picture as text for Graphviz: write it to a file, then `dot -Tsvg file`. Any number of nodes.

    Parameters
    ----------
    output, inputs, names : as for `draw`

    Raises TypeError if the output isn't a Tensor.

    Example
    -------
    >>> import tinymeta as tm
    >>> from tinymeta.autodiff import view
    >>> x = tm.tensor(3.0)
    >>> print(view.dot(-x, names={"x": x}))
    digraph {
      node [shape=box, style="rounded,filled", fontname="monospace"]
      n0 [label="x\\n() = 3", fillcolor="#dcefdc", color="#3c7a3c"]
      n1 [label="v1 = negative\\n() = -3", fillcolor="#fde3c0", color="#c2711a"]
      n0 -> n1
    }
    """
    boxes = boxes_of(graph_of(output, inputs, names))
    lines = ["digraph {", '  node [shape=box, style="rounded,filled", fontname="monospace"]']
    for k, box in enumerate(boxes):
        label = "\n".join(box.lines).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        inside, border = COLOURS[box.kind]
        lines.append(f'  n{k} [label="{label}", fillcolor="{inside}", color="{border}"]')
    lines += [f"  n{i} -> n{k}" for k, box in enumerate(boxes) for i in box.inputs]
    return "\n".join([*lines, "}"])


def mermaid(output: Any, inputs: Sequence[Tensor] | None = None, names: dict[str, Any] | None = None) -> str:
    """The same picture as text for Mermaid: put it into a fenced block of Markdown that is marked `mermaid`.

    Parameters
    ----------
    output, inputs, names : as for `draw`

    Raises TypeError if the output isn't a Tensor.

    Example
    -------
    >>> import tinymeta as tm
    >>> from tinymeta.autodiff import view
    >>> x = tm.tensor(3.0)
    >>> print(view.mermaid(-x, names={"x": x}))
    flowchart TD
      n0["x<br/>() = 3"]:::leaf
      n1["v1 = negative<br/>() = -3"]:::output
      n0 --> n1
      classDef leaf fill:#dcefdc,stroke:#3c7a3c,color:#000
      classDef operation fill:#e3ecf7,stroke:#4a6fa5,color:#000
      classDef output fill:#fde3c0,stroke:#c2711a,color:#000
      classDef constant fill:#f7f7f7,stroke:#8a8a8a,color:#000
    """
    boxes = boxes_of(graph_of(output, inputs, names))
    lines = ["flowchart TD"]
    for k, box in enumerate(boxes):
        lines.append(f'  n{k}["{"<br/>".join(map(_entities, box.lines))}"]:::{box.kind}')
    lines += [f"  n{i} --> n{k}" for k, box in enumerate(boxes) for i in box.inputs]
    lines += [f"  classDef {kind} fill:{inside},stroke:{border},color:#000" for kind, (inside, border) in COLOURS.items()]
    return "\n".join(lines)


def _entities(text: str) -> str:
    """Mermaid's own way to write what means something in HTML or Markdown: #number; for a character."""
    return "".join(f"#{ord(letter)};" if letter in "#&<>\"'`*_\\" else letter for letter in text)


# ## The reverse sweep, step by step
class Step(NamedTuple):
    r"""One step of the sweep: a node's complete cotangent becomes a term of the cotangents of its inputs.

    `rule`, `before` and `after` are dicts, from the name of each input that leads on to the rule's expression for its term
    (in the rule's own words: `c_bar` is the cotangent, `c` the node, what follows are the inputs), to its cotangent before
    this step (None if this is its first term), and after it.
    """

    node: Tensor
    name: str
    operation: str
    cotangent: Any
    rule: dict[str, str]
    before: dict[str, Any]
    after: dict[str, Any]

    def rows(self) -> list[list[str]]:
        """The cells of the table, a row for each input."""
        first = [self.name, self.operation, _bar(self.cotangent)]
        return [[*(first if i == 0 else [""] * 3), name, self.rule[name], _bar(self.before[name]), _bar(self.after[name])]
                for i, name in enumerate(self.after)]  # fmt: skip


class SweepTable(Sequence[Step]):
    """What the reverse sweep did, step by step: index it or iterate over it; printed, it is a table."""

    HEAD = ("step", "node", "operation", "cotangent", "input", "rule", "before", "after")

    def __init__(self, steps: Sequence[Step]):
        self.steps = list(steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: Any) -> Any:
        return self.steps[index]

    def rows(self) -> list[list[str]]:
        """The cells of the whole table."""
        return [[str(i) if row[0] else "", *row] for i, step in enumerate(self.steps) for row in step.rows()]

    def __str__(self) -> str:
        rows = [list(self.HEAD), *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align: left'>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return "<table>" + row(self.HEAD, "th") + "".join(row(cells, "td") for cells in self.rows()) + "</table>"


# A rule is shown in its own words, read from its source: what it returns, one expression for each input, without the
# `lambda:` that postpones it. A rule that isn't written as one tuple stands whole for each of its inputs.
def rule_terms(op: Operation, count: int) -> list[str]:
    """The expressions of an operation's rule for the cotangents of its `count` inputs."""
    if isinstance(op, Block):
        return ["the function again, and a sweep over its inside"] * count
    rule = inspect.unwrap(op.vjp)  # type: ignore[arg-type]
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(rule)).strip())
    except (OSError, TypeError, SyntaxError):
        return ["(no source)"] * count
    parameters = list(inspect.signature(rule).parameters)
    found = [part for part in ast.walk(source) if isinstance(part, (ast.FunctionDef, ast.Lambda)) and _parameters(part) == parameters]
    if not found:
        return ["(no source)"] * count
    result = found[0].body if isinstance(found[0], ast.Lambda) else found[0].body[-1]
    result = getattr(result, "value", result) if isinstance(result, ast.Return) else result
    terms = [part for part in result.elts if not isinstance(part, ast.Starred)] if isinstance(result, ast.Tuple) else [result]
    texts = [ast.unparse(part.body if isinstance(part, ast.Lambda) else part) for part in terms]
    return (texts + [texts[-1]] * count)[:count]


def _parameters(function: ast.FunctionDef | ast.Lambda) -> list[str]:
    named = function.args
    starred = [named.vararg] if named.vararg else []
    return [argument.arg for argument in (*named.posonlyargs, *named.args, *starred, *named.kwonlyargs)]


def _bar(bar: Any) -> str:
    """A cotangent in a few words; None is the zero that every cotangent starts from."""
    if type(bar) is dict:  # a block's
        return "; ".join(f"{i}: {_bar(part)}" for i, part in bar.items())
    return "0" if bar is None else numbers(bar) if 0 < np.size(bar) <= MOST_ELEMENTS else f"{np.shape(bar)} norm {np.linalg.norm(bar):.4g}"


def sweep_table(output: Tensor, inputs: Sequence[Tensor], names: dict[str, Any] | None = None) -> SweepTable:
    """The reverse sweep from a scalar to `inputs`, as a table with a row for each step.

    It is made by the sweep of `tm.gradients` itself, so its numbers are the same.

    Parameters
    ----------
    output : Tensor of shape ()
    inputs : Tensors of any shape
    names : what to call Tensors, as for `draw`

    Returns
    -------
    A sequence of `Step`s, from the output to the inputs, that prints as a table, in notebooks too. It is empty if the
    output depends on none of the inputs.

    Raises TypeError if the output isn't a Tensor, ValueError if it isn't a scalar.

    Example
    -------
    >>> import tinymeta as tm
    >>> from tinymeta.autodiff import view
    >>> x = tm.tensor(3.0)
    >>> table = view.sweep_table(x * x + x, [x], names={"x": x})
    >>> print(table)
    step  node  operation       cotangent  input  rule                     before  after
    ----  ----  --------------  ---------  -----  -----------------------  ------  -----
    0     v2    add(v1, x)      1          v1     c_bar                    0       1
                                           x      c_bar                    0       1
    1     v1    multiply(x, x)  1          x      c_bar * b + c_bar * a    1       7
    >>> table[1].before, table[1].after
    ({'x': 1.0}, {'x': 7.0})
    """
    graph = graph_of(output, inputs, names)
    _check_scalar(output)
    terms_of = functools.cache(rule_terms)
    bars: dict[int, Any] = {}
    known = {output.index: _one(output)}
    table = []
    for node in steps(bars, [output], [known[output.index]], inputs, further=False):
        terms = terms_of(node.op, len(node.inputs))
        rule: dict[str, str] = {}
        before, after = {}, {}
        for x, term in zip(node.inputs, terms, strict=True):
            if type(x) is Tensor and x.index in bars:
                name = graph.name(x)
                rule[name] = f"{rule[name]} + {term}" if name in rule else term
                before[name], after[name] = known.get(x.index), bars[x.index]
        table.append(Step(node, graph.name(node), graph.call(node), known[node.index], rule, before, after))
        known.update((x.index, bars[x.index]) for x in node.inputs if type(x) is Tensor and x.index in bars)
    return SweepTable(table)
