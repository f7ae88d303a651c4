r"""
# Trees: nested parameters, their leaves, and one flat vector

The parameters of a model come in containers: dicts, lists, tuples and namedtuples, one within another.
The calculus is written for one vector $\theta \in \mathbb{R}^n$. A *tree* is either a leaf (anything that
is not a container) or a container of trees; None is a container with nothing in it.

    flatten(tree)               -> leaves, structure
    unflatten(structure, leaves) -> tree
    map(f, tree, *more)          -> tree of the same structure
    ravel(tree)                 -> vector, and the function that undoes it
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_type, shown, wanted
from .tensor import Tensor


class Structure(NamedTuple):
    """What remains of a tree when its leaves are taken out: comparable and hashable."""

    kind: type | None  # None marks a leaf
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    def __repr__(self) -> str:
        return repr(unflatten(self, itertools.repeat(_Star())))


class _Star:
    """What a structure shows in the place of a leaf."""

    def __repr__(self) -> str:
        return "*"


LEAF = Structure(None)


def children(tree: Any) -> tuple[tuple[Any, ...], list[Any]] | None:
    """The keys and the children of a container, or None for a leaf."""
    if isinstance(tree, dict):
        return tuple(tree), list(tree.values())
    if isinstance(tree, (list, tuple)):
        return getattr(tree, "_fields", tuple(range(len(tree)))), list(tree)
    return ((), []) if tree is None else None


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree from left to right, and its structure.

    >>> flatten({"W": 1.0, "b": (2.0, None)})[0]
    [1.0, 2.0]
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    found = children(tree)
    if found is None:
        leaves.append(tree)
        return LEAF
    return Structure(type(tree), found[0], tuple([_flatten(child, leaves) for child in found[1]]))


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of this structure with these leaves.

    >>> leaves, structure = flatten({"W": 1.0, "b": (2.0, None)})
    >>> unflatten(structure, ["first", "second"])
    {'W': 'first', 'b': ('second', None)}
    """
    try:
        return _unflatten(structure, iter(leaves))
    except (StopIteration, TypeError, ValueError) as error:
        check_type("structure", structure, Structure, "the structure that tree.flatten finds")
        check_type("leaves", leaves, Iterable, "the leaves, one after the other")
        if not isinstance(error, StopIteration):
            raise
        raise ValueError(f"leaves={shown(leaves)}: there are fewer than in the structure, {structure!r}") from None


def _unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind, keys, parts = structure
    if kind is None:
        return next(leaves)
    built = [next(leaves) if part is LEAF else _unflatten(part, leaves) for part in parts]
    if issubclass(kind, dict):
        return dict(zip(keys, built, strict=True))
    if kind is type(None):
        return None
    return kind(*built) if hasattr(kind, "_fields") else kind(built)  # type: ignore[call-arg]


def collect(structure: Structure, tree: Any, leaves: list[Any]) -> bool:
    """Whether a tree has exactly this structure down to its leaves, which are appended to a list. It is quicker than `flatten`.

    A container in the place of a leaf is taken for a leaf: it is for the caller to see that.

    >>> leaves = []
    >>> collect(flatten({"W": 1.0, "b": (2.0, None)})[1], {"W": 3.0, "b": (4.0, None)}, leaves), leaves
    (True, [3.0, 4.0])
    """
    kind, keys, parts = structure
    if kind is None:
        leaves.append(tree)
        return True
    if type(tree) is not kind:
        return False
    if isinstance(tree, dict):
        if tuple(tree) != keys:
            return False
        tree = tuple(tree.values())
    if tree is None:
        return True
    if len(tree) != len(parts):
        return False
    for part, child in zip(parts, tree, strict=True):
        if part is LEAF:
            leaves.append(child)
        elif not collect(part, child, leaves):
            return False
    return True


def leaves_like(structure: Structure, tree: Any, name: str = "the tree") -> list[Any]:
    """The leaves of `tree` in the order of `structure`; dicts are matched by key.

    Raises ValueError if `tree` is built differently, and says where.
    """
    kind, keys, parts = structure
    found = children(tree)
    if kind is None:
        if found is not None:
            raise ValueError(f"{name} has another structure: expected an array or a number, got {type(tree).__name__}; "
                             "lists and tuples are containers, np.array(...) makes an array of them")  # fmt: skip
        return [tree]
    if found is None or isinstance(tree, dict) != issubclass(kind, dict) or set(found[0]) != set(keys):
        expected = f"{kind.__name__} with {list(keys)}" if keys else f"an empty {kind.__name__}"
        raise ValueError(f"{name} has another structure: expected {expected}, got {type(tree).__name__}"
                         + (f" with {list(found[0])}" if found else ""))  # fmt: skip
    child = dict(zip(*found, strict=True))
    return [leaf for key, part in zip(keys, parts, strict=True) for leaf in leaves_like(part, child[key], f"{name}[{key!r}]")]


def map(f: Callable[..., Any], tree: Any, *more: Any) -> Any:
    """Apply `f` leaf by leaf to one tree, or to several of the same structure.

    >>> map(lambda theta, g: theta - 0.1 * g, {"W": 1.0}, {"W": 2.0})
    {'W': 0.8}
    """
    if not callable(f):
        raise wanted("f", f, "a function of leaves", TypeError)
    leaves, structure = flatten(tree)
    others = [leaves_like(structure, other, f"argument {i} of tree.map") for i, other in enumerate(more, 2)]
    return unflatten(structure, [f(*group) for group in zip(leaves, *others, strict=True)])


def names(tree: Any, root: str = "") -> list[str]:
    """How to write each leaf in Python.

    >>> names({"W": 1.0, "b": (2.0, 3.0)}, "theta")
    ["theta['W']", "theta['b'][0]", "theta['b'][1]"]
    """
    found = children(tree)
    if found is None:
        return [root]
    fields = hasattr(tree, "_fields")
    return [name for key, child in zip(*found, strict=True)
            for name in names(child, f"{root}.{key}" if fields else f"{root}[{key!r}]")]  # fmt: skip


def argument_names(f: Callable[..., Any], args: Sequence[Any]) -> list[list[str]]:
    """How to write each leaf of each argument of a function, in error messages.

    >>> argument_names(lambda theta, x: None, ({"W": 1.0}, 2.0))
    [["theta['W']"], ['x']]
    """
    return [names(arg, root) for root, arg in zip(parameter_names(f, len(args)), args, strict=True)]


def leaf_name(f: Callable[..., Any], args: Sequence[Any], i: int) -> str:
    """How to write leaf i of all the arguments of a function; only an error needs to know."""
    return [name for group in argument_names(f, args) for name in group][i]


def parameter_names(f: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its first arguments.

    >>> parameter_names(lambda theta, *rest: None, 2)
    ['theta', 'argument 1']
    """
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # some of NumPy's functions don't tell
        parameters = ()  # type: ignore[assignment]
    roots = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*roots, *(f"argument {i}" for i in range(len(roots), count))][:count]


def spread(prefix: Any, tree: Any, name: str) -> list[Any]:
    """One value for each leaf of `tree`, from a prefix of it: a number or None stands for all that is below.

    >>> spread((0, None), ({"W": 1.0, "b": 2.0}, 3.0), "in_axes")
    [0, 0, None]
    """
    if prefix is None or children(prefix) is None:
        return [prefix] * len(flatten(tree)[0])
    found = children(tree)
    keys, parts = children(prefix)  # type: ignore[misc]
    if found is None or isinstance(tree, dict) != isinstance(prefix, dict) or set(found[0]) != set(keys):
        raise ValueError(f"{name}={prefix!r} doesn't match the structure of what it is for: give one number (or None) "
                         "for each, or a container of the same structure")  # fmt: skip
    part = dict(zip(keys, parts, strict=True))
    return [axis for key, child in zip(*found, strict=True) for axis in spread(part[key], child, name)]


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """One flat vector from all leaves, and the function that undoes it; both are differentiable.

    Parameters
    ----------
    tree : nested containers of arrays, numbers or Tensors

    Returns
    -------
    vector : array (or Tensor, if a leaf is one) of shape (n,), in the leaves' common dtype
    unravel : function from a vector of shape (n,) to a tree of the original structure, shapes and dtypes

    Example
    -------
    >>> import tinymeta as tm
    >>> vector, unravel = tm.ravel({"W": np.ones((2, 2)), "b": np.zeros(1)})
    >>> vector
    array([1., 1., 1., 1., 0.])
    >>> unravel(2 * vector)["b"]
    array([0.])
    """
    leaves, structure = flatten(tree)
    dtypes = [x.dtype if isinstance(x, Tensor) else np.asarray(x).dtype for x in leaves]
    for i, dtype in enumerate(dtypes):
        if dtype.kind not in "biufc" or (type(leaves[i]) is not np.ndarray and isinstance(leaves[i], np.ma.MaskedArray)):
            raise TypeError(f"{names(tree, 'tree')[i]} is {shown(leaves[i])}, which has no place in a vector of numbers")
    shapes = [np.shape(x) for x in leaves]
    parts = [np.reshape(x, (-1,)) for x in leaves]
    vector = np.concatenate(parts) if parts else np.zeros(0)
    return vector, functools.partial(_unravel, structure, shapes, dtypes)


def _unravel(structure: Structure, shapes: list[tuple[int, ...]], dtypes: list[np.dtype], vector: Any) -> Any:
    sizes = [math.prod(shape) for shape in shapes]
    if getattr(vector, "shape", None) != (sum(sizes),):
        given = f"shape {vector.shape}" if hasattr(vector, "shape") else f"vector={shown(vector)}"
        raise ValueError(f"unravel expects a vector of shape ({sum(sizes)},), got {given}")
    ends = np.cumsum(sizes, dtype=int)
    parts = (vector[end - size : end] for end, size in zip(ends, sizes, strict=True))
    return unflatten(structure, [np.reshape(part, shape).astype(dtype if vector.dtype.kind != "c" else vector.dtype)
                                 for part, shape, dtype in zip(parts, shapes, dtypes, strict=True)])  # fmt: skip
