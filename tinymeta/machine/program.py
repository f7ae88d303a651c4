r"""
# Programs: code that can be called

A program is the code of a traced function, with all that is needed to call it like the function: the structure of its
arguments and of its result, the names of the arguments, the values of captured Tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autodiff import tree
from ..autodiff.blocks import Graph
from ..autodiff.tensor import Tensor, describe
from .code import Code, Instruction, Type, code_of, types_of
from .execute import Executable, machine_is_on
from .passes import optimize

MOVES = ("item", "reshape", "transpose", "broadcast_to", "concatenate", "getitem", "add_at", "put", "full_like", "astype", "stop_gradient")


class Program:
    """A traced function: call it with arguments of the same structure, shapes and dtypes.

    Make one with `tm.trace`. `str(program)` is a listing; `instructions` are its steps, those of blocks in their bodies;
    `captured` are the values of Tensors that the function used without being given them.
    """

    def __init__(self, graph: Graph, names: Sequence[str], structure: tree.Structure, static: dict[int, Any]):
        self.names, self.structure, self.static = list(names), structure, static
        self.output_structure = graph.structure
        self.code = optimize(code_of(graph))
        self.captured = [x.data for x in graph.captured]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        return self.code.instructions

    def __call__(self, *args: Any) -> Any:
        """Run on arrays; raises TypeError if they aren't like those that were traced."""
        try:
            leaves = tree.leaves_like(self.structure, args, "the tuple of arguments")
        except ValueError as error:
            raise TypeError(f"the program was traced with arguments of another structure: trace again. {error}") from None
        for i, expected in self.static.items():
            if type(leaves[i]) is not type(expected) or leaves[i] != expected:
                given = f"{expected!r} as a static argument, and can't run with {leaves[i]!r}"
                raise TypeError(f"the program was traced with {given}: trace again")
        dynamic = [x for i, x in enumerate(leaves) if i not in self.static]
        inputs = [_input(x, like, name) for x, like, name in zip(dynamic, self.code.inputs.values(), self.names, strict=True)]
        return tree.unflatten(self.output_structure, [_owned(y) for y in self.executable(inputs, self.captured)])

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

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "executable"}  # made anew where it runs

    def __len__(self) -> int:
        """The number of instructions, a block's body included once."""
        return len(list(self.code.walk()))

    def __str__(self) -> str:
        return "\n".join(listing(self.code, self.names))


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
    return np.array(y, order="C") if isinstance(y, (np.ndarray, np.generic, float)) else y


def flops(code: Code) -> int:
    """Of one run; what is only moved costs nothing."""
    types, total = types_of(code), 0
    for i in code.instructions:
        if i.body is not None:
            total += flops(i.body) * (i.length or 1)
        elif i.operation.name in ("product", "matmul", "einsum"):
            shapes = [types[slot].shape for slot in i.operands[:2]]  # type: ignore[union-attr]
            total += 2 * math.prod(i.type.shape) * shapes[0][-1 if not i.params.get("transposed", (False,))[0] else 0]  # type: ignore[union-attr]
        elif i.operation.name not in MOVES:
            total += max(math.prod(types[slot].shape) for slot in (i.slot, *i.operands))  # type: ignore[union-attr]
    return total


# ## The listing
def listing(code: Code, names: Sequence[str], indent: str = "") -> list[str]:
    """One line an instruction: slot, operation, operands and options, type of the result; a block's body indented below.

    A constant number stands where it is used, a constant array has a line of its own.
    """
    given = [*zip(code.inputs, names, strict=True), *((slot, "captured") for slot in code.captured)]
    types = {**code.inputs, **code.captured}
    rows: list[tuple[int, str, str, str, Code | None]] = [(slot, name, "", str(types[slot]), None) for slot, name in given]
    rows += [(slot, "constant", "", describe(x), None) for slot, x in code.constants.items() if _literal(x) is None]
    rows += [(i.slot, i.operation.name, _operands(i, code), str(i.type), i.body) for i in code.instructions]
    number, name = (max((len(str(row[k])) for row in rows), default=0) for k in (0, 1))
    operands = max((len(row[2]) for row in rows if len(row[2]) <= 40), default=0)
    lines = []
    for slot, operation, what, result, body in rows:
        lines.append(f"{indent}{'%' + str(slot):<{number + 1}} = {operation:<{name}}  {what:<{operands}}  {result}")
        lines += listing(body, [f"row of {x}" for x in _operands_of_rows(slot, code)], indent + "    | ") if body else []
    return [*lines, f"{indent}return " + " ".join(_operand(slot, code) for slot in code.outputs)]


def _operands_of_rows(slot: int, code: Code) -> list[str]:
    (block,) = (i for i in code.instructions if i.slot == slot)
    assert block.body is not None
    return [_operand(operand, code) for operand in block.operands[: len(block.body.inputs)]]


def _operand(slot: int, code: Code) -> str:
    return _literal(code.constants.get(slot)) or f"%{slot}"


def _operands(instruction: Instruction, code: Code) -> str:
    times = [f"{instruction.length} times"] if instruction.length is not None else []
    options = (f"{key}={value}" for key, value in instruction.params.items() if repr(value) not in ("False", "(False, False)"))
    return " ".join([*times, *(_operand(slot, code) for slot in instruction.operands), *options])


def _literal(x: Any) -> str | None:
    """How to write a constant in a listing, if it is a number, or None (or a string, which may be an output)."""
    return None if x is None or np.ndim(x) else f"{x:.6g}" if isinstance(x, (float, np.floating)) else str(x)
