"""Lines of source: each instruction knows the line that it comes from, and whether it is that line's derivative."""

import inspect
import pickle
import re

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import tensor as make_tensor
from tinymeta.machine.execute import machine_is_on

generator = np.random.default_rng(0)
X = generator.normal(size=(5, 3))


def line_of(text, function):
    """How a listing calls the line of a function in which this text is."""
    lines, start = inspect.getsourcelines(function)
    (number,) = (start + k for k, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function).rsplit('/')[-1]}:{number}"


def lines_of(program):
    """By operation, what is said of its instructions, those in blocks as well."""
    found = {}
    for i in program.code.walk():
        found.setdefault(i.operation.name, []).append(", ".join(i.lines))
    return found


def wave(x):
    y = np.sin(x)
    z = np.exp(y)
    return np.sum(z)


def test_an_instruction_has_the_line_that_wants_it():
    program = tm.trace(wave, X)
    assert lines_of(program) == {name: [line_of(name, wave)] for name in ("sin", "exp", "sum")}
    assert str(program).splitlines()[-2].endswith(f"# {line_of('np.sum', wave)}")


def test_what_the_sweep_makes_belongs_to_the_line_that_it_reverses():
    program = tm.trace(tm.grad(wave), X)
    assert lines_of(program)["cos"] == ["gradient of " + line_of("np.sin", wave)]
    second = tm.trace(tm.grad(lambda x: np.sum(tm.grad(wave)(x))), X)
    assert "gradient of gradient of " + line_of("np.sin", wave) in str(second)


def test_operations_composed_by_the_engine_or_called_by_numpy_belong_to_the_caller():
    def f(x):
        return np.var(tm.softmax(x) + tm.tree.map(np.sin, [x])[0])

    expected = line_of("np.var", f)
    assert {line for lines in lines_of(tm.trace(f, X)).values() for line in lines} == {expected}
    assert {line for lines in lines_of(tm.trace(np.sin, X)).values() for line in lines} == {line_of("np.sin, X", inspect.currentframe())}


def test_a_rule_of_the_users_has_lines_of_its_own():
    def rule(y_bar, y, x):
        return (y_bar * np.cos(x),)

    custom = tm.custom_vjp(np.sin, rule)
    assert lines_of(tm.trace(tm.grad(lambda x: np.sum(custom(x))), X))["cos"] == [line_of("np.cos", rule)]


def test_a_fused_instruction_has_the_lines_of_its_parts():
    def layer(x, W, b):
        y = x @ W
        return y + b

    (i,) = tm.trace(layer, X, np.ones((3, 2)), np.ones(2)).instructions
    assert i.lines == (line_of("x @ W", layer), line_of("y + b", layer))


def test_the_same_computation_in_two_lines_is_still_one():
    def twice(x):
        y = np.sin(x)
        return y * np.sin(x)

    assert lines_of(tm.trace(twice, X))["sin"] == [line_of("y = ", twice)]


@pytest.mark.parametrize("block", [tm.vmap, tm.checkpoint])
def test_in_blocks_and_in_their_gradients(block):
    program = tm.trace(tm.grad(lambda x: np.sum(block(wave)(x))), X)
    assert lines_of(program)["sin"] == [line_of("np.sin", wave)], "the second run is in the same line"
    assert lines_of(program)["cos"] == ["gradient of " + line_of("np.sin", wave)]


def test_a_graph_from_before_the_trace_has_no_lines():
    before = np.exp(make_tensor(1.0))
    (dx,) = tm.gradients(before, [before.inputs[0]])
    program = tm.trace(lambda x: x * dx + tm.gradients(np.sin(before), [before])[0], X)
    assert all(i.lines for i in program.instructions)


# ## What a student looks for in MAML's meta-gradient
def network(theta, x):
    return np.tanh(x @ theta["W"] + theta["b"]) @ theta["v"]


def loss(theta, data):
    return np.mean((network(theta, data[0]) - data[1]) ** 2)


THETA = {"W": generator.normal(size=(1, 8)), "b": np.zeros(8), "v": generator.normal(size=(8, 1))}
TASK = [(generator.normal(size=(5, 1)), generator.normal(size=(5, 1))) for _ in range(2)]
PROBLEM = tm.Bilevel(inner=lambda phi, theta, task: loss(phi, task[0]), outer=lambda phi, theta, task: loss(phi, task[1]))


def test_the_listing_of_a_meta_gradient_shows_the_inner_step_the_second_derivatives_and_places_used_again():
    program = tm.trace(tm.grad(tm.maml.objective(PROBLEM, steps=1, lr=0.01)), THETA, TASK)
    lines = str(program).splitlines()
    step, layer = line_of("theta - alpha * g", tm.optim.sgd), line_of("np.tanh", network)
    steps = [k for k, line in enumerate(lines) if line.endswith(step)]
    assert len(steps) == len(THETA)
    assert re.search(rf"= product +%0 - 0\.01 \* \(%\d+\.T @ %\d+\) .*# gradient of {layer}, {step}", lines[steps[0]])

    second = [k for k, line in enumerate(lines) if f"# gradient of gradient of {layer}" in line]
    assert len(second) > 5 and min(second) > max(steps)
    assert f"# gradient of {layer}" in "".join(lines[: steps[0]]), "the inner gradient comes before the step"

    places = re.findall(r" at (\d+) ", str(program))
    assert len(places) > 2 * len(set(places)) if machine_is_on() else not places
    assert str(pickle.loads(pickle.dumps(program))) == str(program)
