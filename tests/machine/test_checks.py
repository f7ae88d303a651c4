"""`Program.check`: nothing to say about a machine that is right, and the name of the instruction that is wrong."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff.operations import elementwise
from tinymeta.machine import execute, fusion, launch, lower
from tinymeta.machine.lower import UNARY, WIDTH
from tinymeta.machine.lowerings import LOWERINGS

spec = importlib.util.spec_from_file_location("catalogue", Path(__file__).parents[1] / "autodiff" / "operations" / "catalogue.py")
catalogue = importlib.util.module_from_spec(spec)
spec.loader.exec_module(catalogue)
needs_machine = pytest.mark.skipif(not execute.machine_is_on(), reason="the machine is turned off, or there is no Numba")
X = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", catalogue.EXAMPLES)
def test_every_operation_passes_alone_and_over_rows(name, dtype):
    f, *xs = catalogue.EXAMPLES[name]
    xs = [x.astype(dtype) for x in xs]
    tm.trace(f, *xs).check(*xs)
    rows = [np.stack([x, x]) for x in xs]
    tm.trace(tm.vmap(f), *rows).check(*rows)


def f(x):
    a = np.tanh(x)
    b = np.sin(a - 2.0 * x)
    return np.sum(np.exp(b) - a, axis=0)


def mapped(x):
    return tm.value_and_grad(lambda x: np.mean(tm.vmap(f)(x)))(x)


@needs_machine
def test_the_table_counts_each_row():
    head, *kinds = tm.trace(tm.vmap(f), X).check(X).splitlines()
    assert head.split() == ["operation", "count", "difference"]
    counts = {line.split()[0]: int(line.split()[-2]) for line in kinds}
    assert counts["tanh"] == counts["sin"] == 4 and counts["map"] == 1
    assert all(float(line.split()[-1]) < 1e-15 for line in kinds)


def test_without_the_machine_there_is_nothing_to_check():
    program = tm.trace(f, X)
    program.executable = execute.Executable(program.code, machine=False)
    assert len(program.check(X).splitlines()) == 1


def swapped(state, i):
    original(state, i._replace(operands=i.operands[::-1]))


original = LOWERINGS[elementwise.subtract]


@needs_machine
@pytest.mark.parametrize("g", [f, tm.vmap(f), mapped], ids=["alone", "over rows", "gradient"])
def test_a_wrong_kernel_is_named_with_its_line_of_source(g, monkeypatch):
    monkeypatch.setitem(LOWERINGS, elementwise.subtract, swapped)
    named = rf"^%\d+ = subtract  %\d+ %\d+  float64\[.*\]  # test_checks\.py:{f.__code__.co_firstlineno + 3}: "
    difference = r"at \[.*\] the machine computes -?\d.*, and NumPy -?\d.*; the difference is .* of the norm, more than 1e-12$"
    with pytest.raises(AssertionError, match=named + difference):
        tm.trace(g, X).check(X)


@needs_machine
def test_what_is_not_written_is_noticed(monkeypatch):
    def short(state, i):
        state.emit(UNARY, 12, [state.size(i.slot) - 1], [state.new(i), state.place(i.operands[0])])

    monkeypatch.setitem(LOWERINGS, elementwise.sin, short)
    with pytest.raises(AssertionError, match=r"= sin  .*: at \[3, 2\] the machine computes nan"):
        tm.trace(f, X).check(X)


@needs_machine
def test_an_operand_that_is_overwritten_too_early_is_noticed_by_its_reader(monkeypatch):
    monkeypatch.setattr(lower, "uses", lambda code: dict.fromkeys(fusion.uses(code), 1))  # free again after the first use
    with pytest.raises(AssertionError, match=rf"= subtract  .*# test_checks\.py:{f.__code__.co_firstlineno + 3}: "):
        tm.trace(f, X).check(X)


@needs_machine
def test_a_row_that_reaches_too_far_is_not_run():
    program = tm.trace(f, X)
    (step,) = program.executable.steps
    tanh = [i.operation.name for i in program.instructions].index("tanh")
    step.stages[0].lowered.table[WIDTH * tanh + 2] += 1000
    with pytest.raises(AssertionError, match=r"= tanh  .*: a row of the table is out of range"):
        program.check(X)


@needs_machine
def test_rows_that_are_added_up_wrongly_are_noticed(monkeypatch):
    program = tm.trace(tm.grad(lambda w: np.sum(tm.vmap(lambda x: np.sum(np.tanh(w * x)))(X))), X[0])
    program.check(X[0])
    sum_of_portions = launch._sum_of_portions
    monkeypatch.setattr(launch, "_sum_of_portions", lambda base, count, size: sum_of_portions(base, count - 1, size))  # one is left out
    with pytest.raises(AssertionError, match=r"= map  .*the machine computes"):
        program.check(X[0])


def test_arguments_are_checked_like_those_of_a_call():
    with pytest.raises(TypeError, match="trace again"):
        tm.trace(f, X).check(X.T)
