r"""
# A graph as a program

A graph that was traced is a list of instructions: its nodes in the order of their creation, each naming the *slots*
that its operands are in, and the slot where its result goes. Gradients need no instruction of their own; the sweep has
already written them into the graph as ordinary nodes.

A mapped block is one instruction with a program of its own, its body, which is run once for each row. However many
tasks a batch has, its program has the length of one task's.

The executor in this file is plain NumPy: it calls each operation's forward on the slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import tree
from ..autodiff.blocks import Block, Graph
from ..autodiff.operations.elementwise import identity
from ..autodiff.tensor import SCALARS, Operation, Tensor, data_of, describe


WEAK = {kind.__name__ for kind in SCALARS}  # results that take their neighbours' dtype, as in the graph


class Instruction(NamedTuple):
    """`slot = operation(operands)`."""

    slot: int
    operation: Operation
    operands: tuple[int, ...]
    params: dict[str, Any]
    body: Program | None  # of a block
    result: str  # dtype and shape, for the listing


class Program:
    """A traced function: call it with arguments of the same structure, shapes and dtypes.

    Make one with `tm.trace`. `str(program)` is a listing; `instructions` are its steps, those of blocks inside
    theirs; `constants` maps slots to fixed values, `captured` to the values of Tensors that the function used without
    being given them.
    """

    def __init__(self, graph: Graph, names: Sequence[str], structure: tree.Structure, static: dict[int, Any] | None = None):
        self.names, self.structure, self.static = list(names), structure, static or {}
        self.output_structure = graph.structure
        self.inputs: list[Any] = [data_of(x) for x in graph.inputs]  # examples, for their shapes and dtypes
        self.instructions: list[Instruction] = []
        self.constants: dict[int, Any] = {}
        self._slots: dict[int, int] = {x.index: slot for slot, x in enumerate(graph.inputs) if type(x) is Tensor}
        self._count = len(graph.inputs)
        self.captured = {self._new(x): x.data for x in graph.captured}
        for node in _in_order(graph):
            assert node.op is not None
            if node.op is identity:  # no work: another name for the same slot
                self._slots[node.index] = self._slot(node.inputs[0])
                continue
            operands = tuple(self._slot(x) for x in node.inputs)
            body = _body(node.op) if isinstance(node.op, Block) else None
            self.instructions.append(Instruction(self._new(node), node.op, operands, node.params, body, _type(node.data)))
        self.outputs = [self._slot(y) for y in graph.outputs]
        del self._slots

    def _new(self, node: Tensor) -> int:
        self._slots[node.index] = self._count
        self._count += 1
        return self._slots[node.index]

    def _slot(self, x: Any) -> int:
        if type(x) is Tensor and x.index in self._slots:
            return self._slots[x.index]
        self.constants[self._count] = data_of(x)
        self._count += 1
        return self._count - 1

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
        inputs = [_input(x, like, name) for x, like, name in zip(dynamic, self.inputs, self.names, strict=True)]
        return tree.unflatten(self.output_structure, [_owned(y) for y in self.run(inputs)])

    def run(self, inputs: Sequence[Any], captured: Sequence[Any] | None = None) -> list[Any]:
        """The outputs for these inputs, leaf by leaf."""
        slots: list[Any] = [None] * self._count
        slots[: len(inputs)] = inputs
        for slot, value in self.constants.items():
            slots[slot] = value
        for slot, value in zip(self.captured, self.captured.values() if captured is None else captured, strict=True):
            slots[slot] = value
        for slot, op, operands, params, body, result in self.instructions:
            values = [slots[i] for i in operands]
            value = op.forward(*values, **params) if body is None else _run_block(op, body, values)
            slots[slot] = np.asarray(value).item() if result in WEAK else value
        return [slots[i] for i in self.outputs]

    def __str__(self) -> str:
        return "\n".join(self.listing())

    def listing(self, indent: str = "") -> list[str]:
        """One line an instruction: slot, operation, operands and options, type of the result; a block's body indented below.

        A constant number stands where it is used, a constant array has a line of its own.
        """
        arrays = {slot: x for slot, x in self.constants.items() if _literal(x) is None}
        given = [*zip(self.names, self.inputs, strict=True), *(("captured", x) for x in self.captured.values())]
        rows: list[tuple[int, str, str, str, Program | None]] = [(slot, name, "", _type(x), None) for slot, (name, x) in enumerate(given)]
        rows += [(slot, "constant", "", _type(x), None) for slot, x in arrays.items()]
        rows += [(i.slot, i.operation.name, self._operands(i), i.result, i.body) for i in self.instructions]
        number, name = (max((len(str(row[k])) for row in rows), default=0) for k in (0, 1))
        operands = max((len(row[2]) for row in rows if len(row[2]) <= 40), default=0)
        lines = []
        for slot, operation, what, result, body in rows:
            lines.append(f"{indent}{'%' + str(slot):<{number + 1}} = {operation:<{name}}  {what:<{operands}}  {result}")
            lines += body.listing(indent + "    | ") if body else []
        return [*lines, f"{indent}return " + " ".join(map(self._operand, self.outputs))]

    def _operand(self, slot: int) -> str:
        return _literal(self.constants.get(slot)) or f"%{slot}"

    def _operands(self, instruction: Instruction) -> str:
        op = instruction.operation
        times = [f"{op.length} times"] if isinstance(op, Block) and op.length is not None else []
        options = [f"{key}={value}" for key, value in instruction.params.items()]
        return " ".join([*times, *map(self._operand, instruction.operands), *options])

    def __len__(self) -> int:
        """The number of instructions, a block's body included once."""
        return sum(1 + (len(i.body) if i.body else 0) for i in self.instructions)


def _in_order(graph: Graph) -> list[Tensor]:
    """The nodes between what a function was given and its outputs, oldest first."""
    known = {x.index for x in (*graph.inputs, *graph.captured) if type(x) is Tensor}
    nodes: dict[int, Tensor] = {}
    waiting = [y for y in graph.outputs if type(y) is Tensor]
    while waiting:
        node = waiting.pop()
        if node.index not in known and node.index not in nodes and node.op is not None:
            nodes[node.index] = node
            waiting.extend(x for x in node.inputs if type(x) is Tensor)
    return [nodes[index] for index in sorted(nodes)]


def _body(op: Block) -> Program:
    assert op.graph is not None, "a block that was made outside of the trace is a captured Tensor, not an instruction"
    return Program(op.graph, [f"row {i}" if op.length else f"input {i}" for i in range(len(op.graph.inputs))], tree.LEAF)


def _run_block(op: Operation, body: Program, values: list[Any]) -> tuple[Any, ...]:
    assert isinstance(op, Block)
    rows, captured = values[: len(body.inputs)], values[len(body.inputs) :]
    if op.length is None:
        return tuple(body.run(rows, captured))
    results = [body.run([x[i] for x in rows], captured) for i in range(op.length)]
    return tuple(np.stack(column) for column in zip(*results, strict=True))


def _input(x: Any, like: Any, name: str) -> Any:
    """An argument as the program takes it: an array, or a Python float where one was traced."""
    if isinstance(x, Tensor):
        raise TypeError(f"a program runs on arrays, and {name} is a Tensor, whose gradient would be lost: trace the gradient instead, "
                        "as in tm.trace(tm.grad(f), ...)")  # fmt: skip
    if type(like) is float and isinstance(x, (int, float)) and not isinstance(x, bool):
        return float(x)
    if type(like) is float or _type(np.asarray(x)) != _type(like):
        raise TypeError(f"the program was traced with {name} as {_type(like)}, and can't run with {describe(x)}: trace again")
    return np.asarray(x)


def _owned(y: Any) -> Any:
    return np.array(y, order="C") if isinstance(y, (np.ndarray, np.generic, float)) else y


def _type(x: Any) -> str:
    return f"({', '.join(map(_type, x))})" if type(x) is tuple else f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else type(x).__name__


def _literal(x: Any) -> str | None:
    """How to write a constant in a listing, if it is a number, or None (or a string, which may be an output)."""
    return None if x is None or np.ndim(x) else f"{x:.6g}" if isinstance(x, (float, np.floating)) else str(x)
