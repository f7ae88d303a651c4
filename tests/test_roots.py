"""Roots and fixed points: the Jacobian, its products, and the solution as an operation."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import implicit, roots
from tinymeta.solvers import Solver, lu
from tinymeta.tasks import quadratics


def relative_error(gradient, truth):
    gradient, truth = tm.ravel(gradient)[0], tm.ravel(truth)[0]
    assert gradient.shape == truth.shape
    return np.linalg.norm(gradient - truth) / np.linalg.norm(truth)


# ## The Jacobian of a root
@pytest.mark.parametrize("g, y, x, slope", [
    (lambda y, x: x**2 + y**2 - 25, 4.0, 3.0, -0.75),
    (lambda y, x: x**2 + y**2 - 25, -4.0, 3.0, 0.75),  # the other branch of the circle
    (lambda y, x: x**2 / 25 + y**2 / 9 - 1, 2.4, 3.0, -9 * 3 / (25 * 2.4)),
    (lambda y, x: y**5 + y - x, 1.0, 2.0, 1 / 6),
    (lambda y, x: y**5 + y - x, 1, 2, 1 / 6),  # 1 means 1.0
])  # fmt: skip
def test_curves(g, y, x, slope):
    assert relative_error(implicit.root_jacobian(g, y, x), slope) < 1e-14


def test_a_fixed_point():
    generator = np.random.default_rng(1)
    W, u, x = 0.3 * generator.standard_normal((5, 5)), generator.standard_normal(5), np.zeros(5)
    for _ in range(200):
        x = np.tanh(W @ x + u)
    D = np.diag(1 - x**2)
    J = implicit.root_jacobian(lambda x, u: np.tanh(W @ x + u) - x, x, u)
    assert relative_error(J, np.linalg.solve(np.eye(5) - D @ W, D)) < 1e-13


RIDGE_X, RIDGE_Y = np.random.default_rng(2).standard_normal((12, 4)), np.random.default_rng(3).standard_normal(12)


def ridge(strength):
    """The solution, and the matrix of its normal equations; the strength may differ from weight to weight."""
    M = RIDGE_X.T @ RIDGE_X + 12 * np.diag(np.broadcast_to(strength, 4))
    return np.linalg.solve(M, RIDGE_X.T @ RIDGE_Y), M


def ridge_loss(w, strength, task=None):
    return 0.5 * np.sum((RIDGE_X @ w - RIDGE_Y) ** 2) + 0.5 * 12 * np.sum(strength * w**2)


@pytest.mark.parametrize("strength", [0.3, np.array([0.1, 0.2, 0.4, 0.8])], ids=["shared", "one a weight"])
def test_the_strength_of_ridge_regression(strength):
    w, M = ridge(strength)
    each = -12 * np.linalg.inv(M) * w  # column j: -n inv(M) e_j w_j
    truth = each.sum(axis=1) if np.ndim(strength) == 0 else each
    J = implicit.root_jacobian(lambda w, strength: tm.grad(ridge_loss)(w, strength), w, strength)
    assert relative_error(J, truth) < 1e-12
    outer = lambda w, strength, task: 0.5 * np.sum((w - 1) ** 2) + np.sum(strength**2)
    problem = tm.Bilevel(ridge_loss, outer, init=lambda *_: np.zeros(4))
    for solver in ("cholesky", "lu"):
        result = implicit.meta_gradient(problem, strength, None, solver=solver)
        assert relative_error(result.phi, w) < 1e-12
        assert relative_error(result.grad, truth.T @ (w - 1) + 2 * strength) < 1e-12


def test_the_weights_and_the_labels_of_the_data():
    generator = np.random.default_rng(4)
    X, y, s, rho = generator.standard_normal((8, 3)), generator.standard_normal(8), generator.uniform(0.5, 2, 8), 0.5
    M = X.T @ (s[:, None] * X) + rho * np.eye(3)
    w = np.linalg.solve(M, X.T @ (s * y))

    def condition(w, data):
        return X.T @ (data["s"] * (X @ w - data["y"])) + rho * w

    J = implicit.root_jacobian(condition, w, {"s": s, "y": y})
    assert relative_error(J["s"], np.linalg.solve(M, X.T * (y - X @ w))) < 1e-12
    assert relative_error(J["y"], np.linalg.solve(M, X.T * s)) < 1e-12


def test_nested_unknowns_and_parameters():
    """a + b = theta[0] and a - b = sum of theta[1]: so a is half the sum of both, b half the difference."""
    phi = {"a": np.array(4.0), "b": (np.array([1.0]),)}
    theta = [2 * np.ones(()) + 3, np.array([[1.0, 2.0]])]
    g = lambda phi, theta: [phi["a"] + phi["b"][0] - theta[0], phi["a"] - phi["b"][0] - np.sum(theta[1])]
    J = implicit.root_jacobian(g, phi, theta)
    assert J["a"][0].tolist() == 0.5 and J["a"][1].tolist() == [[0.5, 0.5]]
    assert J["b"][0][0].tolist() == [0.5] and J["b"][0][1].tolist() == [[[-0.5, -0.5]]]


def test_a_condition_without_theta_has_solutions_that_do_not_move():
    assert implicit.root_jacobian(lambda phi, theta: phi**3 - 8, 2.0, np.ones(3)).tolist() == [0, 0, 0]


def test_a_root_that_is_none():
    message = r"phi does not solve g\(phi, theta\) = 0: the solution is about 1.* away.*solve to a smaller residual"
    with pytest.warns(RuntimeWarning, match=message):
        implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 6.0, 3.0)


def test_how_far_is_too_far():
    """A ten-thousandth of the solution's size, and of one more."""
    phi, limit = np.array([3.0, 4.0]), 6e-4
    assert roots.too_far(limit * (1 - 5e-7), phi, "g = 0") == "" and "6.0e-04 away" in roots.too_far(limit * (1 + 5e-7), phi, "g = 0")


def test_the_distance_without_the_matrix_is_what_the_solve_has_lengthened_if_that_is_more():
    given = np.array([3.0]), np.array([4.0]), np.array([2.0])
    assert roots.distance(Solver("cg"), None, lambda g: 4 * g, *given) == 6
    assert roots.distance(Solver("cg"), None, lambda g: 0.25 * g, *given) == 12


def test_the_distance_without_the_matrix_knows_of_the_damping():
    zero = np.zeros(1)
    for damping, expected in ((0.0, 0.75), (2.0, 0.5)):  # |g|^2 / |(4 + damping) g|
        assert roots.distance(Solver("cg", damping), None, lambda g: 4 * g, np.array([3.0]), zero, zero) == expected


def test_too_few_equations():
    with pytest.raises(ValueError, match="g has 1 equations for 2 unknowns: the theorem needs as many"):
        implicit.root_jacobian(lambda phi, theta: phi[:1] - theta, np.ones(2), 1.0)


def test_a_vertical_tangent():
    with pytest.raises(np.linalg.LinAlgError, match="singular: the solution is not locally unique"):
        implicit.root_jacobian(lambda y, x: x**2 + y**2 - 25, 0.0, 5.0)


# ## Products with the Jacobian
FIXED_W, FIXED_U = 0.3 * np.random.default_rng(1).standard_normal((5, 5)), np.random.default_rng(2).standard_normal(5)
WAYS = pytest.mark.parametrize("settings", [
    {}, {"solver": "gmres", "tolerance": 1e-14}, {"solver": "neumann", "alpha": 1.0, "tolerance": 1e-14},
], ids=["lu", "gmres", "neumann"])  # fmt: skip


def tanh_map(x, parameters):
    return np.tanh(parameters["W"] @ x + parameters["u"])


def iterate(parameters):
    x = np.zeros(5)
    for _ in range(200):
        x = tanh_map(x, parameters)
    return x


PARAMETERS = {"W": FIXED_W, "u": FIXED_U}


@WAYS
def test_products_with_the_jacobian_of_a_fixed_point(settings):
    """dx/du = inv(I - D W) D and, with it, dx/dW_ij = (dx/du)_i x_j."""
    x, generator = iterate(PARAMETERS), np.random.default_rng(3)
    D = np.diag(1 - x**2)
    J = np.linalg.solve(np.eye(5) - D @ FIXED_W, D)
    g = implicit.fixed_point(tanh_map)
    x_bar, u_dot, W_dot = generator.standard_normal(5), generator.standard_normal(5), generator.standard_normal((5, 5))
    found = implicit.root_vjp(g, x, PARAMETERS, x_bar, **settings)
    assert relative_error(found["u"], J.T @ x_bar) < 1e-12 and relative_error(found["W"], np.outer(J.T @ x_bar, x)) < 1e-12
    x_dot = implicit.root_jvp(g, x, PARAMETERS, {"W": W_dot, "u": u_dot}, **settings)
    assert relative_error(x_dot, J @ (u_dot + W_dot @ x)) < 1e-12


@pytest.mark.parametrize("solver", ["cholesky", "lu", "cg", "minres", "gmres"])
def test_products_for_a_condition_that_is_a_gradient_may_use_its_symmetry(solver):
    strength = np.array([0.1, 0.2, 0.4, 0.8])
    w, M = ridge(strength)
    J, g = -12 * np.linalg.inv(M) * w, lambda w, strength: tm.grad(ridge_loss)(w, strength)
    settings = {"solver": solver, "tolerance": 1e-14}
    assert relative_error(implicit.root_vjp(g, w, strength, np.arange(4.0), **settings), J.T @ np.arange(4.0)) < 1e-12
    assert relative_error(implicit.root_jvp(g, w, strength, np.arange(4.0), **settings), J @ np.arange(4.0)) < 1e-12


def test_products_keep_the_structures_apart():
    phi, theta = {"a": 4.0, "b": (np.array([1.0]),)}, [5.0, np.array([[1.0, 2.0]])]
    g = lambda phi, theta: [phi["a"] + phi["b"][0] - theta[0], phi["a"] - phi["b"][0] - np.sum(theta[1])]
    theta_bar = implicit.root_vjp(g, phi, theta, {"a": 2.0, "b": (np.zeros(1),)})
    assert theta_bar[0].tolist() == 1 and theta_bar[1].tolist() == [[1, 1]]
    phi_dot = implicit.root_jvp(g, phi, theta, [0.0, np.array([[1.0, 1.0]])])
    assert phi_dot["a"].tolist() == 1 and phi_dot["b"][0].tolist() == [-1]


@pytest.mark.parametrize("product", [implicit.root_jvp, implicit.root_vjp])
def test_products_fail_as_loudly_as_the_jacobian(product):
    circle = lambda y, x: x**2 + y**2 - 25
    with pytest.warns(RuntimeWarning, match=r"phi does not solve g\(phi, theta\) = 0: the solution is about 1.7e\+00 away") as caught:
        product(circle, 6.0, 3.0, 1.0)
    assert caught[0].filename == __file__
    with pytest.raises(np.linalg.LinAlgError, match="singular: the solution is not locally unique"):
        product(circle, 0.0, 5.0, 1.0)
    with pytest.raises(ValueError, match="g has 1 equations for 2 unknowns"):
        product(lambda phi, theta: phi[:1] - theta, np.ones(2), 1.0, 1.0)
    with pytest.raises(ValueError, match="solver='qr': choose one of"):
        product(circle, 4.0, 3.0, 1.0, solver="qr")
    with pytest.warns(RuntimeWarning, match="solver='gmres' has not converged.*singular"):
        product(lambda y, x: np.stack([y[0] + y[1], y[0] + y[1]]) - x, np.zeros(2), np.zeros(2), np.array([1.0, 0.0]), solver="gmres")
    with pytest.raises(FloatingPointError, match="not finite"):
        product(lambda y, x: np.abs(y) ** 0.5 - 0 * x, 0.0, 3.0, 1.0)


def test_a_zero_cotangent():
    assert implicit.root_vjp(lambda y, x: x**2 + y**2 - 25, 4.0, 3.0, 0.0, solver="gmres").tolist() == 0


# ## The solution as an operation
def newton(x):
    y = 0.0
    for _ in range(30):
        y = y - (y**5 + y - x) / (5 * y**4 + 1)
    return y


ROOT = implicit.solution(lambda y, x: y**5 + y - x, newton)


def test_a_solution_is_a_function_like_any_other():
    y = ROOT(2.0)
    assert type(y) is np.ndarray and y == 1
    slope = lambda y: 1 / (5 * y**4 + 1)
    for x in (2.0, -1.3, 0.4):
        y = newton(x)
        np.testing.assert_allclose(tm.grad(ROOT)(x), slope(y), rtol=1e-13)
        np.testing.assert_allclose(tm.grad(tm.grad(ROOT))(x), -20 * y**3 * slope(y) ** 3, rtol=1e-12)
        exact = (1200 * y**6 - 60 * y**2 * (5 * y**4 + 1)) / (5 * y**4 + 1) ** 5
        np.testing.assert_allclose(tm.grad(tm.grad(tm.grad(ROOT)))(x), exact, rtol=1e-11)


def test_inside_another_function():
    assert tm.check_grad(lambda x: np.sin(3 * ROOT(x**2)) * x, 1.2, order=3)
    np.testing.assert_allclose(tm.jvp(ROOT, (2.0,), (3.0,))[1], 0.5, rtol=1e-14)
    np.testing.assert_allclose(tm.vmap(ROOT)(np.array([2.0, 0.0])), [1, 0], atol=1e-14)
    np.testing.assert_allclose(tm.grad(lambda x: np.sum(tm.vmap(ROOT)(x)))(np.array([2.0, 0.0])), [1 / 6, 1], rtol=1e-14)
    np.testing.assert_allclose(tm.grad(tm.checkpoint(lambda x: ROOT(x) ** 2))(2.0), 1 / 3, rtol=1e-14)


def test_a_fixed_point_with_containers_by_its_own_iteration():
    x_star = implicit.solution(implicit.fixed_point(tanh_map), iterate)
    x_bar = np.random.default_rng(3).standard_normal(5)
    gradient = tm.grad(lambda parameters: x_bar @ x_star(parameters))(PARAMETERS)
    truth = implicit.root_vjp(implicit.fixed_point(tanh_map), iterate(PARAMETERS), PARAMETERS, x_bar)
    assert relative_error(gradient, truth) < 1e-13
    assert tm.check_grad(lambda parameters: np.sum(x_star(parameters) ** 3), PARAMETERS, order=2)


def ridge_solution(X, y, strength):
    M = X.T @ X + np.diag(np.broadcast_to(strength, X.shape[1]))
    return {"w": np.linalg.solve(M, X.T @ y)}


RIDGE = implicit.solution(lambda phi, X, y, strength: {"w": X.T @ (X @ phi["w"] - y) + strength * phi["w"]}, ridge_solution)


def test_several_arguments_one_of_them_used_twice():
    """Against the engine's own derivative of the closed form, which is another way altogether."""
    closed = lambda X, y, strength: np.linalg.solve(X.T @ X + np.diag(strength * np.ones(4)), X.T @ y)
    outer = lambda w: np.sum((w - 1) ** 2)
    strength = np.array([0.1, 0.2, 0.4, 0.8])
    by_theorem = tm.grad(lambda *args: outer(RIDGE(*args)["w"]), argnums=(0, 1, 2))(RIDGE_X, RIDGE_Y, strength)
    by_formula = tm.grad(lambda *args: outer(closed(*args)), argnums=(0, 1, 2))(RIDGE_X, RIDGE_Y, strength)
    assert relative_error(by_theorem, by_formula) < 1e-12
    H_theorem = tm.hessian(lambda strength: outer(RIDGE(RIDGE_X, RIDGE_Y, strength)["w"]))(strength)
    assert relative_error(H_theorem, tm.hessian(lambda strength: outer(closed(RIDGE_X, RIDGE_Y, strength)))(strength)) < 1e-11
    square = implicit.solution(lambda y, a, b: a * y - b, lambda a, b: b / a)
    np.testing.assert_allclose(tm.grad(lambda x: square(x, x * x))(3.0), 1, rtol=1e-14)
    np.testing.assert_allclose(tm.grad(lambda x: 2 * x + square(x, x))(3.0), 2, rtol=1e-14)  # x / x doesn't move


# ### Captured Tensors
def test_a_tensor_that_the_condition_captures_is_an_input():
    def F(a, x):
        root = implicit.solution(lambda y, x: a * y**3 - x, lambda x: np.cbrt(x / a.value if isinstance(a, tm.Tensor) else x / a))
        return root(x) ** 2

    truth = lambda a, x: (x / a) ** (2 / 3)
    for argnums in (0, 1):
        np.testing.assert_allclose(tm.grad(F, argnums)(2.0, 3.0), tm.grad(truth, argnums)(2.0, 3.0), rtol=1e-13)
        np.testing.assert_allclose(tm.grad(tm.grad(F), argnums)(2.0, 3.0), tm.grad(tm.grad(truth), argnums)(2.0, 3.0), rtol=1e-12)
    np.testing.assert_allclose(tm.grad(lambda a: F(a, 3.0 * a))(2.0), 0, atol=1e-14)  # y^3 = 3, whatever a is
    np.testing.assert_allclose(tm.grad(lambda a: F(a, a * a))(2.0), 2 / 3 * 2 ** (-1 / 3), rtol=1e-13)


def test_a_tensor_that_is_captured_and_given():
    def F(a):
        return implicit.solution(lambda y, x: a * y - x**3, lambda x: x**2)(a)

    np.testing.assert_allclose(tm.grad(F)(3.0), 6, rtol=1e-14)
    np.testing.assert_allclose(tm.grad(tm.grad(F))(3.0), 2, rtol=1e-13)


def test_a_captured_tensor_alone():
    def F(a):
        return implicit.solution(lambda y: y**2 - a, lambda: np.sqrt(a))()  # the solver may capture it too: its value counts

    np.testing.assert_allclose([tm.grad(F)(4.0), tm.grad(tm.grad(F))(4.0)], [1 / 4, -1 / 32], rtol=1e-13)


def test_on_the_machine():
    """A program calls the solver anew for each argument."""
    fast = tm.jit(tm.value_and_grad(lambda x: ROOT(x) ** 2))
    for x in (2.0, 0.3):
        value, slope = fast(x)
        np.testing.assert_allclose([value, slope], tm.value_and_grad(lambda x: ROOT(x) ** 2)(x), rtol=1e-13)
    second = tm.jit(tm.grad(tm.grad(lambda x: ROOT(x) ** 2)))
    np.testing.assert_allclose([second(2.0), second(0.3)], [tm.grad(tm.grad(lambda x: ROOT(x) ** 2))(x) for x in (2.0, 0.3)], rtol=1e-12)


def test_a_captured_tensor_under_a_trace_is_refused():
    """The program would call a solver that knows the captured Tensor's value in the trace only."""
    F = lambda a: implicit.solution(lambda y, x: a * y - x, lambda x: x / 2.0)(1.0)
    with pytest.raises(TypeError, match=r"under a trace, the condition.*can't use Tensors that it isn't given: pass them as arguments"):
        tm.jit(F)(2.0)


# ### Failures
def test_a_solver_that_has_not_solved():
    lazy = implicit.solution(lambda y, x: y**5 + y - x, lambda x: 0.9)
    with pytest.warns(RuntimeWarning, match=r"phi does not solve g\(phi, ...\) = 0: the solution is about 1.* away"):
        tm.grad(lazy)(2.0)


def test_a_condition_with_too_few_equations():
    with pytest.raises(ValueError, match="g has 1 equations for 2 unknowns"):
        implicit.solution(lambda y, x: y[:1] - x, lambda x: np.ones(2))(1.0)


def test_a_solution_that_is_not_locally_unique():
    circle = implicit.solution(lambda y, x: x**2 + y**2 - 25, lambda x: np.sqrt(np.maximum(25 - x**2, 0)))
    with pytest.raises(np.linalg.LinAlgError, match="singular: the solution is not locally unique"):
        tm.grad(circle)(5.0)
    np.testing.assert_allclose(tm.grad(circle)(3.0), -0.75, rtol=1e-14)


def test_the_complex_step_gives_way_to_differences():
    """Solvers compare, clip, and call SciPy: few of them are right for complex numbers."""
    assert tm.check_grad(ROOT, 2.0, order=2).method == "differences"


def test_a_broken_rule_is_caught(monkeypatch):
    """Once without the transpose of J, and once without the second derivatives (J held for a constant)."""
    f = lambda parameters: np.sum(implicit.solution(implicit.fixed_point(tanh_map), iterate)(parameters) ** 3)
    right = np.linalg.solve
    with monkeypatch.context() as patch:
        patch.setattr(tm.roots.np.linalg, "solve", lambda a, b: right(a.T, b) if a.shape == (5, 5) else right(a, b))
        assert not tm.check_grad(f, PARAMETERS, order=1)
    with monkeypatch.context() as patch:
        patch.setattr(tm.roots, "jacobian", lambda g: lambda x: tm.roots.data_of(tm.jacobian(g)(x)))
        assert tm.check_grad(f, PARAMETERS, order=1) and not tm.check_grad(f, PARAMETERS, order=2)
    assert tm.check_grad(f, PARAMETERS, order=2)


def test_a_meta_gradient_is_the_gradient_of_a_solution():
    """And the second derivative of F comes for free."""
    task, theta = quadratics.draw(np.random.default_rng(0), 4), np.random.default_rng(1).standard_normal(4)
    problem = implicit.proximal(tm.Bilevel(quadratics.inner, quadratics.outer), 2.0)
    stationary = lambda phi, theta: tm.grad(problem.inner)(phi, theta, task)
    phi_star = implicit.solution(stationary, lambda theta: implicit.solve_inner(problem, theta, task))
    F = lambda theta: problem.outer(phi_star(theta), theta, task)
    assert relative_error(tm.grad(F)(theta), implicit.meta_gradient(problem, theta, task).grad) < 1e-12
    K = 2 * np.linalg.inv(task.A + 2 * np.eye(4))
    assert relative_error(tm.hessian(F)(theta), K.T @ task.C @ K) < 1e-12


# ### Whole numbers
@pytest.mark.parametrize("derivative", [
    implicit.root_jacobian, lambda *args: implicit.root_jvp(*args, 1.0), lambda *args: implicit.root_vjp(*args, 1.0),
], ids=["jacobian", "jvp", "vjp"])  # fmt: skip
@pytest.mark.parametrize("phi, theta, name", [(np.array(4), 3.0, "phi"), (4.0, np.int64(3), "theta")])
def test_integers_in_arrays_have_no_derivative(derivative, phi, theta, name):
    circle = lambda y, x: x**2 + y**2 - 25
    with pytest.raises(TypeError, match=rf"with respect to {name}: it is int64\[\], and only floats have derivatives"):
        derivative(circle, phi, theta)
    assert derivative(circle, 4, 3) == -0.75


def test_a_solver_that_returns_whole_numbers():
    """y = 2x is one, here; what it moves by is none."""
    double = implicit.solution(lambda y, x: y - 2 * x, lambda x: np.rint(2 * x).astype(int))
    assert tm.jacobian(double)(np.array([1.0, 2.0])).tolist() == [[2, 0], [0, 2]]
    assert tm.jit(tm.grad(lambda x: double(x) ** 2))(3.0) == 24


@pytest.mark.parametrize("product", [implicit.root_jvp, implicit.root_vjp])
@pytest.mark.parametrize("settings", [{}, {"solver": "gmres"}], ids=["lu", "gmres"])
def test_a_product_with_zero_or_in_a_stiff_direction_knows_how_far_the_root_is(product, settings):
    stiffness = np.array([1.0, 1e6])
    for direction in (np.zeros(2), np.array([0.0, 1.0])):
        with pytest.warns(RuntimeWarning, match=r"the solution is about 5.0e\+00 away"):
            product(lambda y, x: stiffness * (y - x), np.array([5.0, 0.0]), np.zeros(2), direction, **settings)


def test_a_condition_that_is_not_finite():
    g, root = lambda y, x: np.log(y) - x, lambda y, x: y - np.sqrt(x)
    for derivative in (lambda: implicit.root_jacobian(g, 0.0, 1.0), lambda: implicit.root_vjp(g, -1.0, 1.0, 1.0),
                       lambda: implicit.root_jacobian(root, 0.0, 0.0), lambda: implicit.root_vjp(root, 0.0, 0.0, 1.0),
                       lambda: tm.grad(implicit.solution(lambda y, x: y * np.inf - x, lambda x: 1.0))(1.0)):  # fmt: skip
        with pytest.raises(FloatingPointError, match="g, or a derivative of it, is not finite at "):
            derivative()


# ## J and its transpose, exchanged on purpose
EXCHANGED = {
    "jacobian": (lambda g, x, b: implicit.root_jacobian(g, x, PARAMETERS)["u"] @ b, False, roots, "lu", lambda J, b: lu(J.T, b)),
    "jvp": (lambda g, x, b: implicit.root_jvp(g, x, PARAMETERS, {"W": 0 * FIXED_W, "u": b}, solver="gmres"), False,
            roots._Equations, "forwards", roots._Equations.backwards),
    "vjp": (lambda g, x, b: implicit.root_vjp(g, x, PARAMETERS, b, solver="gmres")["u"], True,
            roots._Equations, "backwards", roots._Equations.forwards),
}  # fmt: skip


@pytest.mark.parametrize("product, transposed, where, name, broken", EXCHANGED.values(), ids=EXCHANGED.keys())
def test_the_closed_form_catches_the_transpose(monkeypatch, product, transposed, where, name, broken):
    x, b, g = iterate(PARAMETERS), np.arange(5.0), implicit.fixed_point(tanh_map)
    D = np.diag(1 - x**2)
    J = np.linalg.solve(np.eye(5) - D @ FIXED_W, D)
    truth = (J.T if transposed else J) @ b
    assert relative_error(product(g, x, b), truth) < 1e-10
    monkeypatch.setattr(where, name, broken)
    assert relative_error(product(g, x, b), truth) > 1e-2


@pytest.mark.parametrize("phi_bar", [np.ones(3), 1.0, np.array([1.0, np.nan]), np.array(["a", "b"])])
def test_a_cotangent_of_another_shape(phi_bar):
    with pytest.raises(ValueError, match=r"phi_bar=.*: finite numbers of shape \(2,\)"):
        implicit.root_vjp(lambda phi, theta: phi - theta, np.ones(2), np.ones(2), phi_bar)
