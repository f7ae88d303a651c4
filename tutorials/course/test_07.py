"""Lesson 7, Through the unrolled loop: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.tasks import quadratics


@pytest.mark.exercise_7_1
def test_truncated_goes_back_k_steps(student):
    problem, task, alpha, theta = (student.lesson[name] for name in ("problem", "task", "alpha", "theta"))
    theta = theta | {"start": np.random.default_rng(71).standard_normal(theta["start"].size) / 2}
    phis, _ = tm.maml.inner_steps(problem, theta, task, steps=7, lr=alpha)
    for k in (1, 2, 6, 7):
        found = student("truncated")(phis, k)
        exact = tm.maml.meta_gradient(problem, theta, task, steps=7, lr=alpha, truncate=k).grad
        hint = f"which k of the terms in (5) remain, and which vectors do they need? dF/drho for k = {k}, K = 7 is {exact['decay']}"
        assert np.isclose(found["decay"], exact["decay"]), hint
        hint = "lambda_0 is the start's gradient; for which k does one get back to step 0? For the others phi_0 is without effect"
        assert np.allclose(found["start"], exact["start"]), f"the start, for k = {k}, K = 7: {hint}"


@pytest.mark.exercise_7_2
def test_reptile_direction_is_where_the_steps_came_from(student):
    task, theta, alpha = quadratics.draw(np.random.default_rng(72), 3), np.array([2.0, -1.0, 0.5]), 0.7
    phi = theta
    for K in range(1, 9):
        phi = phi - alpha * (task.A @ phi - task.b)
        found = student("reptile_direction")(theta, task.A, task.b, K, alpha)
        assert not np.allclose(found, phi - theta), "it is phi_K - theta: what stands in the place of a gradient points uphill"
        hint = "lesson 6's (2) for vectors: where is the minimum, and what is a matrix to the power K?"
        assert np.allclose(found, theta - phi), f"for K = {K}, {found} isn't what {K} steps give, {theta - phi}: {hint}"


@pytest.mark.exercise_7_3
def test_forwards_agrees_with_differences(student):
    problem, task, alpha, theta = (student.lesson[name] for name in ("problem", "task", "alpha", "theta"))
    start = np.random.default_rng(73).standard_normal(theta["start"].size) / 2
    for K in (1, 2, 6):
        F = tm.maml.objective(problem, steps=K, lr=alpha)
        plus, minus = (F({"start": start, "decay": 0.2 + h}, task) for h in (1e-5, -1e-5))
        hint = "p moves by (1), both terms of it, with the phi from which the step is made (not where it leads)"
        found = student("forwards")({"start": start, "decay": 0.2}, task, K)
        assert np.isclose(found, (plus - minus) / 2e-5, rtol=1e-6), f"for K = {K} differences say {(plus - minus) / 2e-5}: {hint}"
