"""Products of arrays: every pair of ranks, batches that broadcast, and all that einsum can say."""

import numpy as np
import pytest
from catalogue import errors, normal, value

import tinymeta as tm


def holds(f, *xs):
    expected = np.asarray(f(*xs))
    result = value(f, xs)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)
    assert max(errors(f, xs)) < 1e-13


def shapes_id(shapes):
    return " ".join(map(str, shapes))


@pytest.mark.parametrize("shapes", [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (5, 3, 1)), ((1, 1), (1, 1)),
    ((2, 1), (1, 4)), ((5, 2, 1), (1, 4)), ((2, 1), (5, 1, 4)), ((2, 1, 2, 1), (5, 1, 3)),
], ids=shapes_id)  # fmt: skip
def test_matmul(shapes):
    holds(np.matmul, *(normal(*shape) for shape in shapes))


@pytest.mark.parametrize("shapes", [((2, 1), (2, 4)), ((2, 4), (1, 4))], ids=shapes_id)
def test_matmul_does_not_broadcast_the_axes_that_it_sums_over(shapes):
    a, b = (tm.tensor(normal(*shape)) for shape in shapes)
    with pytest.raises(ValueError, match=r"matmul\(float64.*, float64.*\): "):
        np.matmul(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, bool, complex])
def test_a_column_times_a_row_has_the_dtype_of_a_product(dtype):
    a, b = np.array([[1], [0]], dtype), np.array([[1, 1, 0]], dtype)
    c = np.matmul(tm.tensor(a), tm.tensor(b)).value
    assert c.dtype == np.matmul(a, b).dtype
    np.testing.assert_array_equal(c, np.matmul(a, b))


def test_a_column_times_a_row_is_recorded_as_a_product():
    a, b = tm.tensor(normal(2, 3)), tm.tensor(normal(3, 1))
    [a_bar] = tm.gradients(np.sum(a @ b), [a])
    assert a_bar.op.name == "matmul"


@pytest.mark.parametrize("f", [np.dot, np.inner], ids=["dot", "inner"])
@pytest.mark.parametrize("shapes", [((), ()), ((), (2, 3)), ((2, 3), ()), ((3,), (3,)), ((2, 3), (3,)), ((3, 3), (3, 3)),
                                    ((4, 2, 3), (3,)), ((2, 3, 3), (2, 3, 3))], ids=shapes_id)  # fmt: skip
def test_dot_and_inner(f, shapes):
    holds(f, *(np.asarray(normal(*shape)) for shape in shapes))


@pytest.mark.parametrize(("a", "b", "axes"), [
    ((2, 3), (3, 4), 1), ((2, 3), (2, 3), 2), ((2,), (3,), 0), ((2, 3, 4), (4, 2), ([0, 2], [1, 0])), ((2, 3), (3,), (-1, 0)),
    ((2, 3), (4, 2), ([0], [-1])),
], ids=str)  # fmt: skip
def test_tensordot(a, b, axes):
    holds(lambda a, b: np.tensordot(a, b, axes), normal(*a), normal(*b))


def test_sums_over_no_elements_are_zero():
    a, b = np.ones((2, 0)), np.ones((0, 3))
    for f in (np.matmul, np.dot, lambda a, b: np.tensordot(a, b, 1), lambda a, b: np.einsum("ij,jk->ik", a, b)):
        np.testing.assert_array_equal(value(f, [a, b]), np.zeros((2, 3)))
        assert tm.grad(lambda a, b, f=f: np.sum(f(a, b)), argnums=(0, 1))(a, b)[1].shape == (0, 3)


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((), (3,)), ((2, 2), (3, 1))], ids=shapes_id)
def test_outer_products(shapes):
    xs = [np.asarray(normal(*shape)) for shape in shapes]
    holds(np.outer, *xs)
    holds(np.multiply.outer, *xs)


def test_vdot_flattens_and_does_not_conjugate():
    holds(np.vdot, normal(2, 3), normal(6))
    assert value(np.vdot, [np.array([1j]), np.array([1j])]) == -1


def test_one_factor_may_be_an_array_or_both_the_same_tensor():
    a = normal(3, 3)
    holds(lambda b: a @ b @ a, normal(3, 3))
    holds(lambda b: b @ b, normal(3, 3))
    holds(lambda b: np.einsum("ij,jk,kl->il", b, a, b), normal(3, 3))


# ## Einstein summation
EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ij->ji", (2, 3)),
    ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->j", (3, 3, 2)), ("iijj->ij", (2, 2, 3, 3)), ("iii->i", (3, 3, 3)), ("iii", (2, 2, 2)),
    ("i,i", (3,), (3,)), ("i,j->ij", (2,), (3,)), ("i,j->", (2,), (3,)), (",i->i", (), (3,)), (",", (), ()), ("->", ()),
    ("ij,ij->ij", (2, 3), (2, 3)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 3)), ("i,i,i->i", (3,), (3,), (3,)), ("ii,i->", (3, 3), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("ijk,k->ij", (2, 3, 4), (4,)), ("Ab,bC->AC", (2, 3), (3, 2)), ("bA,bC", (2, 3), (2, 2)),
    ("iji->j", (3, 2, 3)), ("ikjik->kj", (2, 3, 4, 2, 3)),  # others between
    ("ij,jj->i", (2, 3), (3, 3)), (" i j , j k -> i k ", (2, 3), (3, 4)), ("ijk->ki", (2, 3, 4)), ("i,ij,jk->", (2,), (2, 3), (3, 4)),
    ("...", (2, 3)), ("...ij,...jk->...ik", (5, 2, 3), (5, 3, 4)), ("...ij,...jk", (5, 2, 3), (3, 4)), ("...i->...", (2, 3)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)), ("i...->...i", (2, 3, 4)), ("...,...->...", (2, 3), (3,)), ("...->", ()),
    ("i...,i->...", (2, 3, 4), (2,)), ("...ii->...i", (2, 3, 3)), ("...,...", (2, 1), (1, 3)),
    # an axis of length 1 broadcasts, and its gradient has length 1
    ("ij,ij->ij", (1, 3), (2, 3)), ("ij,ij->ij", (1, 3), (2, 1)), ("ij,ij->", (1, 3), (2, 3)), ("ij,jk->ik", (2, 1), (3, 4)),
    ("i,i->", (1,), (3,)), ("i,i->i", (1,), (1,)), ("i->i", (1,)), ("ij,j->i", (1, 1), (1,)), ("ii,ij->j", (1, 1), (3, 2)),
    ("ii,i->i", (1, 1), (3,)), ("i,i,i->i", (1,), (3,), (1,)), ("bij,bjk->bik", (1, 2, 3), (5, 3, 1)), ("ij,ij->j", (1, 3), (1, 3)),
]  # fmt: skip


@pytest.mark.parametrize("subscripts", EINSUMS, ids=str)
def test_einsum(subscripts):
    text, *shapes = subscripts
    holds(lambda *factors: np.einsum(text, *factors), *(np.asarray(normal(*shape)) for shape in shapes))


def test_einsum_takes_and_ignores_optimize():
    a, b = normal(2, 3), normal(3, 4)
    np.testing.assert_allclose(np.einsum("ij,jk", tm.tensor(a), b, optimize=True).value, a @ b, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("text", "shapes", "message"), [
    ("i->j", [(3,)], "letter that no factor has"), ("i...->i", [(2, 3)], r"lacks the '\.\.\.'"), ("i,j", [(3,)], "names 2 factors, got 1"),
    ("ij", [(3,)], "doesn't fit a factor of shape"), ("i", [(3, 2)], "doesn't fit a factor of shape"),
    ("ii->i", [(2, 3)], "different lengths"),
    ("ii->i", [(1, 3)], "different lengths"), ("i,i", [(2,), (3,)], "could not be broadcast"), ("i->ii", [(3,)], "multiple times"),
])  # fmt: skip
def test_einsum_refuses_what_numpy_refuses(text, shapes, message):
    xs = [normal(*shape) for shape in shapes]
    with pytest.raises(ValueError):
        np.einsum(text, *xs)
    with pytest.raises(ValueError, match=message):
        np.einsum(text, *map(tm.tensor, xs))


def test_einsum_refuses_out_and_the_other_notation():
    t = tm.tensor(normal(2, 3))
    for call in (lambda: np.einsum("ij->ji", t, out=np.zeros((3, 2))), lambda: np.einsum(t, [0, 1])):
        with pytest.raises(TypeError, match="string of subscripts"):
            call()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda a: a @ a, ValueError, r"matmul\(float64\[2, 3\], float64\[2, 3\]"), (lambda a: a @ 2.0, ValueError, "use \\*"),
    (lambda a: np.tensordot(a, a, 1), ValueError, "differ in length"), (lambda a: np.tensordot(a, a, ([2], [0])), ValueError, "axis 2"),
    (lambda a: np.dot(a, a.T, out=np.zeros((2, 2))), TypeError, "out"),
    (lambda a: np.matmul(a, a.T, out=np.zeros((2, 2))), TypeError, "out="),
])  # fmt: skip
def test_errors_say_what_was_given(call, error, message):
    with pytest.raises(error, match=message):
        call(tm.tensor(normal(2, 3)))
