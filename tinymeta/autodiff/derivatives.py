r"""
# Derivatives of functions

`grad` and its relatives turn a function into the function that computes its derivative. Each does the same three
things: replace the arguments by new leaves, call the function, and sweep.

**Arrays in, arrays out.** A node with `oldest < start` depends, with or without a derivative, on a Tensor that existed
before the call, as an argument or captured by the function's code: a derivative may be going on *outside*. We ask twice.
Of the function's *value*, to know whether to record the sweep, so that it can be differentiated again; and of each
*result*, to know whether to return it as a Tensor or as a plain array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import check_flag, check_function, check_type, shown, wanted
from . import tree
from .blocks import vmap
from .operations.elementwise import identity
from .reverse import sweep
from .tensor import SCALARS, Tensor, data_of, describe, now, tensor


# ## Into the graph and out of it
def enter(x: Any, name: Callable[[], str]) -> Tensor:
    """A new node for an argument: a leaf, or, over a Tensor of an outer derivative, a node of its own on top.

    On top, so that x as the argument and the same Tensor captured by the function's code are told apart: without it,
    `grad(lambda x: grad(lambda y: x * y)(x))` would count x twice. The new node has the `oldest` of the one below, so the
    inner `grad` knows that there is an outer one.
    """
    if type(x) is Tensor:
        if x.dtype.kind not in "fc":
            raise TypeError(f"can't differentiate with respect to {name()}: it is {describe(x.data)}, and only floats have derivatives")
        return identity(x)
    if type(x) is int:
        x = float(x)  # 3 means 3.0
    kind = np.asarray(x).dtype.kind
    if kind != "f":
        advice = "write its real and imaginary parts as two real arguments" if kind == "c" else "convert it with .astype(float)"
        raise TypeError(f"can't differentiate with respect to {name()}: it is {describe(x)}, and only real floats have derivatives; "
                        f"{advice}, or leave it out of argnums")  # fmt: skip
    return tensor(x)


def leave(x: Any, start: float) -> Any:
    """Out again: an array of the caller's own, unless it depends on something from before `start`."""
    if type(x) is Tensor:
        return x if x.oldest < start else np.array(x.data, order="C")
    return np.array(x, order="C") if isinstance(x, (np.ndarray, np.generic)) or type(x) in (float, complex) else x


class _Run:
    """One call of `f` with chosen arguments replaced by new nodes."""

    def __init__(self, f: Callable[..., Any], args: Sequence[Any], argnums: Sequence[int], kwargs: dict[str, Any], has_aux: bool = False):
        self.start = now()
        given = list(args)
        self.leaves: list[list[Tensor]] = []
        self.structures = []
        for i in argnums:
            leaves, structure = tree.flatten(args[i])
            nodes = [enter(x, functools.partial(_name, f, args, i, k)) for k, x in enumerate(leaves)]
            given[i] = tree.unflatten(structure, nodes)
            self.leaves.append(nodes)
            self.structures.append(structure)
        result = f(*given, **kwargs)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError("with has_aux=True the function must return a pair (value, aux)")
        self.value: Any = result[0] if has_aux else result
        self.aux: Any = result[1] if has_aux else None
        self.outputs, self.structure = tree.flatten(self.value)
        self.nodes = [y for y in self.outputs if type(y) is Tensor]
        self.outside = any(y.oldest < self.start for y in self.nodes)  # whether to record the sweep

    def cotangents(self, bars: Sequence[Any], record: bool) -> list[Any]:
        """The cotangents of the chosen arguments, one tree each, from those of the outputs; None is zero."""
        pairs = [(y, bar) for y, bar in zip(self.outputs, bars, strict=True)
                 if type(y) is Tensor and y.dtype.kind in "fc" and bar is not None]  # fmt: skip
        everything = [x for leaves in self.leaves for x in leaves]
        found = iter(sweep([y for y, _ in pairs], [bar for _, bar in pairs], everything, record))
        return [tree.unflatten(structure, [_zeros(x) if (bar := next(found)) is None else bar for x in leaves])
                for structure, leaves in zip(self.structures, self.leaves, strict=True)]  # fmt: skip

    def hand_out(self, result: Any) -> Any:
        return tree.map(lambda x: leave(x, self.start), result)


def _name(f: Callable[..., Any], args: Sequence[Any], i: int, k: int) -> str:
    """How to write leaf k of argument i; only an error needs to know."""
    return tree.argument_names(f, args)[i][k]


def _check(f: Any, argnums: Any = 0, has_aux: Any = False) -> None:
    """What makes a derivative; which is made again and again, so what is usual is asked first."""
    if callable(f) and type(argnums) is int and type(has_aux) is bool:
        return
    check_function("f", f, "the function to differentiate")
    check_flag("has_aux", has_aux)
    numbers = argnums if isinstance(argnums, (list, tuple, range)) else [argnums]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in numbers):
        raise wanted("argnums", argnums, "the number of a positional argument, or a sequence of such numbers", TypeError)


def _check_arguments(name: str, xs: Any) -> None:
    check_type(name, xs, (list, tuple), "a sequence, of one for each argument of f: write (x,) for one")


def _zeros(x: Tensor) -> np.ndarray:
    return np.zeros(x.shape, x.dtype)


def _chosen(argnums: int | Sequence[int], args: Sequence[Any]) -> list[int]:
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in chosen:
        if not -len(args) <= i < len(args):
            raise ValueError(f"argnums={argnums} names an argument that wasn't given: there are {len(args)} positional arguments")
    chosen = [i % len(args) for i in chosen]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"argnums={argnums} names an argument twice")
    return chosen


# ## The gradient of a scalar
def gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The reverse sweep on a graph that you built: the gradient of a scalar node with respect to any of its nodes.

    Parameters
    ----------
    output : Tensor of shape ()
    inputs : Tensors of any shape

    Returns
    -------
    One Tensor for each input, in its shape and dtype, which can be differentiated again; zeros if the output
    doesn't depend on the input.

    Raises TypeError if the output isn't a Tensor, ValueError if it isn't a scalar.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> x = tm.tensor(3.0)
    >>> [dy] = tm.gradients(x**3, [x])
    >>> [ddy] = tm.gradients(dy, [x])
    >>> dy.value, ddy.value
    (array(27.), array(18.))
    """
    check_type("inputs", inputs, (list, tuple), "a sequence of Tensors: write tm.gradients(output, [x]) for one")
    for i, x in enumerate(inputs):
        if type(x) is not Tensor or x.dtype.kind not in "fc":
            raise TypeError(f"gradients: inputs[{i}] must be a Tensor of floats, got {describe(data_of(x))}")
    if type(output) is not Tensor:
        raise TypeError(f"gradients: the output must be a Tensor, got {shown(output)}; build it from tm.tensor(...) leaves")
    _check_scalar(output)
    found = sweep([output], [_one(output)], inputs)
    return [tensor(_zeros(x)) if bar is None else bar if type(bar) is Tensor else tensor(bar) for x, bar in zip(inputs, found, strict=True)]


def _one(y: Tensor) -> Any:
    return 1.0 if type(y.data) is float else np.ones((), y.dtype)


def _check_scalar(y: Any) -> None:
    if not isinstance(y, (Tensor, np.ndarray, np.generic, *SCALARS)):
        raise TypeError(f"grad needs a function that returns a scalar, got {type(y).__name__}; "
                        "with has_aux=True it may return (scalar, aux)")  # fmt: skip
    if np.shape(y) != ():
        raise ValueError(f"grad needs a scalar, got shape {np.shape(y)}: reduce it with np.sum or np.mean, or use tm.jacobian or tm.vjp")
    if type(y) is Tensor and y.dtype.kind not in "fc":
        raise TypeError(f"grad needs a scalar of floats, got {y.dtype}, which has no derivative")


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Like `grad`, and the value too: (value, gradient), or ((value, aux), gradient) with `has_aux`.

    >>> import tinymeta as tm
    >>> tm.value_and_grad(lambda x: x**2)(3.0)
    (array(9.), array(6.))
    """

    _check(f, argnums, has_aux)

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        run = _Run(f, args, _chosen(argnums, args), kwargs, has_aux)
        _check_scalar(run.value)
        if np.iscomplexobj(run.value) and not run.outside:
            raise TypeError("grad needs a real scalar, got a complex one: write its real and imaginary parts as two real functions")
        one = _one(run.value) if type(run.value) is Tensor else 1.0
        gradient = run.cotangents([one], run.outside)
        value = (run.value, run.aux) if has_aux else run.value
        return run.hand_out((value, gradient[0] if isinstance(argnums, int) else tuple(gradient)))

    return value_and_gradient


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    r"""The function that computes $\nabla f$.

    Parameters
    ----------
    f : function whose value is a scalar of floats; with `has_aux`, a pair (scalar, aux)
    argnums : which positional argument, or a sequence of several (then the gradient is a tuple)
    has_aux : whether to pass on something besides the value; the result is then (gradient, aux)

    Returns
    -------
    A function of the same arguments. The gradient has the structure, shapes and dtypes of the argument, which may be
    nested containers of arrays. It consists of arrays, owned by the caller, unless it depends on a Tensor that existed
    before the call; then of Tensors.

    Raises TypeError if the argument is not made of real floats (a Python int counts as one), ValueError if the value isn't
    a scalar.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.grad(lambda theta: np.sum(theta["w"] ** 2))({"w": np.array([1.0, 2.0])})
    {'w': array([2., 4.])}
    >>> tm.grad(tm.grad(np.sin))(0.5) + np.sin(0.5)
    np.float64(0.0)
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


# ## Products with the Jacobian
def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    r"""The value of f and the *pullback* $\bar y \mapsto J^\top \bar y$, one sweep for each call of it.

    Parameters
    ----------
    f : function of `primals`; its value may be nested containers
    primals : where; all are differentiated

    Returns
    -------
    value : f(\*primals)
    pullback : function from a cotangent, shaped like the value, to a tuple with one cotangent for each primal

    Raises ValueError if a cotangent doesn't have the structure and shapes of the value.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> y, pullback = tm.vjp(np.multiply, 2.0, 3.0)
    >>> y, pullback(1.0)
    (array(6.), (array(3.), array(2.)))
    """
    _check(f)
    run = _Run(f, primals, range(len(primals)), {})

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        bars = tree.leaves_like(run.structure, cotangent, "the cotangent")
        for y, bar in zip(run.outputs, bars, strict=True):
            if np.shape(bar) != np.shape(y):
                raise ValueError(f"the cotangent must have the value's shape {np.shape(y)}, got {np.shape(bar)}")
        given = any(type(bar) is Tensor for bar in bars)  # newer than `start`, but the caller's all the same
        found = tuple(run.cotangents([_as_cotangent(bar, y) for bar, y in zip(bars, run.outputs, strict=True)], run.outside))
        return found if given else run.hand_out(found)

    return run.hand_out(run.value), pullback


def _as_cotangent(bar: Any, y: Any) -> Any:
    """In the dtype of the node it belongs to, or complex."""
    if type(y) is not Tensor or type(bar) is Tensor:
        return bar
    bar = np.asarray(bar)
    if bar.dtype.kind not in "biufc":
        raise TypeError(f"a cotangent or a tangent holds numbers, got {shown(bar)}")
    return bar if bar.dtype.kind == "c" else bar.astype(y.dtype)


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    r"""The value of f and the directional derivative $J v$.

    There are no forward rules. The pullback $\bar y \mapsto J^\top \bar y$ is linear, so its own derivative is the
    transpose of $J^\top$: sweep a second time, with respect to the cotangent $u$,
    $$ \frac{\partial}{\partial u} \langle J^\top u, v \rangle = J v. $$

    Parameters
    ----------
    f : function; its value may be nested containers
    primals : sequence of arguments
    tangents : sequence of the same structure and shapes

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.jvp(np.sin, (0.0,), (2.0,))
    (array(0.), array(2.))
    """
    _check(f)
    _check_arguments("primals", primals)
    _check_arguments("tangents", tangents)
    run = _Run(f, primals, range(len(primals)), {})
    everything = [x for leaves in run.leaves for x in leaves]
    v = tree.leaves_like(tree.flatten(tuple(primals))[1], tuple(tangents), "tangents")
    for x, part in zip(everything, v, strict=True):
        if np.shape(part) != x.shape:
            raise ValueError(f"tangents must have the shapes of their primals, {x.shape}, got {np.shape(part)}")
    nodes = [y for y in run.nodes if y.dtype.kind in "fc"]
    # $J^\top u$ is linear in $u$, so zeros will do; being Tensors, they make nodes in the sweep even when it isn't recorded.
    u = [tensor(_zeros(y)) for y in nodes]
    pulled = [(bar, part) for bar, part in zip(sweep(nodes, u, everything, run.outside), v, strict=True) if type(bar) is Tensor]
    record = any(bar.oldest < run.start for bar, _ in pulled)
    found = sweep([bar for bar, _ in pulled], [_as_cotangent(part, bar) for bar, part in pulled], u, record)
    of_node = {y.index: bar for y, bar in zip(nodes, found, strict=True) if bar is not None}
    tangent = [of_node.get(y.index, _zeros(y)) if type(y) is Tensor else np.zeros(np.shape(y)) for y in run.outputs]
    return run.hand_out((run.value, tree.unflatten(run.structure, tangent)))


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    r"""The Hessian of a scalar function times a vector, without the Hessian:

    $$ H v = \frac{\partial}{\partial x} \langle \nabla f(x), v \rangle \qquad \text{with } v \text{ constant.} $$

    Parameters
    ----------
    f : function of one argument with a scalar value
    x : where
    v : container of the same structure and shapes as x

    Source: Pearlmutter, Fast exact multiplication by the Hessian (1994).

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """

    def slope(x: Any) -> Any:
        return inner_product(grad(f)(x), v, "v, which must be built like x,")

    return grad(slope)(x)


def inner_product(a: Any, b: Any, name: str = "the second factor") -> Any:
    """The sum over all leaves of the products of their elements; `name` is what an error calls b."""
    leaves, structure = tree.flatten(a)
    others = tree.leaves_like(structure, b, name)
    for x, y in zip(leaves, others, strict=True):
        if np.shape(x) != np.shape(y):
            raise ValueError(f"an inner product needs equal shapes, got {np.shape(x)} and, for {name}, {np.shape(y)}")
    return sum((np.sum(x * y) for x, y in zip(leaves, others, strict=True)), start=0.0)


# ## Whole matrices
def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    r"""The function that computes the matrix $J_{ij} = \partial y_i / \partial x_j$.

    Row $i$ is the pullback of the unit vector $e_i$: one forward, then one sweep for each element of the output.

    Parameters
    ----------
    f : function; its value may be nested containers of arrays
    argnums : which positional argument, or a sequence of several

    Returns
    -------
    A function of the same arguments, whose value has the structure of f's value outside and that of the argument inside
    (between them a tuple, if `argnums` is a sequence), with leaves of shape `y.shape + x.shape`.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    _check(f, argnums)

    @functools.wraps(f)
    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        run = _Run(f, args, _chosen(argnums, args), kwargs)

        def rows(k: int) -> Any:
            y = run.outputs[k]
            basis = np.eye(np.size(y), dtype=y.dtype if type(y) is Tensor and y.dtype.kind == "f" else float)

            def row(e: Any) -> list[Any]:
                bars: list[Any] = [None] * len(run.outputs)
                bars[k] = np.reshape(e, np.shape(y))
                return run.cotangents(bars, run.outside)

            if len(basis):
                matrices = vmap(row)(basis)
            else:  # no rows, each of the right shape
                matrices = tree.map(lambda x_bar: x_bar[None][:0], row(np.zeros(0)))
            shaped = tree.map(lambda m: np.reshape(m, np.shape(y) + np.shape(m)[1:]), matrices)
            return shaped[0] if isinstance(argnums, int) else tuple(shaped)

        result = tree.unflatten(run.structure, [rows(k) for k in range(len(run.outputs))])
        return run.hand_out(result)

    return jacobian_of_f


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that computes the matrix of second derivatives: the Jacobian of the gradient.

    For nested arguments it nests twice: `hessian(f)(theta)["W"]["b"]` has shape `W.shape + b.shape`.

    >>> import numpy as np, tinymeta as tm
    >>> tm.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums)
