"""Lesson 14, Capstone: its exercises, graded."""

import sys

import numpy as np
import pytest

import tinymeta as tm


@pytest.mark.exercise_14_1
def test_label_gradient_is_that_of_solving_again(student):
    rng = np.random.default_rng(141)
    X, y, X_clean, y_clean = (rng.standard_normal(shape) for shape in ((15, 4), 15, (7, 4), 7))
    s = rng.uniform(0.1, 0.9, 15)
    A = (X.T * s) @ X + 3 * np.eye(4)
    phi = lambda y: np.linalg.solve(A, X.T @ (s * y))
    f_phi = 2 / 7 * X_clean.T @ (X_clean @ phi(y) - y_clean)
    gradient = student("label_gradient")(X, s, A, f_phi)
    truth = [np.imag(np.mean((X_clean @ phi(y + 1e-30j * e) - y_clean) ** 2)) / 1e-30 for e in np.eye(15)]
    assert np.shape(gradient) == (15,), f"15 targets have 15 derivatives, not the shape {np.shape(gradient)}"
    hint = "differentiate (2), not (1), with respect to y: what stands before y, and what before dφ/dy?"
    assert np.allclose(gradient, truth), f"the first three are {np.round(truth[:3], 5)}, not {np.round(gradient[:3], 5)}: {hint}"


def colleague(sign, rho):
    """F and a judge, of the same losses: those of section 1 if sign = 1, rho = 0.05. One solves, one stacks the penalty below the rows."""

    def F(theta, task, solve=True):
        (X, y), s = task["train"], tm.sigmoid(sign * theta)
        phi = np.linalg.solve((X.T * s) @ X + 40 * rho * np.eye(10), X.T @ (s * y)) if solve else stacked(X, y, np.sqrt(s))
        return np.mean((task["clean"][0] @ phi - task["clean"][1]) ** 2)

    def stacked(X, y, root):
        rows = np.concatenate([root[:, None] * X, np.sqrt(40 * rho) * np.eye(10)])
        return np.linalg.lstsq(rows, np.concatenate([root * y, np.zeros(10)]), rcond=None)[0]

    return F, lambda theta, task: F(theta, task, solve=False)


@pytest.mark.exercise_14_2
def test_what_is_sound_is_called_sound_and_a_leak_of_two_rows_is_found(student):
    for seed in (1420, 1421):
        task, test = student.lesson["draw"](seed, 8)
        verdict = student("diagnose")(*colleague(1, 0.05), task, test)
        assert verdict == "sound", f"a sound experiment is called {verdict!r}: no row is shared, and section 1's losses have these values"
        for clean, tested in zip(task["clean"], test, strict=True):
            clean[[2, 5]] = tested[[700, 30]]
        verdict = student("diagnose")(*colleague(1, 0.05), task, test)
        assert verdict == "leak", f"two of the eight clean points are test points, and you say {verdict!r}: which rows are in both?"


@pytest.mark.exercise_14_2
def test_a_blind_check_is_found(student):
    for name, sign, rho in (("the other sign of theta", -1, 0.05), ("another strength rho", 1, 0.05 / 40)):
        verdict = student("diagnose")(*colleague(sign, rho), *student.lesson["draw"](1422, 8))
        hint = "that they agree with each other says nothing; does the judge agree with the losses of section 1, at a random theta?"
        assert verdict == "blind", f"F and `again` have {name}, and you say {verdict!r}: {hint}"


def called(f, *args):
    """The code of all functions that are called meanwhile."""
    codes = set()
    sys.setprofile(lambda frame, event, _: codes.add(frame.f_code))
    try:
        f(*args)
    finally:
        sys.setprofile(None)
    return codes


@pytest.mark.exercise_14_3
def test_the_judge_does_not_adapt_as_F_does(student):
    _, theta, task, F, again = student("my_experiment")()
    assert F not in student.lesson["candidates"].values(), "this F is the lesson's own: ask a question of yours"
    adapting = ("maml.py", "implicit.py", "learned_optimizer.py")
    both = called(F, theta, task) & called(again, theta, task)
    shared = [code.co_name for code in both if code is getattr(F, "__code__", None) or code.co_filename.endswith(adapting)]
    hint = "so both make the same mistakes, and the check is blind; let `again` adapt by NumPy alone"
    assert not shared, f"F and `again` both run {', '.join(sorted(shared))}: {hint}"


@pytest.mark.exercise_14_3
def test_the_gradient_is_that_of_the_judge_and_training_lowers_the_loss(student):
    _, theta, task, F, again = student("my_experiment")()
    (start, unravel), rng = tm.ravel(theta), np.random.default_rng(143)
    at, v = start + 0.001 * rng.standard_normal(start.shape), rng.standard_normal(start.shape)
    gradient = tm.ravel(tm.grad(F)(unravel(at), task))[0]
    slope = (again(unravel(at + 1e-5 * v), task) - again(unravel(at - 1e-5 * v), task)) / 2e-5
    assert np.any(gradient), "the gradient of F is 0: does the adaptation depend on theta, and does F go through it?"
    assert np.isclose(F(unravel(at), task), again(unravel(at), task), rtol=1e-6), "near your theta F and `again` have different values"
    hint = "is F first order, or implicit where the adaptation hasn't arrived?"
    assert abs(gradient @ v - slope) < 1e-4 * np.linalg.norm(gradient), f"`again` rises by {slope:.6g}, F by {gradient @ v:.6g}: {hint}"
    same = lambda rng, count: tm.tree.map(lambda x: np.asarray(x)[None], task)
    losses = tm.fit(F, theta, same, tm.optim.adam(0.05), iterations=50, meta_batch=1, seed=143, quiet=True).losses
    assert losses[-1] < losses[0], f"50 updates take the outer loss from {losses[0]:.4g} to {losses[-1]:.4g}: did it begin at its lowest?"
