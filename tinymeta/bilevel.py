r"""
# The two-level problem

Learning to learn is one optimisation around another. For a task $\mathcal T$, the *inner* level adapts parameters
$\phi$ to what is given (the support set); the *outer* level judges the result on what is asked (the query set), and
asks how the meta-parameters $\theta$ should change:

$$ \min_\theta\; \mathbb E_{\mathcal T}\, F(\theta; \mathcal T), \qquad
   F(\theta; \mathcal T) = f(\phi_{\mathcal T}(\theta), \theta, \mathcal T), \qquad
   \phi_{\mathcal T}(\theta) \approx \arg\min_\phi L(\phi, \theta, \mathcal T). $$

The chain rule gives the meta-gradient its two parts, a direct one and one through the adapted parameters:

$$ \frac{dF}{d\theta} = \frac{\partial f}{\partial \theta} + \Big(\frac{d\phi}{d\theta}\Big)^{\!\top} \frac{\partial f}{\partial \phi}. $$

All that the estimators differ in is what they take for $d\phi / d\theta$: the derivative of the steps that were
made (`maml`, `learned_optimizer`), or that of the point where they would end (`implicit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .arguments import check_flag, check_function, check_type, wanted
from .autodiff import Tensor, grad, stop_gradient, tree
from .autodiff.blocks import Block, run
from .autodiff.derivatives import inner_product
from .autodiff.reverse import between
from .autodiff.tensor import describe

Loss = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Bilevel:
    """The inner and the outer loss, as functions of (phi, theta, task) with a scalar value.

    Parameters
    ----------
    inner : the loss that the task's parameters phi are adapted to
    outer : the loss that the adaptation is judged by
    init : init(theta, task) -> phi_0, where the adaptation starts; by default theta itself, as in MAML

    phi, theta and task may be any nested containers of arrays.

    Example
    -------
    >>> import tinymeta as tm
    >>> problem = tm.Bilevel(inner=lambda phi, theta, task: (phi - task) ** 2, outer=lambda phi, theta, task: phi**2)
    >>> problem.start(3.0, None)
    3.0
    """

    inner: Loss
    outer: Loss
    init: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        check_function("inner", self.inner, "a function of (phi, theta, task)", 3)
        if self.outer is not None:  # the inner level alone can be looked at without one
            check_function("outer", self.outer, "a function of (phi, theta, task)", 3)
        if self.init is not None:
            check_function("init", self.init, "a function of (theta, task) that returns phi_0; None starts at theta", 2)

    def start(self, theta: Any, task: Any) -> Any:
        """phi_0."""
        return theta if self.init is None else self.init(theta, task)

    # ANIL (Raghu et al. 2020) adapts the last layer alone. That needs no other algorithm, only another problem: let $\psi$ be the
    # part of $\phi$ that adapts. The rest stays where it starts, and so is a function of theta:
    # $$ \tilde L(\psi, \theta) = L(\phi_0(\theta) \text{ with } \psi \text{ put in},\; \theta), \qquad \tilde f \text{ likewise}. $$
    def adapting(self, adapted: Any) -> Bilevel:
        """The same problem with only some leaves of phi adapting, for any estimator.

        Parameters
        ----------
        adapted : booleans in containers shaped like phi, or like its upper part (one for all that is below); or a function of a
            leaf's name, such as `"phi[1]['W']"`, that says whether it adapts

        Returns
        -------
        Bilevel, whose phi has None in the place of each leaf that doesn't adapt; `merged(phi, phi_0)` fills it in.

        Raises ValueError, when it is used, if `adapted` isn't built like phi, or chooses nothing.

        Example
        -------
        >>> import tinymeta as tm
        >>> loss = lambda phi, theta, task: (phi["body"] * phi["head"] - 1) ** 2
        >>> anil = tm.Bilevel(loss, loss).adapting({"body": False, "head": True})
        >>> tm.maml.adapt(anil, {"body": 2.0, "head": 1.0}, None, steps=1, lr=0.125)
        {'body': None, 'head': np.float64(0.5)}
        """

        def start(theta: Any, task: Any) -> Any:
            phi = self.start(theta, task)
            leaves, structure = tree.flatten(phi)
            names = tree.names(phi, "phi")
            chosen = [adapted(name) for name in names] if callable(adapted) else tree.spread(adapted, phi, "adapted")
            for name, choice in zip(names, chosen, strict=True):
                check_flag("adapted", choice, f"for {name}")
            if not any(chosen):
                raise ValueError(f"adapted chooses no leaf of phi, so nothing adapts; there are {', '.join(names)}")
            return tree.unflatten(structure, [leaf if choice else None for leaf, choice in zip(leaves, chosen, strict=True)])

        def of_part(loss: Loss) -> Loss:
            return lambda phi, theta, task: loss(merged(phi, self.start(theta, task)), theta, task)

        return Bilevel(of_part(self.inner), of_part(self.outer), start)


def merged(part: Any, whole: Any) -> Any:
    """`whole` with the leaves of `part` in their places; where `part` has None, the leaf of `whole` stays.

    >>> merged({"body": None, "head": 0.5}, {"body": 2.0, "head": 1.0})
    {'body': 2.0, 'head': 0.5}
    """
    found = dict(zip(tree.names(part), tree.flatten(part)[0], strict=True))
    leaves, structure = tree.flatten(whole)
    return tree.unflatten(structure, [found.get(name, leaf) for name, leaf in zip(tree.names(whole), leaves, strict=True)])


class MetaGradient(NamedTuple):
    """What every estimator returns."""

    value: Any
    """the outer loss at the adapted parameters"""
    grad: Any
    """dF/d theta, in the structure of theta"""
    phi: Any
    """the adapted parameters"""
    info: Info
    """what tells whether to believe it"""


# Where leaves are put into one vector and taken out again, each gets its own dtype back: an integer would be rounded, and never move.
def floats(x: Any, name: str) -> Any:
    """What a derivative is taken with respect to, as `grad` takes it: 3 means 3.0, and an array that isn't of floats is a TypeError.

    >>> floats({"w": 3}, "phi")
    {'w': 3.0}
    """

    def checked(leaf: Any, name: str) -> Any:
        leaf = float(leaf) if type(leaf) is int else leaf
        if isinstance(leaf, np.ma.MaskedArray):
            raise wanted(name, leaf, "an array without a mask, which would be lost", TypeError)
        if not (leaf.dtype.kind in "fc" if type(leaf) is Tensor else np.asarray(leaf).dtype.kind == "f"):
            raise TypeError(f"can't differentiate with respect to {name}: it is {describe(leaf)}, and only floats have derivatives; "
                            "convert it with .astype(float)")  # fmt: skip
        return leaf

    leaves, structure = tree.flatten(x)
    found = [checked(leaf, name) for leaf, name in zip(leaves, tree.names(x, name), strict=True)]
    if not any(np.size(leaf) for leaf in found):
        raise wanted(name, x, "there is no number in it that could change")
    return tree.unflatten(structure, found)


def check_problem(problem: Any, *, judged: bool = True, started: bool = False) -> None:
    """Two levels, of which the outer one may be missing if nothing is `judged`; `started` if theta isn't where phi may start.

    >>> check_problem(len)
    Traceback (most recent call last):
    TypeError: problem=<built-in function len>: tm.Bilevel(inner, outer), the two losses
    """
    check_type("problem", problem, Bilevel, "tm.Bilevel(inner, outer), the two losses")
    if judged and problem.outer is None:
        raise wanted("problem.outer", None, "a function of (phi, theta, task)", TypeError)
    if started and problem.init is None:
        raise ValueError("theta are the weights of the optimizer here, so the problem must say where phi starts: "
                         "tm.Bilevel(inner, outer, init=lambda theta, task: phi_0)")  # fmt: skip


def started(problem: Bilevel, theta: Any, task: Any) -> Any:
    """phi_0 as it is, if it is made of floats or whole numbers; else an error by the name of what it comes from.

    >>> started(Bilevel(lambda phi, theta, task: phi, None), "abc", None)
    Traceback (most recent call last):
    TypeError: can't differentiate with respect to theta: it is str, ...
    """
    phi = problem.start(theta, task)
    floats(phi, "theta" if problem.init is None else "init(theta, task)")
    return phi


def check_batch(tasks: Any, name: str) -> None:
    """Arrays of one length along the first axis, which the tasks are stacked along.

    >>> check_batch({"x": np.ones((3, 2)), "y": np.ones(2)}, "tasks")
    Traceback (most recent call last):
    ValueError: tasks={'x': [3, 2], 'y': [2]}: arrays with the tasks stacked along the first axis, one or more
    """
    shapes = tree.map(lambda leaf: list(np.shape(leaf)), tasks)
    lengths = {tuple(np.shape(leaf)[:1]) for leaf in tree.flatten(tasks)[0]}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise wanted(name, shapes, "arrays with the tasks stacked along the first axis, one or more")


def arrays_out(result: MetaGradient) -> MetaGradient:
    """NumPy turns arrays without axes into scalars when it adds them up; make them arrays again.

    >>> arrays_out(MetaGradient(np.float64(1.0), np.float64(2.0), [np.float64(3.0)], Info())).phi
    [array(3.)]
    """
    return tree.map(lambda x: np.asarray(x) if isinstance(x, np.generic) else x, result)


class Info(Mapping[str, Any]):
    """Diagnostics by name. What is costly is a function, called when it is first asked for.

    >>> info = Info(steps=5, condition=lambda: 71.0)
    >>> info
    Info(steps=5, condition=<computed when asked for>)
    >>> info["condition"]
    71.0
    """

    def __init__(self, **entries: Any) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> Any:
        if callable(self._entries[name]):
            self._entries[name] = self._entries[name]()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        parts = (f"{name}={'<computed when asked for>' if callable(x) else repr(x)}" for name, x in self._entries.items())
        return f"Info({', '.join(parts)})"


def is_finite(x: Any) -> bool:
    """Whether all numbers in a tree are finite.

    >>> is_finite({"a": 1.0, "b": np.array([1.0, np.inf])})
    False
    """
    return all(np.isfinite(leaf).all() for leaf in tree.flatten(x)[0])


def graph_size(value: Any, inputs: Any) -> int:
    """How many nodes the sweep from a value to these inputs keeps at once: those on the way, and the inside of the largest block.

    >>> from tinymeta import tensor
    >>> x = tensor(2.0)
    >>> graph_size(np.sin(x) * x, x)  # x, its sine, and the product
    3
    """
    if not isinstance(value, Tensor):
        return 0
    way = [node for node, _ in between([value], tree.flatten(inputs)[0])]
    return len(way) + max((_inside(node, node.op) for node in way if isinstance(node.op, Block)), default=0)


def _inside(node: Tensor, block: Block) -> int:
    """How many nodes the function of a block makes when it is run again (of a map: for one row)."""
    arguments = node.inputs[: len(node.inputs) - len(block.captured)]
    return len(run(block.f, [x if block.length is None else x[0] for x in arguments]).nodes)


# ## The second derivatives of the inner loss
# What unrolling and the implicit function theorem share: with $H = \nabla^2_{\phi\phi} L$ and $M = \nabla^2_{\phi\theta} L$, both products
# with a vector v are the gradient of one scalar, and come from one sweep:
# $$ s(\phi, \theta) = \langle \nabla_\phi L(\phi, \theta), v \rangle, \qquad \frac{\partial s}{\partial \phi} = H v, \qquad
#    \frac{\partial s}{\partial \theta} = M^\top v. $$
def second_derivative_products(inner: Callable[[Any, Any], Any], phi: Any, theta: Any, v: Any) -> tuple[tuple[Any, Any], int]:
    r"""$(H v, M^\top v)$, and the number of graph nodes that were kept for it.

    >>> second_derivative_products(lambda phi, theta: theta * phi**2, 1.0, 3.0, 1.0)[0]  # 2 theta and 2 phi
    (array(6.), array(2.))
    """

    def slope(phi: Any, theta: Any) -> tuple[Any, int]:
        value = inner_product(grad(inner)(phi, theta), v)
        return value, graph_size(value, (phi, theta))

    return grad(slope, argnums=(0, 1), has_aux=True)(phi, theta)


# ## A function with a given gradient
# Training differentiates a scalar function of theta. A direction that no function has for its gradient, or one that was found without the
# graph, can be dressed as one: with the value c and the direction d held constant,
# $$ \tilde F(\theta) = c + \langle d, \theta - \operatorname{stop}(\theta) \rangle = c, \qquad \nabla \tilde F = d. $$
def with_gradient(value: Any, direction: Any, theta: Any) -> Any:
    """The value, as a function of theta whose gradient is the direction. It has no second derivative.

    >>> grad(lambda theta: with_gradient(theta**2, 10.0, theta))(3.0)
    array(10.)
    """
    value, direction = stop_gradient((value, direction))
    return value + inner_product(direction, tree.map(lambda x: x - stop_gradient(x), theta))
