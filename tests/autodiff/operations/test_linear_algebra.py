"""Linear algebra: to order 3, in batches; closed forms; the norm at 0."""

import numpy as np
import pytest
from catalogue import LINEAR_ALGEBRA, definite, errors, normal, regular, value

import tinymeta as tm


@pytest.mark.parametrize("name", LINEAR_ALGEBRA)
def test_to_order_3(name):
    f, *xs = LINEAR_ALGEBRA[name]
    assert max(errors(f, xs, order=3)) < (1e-10 if name.split()[0] in ("cholesky", "slogdet") else 1e-13)


@pytest.mark.parametrize(("a", "b"), [((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 2)), ((2, 1, 3, 3), (4, 3, 1)),
                                      ((2, 3, 3), (3,))], ids=str)  # fmt: skip
def test_solve_of_every_pair_of_ranks(a, b):
    a, b = regular(*a), normal(*b)
    np.testing.assert_allclose(value(np.linalg.solve, [a, b]), np.linalg.solve(a, b), rtol=1e-13)
    assert max(errors(np.linalg.solve, [a, b])) < 1e-13


def test_solve_with_one_array():
    a, b = regular(3, 3), normal(3)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(tm.jacobian(lambda b: np.linalg.solve(a, b))(b), inverse, rtol=1e-12)
    expected = -np.einsum("ki,j->kij", inverse, inverse @ b)
    np.testing.assert_allclose(tm.jacobian(lambda a: np.linalg.solve(a, b))(a), expected, rtol=1e-12)


def test_closed_forms():
    a = regular(3, 3)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(tm.jacobian(np.linalg.inv)(a), -np.einsum("ik,lj->ijkl", inverse, inverse), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(tm.grad(np.linalg.det)(a), np.linalg.det(a) * inverse.T, rtol=1e-12)
    np.testing.assert_allclose(tm.grad(lambda a: np.linalg.slogdet(a)[1])(a), inverse.T, rtol=1e-12)
    np.testing.assert_allclose(tm.hessian(lambda a: np.linalg.slogdet(a)[1])(a), -np.einsum("jk,li->ijkl", inverse, inverse),
                               rtol=1e-12, atol=1e-15)  # fmt: skip


def test_slogdet_is_a_named_pair_and_its_sign_a_constant():
    a = np.diag([-2.0, 3.0])
    result = np.linalg.slogdet(tm.tensor(a))
    assert result.sign.value == -1
    assert result.logabsdet.value == pytest.approx(np.log(6), rel=1e-15)
    np.testing.assert_array_equal(tm.grad(lambda a: np.linalg.slogdet(a).sign * np.sum(a))(a), -np.ones((2, 2)))


def test_det_at_a_singular_matrix_raises():
    with pytest.raises(np.linalg.LinAlgError):
        tm.grad(np.linalg.det)(np.ones((2, 2)))


def test_cholesky_of_log_det():
    """log det A = 2 sum log diag L: gradient and Hessian-vector product in closed form."""
    a, v = definite(normal(4, 4)), definite(normal(4, 4))
    f = lambda a: 2 * np.sum(np.log(np.diagonal(np.linalg.cholesky(a))))
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(tm.grad(f)(a), inverse, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(tm.hvp(f, a, v), -inverse @ v @ inverse, rtol=1e-9, atol=1e-11)


def test_cotangent_of_cholesky_is_symmetric():
    a_bar = tm.grad(lambda a: np.sum(np.linalg.cholesky(a) ** 3))(definite(normal(2, 3, 3)))
    np.testing.assert_array_equal(a_bar, np.matrix_transpose(a_bar))


def test_errors_name_the_operation_and_the_shapes():
    with pytest.raises(np.linalg.LinAlgError, match=r"cholesky\(float64\[2, 2\]\).*[Pp]ositive"):
        np.linalg.cholesky(tm.tensor(-np.eye(2)))
    with pytest.raises(np.linalg.LinAlgError, match=r"solve\(float64\[2, 2\], float64\[2, 1\]\)"):
        np.linalg.solve(tm.tensor(np.zeros((2, 2))), np.ones(2))


# ## Norms
@pytest.mark.parametrize(("shape", "options"), [
    ((4,), {}), ((2, 3), {}), ((2, 3, 2), {}), ((2, 3), {"axis": 0}), ((2, 3), {"axis": -1, "keepdims": True}), ((2, 3), {"ord": "fro"}),
    ((2, 3, 2), {"axis": (0, 2)}), ((2, 3, 2), {"ord": "fro", "axis": (0, -1), "keepdims": True}), ((4,), {"ord": 2}), ((4,), {"ord": 1}),
    ((4,), {"ord": 3}), ((4,), {"ord": 2.5}), ((4,), {"ord": np.inf}), ((4,), {"ord": -np.inf}), ((2, 3), {"ord": 1, "axis": 1}),
    ((2, 3), {"keepdims": True}),
], ids=str)  # fmt: skip
def test_norm(shape, options):
    x = normal(*shape)
    f = lambda a: np.linalg.norm(a, **options)
    np.testing.assert_allclose(value(f, [x]), f(x), rtol=1e-14)
    assert max(errors(f, [x])) < 1e-13


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": (0, 1)}, {"keepdims": True}, {"axis": -1, "ord": 3, "keepdims": True},
                                     {"ord": 1}, {"ord": np.inf}], ids=str)  # fmt: skip
def test_vector_norm_and_matrix_norm(options):
    x = normal(2, 3)
    for f in (lambda a: np.linalg.vector_norm(a, **options), np.linalg.matrix_norm):
        np.testing.assert_allclose(value(f, [x]), f(x), rtol=1e-14)
        assert value(f, [x]).shape == np.shape(f(x))
        assert max(errors(f, [x])) < 1e-13


@pytest.mark.parametrize("order", [None, 1, 2, 3, 2.5])
def test_norm_at_zero_has_gradient_zero(order):
    np.testing.assert_array_equal(tm.grad(lambda a: np.linalg.norm(a, order))(np.zeros(3)), np.zeros(3))


def test_norm_at_zero_has_second_derivative_zero_and_spoils_no_other_row():
    np.testing.assert_array_equal(tm.hessian(np.linalg.norm)(np.zeros(3)), np.zeros((3, 3)))
    rows = tm.grad(lambda a: np.sum(np.linalg.norm(a, axis=1)))(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [None, 2, 3, 2.5])
def test_norm_of_what_has_no_square(order, dtype):
    """The rows of which one can't be squared without overflow, one without being lost; and between them an ordinary one."""
    info, degree = np.finfo(dtype), order or 2
    rows = np.array([[1, -2, 2]], dtype) * np.array([[info.max / 16], [1], [info.tiny]], dtype)
    sizes = (1 + 2 * 2.0**degree) ** (1 / degree)
    f = lambda a: np.linalg.norm(a, order, axis=1)
    norms, pullback = tm.vjp(f, rows)
    (directions,) = pullback(np.ones(3, dtype))
    assert norms.dtype == directions.dtype == dtype
    np.testing.assert_allclose(norms, rows[:, 0] * sizes, rtol=4 * info.eps)
    slopes = np.array([1, -1, 1]) * (np.array([1, 2, 2]) / sizes) ** (degree - 1)
    np.testing.assert_allclose(directions, np.tile(slopes, (3, 1)), rtol=8 * info.eps)
    assert np.linalg.norm(tm.tensor(np.array([np.inf, 1], dtype)), order).value == np.inf
    assert np.linalg.norm(tm.tensor(np.zeros((0, 3), dtype)), order, axis=0).value.tolist() == [0, 0, 0]


@pytest.mark.parametrize("order", [2, "nuc", 0, -1])
def test_norms_without_a_rule_say_so(order):
    with pytest.raises(ValueError, match="has no rule here"):
        np.linalg.norm(tm.tensor(np.eye(2) if order in (2, "nuc") else np.ones(2)), order)


def test_norm_of_an_order_needs_a_vector_or_a_matrix():
    with pytest.raises(ValueError, match=r"a vector or a matrix, not shape \(2, 2, 2\)"):
        np.linalg.norm(tm.tensor(normal(2, 2, 2)), 2)
