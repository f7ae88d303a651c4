r"""
# A whole function as one node

`checkpoint` and `vmap` each make *one* node of a whole function: the graph of its inside is forgotten after the
forward, and made again by the rule. Let $y = f(x, t)$, where $x$ are the arguments and $t$ the Tensors that
the function's code refers to without being given them (its *captured* Tensors). They are inputs like the others:

$$ \bar x = \Big(\frac{\partial f}{\partial x}\Big)^{\!\top} \bar y, \qquad
   \bar t = \Big(\frac{\partial f}{\partial t}\Big)^{\!\top} \bar y, $$

and both come from one sweep over the graph of $f$, made anew. That computation is again a function, $(\bar y, x) \mapsto
(\bar x, \bar t)$, and it is run as a block of the same kind: so a block can be differentiated as often as one likes, and
its inside is never kept.

A *mapped* block runs its function once for each row of its arguments:

$$ y_i = f(x_i, t), \qquad \bar x_i = \Big(\frac{\partial f}{\partial x_i}\Big)^{\!\top} \bar y_i, \qquad
   \bar t = \sum_i \Big(\frac{\partial f}{\partial t}\Big)^{\!\top} \bar y_i, $$

with the sum in the order of the rows.

*Under a trace* (`machine`) a function is run once, on Tensors that stand for any value of their shape, and the graph of the
run is kept, as a program. There the graph of one row stands for all rows, so a mapped block runs its function once too, and the
rule goes on from that graph instead of making it anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_function, shown, wanted
from . import tree
from .reverse import sweep
from .tensor import BEFORE_ALL, NotAnalytic, Operation, Tensor, data_of, is_tracing, now, operation, own, tensor


class Graph(NamedTuple):
    """A function as the graph that one run of it made."""

    inputs: list[Any]  # what it was given
    captured: list[Tensor]  # what it used besides
    nodes: list[Tensor]  # what it made on the way to its outputs, oldest first
    outputs: list[Any]  # Tensors, or constants
    structure: tree.Structure  # of the outputs


def run(f: Callable[..., Any], inputs: Sequence[Any], first: Graph | None = None) -> Graph:
    """Call `f`, and find what its result depends on: the nodes that it made, and the Tensors from before, other than `inputs`.

    If `f` goes on from the graph of a `first` run, the nodes of that graph count as made.
    """
    start = now()
    outputs, structure = tree.flatten(f(*inputs))
    given = {x.index for x in inputs if type(x) is Tensor}
    earlier = set() if first is None else {x.index for x in first.nodes}
    found: dict[int, Tensor] = {}
    waiting = [y for y in outputs if type(y) is Tensor]
    while waiting:
        node = waiting.pop()
        if node.index not in found and node.index not in given:
            found[node.index] = node
            if node.index > start or node.index in earlier:
                waiting += [x for x in node.inputs if type(x) is Tensor]
    made = earlier.union(index for index in found if index > start)
    captured = [found[index] for index in sorted(found.keys() - made)]
    nodes = [found[index] for index in sorted(found.keys() & made)]
    return Graph(list(inputs), captured, nodes, outputs, structure)


# ## The node
# Its value is a *bundle*, a tuple of arrays, and each output is an `item` of it. The cotangent of a bundle is a dict:
# from the number of each output that has a cotangent, to the cotangent.
@operation
def item(bundle: tuple[Any, ...], *, index: int) -> Any:
    return bundle[index]


@item.rule
def _(c_bar: Any, c: Any, bundle: Any, *, index: int) -> tuple[Any, ...]:
    return ({index: c_bar},)


class Block(Operation):
    """The operation of a node that stands for a whole function, run once (`length` None) or row by row."""

    def __init__(self, f: Callable[..., Any], length: int | None, captured: list[Tensor], graph: Graph | None):
        super().__init__(f, "checkpoint" if length is None else "map")
        self.f, self.length, self.captured = f, length, captured
        self.graph = graph  # one row's, if traced: a Program is made from it
        self.vjp = Block.pull  # says that there is a rule; the sweep calls `pull` itself

    def pull(self, y_bars: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], wanted: list[bool]) -> list[Any]:
        """The rule: run the function again (if its graph isn't there any more) and sweep, as another block."""
        record = type(y) is Tensor
        count = len(inputs) - len(self.captured)  # of the arguments
        numbers = list(y_bars)
        captured = [t for t, want in zip(self.captured, wanted[count:], strict=True) if want]
        first = self.graph if is_tracing() and record and any(type(x) is Tensor for x in inputs[:count]) else None

        def again(*given: Any) -> tuple[list[Any], list[Any], list[Any]]:
            bars, x = given[: len(numbers)], given[len(numbers) :]
            leaves = [tensor(part) if want else part for part, want in zip(x, wanted[:count], strict=True)]
            outputs = tree.flatten(self.f(*leaves))[0] if first is None else first.outputs
            reached = [(outputs[i], bar) for i, bar in zip(numbers, bars, strict=True) if type(outputs[i]) is Tensor]
            targets = [leaf for leaf, want in zip(leaves, wanted[:count], strict=True) if want] + captured
            # Captured Tensors may be computed from each other; the outer sweep will walk those ways, so this one must not.
            found = sweep([node for node, _ in reached], [bar for _, bar in reached], targets, record, partial=True)
            found = [np.zeros(t.shape, t.dtype) if bar is None else bar for t, bar in zip(targets, found, strict=True)]
            values = [] if is_tracing() else [data_of(outputs[i]) for i in numbers]  # to compare with the first run's
            return found[: len(found) - len(captured)], found[len(found) - len(captured) :], values

        x_bars, t_bars, values = block(again, self.length, [*y_bars.values(), *inputs[:count]], first)
        self._check_unchanged([data_of(y)[i] for i in numbers], values)
        if self.length is not None:
            t_bars = [np.sum(bar, axis=0) for bar in t_bars]
        bars = iter([*x_bars, *t_bars])
        return [next(bars) if want else None for want in wanted]

    def _check_unchanged(self, first: list[Any], second: list[Any]) -> None:
        """A function that computes something else in the second run would have the wrong derivative, silently."""
        if not second:  # under a trace there are no values
            return
        if not all(np.allclose(y, data_of(z), equal_nan=True) for y, z in zip(first, second, strict=True)):
            raise RuntimeError(f"{self.name} runs its function again for the gradient, and the second run computed something else: "
                               "the function draws random numbers, or uses what has changed in between (an array, a loop's "
                               "variable). Pass these as arguments; those are remembered")  # fmt: skip


def block(f: Callable[..., Any], length: int | None, arguments: Sequence[Any], first: Graph | None = None) -> Any:
    """Run `f`, and return its result as one node: once on `arguments` if `length` is None, else for each of their rows.

    If no Tensor is in it there is nothing to differentiate, and the result is made of arrays. Under a trace, one
    row stands for all of them; and if `f` goes on from the graph of a `first` run, its last arguments are that run's.
    """
    start = now()
    symbolic = is_tracing() and (any(type(x) is Tensor for x in arguments) or bool(run(f, _row(arguments, length, 0)).captured))
    captured: dict[int, Tensor] = {}
    values: list[list[Any]] = []
    structures = set()
    for i in range(1 if symbolic else length or 1):
        given = _row(arguments, length, i, symbolic)
        if first is not None:
            given[len(given) - len(first.inputs) :] = first.inputs
        graph = run(f, given, first)
        captured.update((t.index, t) for t in graph.captured if t.index < start)  # not what f kept from an earlier row
        values.append([data_of(y) for y in graph.outputs])
        structures.add(graph.structure)
    if len(structures) > 1:
        raise ValueError("vmap: the results of the rows are built differently (other containers, or keys in another order)")
    if length is not None:
        outputs = [_stack([value[k] for value in values], length) for k in range(len(values[0]))]
    else:
        outputs = values[0]
    inputs = (*arguments, *(captured[index] for index in sorted(captured)))
    if not any(type(x) is Tensor for x in inputs):
        return tree.unflatten(graph.structure, outputs)
    made = Block(f, length, list(inputs[len(arguments) :]), graph if symbolic else None)
    # One row's values are not the others': of what depends on them nothing is known before the program runs. It counts as older than
    # anything, so that a derivative around it, even by a constant, is recorded too.
    oldest = BEFORE_ALL if symbolic and length is not None else min(x.oldest for x in inputs if type(x) is Tensor)
    bundle = Tensor(tuple(outputs), made, inputs, {}, oldest)
    items = [y if length is None and type(y) is not Tensor else item(bundle, index=k) for k, y in enumerate(graph.outputs)]
    return tree.unflatten(graph.structure, items)


def _row(arguments: Sequence[Any], length: int | None, i: int, symbolic: bool = False) -> list[Any]:
    """What the function is given in row i: new leaves in the place of Tensors, so that its inside stays inside."""
    parts = [data_of(x) if length is None else data_of(x)[i] for x in arguments]
    mapped = symbolic and length is not None
    return [tensor(part) if mapped or type(x) is Tensor else part for x, part in zip(arguments, parts, strict=True)]


def _stack(values: list[Any], length: int) -> np.ndarray:
    shapes = {np.shape(value) for value in values}
    if len(shapes) > 1:
        raise ValueError(f"vmap: the results of the rows have different shapes, {sorted(shapes)}, and can't be stacked")
    if len(values) < length:
        return np.broadcast_to(values[0], (length, *np.shape(values[0])))
    return np.stack(values)


# ## Checkpoint
def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same function, keeping nothing of its inside for the backward pass, which computes it again.

    Memory for time: a chain of $n$ steps in $\sqrt n$ checkpointed pieces keeps about $2 \sqrt n$ steps instead of $n$.
    No part of the second computation is shared with the first. Array arguments are remembered as they were.

    Parameters
    ----------
    f : function of nested containers; it may capture Tensors, whose gradients are right

    Raises RuntimeError, in the backward pass, if the second computation has another result: f draws random numbers, or
    captured something that has changed.

    Source: Griewank & Walther, Algorithm 799: revolve (2000).

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.grad(tm.checkpoint(lambda x: np.sin(x) ** 2))(0.0)
    array(0.)
    """

    check_function("f", f, "the function to run again")

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if type(x) is Tensor]
        kept = _remember(leaves)

        def inside(*tensors: Any) -> Any:
            given = dict(zip(places, tensors, strict=True))
            args, kwargs = tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(kept)])
            return f(*args, **kwargs)

        return block(inside, None, [leaves[i] for i in places])

    return checkpointed


def _remember(leaves: list[Any]) -> list[Any]:
    """Copies of the arrays among the arguments: the second run must find what the first one found."""
    return [own(x) if isinstance(x, np.ndarray) else x for x in leaves]


# ## Map
def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Make a function of one example a function of many: `f` on each slice, the results stacked.

    Parameters
    ----------
    f : function of nested containers of arrays
    in_axes : the axis to slice, for all arguments or one for each (a tuple); None: the argument is shared by all
        slices. In place of a number there may be a container that is a prefix of the argument's.
    out_axes : where the new axis goes in the results

    Returns
    -------
    A function of the same arguments. It is one node of the graph, and so is its derivative; the cotangents of
    what is shared are added in the order of the slices.

    Raises ValueError if the mapped axes differ in length, or none is mapped; RuntimeError as `checkpoint` does.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.vmap(np.dot, (0, None))(np.eye(2), np.array([3.0, 4.0]))
    array([3., 4.])
    """

    check_function("f", f, "a function of one example")
    for name, axes in {"in_axes": in_axes, "out_axes": out_axes}.items():
        if not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in tree.flatten(axes)[0]):
            raise wanted(name, axes, "the number of an axis, or None, or containers of these", TypeError)

    @functools.wraps(f)
    def mapped(*args: Any) -> Any:
        leaves, structure = tree.flatten(args)
        axes = tree.spread(in_axes, args, "in_axes")
        places = [i for i, axis in enumerate(axes) if axis is not None]
        kept = _remember(leaves)
        rows = [_to_front(kept[i], axes[i], functools.partial(tree.leaf_name, f, args, i)) for i in places]
        lengths = {len(x) for x in rows}
        if len(lengths) != 1 or not lengths.pop():
            given = f"{[np.shape(leaves[i]) for i in places]} in {', '.join(tree.parameter_names(f, len(args)))} for in_axes={in_axes!r}"
            raise ValueError(f"vmap needs one common length, at least 1, of the mapped axes; got shapes {given}")

        def one(*slices: Any) -> Any:
            given = dict(zip(places, slices, strict=True))
            return f(*tree.unflatten(structure, [given.get(i, x) for i, x in enumerate(kept)]))

        result = block(one, len(rows[0]), rows)
        outputs, structure_out = tree.flatten(result)
        places_out = tree.spread(out_axes, result, "out_axes")
        for y, axis in zip(outputs, places_out, strict=True):
            if axis is None or not -np.ndim(y) <= axis < np.ndim(y):
                raise ValueError(f"out_axes={out_axes!r}: every result is stacked, so each needs the number of its new axis; "
                                 f"one has the shape {np.shape(y)} with the new axis first")  # fmt: skip
        return tree.unflatten(structure_out, [y if axis == 0 else np.moveaxis(y, 0, axis)
                                              for y, axis in zip(outputs, places_out, strict=True)])  # fmt: skip

    return mapped


def _to_front(x: Any, axis: int, name: Callable[[], str]) -> Any:
    if type(x) not in (np.ndarray, Tensor) or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"vmap can't slice axis {axis} of {name()}={shown(x)}; None in in_axes shares it")
    return x if axis == 0 else np.moveaxis(x, axis, 0)


# ## Your own operation
# Its inputs are the leaves of its arguments; its value is a bundle, followed by the structure of y.
class Custom(Operation):
    """The operation that `custom_vjp` makes of a forward and a rule."""

    def __init__(self, forward: Callable[..., Any], rule: Callable[..., Any]):
        name = getattr(forward, "__name__", "custom_vjp")
        super().__init__(functools.partial(_on_leaves, forward, name), name)
        self.holomorphic(functools.partial(_on_complex_leaves, forward, name))
        self.vjp = rule

    def pull(self, y_bars: Any, y: Any, inputs: Sequence[Any], params: dict[str, Any], wanted: list[bool]) -> list[Any]:
        """Call the user's rule with containers like the user's."""
        *values, built = data_of(y)
        ys = [item(y, index=i) for i in range(len(values))] if type(y) is Tensor else values
        bars = [y_bars.get(i, np.zeros_like(value)) for i, value in enumerate(values)]
        xs = tree.unflatten(params["structure"], inputs)
        terms = self.vjp(tree.unflatten(built, bars), tree.unflatten(built, ys), *xs)  # type: ignore[misc]
        if not isinstance(terms, tuple) or len(terms) != len(xs):
            raise ValueError(f"the rule of {self.name} must return a tuple of {len(xs)} cotangents, one for each argument, got {terms!r}")
        x_bars = [leaf for bar, x in zip(terms, xs, strict=True) for leaf in self._leaves(bar() if callable(bar) else bar, x)]
        for x, x_bar in zip(inputs, x_bars, strict=True):  # in the shape of a value, if the arguments were broadcast to it
            if x_bar is not None and np.shape(x_bar) not in (np.shape(x), *map(np.shape, values)):
                shapes = f"a cotangent of shape {np.shape(x_bar)} for an argument of shape {np.shape(x)}"
                raise ValueError(f"the rule of {self.name} returned {shapes}")
        return [x_bar if want else None for x_bar, want in zip(x_bars, wanted, strict=True)]

    def _leaves(self, x_bar: Any, x: Any) -> list[Any]:
        leaves, structure = tree.flatten(x)
        return [None] * len(leaves) if x_bar is None else tree.leaves_like(structure, x_bar, f"a cotangent of {self.name}")


def _refuse_captured(y: Any, name: str) -> Any:
    if any(type(part) is Tensor for part in tree.flatten(y)[0]):
        raise TypeError(f"{name} uses a Tensor that it was not given: pass it as an argument, or its gradient is lost")
    return y


def _on_leaves(forward: Callable[..., Any], name: str, *leaves: Any, structure: tree.Structure) -> tuple[Any, ...]:
    outputs, built = tree.flatten(_refuse_captured(forward(*tree.unflatten(structure, leaves)), name))
    return (*map(own, outputs), built)


# For the complex step the forward is given Tensors, so that its kinks go by the real part, as they do elsewhere.
def _on_complex_leaves(forward: Callable[..., Any], name: str, *leaves: Any, structure: tree.Structure) -> tuple[Any, ...]:
    try:
        outputs, built = tree.flatten(forward(*tree.unflatten(structure, map(tensor, leaves))))
    except TypeError as error:
        raise NotAnalytic(f"the forward of {name} doesn't run on complex Tensors: {error}") from None
    return (*(own(data_of(y)) for y in outputs), built)


def custom_vjp(forward: Callable[..., Any], rule: Callable[..., Any]) -> Callable[..., Any]:
    r"""An operation of your own: its forward on plain arrays, and the rule that reverses it.

    Parameters
    ----------
    forward : forward(\*xs) -> y, called with plain arrays (in the containers that they came in); with complex Tensors by
        the complex step, if it is written in operations that take them
    rule : rule(y_bar, y, \*xs) -> a tuple with one cotangent for each x, None for zero. Written in NumPy, it is
        called with Tensors if the gradient may be differentiated again. As in the built-in rules, a cotangent may be
        postponed with `lambda:`.

    Raises TypeError if `forward` captures a Tensor (pass it as an argument, else its gradient would be lost), and
    ValueError if the rule returns too few or too many cotangents, or one of a wrong shape.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> cube = tm.custom_vjp(lambda x: x**3, lambda y_bar, y, x: (y_bar * 3 * x**2,))
    >>> tm.grad(cube)(2.0), tm.grad(tm.grad(cube))(2.0)
    (array(12.), array(12.))
    """

    check_function("forward", forward, "a function of arrays")
    check_function("rule", rule, "a function of the value's cotangent, the value, and the arguments")
    made = Custom(forward, rule)

    @functools.wraps(forward)
    def custom(*xs: Any) -> Any:
        leaves, structure = tree.flatten(xs)
        if not any(type(x) is Tensor for x in leaves):
            return _refuse_captured(forward(*xs), made.name)
        bundle = made(*leaves, structure=structure)
        *values, built = bundle.data
        return tree.unflatten(built, [item(bundle, index=i) for i in range(len(values))])

    return custom
