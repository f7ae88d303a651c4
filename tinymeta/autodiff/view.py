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
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arguments import check_type, wanted
from . import tree
from .blocks import Block
from .derivatives import _check_scalar, _one
from .layout import FONT, GAP, LINE, Box, Layout, lay_out
from .reverse import steps
from .tensor import Operation, Tensor, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NODES = 200  # in a picture that can still be read
MOST_ELEMENTS = 4  # of a value that is written out


# ## What is in the graph
class NamedGraph(NamedTuple):
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
        return f"{node.op.name}({', '.join(map(self.name, node.inputs))})"  # type: ignore[union-attr]


def graph_of(outputs: Any, inputs: Any, names: dict[str, Any] | None) -> NamedGraph:
    """Everything that `outputs` were computed from, and nothing that `inputs` were computed from."""
    check_type("names", names, (dict, type(None)), "a dict, from names to Tensors or to containers of them")
    ends = {x.index for x in leaves_of(inputs)}
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
    return NamedGraph([seen[index] for index in sorted(seen)], found, ends, names_of(sorted(seen), names or {}))


def leaves_of(inputs: Any) -> list[Tensor]:
    """The Tensors that a graph, or a sweep, goes back to."""
    leaves = tree.flatten(inputs)[0]
    if not all(type(x) is Tensor for x in leaves):
        raise wanted("inputs", inputs, "Tensors of the graph, or containers of them", TypeError)
    return leaves


def names_of(indices: Sequence[int], names: dict[str, Any]) -> dict[int, str]:
    """A name for each node, by its index: the given one, or v and its number."""
    given = {x.index: name for root, part in names.items()
             for x, name in zip(tree.flatten(part)[0], tree.names(part, root), strict=True) if type(x) is Tensor}  # fmt: skip
    found = {index: given.get(index, f"v{i}") for i, index in enumerate(indices)}
    if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
        raise ValueError(f"several nodes are called {', '.join(twice)}: give each a name of its own (v0, v1, ... are those without one)")
    return found


def numbers(x: Any) -> str:
    """The elements of a small array, on one line."""
    rounded: Any = {"float_kind": "{:.4g}".format, "complex_kind": "{:.4g}".format}
    return np.array2string(np.asarray(x), max_line_width=1000, separator=", ", formatter=rounded).replace("\n", "")


def summary(x: Any) -> str:
    """A value in a few words: its shape, and its elements if they are few."""
    if isinstance(x, tuple):  # a block's
        return " and ".join(str(np.shape(part)) for part in x if not isinstance(part, tree.Structure))
    return f"{np.shape(x)} = {numbers(x)}" if 0 < np.size(x) <= MOST_ELEMENTS else str(np.shape(x))


# ## What is in the picture
# A kind's colours, of the inside and of the border.
COLOURS = {
    "leaf": ("#dcefdc", "#3c7a3c"),
    "operation": ("#e3ecf7", "#4a6fa5"),
    "output": ("#fde3c0", "#c2711a"),
    "constant": ("#f7f7f7", "#8a8a8a"),
}


def boxes_of(graph: NamedGraph) -> list[Box]:
    """A box for each node and for each use of a constant, inputs before their users."""
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
        title = name if leaf else f"{name} = {node.op.name}"  # type: ignore[union-attr]
        boxes.append(Box(kind, (title, summary(node.data)), tuple(inputs)))
    return boxes


# ## The picture in three forms
def draw(output: Any, inputs: Any = None, names: dict[str, Any] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the graph of `output` with Matplotlib, from the leaves at the top to the output at the bottom.

    A box says which operation made a node, its shape, and its value if it has few elements. Leaves are green, operations
    blue, outputs orange, constants grey. Arrows enter a box in the order of the operation's arguments, from left to right.

    Parameters
    ----------
    output : Tensor of any shape, or a container of several
    inputs : Tensor, or container of several, where the graph is cut: what they were computed from isn't drawn
    names : what to call Tensors, as in `{"x": x, "theta": {"W": W, "b": b}}`: a name for each, containers included
    ax : the Axes to draw in, scaled to fit; by default a new figure, as large as it needs to be

    Returns
    -------
    The Axes; `draw(loss).figure.savefig("loss.svg")` keeps the picture.

    Raises TypeError if the output isn't a Tensor; ValueError if two nodes have the same name, or if there are more than 200
    nodes: `dot` and `mermaid` take any number.

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
    low, high = (layout.centres - layout.sizes / 2).min(axis=0) - GAP, (layout.centres + layout.sizes / 2).max(axis=0) + GAP
    if ax is None:
        ax = plt.figure(figsize=tuple(high - low)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.set_axis_off()
    inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    _paint(ax, boxes, layout, scale=min(inches.width / (high - low)[0], inches.height / (high - low)[1]))
    return ax


def _paint(ax: Axes, boxes: Sequence[Box], layout: Layout, scale: float) -> None:
    """The arrows, then the boxes, then their text."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path

    grey: Any = dict(color="#777777", linewidth=scale, shrinkA=0, shrinkB=0)
    for upper, lower, port in layout.links:
        (x0, y0), (x1, y1) = layout.centres[[upper, lower]] + ((0, -layout.sizes[upper, 1] / 2), (port, layout.sizes[lower, 1] / 2))
        corners, codes = [(x0, y0), (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3]
        if lower >= len(boxes):  # a bend: straight on through its layer
            corners, codes = [*corners, (x1, y1 - layout.sizes[lower, 1])], [*codes, Path.LINETO]
        style = "-|>" if lower < len(boxes) else "-"
        ax.add_patch(FancyArrowPatch(path=Path(corners, codes), arrowstyle=style, mutation_scale=8 * scale, **grey))
    for box, (x, y), (width, height) in zip(boxes, layout.centres, layout.sizes, strict=False):
        inside, border = COLOURS[box.kind]
        ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06",
                                    facecolor=inside, edgecolor=border, linewidth=scale))  # fmt: skip
        constant = box.kind == "constant"
        for i, line in enumerate(box.lines):
            ax.text(x, y + LINE * ((len(box.lines) - 1) / 2 - i), line, family="monospace", fontsize=FONT * scale, parse_math=False,
                    color=border if constant else "black", weight="normal" if i or constant else "bold",
                    horizontalalignment="center", verticalalignment="center")  # fmt: skip


def dot(output: Any, inputs: Any = None, names: dict[str, Any] | None = None) -> str:
    """The same picture as text for Graphviz: write it to a file, then `dot -Tsvg file`. Any number of nodes.

    Parameters
    ----------
    output, inputs, names : as for `draw`

    Raises TypeError if the output isn't a Tensor, ValueError if two nodes have the same name.

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


def mermaid(output: Any, inputs: Any = None, names: dict[str, Any] | None = None) -> str:
    """The same picture as text for Mermaid: put it into a fenced block of Markdown that is marked `mermaid`.

    Parameters
    ----------
    output, inputs, names : as for `draw`

    Raises TypeError if the output isn't a Tensor, ValueError if two nodes have the same name.

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
    """One step of the sweep: a node's complete cotangent becomes a term of the cotangent of each of its inputs.

    `rule`, `before` and `after` are dicts. Their keys are the names of the inputs that lead on; their values are the rule's
    expression for the term (in the rule's own words: the cotangent, the node, then its inputs), the input's cotangent before
    this step (None if there was none), and after it.
    """

    number: int
    node: Tensor
    name: str
    operation: str
    cotangent: Any
    rule: dict[str, str]
    before: dict[str, Any]
    after: dict[str, Any]

    def rows(self) -> list[list[str]]:
        """The cells of the table, a row for each input."""
        rows: list[list[str]] = []
        for name, rule in self.rule.items():
            first = [""] * 4 if rows else [str(self.number), self.name, self.operation, _bar(self.cotangent)]
            rows.append([*first, name, textwrap.shorten(rule, 60, placeholder=" ..."), _bar(self.before[name]), _bar(self.after[name])])
        return rows

    def __repr__(self) -> str:
        return str(SweepTable([self]))


class SweepTable(Sequence[Step]):
    """What the reverse sweep did, step by step: index it or iterate over it; printed, it is a table."""

    HEAD = ("step", "node", "operation", "cotangent", "input", "rule", "before", "after")

    def __init__(self, steps: Sequence[Step]):
        self.steps = list(steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: Any) -> Any:
        return SweepTable(self.steps[index]) if isinstance(index, slice) else self.steps[index]

    def rows(self) -> list[list[str]]:
        """The cells of the whole table."""
        return [row for step in self.steps for row in step.rows()]

    def __str__(self) -> str:
        rows = [list(self.HEAD), *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, ["-" * width for width in widths])
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html

        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag} style='text-align: left'>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return "<table>" + row(self.HEAD, "th") + "".join(row(cells, "td") for cells in self.rows()) + "</table>"


# A rule is shown in its own words, read from its source: what it returns, one expression for each input, without the
# `lambda:` that postpones it. A rule that isn't written as one tuple stands whole for each of its inputs.
def rule_terms(op: Operation, count: int) -> list[str]:
    """The expressions of an operation's rule for the cotangents of its `count` inputs."""
    if isinstance(op, Block):
        return ["the function again, and a sweep over its inside"] * count
    result = _result(inspect.unwrap(op.vjp))  # type: ignore[arg-type]
    if result is None:
        return ["(no source)"] * count
    terms = [part for part in result.elts if not isinstance(part, ast.Starred)] if isinstance(result, ast.Tuple) else [result]
    texts = [ast.unparse(part.body if isinstance(part, ast.Lambda) else part) for part in terms]
    return (texts + texts[-1:] * count)[:count]


def _result(rule: Callable[..., Any]) -> Any:
    """What a function returns, as a syntax tree; None if its source can't be found."""
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(rule)).strip())
    except (OSError, TypeError, SyntaxError):
        return None
    parameters = list(inspect.signature(rule).parameters)
    for part in ast.walk(source):
        if isinstance(part, (ast.FunctionDef, ast.Lambda)) and _parameters(part) == parameters:
            last = part.body if isinstance(part, ast.Lambda) else part.body[-1]
            return last.value if isinstance(last, ast.Return) else last
    return None


def _parameters(function: ast.FunctionDef | ast.Lambda) -> list[str]:
    named = function.args
    starred = [named.vararg] if named.vararg else []
    return [argument.arg for argument in (*named.posonlyargs, *named.args, *starred, *named.kwonlyargs)]


def _bar(bar: Any) -> str:
    """A cotangent in a few words; None is the zero that every cotangent starts from."""
    if type(bar) is dict:  # a block's
        return "; ".join(f"{i}: {_bar(part)}" for i, part in bar.items())
    return "0" if bar is None else numbers(bar) if 0 < np.size(bar) <= MOST_ELEMENTS else f"{np.shape(bar)} norm {np.linalg.norm(bar):.4g}"


def sweep_table(output: Tensor, inputs: Any, names: dict[str, Any] | None = None) -> SweepTable:
    """The reverse sweep from a scalar to `inputs`, as a table with a row for each step.

    It is made by the sweep of `tm.gradients` itself, so its numbers are the same.

    Parameters
    ----------
    output : Tensor of shape ()
    inputs : Tensor of any shape, or container of several
    names : what to call Tensors, as for `draw`

    Returns
    -------
    A sequence of `Step`s, from the output to the inputs, that prints as a table, in notebooks too, and so does each step.
    It is empty if the output depends on none of the inputs.

    Raises TypeError if the output isn't a Tensor; ValueError if it isn't a scalar, or if two nodes have the same name.

    Example
    -------
    >>> import tinymeta as tm
    >>> from tinymeta.autodiff import view
    >>> x = tm.tensor(3.0)
    >>> table = view.sweep_table(x * x + x, [x], names={"x": x})
    >>> print(table)
    step  node  operation       cotangent  input  rule                   before  after
    ----  ----  --------------  ---------  -----  ---------------------  ------  -----
    0     v2    add(v1, x)      1          v1     c_bar                  0       1
                                           x      c_bar                  0       1
    1     v1    multiply(x, x)  1          x      c_bar * b + c_bar * a  1       7
    >>> table[1].operation, table[1].rule["x"]
    ('multiply(x, x)', 'c_bar * b + c_bar * a')
    >>> float(table[1].before["x"]), float(table[1].after["x"])
    (1.0, 7.0)
    """
    graph = graph_of(output, None, names)
    _check_scalar(output)
    terms_of = functools.cache(rule_terms)
    bars: dict[int, Any] = {}
    known = {output.index: _one(output)}  # all cotangents so far; `bars` forgets those that are used up
    table = []
    for number, node in enumerate(steps(bars, [output], [known[output.index]], leaves_of(inputs), record=False)):
        rule: dict[str, str] = {}
        before, after = {}, {}
        for x, term in zip(node.inputs, terms_of(node.op, len(node.inputs)), strict=True):
            if type(x) is Tensor and x.index in bars:
                name = graph.name(x)
                rule[name] = f"{rule[name]} + {term}" if name in rule else term
                before[name], after[name] = known.get(x.index), bars[x.index]
        table.append(Step(number, node, graph.name(node), graph.call(node), known[node.index], rule, before, after))
        known.update((x.index, bars[x.index]) for x in node.inputs if type(x) is Tensor and x.index in bars)
    return SweepTable(table)
