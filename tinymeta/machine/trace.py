r"""
# Tracing: from a function to its program

Run the function once, on Tensors; the graph that this leaves behind is the program. While it is traced, a Tensor
stands for any value of its shape, and whatever would depend on the value itself raises an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autodiff import tree
from ..autodiff.blocks import run
from ..autodiff.tensor import data_of, tensor, tracing
from .program import Program


def trace(f: Callable[..., Any], *args: Any) -> Program:
    """Record what `f` computes, as a program for all arguments of the same structure, shapes and dtypes.

    Parameters
    ----------
    f : function of nested containers of arrays; it may take derivatives and map functions inside
    args : example arguments. Arrays and Python floats become inputs; int, bool, str and None are static: the program
        is for these very values

    Returns
    -------
    Program, to be called like `f`. Tensors that `f` captures keep the value that they have now.

    Raises TypeError if what `f` does depends on a value: `if x > 0`, `float(x)`, `x[mask]`.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> program = tm.trace(tm.grad(lambda x: np.sum(x**2)), np.ones(3))
    >>> program(np.array([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    >>> [instruction.operation.name for instruction in program.instructions]
    ['multiply', 'multiply']
    """
    leaves, structure = tree.flatten(args)
    names = [name for names in tree.argument_names(f, args) for name in names]
    static = {i: x for i, x in enumerate(leaves) if isinstance(x, (bool, int, str))}
    dynamic = [i for i in range(len(leaves)) if i not in static]

    def on_dynamic(*given: Any) -> Any:
        values = dict(zip(dynamic, given, strict=True)) | static
        return f(*tree.unflatten(structure, [values[i] for i in range(len(leaves))]))

    with tracing():
        graph = run(on_dynamic, [tensor(data_of(leaves[i])) for i in dynamic])
    return Program(graph, [names[i] for i in dynamic], structure, static)
