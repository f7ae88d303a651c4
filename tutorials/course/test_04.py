"""Lesson 4, higher order: its exercises, graded."""

import numpy as np
import pytest

rng = np.random.default_rng(2025)
B, x, v = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)


def compare(found, exact, hint):
    assert np.shape(found) == exact.shape, f"the answer has the shape {np.shape(found)}, should have {exact.shape}: {hint}"
    assert np.allclose(found, exact, rtol=1e-8), f"{found}, should be {exact}: {hint}"


@pytest.mark.exercise_4_1
def test_gauss_newton(student):
    product = student("gauss_newton_product")
    hint = "J is constant here, and J'(J v) is one step forwards, one back; is it a vector?"
    compare(product(lambda x: B @ x - 1, x, v), B.T @ (B @ v), hint)
    J = np.exp(B @ x)[:, None] * B
    hint = "the residuals bend here: only J'J is asked for, at x, and neither r nor its second derivatives are in it"
    compare(product(lambda x: np.exp(B @ x), x, v), J.T @ (J @ v), hint)


@pytest.mark.exercise_4_2
def test_the_best_step_ends_where_a_parabola_is_lowest(student):
    for A in (np.diag([1.0, 2, 3, 4, 5]), np.eye(5) + B.T @ B):
        gradient = lambda x, A=A: A @ x + 1
        alpha = student("best_step")(lambda x, A=A: x @ A @ x / 2 + np.sum(x), x)
        slope = gradient(x - alpha * gradient(x)) @ gradient(x)  # f is its own parabola, and lowest where this is 0
        hint = "set the derivative by alpha of the right-hand side to 0; and is g held constant in H g?"
        assert abs(slope) < 1e-8 * (gradient(x) @ gradient(x)), f"alpha is {alpha}, and there f still has a slope along g: {hint}"


@pytest.mark.exercise_4_2
def test_the_best_step_takes_the_curvature_at_x(student):
    g, H = np.sinh(x), np.diag(np.cosh(x))
    alpha, exact = student("best_step")(lambda x: np.sum(np.cosh(x)), x), g @ g / (g @ H @ g)
    compare(alpha, exact, "<g, g> / <g, H g>, both at x: the curvature is that along g")


@pytest.mark.exercise_4_3
def test_the_third_derivative_along_v_twice(student):
    cubic = student("third_derivative")(lambda x: np.sum(x**3) / 6, x, v)
    compare(cubic, v**2, "T_iii is 1 and the rest is 0, so t_i = v_i^2: v comes in twice, and no x is left")
    exact = B.T @ (np.exp(B @ x) * (B @ v) ** 2)
    compare(student("third_derivative")(lambda x: np.sum(np.exp(B @ x)), x, v), exact, "differentiate <v, H v> by x, with v held constant")
