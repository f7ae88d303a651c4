"""The comparison: right gradients agree with the truth, wrong ones are given away, and what fails is said."""

import warnings
from functools import partial

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import comparison, implicit, maml
from tinymeta.tasks import quadratics

N, STEPS, ALPHA, STRENGTH = 6, 5, 0.5, 2.0
rng = np.random.default_rng(0)
TASK, THETA = quadratics.draw(rng, N), rng.standard_normal(N)
QUADRATIC = tm.Bilevel(quadratics.inner, quadratics.outer)
MAML = partial(maml.meta_gradient, steps=STEPS, lr=ALPHA)


def proximal(problem, theta, task, **options):
    return implicit.meta_gradient(implicit.proximal(problem, STRENGTH), theta, task, **options)


def changed(estimator, change):
    """The estimator with another gradient."""

    def wrong(problem, theta, task):
        result = estimator(problem, theta, task)
        return result._replace(grad=change(result.grad))

    return wrong


def outer_gradient(phi):
    return TASK.C @ (phi - TASK.d)


POWER = np.linalg.matrix_power(np.eye(N) - ALPHA * TASK.A, STEPS)
MINIMUM = np.linalg.solve(TASK.A, TASK.b)
PHI = MINIMUM + POWER @ (THETA - MINIMUM)
H = TASK.A + STRENGTH * np.eye(N)
EXACT = {"graph": POWER @ outer_gradient(PHI), "recursion": POWER @ outer_gradient(PHI), "first order": outer_gradient(PHI),
         "iMAML": STRENGTH * np.linalg.solve(H, outer_gradient(np.linalg.solve(H, TASK.b + STRENGTH * THETA)))}  # fmt: skip


@pytest.fixture(scope="module")
def quadratic():
    estimators = {"graph": MAML, "recursion": partial(MAML, by="recursion"), "first order": partial(MAML, order=1), "iMAML": proximal,
                  "iMAML, LU": partial(proximal, solver="lu")}  # fmt: skip
    return tm.compare(QUADRATIC, THETA, TASK, estimators, EXACT)


# ## A quadratic
def test_gradients_agree_with_the_truth_and_all_with_their_closed_form(quadratic):
    assert [row.name for row in quadratic.rows] == ["graph", "recursion", "first order", "iMAML", "iMAML, LU"]
    for name in ("graph", "recursion"):
        assert quadratic[name].error < 1e-14 and quadratic[name].angle < 1e-12 and quadratic[name].truth == "complex step"
    for name in ("iMAML", "iMAML, LU"):
        assert quadratic[name].error < 1e-9 and quadratic[name].angle < 1e-7
    assert all(quadratic[name].exact_error < 1e-13 for name in EXACT) and quadratic["iMAML, LU"].exact_error is None


def test_first_order_shows_its_bias(quadratic):
    u, v = EXACT["first order"], EXACT["graph"]
    row = quadratic["first order"]
    np.testing.assert_allclose(row.error, np.linalg.norm(u - v) / np.linalg.norm(v), rtol=1e-12)
    np.testing.assert_allclose(row.angle, np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))), rtol=1e-12)
    assert row.angle > 1 and row.hessian_products == 0


def test_the_other_columns(quadratic):
    for name in ("graph", "recursion", "first order"):
        np.testing.assert_allclose(quadratic[name].value, quadratics.outer(PHI, None, TASK), rtol=1e-13)
        np.testing.assert_allclose(quadratic[name].norm, np.linalg.norm(EXACT[name]), rtol=1e-12)
    assert quadratic["graph"].hessian_products == quadratic["recursion"].hessian_products == STEPS
    assert quadratic["graph"].nodes == MAML(QUADRATIC, THETA, TASK).info["nodes"] > quadratic["recursion"].nodes
    assert all(row.seconds > 0 and row.failure is None for row in quadratic.rows)


def test_the_gradients_and_truths_are_there_to_look_at(quadratic):
    np.testing.assert_allclose(quadratic.gradients["first order"], EXACT["first order"], rtol=1e-12)
    np.testing.assert_allclose(quadratic.truths["first order"], EXACT["graph"], rtol=1e-12)
    np.testing.assert_allclose(quadratic.truths["iMAML"], EXACT["iMAML"], rtol=1e-9)


# ## What is wrong is given away
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_a_factor_is_an_error_without_an_angle(size):
    [row] = tm.compare(QUADRATIC, THETA, TASK, {"wrong": changed(MAML, lambda g: g * (1 + size))}).rows
    np.testing.assert_allclose(row.error, size, rtol=1e-5)
    assert row.angle < 1e-12


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_a_turn_is_an_angle(size):
    g = EXACT["graph"]
    away = np.linalg.qr(np.stack([g, np.ones(N)], axis=1))[0][:, 1] * np.linalg.norm(g)  # orthogonal to g, and as long
    [row] = tm.compare(QUADRATIC, THETA, TASK, {"wrong": changed(MAML, lambda g: g + size * away)}).rows
    np.testing.assert_allclose(row.error, size, rtol=1e-5)
    np.testing.assert_allclose(row.angle, np.degrees(np.arctan(size)), rtol=1e-5)


def test_a_dropped_term():
    """The direct part of the gradient, through the outer loss itself."""
    problem = tm.Bilevel(quadratics.inner, lambda phi, theta, task: quadratics.outer(phi, theta, task) + 0.1 * theta @ theta)
    wrong = changed(MAML, lambda g: g - 0.2 * THETA)
    rows = tm.compare(problem, THETA, TASK, {"right": MAML, "wrong": wrong})
    assert rows["right"].error < 1e-14 and rows["wrong"].error > 0.01 and rows["wrong"].angle > 0.1


def test_a_gradient_of_a_wrong_direction_and_one_that_is_zero():
    estimators = {"uphill": changed(MAML, lambda g: -g), "zero": changed(MAML, np.zeros_like)}
    rows = tm.compare(QUADRATIC, THETA, TASK, estimators)
    np.testing.assert_allclose([rows["uphill"].angle, rows["uphill"].error, rows["zero"].error], [180, 2, 1])
    assert np.isnan(rows["zero"].angle)


# ## Angles and errors
@pytest.mark.parametrize("degrees", [1e-14, 1e-9, 1e-6, 1.0, 90.0, 179.0, 180 - 1e-9])
def test_angles_are_accurate_where_an_arc_cosine_would_not_be(degrees):
    a = np.radians(degrees)
    u, v = np.array([3.0, 0.0]), 7 * np.array([np.cos(a), np.sin(a)])
    np.testing.assert_allclose(comparison.angle(u, v), degrees, rtol=1e-13, atol=0)


def test_angles_and_errors_of_nested_gradients():
    u, v = {"a": np.array([1.0, 0.0]), "b": 0.0}, {"a": np.array([0.0, 0.0]), "b": 2.0}
    np.testing.assert_allclose(comparison.angle(u, v), 90)
    np.testing.assert_allclose(comparison.relative_error(u, v), np.sqrt(5) / 2)


def test_the_error_to_a_truth_of_zero():
    assert comparison.relative_error(np.zeros(2), np.zeros(2)) == 0 and comparison.relative_error(np.ones(2), np.zeros(2)) == np.inf


# ## The truth
def test_estimators_of_the_same_function_share_its_truth_and_others_do_not():
    calls = dict.fromkeys(("graph", "recursion", "longer"), 0)

    def counting(name, estimator):
        def counted(problem, theta, task):
            calls[name] += 1
            return estimator(problem, theta, task)

        return counted

    estimators = {"graph": MAML, "recursion": partial(MAML, by="recursion"), "longer": partial(MAML, steps=6)}
    rows = tm.compare(QUADRATIC, THETA, TASK, {name: counting(name, e) for name, e in estimators.items()})
    assert all(row.error < 1e-14 for row in rows.rows)
    measured = comparison.RUNS + 2  # the first run, those that are timed, and the second point
    assert min(calls["graph"], calls["recursion"]) == measured < calls["longer"]
    assert rows.truths["graph"] is rows.truths["recursion"] is not rows.truths["longer"]


def test_where_the_complex_step_is_not_to_be_had_come_differences():
    """One leaves the engine, which raises; one drops the imaginary part and goes on in silence, which differences give away."""

    def leaving(problem, theta, task):
        return MAML(problem, np.asarray(theta), task)

    def silent(problem, theta, task):
        return MAML(problem, theta.value.real if isinstance(theta, tm.Tensor) else theta, task)

    for estimator in (leaving, silent):
        [row] = tm.compare(QUADRATIC, THETA, TASK, {"estimator": estimator}).rows
        assert row.truth == "differences" and row.error < 1e-9


def test_the_truth_is_that_of_a_nested_theta():
    problem = tm.Bilevel(quadratics.inner, quadratics.outer, init=lambda theta, task: theta["start"])
    theta = {"start": THETA, "alpha": np.array(0.3)}
    estimator = partial(maml.meta_gradient, steps=3, lr=lambda theta: theta["alpha"])
    rows = tm.compare(problem, theta, TASK, {"shared rate": estimator})
    shared = (np.eye(N) - 0.3 * TASK.A) @ (np.eye(N) - 0.3 * TASK.A)  # to the power of K - 1
    g = outer_gradient(estimator(problem, theta, TASK).phi)
    np.testing.assert_allclose(rows.truths["shared rate"]["alpha"], -3 * g @ TASK.A @ shared @ (THETA - MINIMUM), rtol=1e-12)
    assert rows["shared rate"].error < 1e-14


# ## What fails
def test_an_estimator_that_raises_is_a_row_that_says_why():
    estimators = {"MAML": MAML, "typing error": partial(MAML, by="grpah"), "indefinite": partial(implicit.meta_gradient, phi=THETA)}
    concave = tm.Bilevel(lambda phi, theta, task: -phi @ phi, quadratics.outer)
    rows = tm.compare(concave, THETA, TASK, estimators)
    assert rows["MAML"].error < 1e-14 and rows["MAML"].failure is None
    why = "ValueError: by='grpah': choose one of 'graph', 'recursion', 'forward'"
    assert rows["typing error"] == comparison.Row("typing error", failure=why)
    assert rows["indefinite"].failure.startswith("LinAlgError: the inner Hessian is not positive definite")
    assert rows["indefinite"].value is None
    lines = str(rows).splitlines()
    assert lines[2] == f"typing error  failed: {why}" and len(lines) == 4
    assert "typing error" not in rows.gradients and "typing error" not in rows.truths


def test_what_is_no_meta_gradient_is_a_row_that_says_why():
    result = MAML(QUADRATIC, THETA, TASK)
    wrong = {"value": (result.value, "TypeError: an estimator returns a MetaGradient, not ndarray"),
             "part": (result._replace(grad=result.grad[:2]), "the shapes {'theta': (2,)}, to be those of theta, {'theta': (6,)}"),
             "in a list": (result._replace(grad=[result.grad]), "the shapes {'theta[0]': (6,)}, to be those of theta"),
             "losses": (result._replace(value=np.ones(3)), "ValueError: the value has shape (3,), to be a scalar")}  # fmt: skip
    rows = tm.compare(QUADRATIC, THETA, TASK, {"MAML": MAML} | {name: lambda *_, x=x: x for name, (x, _) in wrong.items()})
    assert rows["MAML"].error < 1e-14 and all(why in rows[name].failure for name, (_, why) in wrong.items())


def test_a_warning_is_told_once_below_the_table():
    def estimator(problem, theta, task):
        warnings.warn("phi is\nfar away", RuntimeWarning, stacklevel=2)
        return MAML(problem, theta, task)

    rows = tm.compare(QUADRATIC, THETA, TASK, {"MAML": MAML, "warning": estimator})
    assert rows["MAML"].warnings == () and rows["warning"].warnings == ("phi is far away",)
    assert str(rows).splitlines()[3:] == ["warning warns: phi is far away"] and rows["warning"].error < 1e-14


def test_an_estimator_that_runs_at_theta_alone():
    def estimator(problem, theta, task):
        if not np.array_equal(theta, THETA):
            raise FloatingPointError("it\ndiverged")
        return MAML(problem, theta, task)

    [row] = tm.compare(QUADRATIC, THETA, TASK, {"fragile": estimator}).rows
    assert row == comparison.Row("fragile", failure="at a theta nearby, FloatingPointError: it diverged")


def test_a_closed_form_of_nobody():
    with pytest.raises(ValueError, match=r"exact has gradients for \['mmal'\], and there are no such estimators"):
        tm.compare(QUADRATIC, THETA, TASK, {"maml": MAML}, exact={"mmal": THETA})


def test_ctrl_c_is_not_a_failure_of_an_estimator():
    def interrupted(problem, theta, task):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tm.compare(QUADRATIC, THETA, TASK, {"interrupted": interrupted})


# ## As text
def test_the_table(quadratic):
    lines = str(quadratic).splitlines()
    assert lines[0].split() == "estimator value norm degrees error closed form H products nodes ms truth by".split()
    assert len(lines) == 6 and all(len(line) <= 140 for line in lines)
    angle, error = f"{quadratic['first order'].angle:.1f}", f"{quadratic['first order'].error:.1e}"
    assert lines[3].startswith("first order  ") and f"{angle}  {error}" in lines[3]
    assert lines[3].index(error) + len(error) == lines[0].index("error") + len("error")  # columns are aligned


def test_a_comparison_of_nothing():
    assert str(tm.compare(QUADRATIC, THETA, TASK, {})) == "estimator"


def test_another_name():
    with pytest.raises(KeyError, match="'nobody'"):
        tm.compare(QUADRATIC, THETA, TASK, {})["nobody"]
