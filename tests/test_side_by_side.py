"""The three problems: nothing disagrees with what it should equal, and what is wrong is complained about."""

from functools import partial

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import maml, side_by_side
from tinymeta.comparison import Comparison, Row


@pytest.fixture(scope="module", params=side_by_side.PROBLEMS)
def compared(request):
    return [(section, section.compare()) for section in side_by_side.PROBLEMS[request.param](0)]


def test_nothing_disagrees_with_what_it_should_equal(compared):
    for section, comparison in compared:
        assert section.complaints(comparison) == []
        assert [row.name for row in comparison.rows] == [*section.gradients, *section.shortcuts]


def test_a_shortcut_is_none_and_a_closed_form_belongs_to_a_row(compared):
    for section, comparison in compared:
        assert all(comparison[name].error > 1e-4 for name in section.shortcuts), section.title
        assert section.exact.keys() <= section.gradients.keys() | section.shortcuts.keys()
        assert not section.gradients.keys() & section.shortcuts.keys()


def test_titles_are_keys():
    titles = [section.title for problem in side_by_side.PROBLEMS.values() for section in problem(0)]
    assert len(set(titles)) == len(titles)


def test_the_seed_decides():
    values = [tm.ravel(side_by_side.ridge(seed)[0].task)[0] for seed in (0, 0, 1)]
    assert np.array_equal(values[0], values[1]) and not np.any(values[0] == values[2])


def test_complaints():
    section = side_by_side.Section("", None, None, None, gradients=dict.fromkeys("abcde"), shortcuts=dict.fromkeys("fgh"), exact={})
    rows = [Row("a", error=1e-9), Row("b", error=1e-6), Row("c", error=1e-9, exact_error=1e-6), Row("d", failure="why"),
            Row("e", error=np.nan), Row("f", error=0.5), Row("g", error=0.5, exact_error=0.5), Row("h", failure="why")]  # fmt: skip
    assert section.complaints(Comparison(rows, {}, {})) == [
        "b is 1.0e-06 away from the truth", "c is 1.0e-06 away from its closed form", "d failed", "e is nan away from the truth",
        "g is 5.0e-01 away from its closed form", "h failed"]  # fmt: skip


# ## Accuracy against cost
def test_accuracy_against_cost(monkeypatch):
    monkeypatch.setattr(side_by_side, "COUNTS", (1, 5, 60))
    curves = side_by_side.accuracy_against_cost(0)
    assert curves.keys() == side_by_side.BY_COUNT.keys()
    for name, points in curves.items():
        assert points[0].error > points[1].error > points[2].error, name
        solved = name in ("conjugate gradients", "Neumann series")  # their last product judges the solution
        # a series of k terms makes k - 1 products; conjugate gradients are exact, and end, in as many steps as there are dimensions
        most = [1, 5, 60] if name != "conjugate gradients" else [2, 6, 61]
        assert all(point.hessian_products <= k for point, k in zip(points, most, strict=True)) if solved else [
            point.hessian_products for point in points] == [1, 5, 60], name  # fmt: skip
    nodes = {name: [point.nodes for point in points] for name, points in curves.items()}
    assert nodes["unrolled"][0] < nodes["unrolled"][1] < nodes["unrolled"][2]
    assert len(set(nodes["conjugate gradients"])) == len(set(nodes["Neumann series"])) == 1


def test_the_neumann_series_is_the_truncated_sweep(monkeypatch):
    """k terms are backpropagation through the last k steps, at the minimum."""
    monkeypatch.setattr(side_by_side, "COUNTS", (3, 20))
    curves = side_by_side.accuracy_against_cost(0)
    errors = [[point.error for point in curves[name]] for name in ("Neumann series", "truncated")]
    np.testing.assert_allclose(*errors, rtol=1e-6)


def test_the_condition_number_and_the_error_of_truncation(monkeypatch):
    r"""With eigenvalues in $[\mu, L]$ and a learning rate of $2/(L + \mu)$, k terms leave at most $((\kappa - 1)/(\kappa + 1))^k$."""
    seen = []

    def looking(problem, theta, task):
        seen.append(np.linalg.cond(tm.hessian(lambda phi: problem.inner(phi, theta, task))(theta)))
        return maml.meta_gradient(problem, theta, task, steps=side_by_side.ARRIVED, truncate=100, **side_by_side.DESCENT.keywords)

    monkeypatch.setattr(side_by_side, "BY_COUNT", {"truncated": lambda k: looking})
    monkeypatch.setattr(side_by_side, "COUNTS", (100,))
    [[point]] = side_by_side.accuracy_against_cost(0).values()
    np.testing.assert_allclose(seen, [71], rtol=1e-10)
    assert 0.3 * (70 / 72) ** 100 < point.error < (70 / 72) ** 100


def test_the_proximal_term_is_that_of_the_implicit_gradient():
    problem = tm.Bilevel(lambda phi, theta, task: 0.5 * phi**2, lambda phi, theta, task: phi)
    assert side_by_side.with_proximal(1.0)(problem, 4.0, None, solver="lu").grad == 0.5  # 1 / (1 + 1/lambda)


def test_an_estimator_is_one_more_line():
    section = side_by_side.ridge(0)[0]
    section.gradients["another"] = partial(maml.meta_gradient, steps=3, lr=0.1)
    comparison = section.compare()
    assert comparison["another"].error < 1e-13 and section.complaints(comparison) == []
