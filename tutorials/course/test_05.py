"""Lesson 5, The two-level problem: its exercises, graded."""

import numpy as np
import pytest

PAPERS = {"maml": "start", "penalties": "loss", "darts": "loss", "distillation": "loss", "learned": "step"}


@pytest.mark.exercise_5_1
def test_where_theta_enters_the_adaptation(student):
    levels = student("name_the_levels")()
    for paper, where in PAPERS.items():
        hint = "write phi_0, L and a step down; which of the three changes, at the same phi, when theta does?"
        assert levels[paper][0] == where, f"{paper}: theta doesn't enter by the {levels[paper][0]}: {hint}"


@pytest.mark.exercise_5_1
def test_who_has_a_direct_part(student):
    levels = student("name_the_levels")()
    for paper in PAPERS:
        hint = "hold the weights phi, move theta: does the query loss itself change?"
        assert levels[paper][1] == (paper == "darts"), f"{paper}: has f a direct part? {hint}"


@pytest.mark.exercise_5_2
def test_jacobian_agrees_with_solving_again(student):
    rng = np.random.default_rng(52)
    X, y, penalties = rng.uniform(0, 2, (8, 3)), 3 + rng.standard_normal(8), np.array([0.2, 0.7, 1.5])

    def adapted(penalties):
        """The minimum, by least squares: each penalty is one more row, that asks for a weight of 0."""
        return np.linalg.lstsq(np.vstack([X, np.diag(np.sqrt(8 * penalties))]), np.append(y - 2, np.zeros(3)), rcond=None)[0]

    found = student("each_jacobian")(penalties, {"support": (X, y)})
    again = np.stack([adapted(penalties + 1e-5 * e) - adapted(penalties - 1e-5 * e) for e in np.eye(3)], axis=1) / 2e-5
    assert not np.allclose(found.T, again, rtol=1e-6), "it is the transpose: row i is a weight, column j a penalty"
    hint = "the product rule on A phi = X'(y - b1): how large is dA / d lambda_j, and what does it multiply?"
    assert np.allclose(found, again, rtol=1e-6), f"\n{found}\nisn't what solving again gives,\n{again}\n{hint}"
