r"""
# Tracing: from a function to its program

Run the function once, on Tensors; the graph that this leaves behind is the program. While it is traced, a Tensor
stands for any value of its shape, and whatever would depend on the value itself raises an error.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..arguments import check_function, wanted
from ..autodiff import tree
from ..autodiff.blocks import run
from ..autodiff.tensor import Tensor, data_of, is_tracing, tensor, tracing
from .program import Program
from .source import note_line

STATIC = (bool, int, str)  # what a program is made for one value of; Python floats and arrays are inputs
MOST_PROGRAMS = 64  # that one jitted function keeps


def trace(f: Callable[..., Any], *args: Any, static_argnames: Sequence[str] = ()) -> Program:
    """Record what `f` computes, as a program for all arguments of the same structure, shapes and dtypes.

    Parameters
    ----------
    f : function of nested containers of arrays; it may take derivatives and map functions inside
    args : example arguments. Arrays and Python floats become inputs; int, bool, str and None are static: the program
        is for these very values
    static_argnames : names of further arguments that are static

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
    ['multiply']
    """
    _check(f, static_argnames)
    leaves, structure = tree.flatten(args)
    names = [name for names in tree.argument_names(f, args) for name in names]
    static = _static(f, args, leaves, static_argnames)
    dynamic = [i for i in range(len(leaves)) if i not in static]

    def on_dynamic(*given: Any) -> Any:
        values = dict(zip(dynamic, given, strict=True)) | static
        return f(*tree.unflatten(structure, [values[i] for i in range(len(leaves))]))

    lines: dict[int, str] = {}
    with collector_paused():
        with tracing(functools.partial(note_line, lines)):
            graph = run(on_dynamic, [tensor(data_of(leaves[i])) for i in dynamic])
        return Program(graph, [names[i] for i in dynamic], structure, static, lines)


def _check(f: Any, static_argnames: Any) -> None:
    check_function("f", f, "the function to trace")
    if not isinstance(static_argnames, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in static_argnames):
        raise wanted("static_argnames", static_argnames, "a sequence of arguments' names, such as ('n',)", TypeError)


# A long trace makes millions of small objects, without a cycle among them. Python's collector of cycles walks over all that live,
# again and again as they grow in number, which would take longer than the trace itself.
@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """While this lasts, only what is in a cycle stays in memory for nothing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _static(f: Callable[..., Any], args: Sequence[Any], leaves: Sequence[Any], names: Sequence[str]) -> dict[int, Any]:
    """The static leaves, by their number."""
    parameters = list(inspect.signature(f).parameters) if names else []
    if unknown := [name for name in names if name not in parameters]:
        raise ValueError(f"static_argnames={tuple(names)!r}: the function has no argument {unknown[0]!r}")
    named = [name in names for name, arg in zip([*parameters, *[""] * len(args)], args, strict=False) for _ in tree.flatten(arg)[0]]
    return {i: x for i, x in enumerate(leaves) if named[i] or isinstance(x, STATIC)}


def jit(f: Callable[..., Any], static_argnames: Sequence[str] = ()) -> Callable[..., Any]:
    """The same function, traced when it is first called with arguments of a kind, and run from the program ever after.

    The kind of the arguments is their structure, their shapes and dtypes, and the values of those that are static: int, bool,
    str, None, and what `static_argnames` names. Programs are kept, up to 64 of them; the one not used for the longest time goes first.

    Put it outermost: `jit(grad(f))` runs the gradient from a program. `grad(jit(f))` is right as well, but where Tensors are about, as
    arguments or captured, an outer derivative is going on, and `f` itself is run.

    Parameters
    ----------
    f : function that can be traced, see `trace`; what it captures besides Tensors (arrays, numbers) is fixed when it is traced
    static_argnames : names of arguments that are static whatever their type; they must be hashable

    Raises TypeError if what `f` does depends on a value, or if a static argument isn't hashable.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> slope = tm.jit(tm.grad(lambda x: np.sum(x**2)))
    >>> slope(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    _check(f, static_argnames)
    programs: dict[Any, Program] = {}
    latest: Program | None = None

    @functools.wraps(f)
    def jitted(*args: Any, **kwargs: Any) -> Any:
        nonlocal latest
        if kwargs:
            args = inspect.signature(f).bind(*args, **kwargs).args
        program = latest  # which another thread may replace meanwhile
        if program is not None and not is_tracing() and (inputs := program.fitting(args)) is not None:
            return program.run(inputs)  # most calls end here
        leaves, structure = tree.flatten(args)
        if is_tracing() or any(type(x) is Tensor for x in leaves):
            return f(*args)
        static = _static(f, args, leaves, static_argnames)
        key = (structure, tuple((type(x), x) if i in static else _kind(x) for i, x in enumerate(leaves)))
        try:
            program = programs.get(key)
            if program is None:
                program = trace(f, *args, static_argnames=static_argnames)
        except TypeError as error:
            if "unhashable" in str(error):
                raise TypeError(f"static arguments must be hashable: {error}") from None
            raise
        programs.pop(key, None)
        programs[key] = program  # as the last one
        if len(programs) > MOST_PROGRAMS:
            oldest, *_ = programs
            programs.pop(oldest, None)  # another thread may have done it already
        if program.captured:
            return f(*args)
        latest = program
        return program.run([x for i, x in enumerate(leaves) if i not in static])

    return jitted


def _kind(x: Any) -> Any:
    """What a program depends on of an input."""
    if type(x) is np.ndarray:
        return x.dtype, x.shape
    return float if type(x) is float else (np.asarray(x).dtype, np.shape(x))
