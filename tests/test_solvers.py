"""H v = b, seven ways: closed forms, what each needs of H, and what it says when it doesn't get it."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from tinymeta import solvers
from tinymeta.solvers import Solver, solve


def symmetric(eigenvalues, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues), len(eigenvalues))))
    return (Q * eigenvalues) @ Q.T


N = 6
POSITIVE, INDEFINITE = symmetric(np.linspace(0.1, 1, N)), symmetric(np.array([-0.5, 0.2, 0.4, 0.6, 0.8, 1.0]))
SINGULAR = symmetric(np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]))
B = np.random.default_rng(1).standard_normal(N)
TRUTH = np.linalg.solve(POSITIVE, B)
EVERY = pytest.mark.parametrize("solver", ["cholesky", "lu", "cg", "minres", "gmres", "neumann"])


def counted(H):
    """The product with H as a function, and the list of what it was given."""
    calls = []
    return lambda v: calls.append(v) or H @ v, calls


def relative_error(v, truth):
    return np.linalg.norm(v - truth) / np.linalg.norm(truth)


# ## They agree
@EVERY
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("as_matrix", [True, False])
def test_the_solution_its_residual_and_how_many_products_it_took(solver, damping, as_matrix):
    product, calls = counted(POSITIVE)
    found = solve(POSITIVE if as_matrix else product, B, solver, damping=damping, tolerance=1e-14 if solver != "neumann" else None)
    damped = POSITIVE + damping * np.eye(N)
    assert relative_error(found.v, np.linalg.solve(damped, B)) < (1e-10 if solver == "neumann" else 1e-12)
    assert found.status == ("solved" if solver in solvers.DENSE else "converged")
    np.testing.assert_allclose(found.residual, np.linalg.norm(damped @ found.v - B) / np.linalg.norm(B), rtol=1e-2, atol=1e-15)
    assert not found.indefinite and found.advice == ""
    if not as_matrix:
        assert found.hessian_products == len(calls)


@EVERY
def test_a_matrix_that_nobody_wrote_for_it(solver):
    """Conditions from 1 to 10,000: the residual is what was asked for, and the error at most the condition number times it."""
    for condition in (1.0, 100.0, 1e4):
        H = symmetric(np.geomspace(1 / condition, 1, 20), seed=2)
        b = np.random.default_rng(3).standard_normal(20)
        if solver == "neumann" and condition == 1e4:
            continue  # it would take 100,000 terms, and says so: see below
        found = solve(H, b, solver)
        assert found.residual < 2e-11
        assert relative_error(found.v, np.linalg.solve(H, b)) <= 10 * condition * max(found.residual, 1e-15)


# ## Conjugate gradients
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("solver", ["cg", "minres", "gmres"])
def test_krylov_methods_are_exact_in_as_many_steps_as_there_are_dimensions(solver, d):
    H, b = symmetric(np.linspace(0.1, 1, d)), B[:d]
    found = solve(H, b, solver, iterations=d, tolerance=1e-15)
    assert found.iterations <= d and relative_error(found.v, np.linalg.solve(H, b)) < 1e-12
    if d > 2:
        before = solve(H, b, solver, iterations=d - 1)
        assert before.status == "stopped" and relative_error(before.v, np.linalg.solve(H, b)) > 1e-4


@pytest.mark.parametrize("solver, products", [("cg", 4), ("minres", 4), ("gmres", 5), ("neumann", 3)])
def test_what_a_number_of_iterations_costs(solver, products):
    """GMRES makes a residual of its own at the end; K terms of the series need K - 1 products. And one more judges."""
    product, calls = counted(POSITIVE)
    found = solve(product, B, solver, iterations=4, alpha=1.0)
    assert found.iterations == 4 and found.hessian_products == len(calls) == products + 1
    assert found.status == "stopped" and found.advice == ""


def test_more_iterations_of_conjugate_gradients_come_nearer():
    H, b = symmetric(np.geomspace(1 / 71, 1, 20)), np.random.default_rng(3).standard_normal(20)
    errors = [relative_error(solve(H, b, "cg", iterations=k).v, np.linalg.solve(H, b)) for k in (1, 5, 10, 15, 20)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3 < errors[0]


def test_the_residual_is_the_true_one():
    """A product that drifts while the iteration runs: its own residual has converged, the true one hasn't, and that one counts."""
    calls = []

    def drifting(v):
        calls.append(v)
        return POSITIVE @ v * (1 + 1e-6 * len(calls))

    with pytest.warns(RuntimeWarning, match=r"solver='cg' has not converged.*relative residual is .*e-0[5-6], not 1.8e-12"):
        found = solve(drifting, B, "cg")
    assert found.status == "not converged"


def test_negative_curvature_is_noticed_by_conjugate_gradients():
    with pytest.raises(np.linalg.LinAlgError) as error:
        solve(INDEFINITE, B, "cg")
    for words in ("p'Hp / p'p = -", "not positive definite", "Adapt further", "damping=", "solver='minres'"):
        assert words in str(error.value)
    assert solve(INDEFINITE, B, "cg", damping=0.6).indefinite is (solve(INDEFINITE, B, "minres").indefinite)


@pytest.mark.parametrize("solver", ["minres", "gmres", "lu"])
def test_an_indefinite_matrix_is_solved_by_those_that_can(solver):
    found = solve(INDEFINITE, B, solver)
    assert relative_error(found.v, np.linalg.solve(INDEFINITE, B)) < 1e-10


def test_whether_the_products_have_seen_negative_curvature():
    b = np.linalg.eigh(INDEFINITE)[1][:, 0]
    assert solve(INDEFINITE, b, "minres").indefinite and not solve(POSITIVE, b, "minres").indefinite
    flat = np.linalg.eigh(SINGULAR)[1][:, 0]  # the curvature there is rounding, of either sign
    for sign in (1, -1):
        assert not solve(SINGULAR + sign * 1e-17 * np.eye(N), SINGULAR @ B + 1e-14 * flat, "minres").indefinite


# ## The Neumann series
@pytest.mark.parametrize("terms", [1, 2, 5, 40])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.9])
def test_the_remainder_of_the_series_is_exact(terms, alpha):
    """alpha sum_{j<K} (I - alpha H)^j b - inv(H) b = -(I - alpha H)^K inv(H) b."""
    found = solve(POSITIVE, B, "neumann", iterations=terms, alpha=alpha, tolerance=1e-15)
    remainder = np.linalg.matrix_power(np.eye(N) - alpha * POSITIVE, terms) @ TRUTH
    assert np.linalg.norm(found.v - TRUTH + remainder) < 1e-13 * np.linalg.norm(TRUTH)
    np.testing.assert_allclose(found.residual, np.linalg.norm(POSITIVE @ remainder) / np.linalg.norm(B), rtol=1e-10)


@pytest.mark.parametrize("iterations", [None, 200])
def test_a_series_with_too_large_a_step_diverges_and_is_noticed(iterations):
    message = r"the Neumann series diverges: after \d+ terms.*0 < alpha < 2 / .*choose a smaller alpha.*'minres'"
    with pytest.raises(np.linalg.LinAlgError, match=message) if iterations is None else pytest.warns(RuntimeWarning, match=message):
        found = solve(POSITIVE, B, "neumann", alpha=2.1, iterations=iterations)  # 2 / (the largest eigenvalue) is 2
    if iterations is not None:
        assert found.status == "diverged"
        assert solve(POSITIVE, B, "neumann", alpha=1.99).status == "converged"


def test_a_series_with_an_indefinite_matrix_diverges_whatever_the_step():
    with pytest.raises(np.linalg.LinAlgError, match="the Neumann series diverges"):
        solve(INDEFINITE, B, "neumann")


def test_a_series_that_takes_too_long_says_so():
    H = symmetric(np.geomspace(1e-5, 1, N))
    with pytest.warns(RuntimeWarning, match=r"solver='neumann' has not converged: after 10000 iterations.*damping=") as caught:
        assert solve(H, B, "neumann").status == "not converged"
    assert caught[0].filename == __file__  # it points at the caller


@pytest.mark.parametrize("seed", range(10))
def test_the_step_that_is_chosen_is_safe_and_not_timid(seed):
    eigenvalues = np.random.default_rng(seed).uniform(0.01, 5, 50)
    H = symmetric(eigenvalues, seed)
    assert 1 / max(eigenvalues) <= solvers.safe_step(lambda v: H @ v, np.zeros(50)) < 1.5 / max(eigenvalues)


def test_the_step_is_one_over_what_the_power_iterations_find():
    np.testing.assert_allclose(solvers.safe_step(lambda v: 4 * v, np.zeros(3)), 0.25, rtol=1e-14)


def test_what_the_products_remember():
    product = solvers._Products(lambda v: np.array([1.0, 2.0]) * v, 0.5, np.dtype(float))
    np.testing.assert_array_equal(product(np.array([3.0, 4.0])), [4.5, 10])
    np.testing.assert_allclose([product.curvature, product.stretch], [41 / 25, np.sqrt(73) / 5], rtol=1e-14)


def test_a_curvature_that_rounding_could_have_made_is_not_negative():
    """A hundred roundings of |v| |H v|; with H v = b there is no residual."""
    eps, v = np.finfo(float).eps, np.array([1.0, 0.0])
    attempt = solvers.Solution(v, "", 0.0, 1, 1, False, "")
    for size, indefinite in ((0.0, False), (99.0, False), (101.0, True)):
        Hv = np.array([-size * eps, 1.0])
        assert Solver("minres").judge(attempt, Hv, Hv).indefinite is indefinite


def test_a_zero_matrix_has_no_safe_step():
    with pytest.raises(np.linalg.LinAlgError, match=r"it is singular\. Add a regulariser, or damping="):
        solve(np.zeros((N, N)), B, "neumann")


# ## No solve
def test_the_identity_makes_no_solve_and_its_residual_says_so():
    product, calls = counted(POSITIVE)
    found = solve(product, B, "identity")
    assert found.v.tolist() == B.tolist() and found.status == "no solve" and found.iterations == 0
    assert len(calls) == found.hessian_products == 1  # the one that judges
    np.testing.assert_allclose(found.residual, np.linalg.norm(POSITIVE @ B - B) / np.linalg.norm(B), rtol=1e-13)


def test_the_identity_with_a_step_is_the_first_term_of_the_series():
    one = solve(POSITIVE, B, "neumann", iterations=1, alpha=0.3)
    assert solve(POSITIVE, B, "identity", alpha=0.3).v.tolist() == one.v.tolist() and one.hessian_products == 1


# ## Failures
@pytest.mark.parametrize("solver", ["cholesky", "lu"])
def test_singular_up_to_rounding(solver):
    """Rounding leaves a pivot of about 1e-17, and some factorisations succeed."""
    message = "not positive definite" if solver == "cholesky" else "singular: the solution is not locally unique"
    for seed in range(30):
        with pytest.raises(np.linalg.LinAlgError, match=message):
            solve(symmetric(np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), seed), B, solver)


@pytest.mark.parametrize("solver, error", [("cg", np.linalg.LinAlgError), ("minres", RuntimeWarning), ("gmres", RuntimeWarning),
                                           ("neumann", RuntimeWarning)])  # fmt: skip
def test_a_singular_matrix_and_a_right_hand_side_that_it_cant_make(solver, error):
    """No v has H v = b; conjugate gradients see a curvature of zero, the others end with what is left of b."""
    valley, b = np.ones((2, 2)), np.array([1.0, 0.0])
    message = "conjugate gradients met a direction|has not converged.*ill-conditioned or singular"
    with pytest.raises(error, match=message) if error is np.linalg.LinAlgError else pytest.warns(error, match=message):
        solve(valley, b, solver)


@EVERY
def test_what_is_not_finite(solver):
    broken = POSITIVE.copy()
    broken[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"not finite.*overflowed at phi. Did the adaptation diverge\?"):
        solve(broken, B, solver)
    with pytest.raises(FloatingPointError, match="the right-hand side of H v = b is not finite"):
        solve(POSITIVE, B * np.inf, solver)


@EVERY
def test_nothing_to_solve(solver):
    found = solve(POSITIVE, np.zeros(N), solver)
    assert found.v.tolist() == [0] * N and found.residual == 0 and found.status in ("solved", "converged")


@EVERY
def test_float32_stays_float32_and_all_is_well(solver):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = solve(POSITIVE.astype(np.float32), B.astype(np.float32), solver, damping=0.1)
    assert found.v.dtype == np.float32 and found.residual < 1e-4


@pytest.mark.parametrize("settings, message", [
    ({"solver": "qr"}, "solver='qr': choose one of 'cholesky', 'lu', 'cg', 'minres', 'gmres', 'neumann', 'identity'"),
    ({"solver": "cg", "iterations": 0}, "iterations=0: an integer, 1 or more, or None: until converged"),
    ({"solver": "neumann", "alpha": -1.0}, "alpha=-1.0: a number above 0, the step of the Neumann series"),
])  # fmt: skip
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        solve(POSITIVE, B, **settings)


def test_a_solver_is_a_value():
    assert Solver("cg", iterations=3) == Solver("cg", iterations=3) != Solver("cg") and Solver("lu").needs_matrix


def test_conjugate_gradients_for_a_trace_are_those_of_scipy():
    for k in (1, 3, N):
        mine, scipys = solvers.conjugate_gradients(POSITIVE.__matmul__, B, k), solve(POSITIVE.__matmul__, B, "cg", iterations=k).v
        np.testing.assert_allclose(mine, scipys, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(solvers.conjugate_gradients(POSITIVE.__matmul__, B, N), TRUTH, rtol=1e-12)
    np.testing.assert_allclose(solvers.conjugate_gradients(POSITIVE.__matmul__, B, 5 * N), TRUTH, rtol=1e-12)  # and stays there
    assert not np.any(solvers.conjugate_gradients(POSITIVE.__matmul__, 0 * B, 3))


def test_conjugate_gradients_for_a_trace_stay_where_they_are_at_a_negative_curvature():
    steps = [solvers.conjugate_gradients(INDEFINITE.__matmul__, B, k) for k in range(9)]
    ends = next(k for k in range(8) if np.array_equal(steps[k], steps[k + 1]))
    assert 0 < ends < N and all(np.array_equal(v, steps[ends]) for v in steps[ends:])
    with pytest.raises(np.linalg.LinAlgError, match="met a direction"):
        solve(INDEFINITE.__matmul__, B, "cg", iterations=ends + 1)
    assert not np.any(solvers.conjugate_gradients((-POSITIVE).__matmul__, B, 3))


@pytest.mark.parametrize("solver", ["cholesky", "lu"])
def test_a_factor_that_loses_most_digits_says_so(solver):
    nearly = symmetric(np.geomspace(1e-12, 1, N))
    with pytest.warns(RuntimeWarning, match=f"solver='{solver}' leaves a relative residual of .*nearly singular"):
        assert solve(nearly, B, solver).status == "solved"
    with pytest.raises(np.linalg.LinAlgError, match=r"damping=2\.0e\+00"):
        solve(100 * nearly - 1.0 * np.eye(N), B, "cholesky")


@pytest.mark.parametrize("solver", ["gmres", "minres"])
def test_a_matrix_of_zeros_is_singular_and_that_is_all(solver):
    with pytest.warns(RuntimeWarning, match="has not converged.*ill-conditioned or singular") as caught:
        solve(np.zeros((2, 2)), np.ones(2), solver)
    assert len(caught) == 1


def test_the_advised_damping_of_a_matrix_of_zeros_is_positive():
    with pytest.raises(np.linalg.LinAlgError, match=r"add damping=1\.0e-08"):
        solve(np.zeros((2, 2)), np.ones(2), "cholesky")


# ## Broken on purpose
def forgetful(**settings):
    """A solver that forgets a setting."""
    return lambda self, H, b, attempt=Solver.attempt: attempt(replace(self, **settings), H, b)


BROKEN = {
    "LU of another matrix": ("lu", {}, "FACTORISE", {"lu": lambda H, b: solvers.lu(np.triu(H), b)}),
    "MINRES that stops": ("minres", {}, "_minres", lambda *args, f=solvers._minres: f(*args[:3], 2)),
    "GMRES that stops": ("gmres", {}, "_gmres", lambda *args, f=solvers._gmres: f(*args[:3], 2)),
    "Neumann without its first term": ("neumann", {"alpha": 1.0}, "_neumann", lambda *args, f=solvers._neumann: (f(*args)[0] - args[1], 0)),
    "the identity without alpha": ("identity", {"alpha": 0.5}, "Solver.attempt", forgetful(alpha=None)),
} | {f"{name} without damping": (name, {"damping": 0.5}, "Solver.attempt", forgetful(damping=0.0))
     for name in ("cholesky", "lu", "cg", "minres", "gmres", "neumann")}  # fmt: skip


@pytest.mark.parametrize("solver, settings, name, broken", BROKEN.values(), ids=BROKEN.keys())
def test_the_closed_form_catches_a_solver_that_is_broken_on_purpose(monkeypatch, solver, settings, name, broken):
    damped = POSITIVE + settings.get("damping", 0.0) * np.eye(N)
    truth = settings["alpha"] * B if solver == "identity" else np.linalg.solve(damped, B)
    error = lambda: relative_error(Solver(solver, **settings).attempt(POSITIVE.__matmul__, B).v, truth)
    assert error() < 1e-10
    monkeypatch.setattr(f"tinymeta.solvers.{name}", broken)
    assert error() > 1e-3


# ## What makes no sense
def test_lists_and_whole_numbers_are_arrays_of_floats():
    found, same = solve([[2, 1], [1, 2]], [3, 3]), solve(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([3.0, 3.0]))
    assert found.v.dtype == float and found.v.tolist() == same.v.tolist()
    assert solve(lambda v: 2 * v, [3, 3], "cg").v.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("H, b, settings, message", [
    (np.ones((2, 3)), np.ones(2), {}, r"H=float64\[2, 3\]: a square matrix"),
    (np.eye(2), np.ones(3), {}, r"b=float64\[3\]: numbers of shape \(2,\)"),
    (np.eye(2), [1.0, "a"], {}, "b=.*: numbers"),
    (np.zeros((0, 0)), [], {}, "b=.*: one number or more"),
    (lambda v: v[:1], np.ones(2), {"solver": "cg"}, r"H\(v\) has shape \(1,\) for v of shape \(2,\): H is a square matrix"),
    (lambda v: v[:1], np.ones(2), {}, r"H\(v\) has shape \(1,\) for v of shape \(2,\)"),
    (np.eye(2), np.ones(2), {"damping": -0.1}, "damping=-0.1: a number, 0 or more"),
    (np.eye(2), np.ones(2), {"tolerance": -1e-3}, "tolerance=-0.001: a number, 0 or more"),
])  # fmt: skip
def test_equations_that_make_no_sense(H, b, settings, message):
    with pytest.raises(ValueError, match=message):
        solve(H, b, **settings)
