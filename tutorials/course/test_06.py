"""Lesson 6, MAML by hand: its exercises, graded."""

import pytest


@pytest.mark.exercise_6_1
def test_first_order_is_exact_where_the_factor_is_1(student):
    answer = student("first_order_is_exact")
    for alpha_a in (0.0, 0.3, 1.0, 1.7, 2.0, 2.5):
        for steps in range(6):
            exact = (1 - alpha_a) ** steps == 1
            hint = "(4) and (5) differ by the factor r^K alone; where is it 1? (What is (-1)^K?)"
            assert bool(answer(alpha_a, steps)) == exact, f"at alpha a = {alpha_a}, K = {steps} it is {exact}: {hint}"
