"""Lesson 2, reverse mode in 60 lines: its exercises, graded."""

import math

import pytest


@pytest.mark.exercise_2_1
def test_a_power_and_its_two_derivatives(student):
    Node, sweep, power = student.lesson["Node"], student.lesson["sweep"], student("make_power")()
    for a, b in ((0.4, 2.3), (3.1, -0.8)):
        x, y = Node(a), Node(b)
        s = 3 * power(x, y)
        found, exact, tiny = sweep(s), 3 * a**b, 1e-30j
        assert math.isclose(s.value, exact), f"3 * {a}^{b} is {exact}: look at the forward"
        for node, derivative, name in ((x, (a + tiny) ** b, "a"), (y, a ** (b + tiny), "b")):
            exact = 3 * derivative.imag / 1e-30
            hint = f"c_bar is 3 here: is it a factor of the term? And what multiplies d{name} in dc?"
            assert math.isclose(found[node].value, exact), f"3 a^b by {name} at {a}, {b}: {found[node].value}, should be {exact}; {hint}"


@pytest.mark.exercise_2_1
def test_a_power_can_be_differentiated_twice(student):
    Node, sweep, power = student.lesson["Node"], student.lesson["sweep"], student("make_power")()
    a, b = Node(1.7), Node(2.5)
    first = sweep(power(a, b))
    for node, name, exact in ((a, "a", 2.5 * 1.5 * 1.7**0.5), (b, "b", 1.7**2.5 * math.log(1.7) ** 2)):
        found = sweep(first[node]).get(node, Node(0)).value  # what the slope doesn't hang on isn't there
        hint = "is the rule made of nodes (section 7), or does a number like `.value` hide in it?"
        assert math.isclose(found, exact), f"a^b twice by {name}: {found}, should be {exact}; {hint}"


@pytest.mark.exercise_2_2
def test_the_repaired_sweep_adds_wherever_ways_meet(student):
    Node, sin, exp = (student.lesson[name] for name in ("Node", "sin", "exp"))
    sweep = student("repaired_sweep")
    functions = {
        "sin(exp(x)), where nothing is used twice": lambda x: sin(exp(x)),
        "x + sin(x), where a leaf is used twice": lambda x: x + sin(x),
        "y exp(y) with y = sin(x), where a result is used twice": lambda x: (lambda y: y * exp(y))(sin(x)),
        "y y with y = sin(x), where an operation takes one node twice": lambda x: (lambda y: y * y)(sin(x)),
    }
    for name, f in functions.items():
        x, h = Node(0.8), 1e-5
        found, measured = sweep(f(x))[x].value, (f(Node(0.8 + h)).value - f(Node(0.8 - h)).value) / (2 * h)
        assert math.isclose(found, measured, rel_tol=1e-8), f"{found} for {name}, differences say {measured}: see the += of (3)"


@pytest.mark.exercise_2_2
def test_the_repaired_sweep_goes_newest_first(student):
    x = y = student.lesson["Node"](1)
    for _ in range(20):
        y = y + y
    found = student("repaired_sweep")(y)[x].value
    assert found == 2**20, f"x doubled 20 times has the slope 2^20, not {found}: a cotangent must be complete when it is handed on"
