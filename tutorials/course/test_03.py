"""Lesson 3, arrays: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm

rng = np.random.default_rng(2024)


def judge(forward, rule, inputs, hints):
    """<x_bar, dx>, by the rule, must be <c_bar, dc>, by the complex step: for each input, and in the second order too."""
    c = forward(*inputs)
    c_bar = rng.standard_normal(c.shape)
    x_bars = rule(c_bar, c, *inputs)
    assert isinstance(x_bars, tuple | list), f"a rule returns a tuple, with one cotangent for each input, not {type(x_bars).__name__}"
    found, shapes = [np.shape(x_bar) for x_bar in x_bars], [x.shape for x in inputs]
    assert found == shapes, f"a cotangent is shaped like its input: {shapes}, not {found}"
    for i, (x, x_bar, hint) in enumerate(zip(inputs, x_bars, hints, strict=True)):
        dx = rng.standard_normal(x.shape)
        dc = np.imag(forward(*inputs[:i], x + 1e-30j * dx, *inputs[i + 1 :])) / 1e-30
        found, measured = np.sum(x_bar * dx), np.sum(c_bar * dc)
        assert np.isclose(found, measured), f"the pairing for input {i} is {found}, should be {measured}: {hint}"
    check = tm.check_grad(tm.custom_vjp(forward, rule), *inputs)
    assert check, f"right, but not when it is differentiated again: what in the rule is held constant that isn't?\n{check}"


@pytest.mark.exercise_3_1
def test_logsumexp(student):
    def logsumexp(x):
        return np.log(np.sum(np.exp(x), axis=-1))

    for shape in ((4,), (2, 3), (2, 3, 4)):
        hint = "which weight has dx_i in dc? (They add up to 1 over the last axis, and each row has a c_bar of its own.)"
        judge(logsumexp, student("logsumexp_rule"), (rng.standard_normal(shape),), [hint])


@pytest.mark.exercise_3_2
def test_solving(student):
    A, B = rng.standard_normal((4, 4)), rng.standard_normal((4, 2))
    hints = ["in A dX = dB - dA X, what stands around dA, and with which sign?", "a factor crosses the bracket transposed, A^{-1} too"]
    judge(np.linalg.solve, student("solve_rule"), (A, B), hints)


@pytest.mark.exercise_3_2
def test_solving_once(student):
    A, B, called = rng.standard_normal((4, 4)), rng.standard_normal((4, 2)), []
    X = np.linalg.solve(A, B)

    def counted(function):
        return lambda *inputs: called.append(function.__name__) or function(*inputs)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("solve", "inv", "pinv"):
            patch.setattr(np.linalg, name, counted(getattr(np.linalg, name)))
        student("solve_rule")(B, X, A, B)
    assert called in (["solve"], []), f"it calls {called}: B_bar needs one solve, and A_bar can be made of B_bar and of X, which is given"


@pytest.mark.exercise_3_3
def test_normalising(student):
    def normalise(x):
        centred = x - np.mean(x)
        return centred / np.sqrt(np.mean(centred**2))

    for n in (3, 8):
        hint = "dz = (dx - dm - z dsigma) / sigma has three terms, and dm and dsigma are means over all n elements"
        judge(normalise, student("normalise_rule"), (5 * rng.standard_normal(n) + 2,), [hint])
