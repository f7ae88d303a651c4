r"""
# Code: a traced graph as data

A graph that was traced is a list of instructions: its nodes in the order of their creation, each naming the *slots* that
its operands are in and the slot where its result goes. Gradients need no instruction of their own; the sweep has already
written them into the graph as ordinary nodes.

A block is one instruction with code of its own, its *body*. A mapped block's body is run once for each row: however many
tasks a batch has, its code has the length of one task's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.blocks import Block, Graph
from ..autodiff.operations.elementwise import identity
from ..autodiff.tensor import SCALARS, Operation, Tensor, data_of, operation
from ..autodiff.tree import Structure


class Type(NamedTuple):
    """What a slot holds. A weak one holds a Python number, which takes its neighbours' dtype."""

    dtype: np.dtype
    shape: tuple[int, ...]
    weak: bool = False

    def __str__(self) -> str:
        return f"{type(self.dtype.type(0).item()).__name__}" if self.weak else f"{self.dtype}{list(self.shape)}"


class Bundle(tuple[Any, ...]):
    """The types of a block's results."""

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))})"


def type_of(x: Any) -> Type | Bundle:
    """The type of a node's data."""
    if type(x) is tuple:
        return Bundle(type_of(part) for part in x if not isinstance(part, Structure))
    array = np.asarray(x)
    return _type(array.dtype, array.shape, isinstance(x, SCALARS))


_type = functools.lru_cache(maxsize=1000)(Type)  # many slots, few types: equal ones are one object


# The operations of blocks: their bodies say what they do.
@operation
def map_(*operands: Any) -> Any:
    """Run the body for each row of the operands."""
    raise NotImplementedError


@operation
def checkpoint(*operands: Any) -> Any:
    """Run the body, and share nothing with what is outside."""
    raise NotImplementedError


NO_LINES: Mapping[int, str] = {}


class Instruction(NamedTuple):
    """`slot = operation(operands)`."""

    slot: int
    operation: Operation
    operands: tuple[int, ...]
    params: dict[str, Any]
    type: Type | Bundle
    body: Code | None = None
    length: int | None = None  # of a mapped block
    lines: tuple[str, ...] = ()  # of the source that it comes from, see `source`


class Code(NamedTuple):
    """A function as instructions on slots."""

    inputs: dict[int, Type]
    captured: dict[int, Type]
    constants: dict[int, Any]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]

    @property
    def size(self) -> int:
        """A number greater than every slot's."""
        return 1 + max((*self.inputs, *self.captured, *self.constants, *(i.slot for i in self.instructions)), default=-1)

    def walk(self) -> Iterator[Instruction]:
        """All instructions, each block's followed by those of its body."""
        for instruction in self.instructions:
            yield instruction
            if instruction.body is not None:
                yield from instruction.body.walk()


def types_of(code: Code) -> dict[int, Type | Bundle]:
    """The type of every slot."""
    constants = {slot: type_of(x) for slot, x in code.constants.items()}
    return {**code.inputs, **code.captured, **constants, **{i.slot: i.type for i in code.instructions}}


# A pass that finds two slots to hold the same goes on with one of them: it notes which replaces which, and reads every later
# instruction through its notes. Most instructions stay the objects that they are, which makes a pass cheap.
def renamed(i: Instruction, replacement: dict[int, int]) -> Instruction:
    """The instruction, with slots among its operands replaced by others."""
    if replacement.keys().isdisjoint(i.operands):
        return i
    return i._replace(operands=tuple(replacement.get(slot, slot) for slot in i.operands))


def rewritten(code: Code, replacement: dict[int, int], instructions: list[Instruction]) -> Code:
    """The code with these instructions, and with slots among its outputs replaced by others."""
    return code._replace(instructions=tuple(instructions), outputs=tuple(replacement.get(slot, slot) for slot in code.outputs))


def code_of(graph: Graph, lines: Mapping[int, str] = NO_LINES) -> Code:
    """The instructions that compute a graph's outputs, with the lines of source that are known of its nodes."""
    return _Reader(lines).code_of(graph)


# The rule of a block goes on from the block's own graph, so a node may be in the bodies of several blocks. It has the same slot in
# all of them, and a captured node has the slot that it has outside: a slot's number says what it holds, wherever it is met.
class _Reader:
    """What is known of a graph's nodes, and of those in its blocks, while their code is made."""

    def __init__(self, lines: Mapping[int, str]) -> None:
        self.lines = lines  # of a node's index
        self.numbers = itertools.count()
        self.slots: dict[int, int] = {}  # of a node's index
        self.constants: dict[int, Any] = {}
        self.instructions: dict[int, Instruction] = {}  # of a node's index

    def code_of(self, graph: Graph) -> Code:
        inputs = {self.given(x): type_of(data_of(x)) for x in graph.inputs}
        captured = {self.given(x): type_of(x.data) for x in graph.captured}
        instructions = tuple(i for node in graph.nodes if (i := self.instruction(node)) is not None)
        outputs = tuple(map(self.slot, graph.outputs))
        read = set(outputs).union(*(i.operands for i in instructions))
        constants = {slot: self.constants[slot] for slot in sorted(read & self.constants.keys() - captured.keys())}
        return Code(inputs, captured, constants, instructions, outputs)  # type: ignore[arg-type]

    def given(self, x: Any) -> int:
        """The slot of what a function is given, or captures."""
        return self.slots[x.index] if type(x) is Tensor and x.index in self.slots else self.new(x)

    def slot(self, x: Any) -> int:
        """The slot of an operand or an output: what nobody has made is a constant."""
        if type(x) is Tensor and x.index in self.slots:
            return self.slots[x.index]
        place = self.new(x)
        self.constants[place] = data_of(x)
        return place

    def new(self, x: Any) -> int:
        place = next(self.numbers)
        if type(x) is Tensor:
            self.slots[x.index] = place
        return place

    def instruction(self, node: Tensor) -> Instruction | None:
        """The instruction that makes a node, if there has to be one."""
        if node.op is None:  # a leaf that the function made is a constant
            return None
        if node.op is identity:  # no work: another name for the same slot
            self.slots[node.index] = self.slot(node.inputs[0])
            return None
        if node.index not in self.instructions:
            made = self.block(node, node.op) if isinstance(node.op, Block) else Instruction(
                self.new(node), node.op, tuple(map(self.slot, node.inputs)), node.params, type_of(node.data))  # fmt: skip
            line = (self.lines[node.index],) if node.index in self.lines else ()
            self.instructions[node.index] = made._replace(lines=line)
        return self.instructions[node.index]

    def block(self, node: Tensor, op: Block) -> Instruction:
        assert op.graph is not None, "a block from before the trace is captured"
        operands = tuple(map(self.slot, node.inputs))
        body = self.code_of(op.graph)
        operands = (*operands[: len(body.inputs)], *body.captured)  # two captured nodes may be names for the same slot
        return Instruction(self.new(node), checkpoint if op.length is None else map_, operands, {}, type_of(node.data), body, op.length)
