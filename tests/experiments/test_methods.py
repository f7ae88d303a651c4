"""Every method, on a small problem with parts that don't adapt: it follows the gradient that it claims to follow."""

import warnings

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit, maml
from tinymeta.experiments import classification, few_shot, methods, sinusoid
from tinymeta.tasks.characters import draw_characters

TRAIN, TEST = (draw_characters(np.random.default_rng(seed), 6, size=6) for seed in (0, 1))
SMALL = classification.experiment(TRAIN, TEST, ways=3, hidden=(8,))._replace(evaluation_tasks=40, alpha=0.5)
TASK = tm.tree.map(lambda x: x[0].astype(float) if x.dtype == np.float32 else x[0], SMALL.draw(np.random.default_rng(2), 1))


def theta_of(method):
    return tm.tree.map(lambda x: x.astype(float), SMALL.theta(method, 0))


def norms(tree):
    return {name: np.linalg.norm(leaf) for name, leaf in zip(tm.tree.names(tree, "theta"), tm.tree.flatten(tree)[0], strict=True)}


@pytest.mark.parametrize("method", ["maml", "anil", "meta-sgd"])
def test_the_gradient_of_what_is_run(method):
    assert tm.check_grad(lambda theta: SMALL.objective(method)(theta, TASK), theta_of(method), order=1).max_error < 1e-6


def test_first_order_drops_the_second_derivatives_and_nothing_else():
    theta = theta_of("maml")
    values, gradients = zip(*(tm.value_and_grad(SMALL.objective(name))(theta, TASK) for name in ("maml", "fomaml")), strict=True)
    problem, lr = SMALL.adaptation("maml")
    first = maml.meta_gradient(problem, theta, TASK, steps=1, lr=lr, order=1).grad
    np.testing.assert_allclose(tm.ravel(gradients[1])[0], tm.ravel(first)[0], rtol=1e-12, atol=1e-14)
    assert values[0] == values[1] and not np.allclose(tm.ravel(gradients[0])[0], tm.ravel(gradients[1])[0], rtol=1e-3)


def test_reptile_goes_to_where_all_parameters_have_adapted():
    theta = theta_of("reptile")
    gradient = tm.grad(SMALL.objective("reptile"))(theta, TASK)
    phi = maml.adapt(SMALL.problem, theta, TASK, steps=classification.STEPS["reptile"], lr=SMALL.alpha)
    np.testing.assert_allclose(tm.ravel(gradient)[0], tm.ravel(theta)[0] - tm.ravel(phi)[0], rtol=1e-12, atol=1e-14)
    assert all(size > 0 for size in norms(gradient).values())


def test_a_method_may_have_an_alpha_of_its_own():
    chosen = sinusoid.experiment()
    assert chosen.adaptation("imaml").lr == sinusoid.IMAML_ALPHA == 0.003 and chosen.adaptation("maml").lr == 0.01


def test_imaml_is_the_implicit_gradient_with_the_proximal_term(monkeypatch):
    monkeypatch.setattr(methods, "PROXIMAL", 20.0)  # where there is a minimum
    theta, small = theta_of("imaml"), SMALL._replace(alpha=0.02)
    problem, lr = small.adaptation("imaml")
    phi = maml.adapt(problem, theta, TASK, steps=classification.STEPS["imaml"], lr=lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # five steps don't lead far
        expected = implicit.meta_gradient(problem, theta, TASK, phi=phi, solver="cg", iterations=methods.CONJUGATE_GRADIENTS).grad
    gradient = tm.grad(small.objective("imaml"))(theta, TASK)
    np.testing.assert_allclose(tm.ravel(gradient)[0], tm.ravel(expected)[0], rtol=1e-9, atol=1e-12)


def test_what_adapts():
    """MAML leaves batch norm's parameters where they are, and ANIL all but the last layer; both are learned all the same."""
    for method, moves in (("maml", {"theta[0]['W']", "theta[1]['W']", "theta[1]['b']"}), ("anil", {"theta[1]['W']", "theta[1]['b']"})):
        theta = theta_of(method)
        problem, lr = SMALL.adaptation(method)
        phi = maml.adapt(problem, theta, TASK, steps=1, lr=lr)
        assert set(tm.tree.names(phi, "theta")) == moves
        assert all(size > 0 for name, size in norms(tm.grad(SMALL.objective(method))(theta, TASK)).items())


def test_meta_sgd_learns_a_rate_for_what_adapts():
    gradient = tm.grad(SMALL.objective("meta-sgd"))(theta_of("meta-sgd"), TASK)
    sizes = norms(gradient["alpha"])
    assert {name for name, size in sizes.items() if size > 0} == {"theta[0]['W']", "theta[1]['W']", "theta[1]['b']"}


def test_a_method_that_makes_no_sense():
    with pytest.raises(ValueError, match=r"method='pretrain': choose one of 'maml', 'fomaml'"):
        SMALL.objective("pretrain")
    assert set(sinusoid.STEPS) == set(methods.METHODS)


# ## Evaluation
def test_the_evaluation_is_what_a_loop_gives():
    theta = SMALL.theta("maml", 0)
    found = few_shot.evaluate(SMALL, "maml", theta, seed=5)
    tasks = SMALL.draw_unseen(np.random.default_rng((5, 2)), 40)
    problem, lr = SMALL.adaptation("maml", judge=True)
    for i in (0, 39):
        task = tm.tree.map(lambda x: x[i], tasks)  # noqa: B023 - used at once
        phis, _ = maml.inner_steps(problem, theta, task, steps=3, lr=lr)
        np.testing.assert_allclose(found.errors[i], [problem.outer(phi, theta, task) for phi in phis], atol=0.05)
    assert found.errors.shape == (40, 4) and 0 <= found.errors.min() and found.errors.max() <= 1


def test_a_mean_that_is_not_finite_diverges():
    shown = few_shot.table({"Meta-SGD": few_shot.Evaluation(np.array([[1.0, np.inf], [1.0, np.nan]]))}, steps=(0, 1))
    assert shown.splitlines()[1].split() == ["Meta-SGD", "1.000", "±", "0.000", "diverges"]
