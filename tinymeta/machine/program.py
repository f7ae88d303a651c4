r"""
# Programs: code that can be called

A program is the code of a traced function, with all that is needed to call it like the function: the structure of its
arguments and of its result, the names of the arguments, the values of captured Tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..autodiff import tree
from ..autodiff.blocks import Graph
from ..autodiff.tensor import Tensor, describe, watch
from .checks import check
from .code import Instruction, Type, code_of
from .costs import flops, profile
from .execute import Executable, machine_is_on
from .listing import listing
from .passes import optimize


class Program:
    """A traced function: call it with arguments of the same structure, shapes and dtypes.

    Make one with `tm.trace`. `str(program)` is a listing; `instructions` are its steps, those of blocks in their bodies;
    `captured` are the values of Tensors that the function used without being given them.
    """

    def __init__(self, graph: Graph, names: Sequence[str], structure: tree.Structure, static: dict[int, Any], lines: Mapping[int, str]):
        self.names, self.structure, self.static = list(names), structure, static
        self.output_structure = graph.structure
        self.code = optimize(code_of(graph, lines))
        self.captured = [x.data for x in graph.captured]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        return self.code.instructions

    def __call__(self, *args: Any) -> Any:
        """Run on arrays; raises TypeError if they aren't like those that were traced."""
        return self.run(self._inputs(args))

    def run(self, inputs: Sequence[Any]) -> Any:
        """Run on the leaves of the arguments that aren't static, which must be as `code.inputs` says: nothing is checked."""
        debugger: Any = watch()
        if debugger is not None:
            return tree.unflatten(self.output_structure, [_owned(y) for y in debugger.run(self.code, inputs, self.captured)])
        outputs = self.executable(inputs, self.captured)
        owned = [y if new and type(y) is np.ndarray else _owned(y) for y, new in zip(outputs, self.executable.makes_new, strict=True)]
        return tree.unflatten(self.output_structure, owned)

    def fitting(self, args: tuple[Any, ...]) -> list[Any] | None:
        """The leaves of the arguments that aren't static, if `run` can take them as they stand, else None. Every call of a jitted
        function asks: it must be quick."""
        leaves: list[Any] = []
        if not tree.collect(self.structure, args, leaves):
            return None
        for x, like in zip(leaves, self.likes, strict=True):
            if type(x) is np.ndarray:
                if type(like) is not Type or like.weak or x.shape != like.shape or x.dtype != like.dtype:
                    return None
            elif type(like) is Type:
                if type(x) is not float or not like.weak:
                    return None
            elif type(x) is not type(like[0]) or x != like[0]:
                return None
        return [x for i, x in enumerate(leaves) if i not in self.static] if self.static else leaves

    @functools.cached_property
    def likes(self) -> list[Type | tuple[Any]]:
        """What each leaf of the arguments must be like: of a type, or static, in a tuple."""
        types = iter(self.code.inputs.values())
        return [(self.static[i],) if i in self.static else next(types) for i in range(len(self.static) + len(self.code.inputs))]

    def _inputs(self, args: tuple[Any, ...]) -> list[Any]:
        """The leaves of the arguments that aren't static."""
        leaves, structure = tree.flatten(args)
        if structure != self.structure:
            try:
                leaves = tree.leaves_like(self.structure, args, "arguments")
            except ValueError as error:
                raise TypeError(f"the program was traced with arguments of another structure: trace again. {error}") from None
        for i, expected in self.static.items():
            if type(leaves[i]) is not type(expected) or leaves[i] != expected:
                given = f"{expected!r} as a static argument, and can't run with {leaves[i]!r}"
                raise TypeError(f"the program was traced with {given}: trace again")
        dynamic = [x for i, x in enumerate(leaves) if i not in self.static]
        return [_input(x, like, name) for x, like, name in zip(dynamic, self.code.inputs.values(), self.names, strict=True)]

    @functools.cached_property
    def executable(self) -> Executable:
        """The code, made ready to run on this machine."""
        return Executable(self.code, machine_is_on())

    @property
    def flops(self) -> int:
        """Floating-point operations of one run: two for each multiply-add of a product, one for each element of anything else."""
        return flops(self.code)

    @property
    def arena_bytes(self) -> int:
        """The memory that one thread of the machine works in; 0 if NumPy runs everything."""
        return self.executable.arena_bytes

    def profile(self, *args: Any) -> str:
        """A table of where the time of a run goes: by operation, on one core.

        >>> import numpy as np, tinymeta as tm
        >>> program = tm.trace(lambda x: np.sum(np.tanh(x @ x.T)), np.ones((3, 4)))
        >>> program.profile(np.ones((3, 4))).splitlines()[0].split()
        ['operation', 'count', 'us', 'share', 'GFLOP/s']
        """
        return profile(self.executable, self._inputs(args), self.captured)

    def check(self, *args: Any) -> str:
        """Run each instruction of the machine alone, and compare its result with NumPy's: a table of the largest differences.

        Raises AssertionError, with the instruction's line of the listing, if a result differs by more than 1e-12 (in float32, 1e-5)
        of the norm, or if the instruction reaches beyond the memory that it is given.

        >>> import numpy as np, tinymeta as tm
        >>> program = tm.trace(lambda x: np.sum(np.tanh(x @ x.T)), np.ones((3, 4)))
        >>> program.check(np.ones((3, 4))).splitlines()[0].split()
        ['operation', 'count', 'difference']
        """
        return check(self.executable, self._inputs(args), self.captured)

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "executable"}  # made anew where it runs

    def __len__(self) -> int:
        """The number of instructions, a block's body included once."""
        return len(list(self.code.walk()))

    def __str__(self) -> str:
        return "\n".join(listing(self.code, self.names, self.executable.notes))


def _input(x: Any, like: Type, name: str) -> Any:
    """An argument as the program takes it: an array, or a Python float where one was traced."""
    if isinstance(x, Tensor):
        raise TypeError(f"a program runs on arrays, and {name} is a Tensor, whose gradient would be lost: trace the gradient instead, "
                        "as in tm.trace(tm.grad(f), ...)")  # fmt: skip
    if like.weak and isinstance(x, (int, float)) and not isinstance(x, bool):
        return float(x)
    array = np.asarray(x)
    if like.weak or (array.dtype, array.shape) != (like.dtype, like.shape):
        raise TypeError(f"the program was traced with {name} as {like}, and can't run with {describe(x)}: trace again")
    return array


def _owned(y: Any) -> Any:
    """A result that the caller may keep and change: an array of its own."""
    return np.array(y, order="C") if isinstance(y, (np.ndarray, np.generic, float)) else y
