"""Lesson 8, The implicit function theorem: its exercises, graded."""

import numpy as np
import pytest

from tinymeta.tasks import quadratics


def complex_step(function, x):
    """The derivative of a function of a vector: the last axis counts the entries of x."""
    return np.stack([np.imag(function(x + 1e-30j * e)) / 1e-30 for e in np.eye(len(x))], axis=-1)


@pytest.mark.exercise_8_1
def test_imaml_agrees_with_solving_again(student):
    rng = np.random.default_rng(81)
    A, b, C, d = quadratics.draw(rng, 4)

    def adapted(both):
        theta, lambda_ = both[:4], both[4]
        return np.linalg.solve(A + lambda_ * np.eye(4), b + lambda_ * theta)

    for lambda_ in (0.3, 1.0, 20.0):
        both = np.append(rng.standard_normal(4), lambda_)
        exact = complex_step(lambda both: (adapted(both) - d) @ C @ (adapted(both) - d) / 2, both)
        phi = adapted(both)
        by_theta, by_lambda = student("imaml")(A, C @ (phi - d), lambda_, both[:4], phi)
        hint = "H and M belong to the whole inner loss: what does the term add to its gradient, and what is that one's derivative by"
        assert np.allclose(by_theta, exact[:4]), f"dF/dtheta at lambda = {lambda_} is {exact[:4]}: {hint} phi, and by theta?"
        assert np.isclose(by_lambda, exact[4]), f"dF/dlambda at lambda = {lambda_} is {exact[4]}: {hint} lambda? Mind (5)'s sign"


@pytest.mark.exercise_8_2
def test_weight_gradient_agrees_with_solving_again(student):
    rng = np.random.default_rng(82)
    X, y, s, d, rho = rng.standard_normal((7, 3)), rng.standard_normal(7), rng.uniform(0.2, 3, 7), rng.standard_normal(3), 0.4
    adapted = lambda s: np.linalg.solve((X.T * s) @ X + rho * np.eye(3), X.T @ (s * y))
    exact = complex_step(lambda s: (adapted(s) - d) @ (adapted(s) - d) / 2, s)
    found = student("weight_gradient")(X, y, s, rho, adapted(s) - d, adapted(s))
    assert not np.allclose(found, -exact), "the sign: a point whose weight makes the query loss grow has a positive entry"
    hint = "write the gradient of L; where do the weights stay when you differentiate by phi (H), where by one s_i (column i of M)?"
    assert np.allclose(found, exact), f"\n{found}\nisn't what solving again gives,\n{exact}\n{hint}"


@pytest.mark.exercise_8_3
def test_rest_jacobian_is_that_of_coming_to_rest(student):
    rng = np.random.default_rng(83)
    W, u = 0.3 * rng.standard_normal((4, 4)), rng.standard_normal(4)

    def come_to_rest(u):
        x = np.zeros(4)
        for _ in range(200):
            x = np.tanh(W @ x + u)
        return x

    found, exact = student("rest_jacobian")(W, come_to_rest(u)), complex_step(come_to_rest, u)
    hint = "g = x - tanh(W x + u): x stands in it twice, and tanh' multiplies the rows of what is inside. Mind (2)'s minus"
    assert np.allclose(found, exact), f"\n{found}\nisn't the derivative of the point of rest,\n{exact}\n{hint}"
