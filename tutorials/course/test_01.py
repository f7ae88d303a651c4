"""Lesson 1, derivatives you can trust: its exercises, graded."""

import numpy as np
import pytest


@pytest.mark.exercise_1_1
def test_every_partial_derivative_is_right_to_the_last_digits(student):
    a, b, c = x = np.array([0.3, -1.2, 2.0])
    found = np.asarray(student("complex_gradient")(lambda x: np.exp(x[0] * x[1]) + x[2] ** 3 * np.sin(x[0]), x))
    exact = [b * np.exp(a * b) + c**3 * np.cos(a), a * np.exp(a * b), 3 * c**2 * np.sin(a)]
    assert found.shape == (3,), f"f has 3 inputs, so 3 partial derivatives, but the gradient has the shape {found.shape}"
    hint = "does one coordinate at a time step aside, and is the imaginary part divided by h, as in (6)?"
    assert np.allclose(found, exact, rtol=1e-6), f"{found}, but on paper {np.array(exact)}: {hint}"
    hint = "a difference loses a third of the digits, the complex step none, as nothing is subtracted"
    assert np.allclose(found, exact, rtol=1e-13, atol=0), f"off by {np.max(np.abs(found - exact)):.0e}: {hint}"


@pytest.mark.exercise_1_2
def test_the_mean_error_on_a_fourth_power(student):
    mean_error, h = student("mean_error"), np.float64(0.125)
    for precision in (np.float32, np.float64):
        points = np.array([-3, -1, 2], precision)
        found = mean_error(lambda t: t**4, lambda t: 4 * t**3, points, h)
        exact = np.mean(4 * np.abs(points) * h**2)  # D(h) is 4 x^3 + 4 x h^2, and nothing is rounded here
        hint = "at x the size of the error is 4 |x| h^2; is it the mean of the sizes that you take?"
        assert np.allclose(found, exact), f"{found} in {precision.__name__}, should be {exact}: {hint}"


@pytest.mark.exercise_1_2
def test_all_but_the_true_slope_is_in_the_precision_of_the_points(student):
    points = np.linspace(1.1, 1.9, 50, dtype=np.float32)
    found = student("mean_error")(np.exp, np.exp, points, np.float64(1e-9))
    whole_slope = np.mean(np.exp(points.astype(float)))
    hint = "a float32 array plus a NumPy number in float64 is float64, so the step has to be converted too"
    assert found > 0.9 * whole_slope, f"in float32 x + 1e-9 is x, and the error is the whole slope: {hint}"
    hint = "the true slope must be computed and subtracted in float64"
    assert np.allclose(found, whole_slope, rtol=1e-12, atol=0), f"off by {abs(found - whole_slope):.0e}: {hint}"


@pytest.mark.exercise_1_3
def test_the_terms_with_h_squared_cancel(student):
    estimate = student("extrapolated_difference")
    for x, h in ((1.5, 0.25), (-2.0, 0.5)):
        hint = "on a line D(h) and D(2h) are both right: do their weights add up to 1?"
        assert np.allclose(estimate(lambda t: 5 * t, x, h), 5), f"the slope of 5 t is 5: {hint}"
        hint = "here the h^2 term is the whole error, in D(2h) four times what it is in D(h)"
        assert np.allclose(estimate(lambda t: t**3, x, h), 3 * x**2), f"the slope of t^3 at {x} is {3 * x**2}: {hint}"
