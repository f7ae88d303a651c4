"""What can be wrong in a line of code: one small change at a time, made in its syntax tree."""

from __future__ import annotations

import ast
import copy
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

Change = Callable[[ast.expr], ast.expr]


class Mutant(NamedTuple):
    """One change of one function."""

    path: Path
    line: int
    function: str
    what: str
    number: int
    """of the node, in the order of ast.walk"""
    change: Change

    @property
    def key(self) -> str:
        """A name that stays when lines move."""
        return f"{self.path.name} {self.function}: {self.what}"

    def lives_in(self, f: FunctionType) -> bool:
        """Is it a change of this function?"""
        return (f.__code__.co_filename, f.__code__.co_name) == (str(self.path), self.function)


def mutants(path: Path, scale: float) -> Iterator[Mutant]:
    """All changes of a module's functions; "scaled" is by 1 + scale."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    numbers = {id(node): number for number, node in enumerate(ast.walk(tree))}
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and not ARGUMENTS.match(node.name)]:
        for node in _computing(function):
            for what, change in _changes(node, scale):
                yield Mutant(path, node.lineno, function.name, f"{what}: {ast.unparse(node)}", numbers[id(node)], change)


# ## Where to change
ARGUMENTS = re.compile("_?check")  # checks of arguments, which `tests.fuzz` tries
TEXT = (ast.Raise, ast.Assert, ast.JoinedStr, ast.FunctionDef, ast.ClassDef)  # (functions inside have their own turn)


def _computing(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """The expressions that a function computes with: no messages, no annotations, no defaults."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, TEXT):
            continue
        if isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value else []
            continue
        if isinstance(node, ast.expr):
            yield node
        waiting += reversed(list(ast.iter_child_nodes(node)))


# ## What to change
# Both terms are computed and one is taken, so that the function refers to the same names as before.
def _kept(which: int) -> Change:
    return lambda node: ast.Subscript(ast.Tuple([node.left, node.right], ast.Load()), ast.Constant(which), ast.Load())


def _with(op: ast.operator) -> Change:
    return lambda node: ast.BinOp(node.left, op, node.right)


def _times(factor: float) -> Change:
    return lambda node: ast.BinOp(node, ast.Mult(), ast.Constant(factor))


def _transposed(side: str) -> Change:
    def change(node: ast.expr) -> ast.expr:
        operands = {name: getattr(node, name) for name in ("left", "right")}
        operands[side] = ast.Attribute(operands[side], "T", ast.Load())
        return ast.BinOp(operands["left"], ast.MatMult(), operands["right"])

    return change


def _shifted(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.Add(), ast.Constant(1))


ARRAYS = set("""sum mean prod max min exp log log1p expm1 sin cos tan sinh cosh tanh sqrt square where einsum dot matmul tensordot outer
                cumsum concatenate stack reshape transpose swapaxes moveaxis broadcast_to take repeat diagonal trace solve inv maximum
                minimum negative multiply add subtract divide power clip flip roll""".split())


def _changes(node: ast.expr, scale: float) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Add, ast.Sub)) and not any(isinstance(part, ast.Constant) and isinstance(part.value, str)
                                                               for part in ast.walk(node)):  # fmt: skip
            yield "sign flipped", _with(ast.Sub() if isinstance(node.op, ast.Add) else ast.Add())
            yield "first term dropped", _kept(1)
            yield "second term dropped", _kept(0)
        if isinstance(node.op, (ast.Mult, ast.Div, ast.MatMult, ast.Pow)):
            yield "scaled", _times(1 + scale)
        if isinstance(node.op, ast.MatMult):
            yield "left operand transposed", _transposed("left")
            yield "right operand transposed", _transposed("right")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign flipped", lambda node: node.operand
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT") and isinstance(node.ctx, ast.Load):
        yield "transposition missing", lambda node: node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ARRAYS:
            yield "scaled", _times(1 + scale)
        for k, keyword in enumerate(node.keywords):
            if keyword.arg == "axis" and isinstance(keyword.value, (ast.Constant, ast.UnaryOp, ast.Name)):
                yield "axis shifted", _in_keyword(k)


def _in_keyword(k: int) -> Change:
    def change(node: ast.expr) -> ast.expr:
        node.keywords[k].value = _shifted(node.keywords[k].value)
        return node

    return change


# ## In a running process
def code_of(mutant: Mutant) -> CodeType:
    """Of the mutant's module, with the change."""
    tree = ast.parse(mutant.path.read_text(encoding="utf8"))
    node = list(ast.walk(tree))[mutant.number]
    changed = mutant.change(copy.copy(node))
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, changed)
            elif isinstance(value, list) and any(part is node for part in value):
                value[:] = [changed if part is node else part for part in value]
    return compile(ast.fix_missing_locations(tree), str(mutant.path), "exec", dont_inherit=True)


def install(mutant: Mutant) -> int:
    """Give every function of the module that lives in this process its new code; how many were changed."""
    before = compile(mutant.path.read_text(encoding="utf8"), str(mutant.path), "exec", dont_inherit=True)
    changed = {old: new for old, new in zip(inside(before), inside(code_of(mutant)), strict=True) if old != new}
    count = 0
    for f in gc.get_objects():
        if type(f) is FunctionType and f.__code__.co_filename == str(mutant.path) and f.__code__ in changed:
            f.__code__ = changed[f.__code__]
            count += 1
    return count


def inside(code: CodeType) -> Iterator[CodeType]:
    """The codes of the functions in a function, and in these."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from inside(part)
