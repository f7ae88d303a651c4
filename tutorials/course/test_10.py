"""Lesson 10, An LSTM that learns to optimise: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm


@pytest.mark.exercise_10_1
def test_size_and_sign_of_large_and_of_tiny_numbers(student):
    for p in (3.0, 10.0):
        for x in (1e6, -40.0, -1.0, 0.3, 0.9 * np.exp(-p), -0.01 * np.exp(-p), 0.0):
            size, sign = (float(part[0]) for part in student("log_and_sign")(np.array([x]), p))
            expected = (np.log(abs(x)) / p, np.sign(x)) if abs(x) >= np.exp(-p) else (-1, np.exp(p) * x)
            hint = "the size is bounded below only, the sign on both sides; p says where"
            assert np.allclose((size, sign), expected), f"of {x}, with p = {p}, you show ({size:.4g}, {sign:.4g}): {hint}"


@pytest.mark.exercise_10_1
def test_its_slopes_are_finite_and_those_of_differences(student):
    answer, x, h = student("log_and_sign"), np.array([-7.0, 0.02, -1e-5, 0.0, 3e-6]), 1e-9
    for part, name in enumerate(("size", "sign")):
        with np.errstate(all="ignore"):
            slopes = np.diag(tm.jacobian(lambda x, part=part: answer(x)[part])(x))
            differences = (answer(x + h)[part] - answer(x - h)[part]) / (2 * h)
        hint = "a case that isn't chosen still gets the cotangent 0, and 0 / 0 is not a number: keep what the logarithm sees away from 0"
        assert np.all(np.isfinite(slopes)), f"a slope of the {name} is not finite: {hint}"
        assert np.allclose(slopes, differences, rtol=1e-4), f"the slopes of the {name} at {x} are {slopes}, by differences {differences}"


@pytest.mark.exercise_10_2
def test_kept_and_dropped_are_slopes_of_the_loop(student):
    def F(alpha, steps, shown=None):
        """The sum of the losses, with the gradients that the steps see, or with those that were once shown."""
        phi, total, seen = 1.0, 0.0, []
        for t in range(steps):
            seen.append(2 * phi if shown is None else shown[t])
            phi = phi - alpha * seen[-1]
            total = total + phi**2
        return total, seen

    for alpha, steps in ((0.2, 1), (0.05, 3), (0.35, 8), (0.8, 5)):
        kept = F(alpha + 1e-30j, steps)[0].imag / 1e-30  # the complex step of lesson 1
        dropped = F(alpha + 1e-30j, steps, F(alpha, steps)[1])[0].imag / 1e-30
        found, where = student("kept_and_dropped")(alpha, steps), f"at α = {alpha}, K = {steps}"
        hint = "F is the sum of (2), over t = 1 to K, of r^(2t)"
        assert np.isclose(found[0], kept, rtol=1e-8), f"{where} dF/dα is {kept:.8g}, not {found[0]:.8g}: {hint}"
        hint = "φ_t is φ_0 less α times all the g_j before it; which of these move with α now, and what factor has g_j?"
        assert np.isclose(found[1], dropped, rtol=1e-8), f"{where} the dropped one is {dropped:.8g}, not {found[1]:.8g}: {hint}"


@pytest.mark.exercise_10_3
def test_the_cell_descends(student):
    start, loss = np.array([0.5, -1.0, 2.0]), lambda phi: np.sum(np.cosh(phi - 1))
    for alpha, rho in ((0.05, 0.0), (0.3, 0.0), (0.1, 1.5), (0.3, 0.2)):
        weights, phi = student("gradient_descent_cell")(alpha, rho), start
        for _ in range(10):
            phi = phi - alpha * (np.sinh(phi - 1) + rho * phi)
        cell = tm.learned_optimizer.meta_lstm()
        run = tm.learned_optimizer.unroll(weights, loss, start, steps=10, second_derivatives=True, rule=cell)
        hint = "collect what stands before φ and before g in a step of gradient descent; each of the two is a σ(b)"
        assert np.allclose(run.phi, phi, rtol=1e-9), f"with α = {alpha}, ρ = {rho} it arrives at {run.phi}, descent at {phi}: {hint}"
