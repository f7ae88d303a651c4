"""Lesson 13, Making it fast: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.machine.execute import Executable


@pytest.mark.exercise_13_1
def test_at_that_many_columns_arithmetic_and_bytes_take_equally_long(student):
    for n, P, B in ((96, 2e9, 4e9), (96, 21e9, 3e9), (1000, 60e9, 2e9), (100, 80e9, 4e9), (96, 24e9, 2e9)):
        k = student("columns_needed")(n, P, B)
        arithmetic, moving = (lambda k, n=n, P=P: 2 * n**2 * k / P), (lambda k, n=n, B=B: 8 * (n**2 + 2 * n * k) / B)  # seconds
        case = f"n = {n}, P/B = {P / B:.3g}, k = {k:.4g}"
        if arithmetic(1e9) < moving(1e9):  # nobody has so many columns
            assert k == np.inf, f"{case}: but here the bytes take longer for every k; to what does the intensity tend as k grows?"
        else:
            hint = "count three matrices, 8 bytes a number; and F / P is seconds, as is Q / B"
            assert k > 0 and np.isclose(arithmetic(k), moving(k)), f"{case}: {arithmetic(k):.3g} s and {moving(k):.3g} s; {hint}"


def in_numpy(program):
    """Whether the machine leaves anything to NumPy, also where there is no machine."""
    return "in NumPy" in str(Executable(program.code, machine=True).notes)


@pytest.mark.exercise_13_2
def test_the_first_is_too_short(student):
    (f, args), _ = student("losers")()
    program = tm.trace(f, *args)
    assert len(program) < 5, f"{len(program)} instructions save m (c - c'), and C is paid once: which m does (4) want, to lose?\n{program}"
    assert not in_numpy(program), f"the machine doesn't do all of it, which is the second reason, not (4):\n{program}"


@pytest.mark.exercise_13_2
def test_the_second_is_left_to_numpy(student):
    _, (g, args) = student("losers")()
    program = tm.trace(g, *args)
    assert in_numpy(program), f"the machine can do each of these lines itself; the listing of what you look for has a note:\n{program}"
