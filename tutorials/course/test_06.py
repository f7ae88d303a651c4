"""Lesson 6, MAML by hand: its exercises, graded."""

import numpy as np
import pytest

import tinymeta as tm


@pytest.mark.exercise_6_1
def test_first_order_is_exact_where_the_factor_is_1(student):
    answer = student("first_order_is_exact")
    for alpha_a in (0.0, 0.3, 1.0, 1.7, 2.0, 2.5):
        for steps in range(6):
            exact = (1 - alpha_a) ** steps == 1
            hint = "(4) and (5) differ by the factor r^K alone; where is it 1? (What is (-1)^K?)"
            assert bool(answer(alpha_a, steps)) == exact, f"at alpha a = {alpha_a}, K = {steps} it is {exact}: {hint}"


@pytest.mark.exercise_6_2
def test_rate_gradient_is_that_of_the_steps(student):
    rng = np.random.default_rng(62)
    task = {"support": rng.standard_normal((2, 7)), "query": rng.standard_normal((2, 9))}

    def query_loss(alpha, steps, phi=0.5):
        (x, y), (x_query, y_query) = task["support"], task["query"]
        for _ in range(steps):
            phi = phi - alpha * np.mean((phi * x - y) * x)
        return np.mean((phi * x_query - y_query) ** 2) / 2

    for steps, alpha in ((1, 0.2), (2, 0.7), (5, 0.4)):
        exact = np.imag(query_loss(alpha + 1e-30j, steps)) / 1e-30
        hint = "in (2), what do the power K and dr / d alpha bring down? And f' of (1) is the query set's"
        assert np.isclose(student("rate_gradient")(0.5, task, steps, alpha), exact), f"at K = {steps} it is {exact}: {hint}"


@pytest.mark.exercise_6_3
def test_training_stands_still_where_it_ends(student):
    a, s, c = np.array([[0.3, 1.1, 1.4, 0.8], [-2.0, 1.0, 4.0, 0.5], [2.0, 0.5, 1.0, 3.0]])
    problem = tm.Bilevel(
        inner=lambda phi, theta, task: task[0] / 2 * (phi - task[1]) ** 2,
        outer=lambda phi, theta, task: task[2] / 2 * (phi - task[1]) ** 2,
    )
    for alpha in (0.1, 0.5):
        ends = student("where_training_ends")(a, s, c, alpha)
        for end, order, name in zip(ends, (2, 1), ("exact, (4)", "first-order, (5)"), strict=True):
            options = {"steps": 1, "lr": alpha, "order": order}
            mean = np.mean([tm.maml.meta_gradient(problem, end, task, **options).grad for task in zip(a, s, c, strict=True)])
            hint = "phi_1 - s is r (theta - s); what then multiplies theta - s? Weights are divided by their sum"
            assert abs(mean) < 1e-10, f"at your end the mean {name} is {mean:.3g}, not 0: {hint}"
