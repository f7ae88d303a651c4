"""Lesson 9, Solving it, and failing: its exercises, graded."""

import numpy as np
import pytest


@pytest.mark.exercise_9_1
def test_the_limits_keep_what_lies_in_the_null_space(student):
    rng = np.random.default_rng(91)
    for eigenvalues in ([3.0, 0.5, 0.0], [40.0, 2.0, 0.1, 0.0, 0.0], [1.0, 0.3]):
        Q = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))[0]
        found = student("memory")(Q * eigenvalues @ Q.T)
        for h, q in zip(eigenvalues, Q.T, strict=True):
            hint = "what do (1 - αh)^K and λ / (h + λ) tend to if h > 0, and if h = 0?"
            assert np.allclose(found @ q, (h == 0) * q, atol=1e-6), f"the eigenvector of {h}, among {eigenvalues}, goes elsewhere: {hint}"


@pytest.mark.exercise_9_2
def test_a_tenth_of_the_distance_leaves_a_hundredth_of_the_error(student):
    corrected, end, of_the_end = student("corrected"), student.lesson["phis"][-1], student.lesson["of_the_end"]
    for seed in range(3):
        away = np.random.default_rng(seed).standard_normal(len(end))
        far, near = (np.linalg.norm(corrected(end + size * away) - of_the_end) for size in (0.03, 0.003))
        hint = "which point has, by the formula for ∇L near the end, the whole way behind it? (H is that of the whole inner loss.)"
        assert near < far / 50 + 1e-6, f"at a tenth of the distance the error falls from {far:.1e} to {near:.1e}, no hundredth: {hint}"
        assert far < 0.2 * np.linalg.norm(of_the_end), f"near the end the gradient is off by {far:.1e}: {hint}"


@pytest.mark.exercise_9_3
def test_the_slope_is_that_of_solving_again(student):
    for seed, theta in ((93, 0.2), (94, 0.3), (95, 0.01)):  # with the last no weight is in its kink
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((30, 6))
        y = X @ [1.5, 0.0, -1.0, 0.0, 2.0, 0.1] + 0.1 * rng.standard_normal(30)
        plus, phi, minus = (student.lesson["lasso"](X, y, t, steps=1000) for t in (theta + 1e-6, theta, theta - 1e-6))
        again = (plus - minus) / 2e-6
        found = student("lasso_slope")(X, phi)
        assert np.all(found[phi == 0] == 0), "a weight in its kink moved: for a small move of θ it stays there"
        hint = "for the weights that are not 0, differentiate X'(Xφ - y) / n + θ sign(φ) = 0, in which the others are constant"
        assert np.allclose(found, again, atol=1e-6), f"solving again gives {again.round(4)}, and this {found.round(4)}: {hint}"
