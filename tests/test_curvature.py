"""The explicit Hessian: what it says of itself, the bias of damping, and what is drawn."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import tinymeta as tm
from tinymeta.implicit import Hessian, inner_hessian

Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))


def with_spectrum(*eigenvalues):
    return Hessian((Q * np.array(eigenvalues)) @ Q.T)


@pytest.mark.parametrize("eigenvalues, kind, condition", [
    ((1, 2, 3, 4), "positive definite", 4), ((-1, 2, 3, 4), "indefinite", 4), ((-4, -3, -2, -1), "indefinite", 4),
    ((0, 1, 2, 3), "singular", None), ((1e-17, 1, 2, 3), "singular", None), ((-1e-17, 1, 2, 3), "singular", None),
])  # fmt: skip
def test_the_three_kinds(eigenvalues, kind, condition):
    H = with_spectrum(*eigenvalues)
    assert str(H).startswith(f"4 x 4 Hessian, {kind}: eigenvalues from") and repr(H) == f"<{H}>"
    assert H.is_positive_definite == (kind == "positive definite") and H.is_indefinite == (kind == "indefinite")
    np.testing.assert_allclose(H.eigenvalues, eigenvalues, rtol=1e-13, atol=1e-14)
    if condition is None:
        assert H.condition > 1e14
    else:
        np.testing.assert_allclose(H.condition, condition, rtol=1e-13)


def test_a_condition_number_may_be_infinite():
    assert Hessian(np.diag([0.0, 1.0])).condition == np.inf


def test_it_is_an_array_to_numpy():
    H = with_spectrum(1, 2, 3, 4)
    assert np.asarray(H) is H.matrix and (np.asarray(H, dtype=np.float32).dtype, H.shape) == (np.float32, (4, 4))
    np.testing.assert_array_equal(np.trace(H), np.trace(H.matrix))
    copy = np.array(H)
    copy[0, 0] = 7
    assert H.matrix[0, 0] != 7


def test_it_solves():
    H, b = with_spectrum(1, 2, 3, 4), np.arange(4.0)
    np.testing.assert_allclose(H.solve(b, damping=1.0), np.linalg.solve(H.matrix + np.eye(4), b), rtol=1e-13)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        with_spectrum(-1, 2, 3, 4).solve(b)


@pytest.mark.parametrize("damping", [1e-9, 0.1, 10.0])
def test_the_bias_of_damping_is_the_change_of_the_solution(damping):
    H, b = with_spectrum(0.01, 2, 3, 4), np.arange(1.0, 5)
    v = Q.T @ b / np.array([0.01, 2, 3, 4])
    damped = Q.T @ b / (np.array([0.01, 2, 3, 4]) + damping)
    truth = np.linalg.norm(damped - v) / np.linalg.norm(v)  # for a small damping, a difference of nearly equal vectors
    np.testing.assert_allclose(H.damping_bias(b, damping), truth, rtol=1e-6 if damping < 1e-6 else 1e-12)


def test_the_bias_of_damping_at_its_limits():
    b = Q @ np.ones(4)
    assert with_spectrum(1, 2, 3, 4).damping_bias(b, 0.0) == 0 == with_spectrum(1, 2, 3, 4).damping_bias(np.zeros(4), 1.0)
    np.testing.assert_allclose(with_spectrum(1, 2, 3, 4).damping_bias(b, 1e12), 1, rtol=1e-9)
    assert with_spectrum(0, 1, 2, 3).damping_bias(b, 1.0) == np.inf


# ## Of an inner loss
def network(phi, theta, task):
    return np.mean((np.tanh(task @ phi["W"]) @ phi["v"] - 1) ** 2) + theta * np.sum(phi["W"] ** 2)


def test_of_a_network():
    generator = np.random.default_rng(1)
    phi, task = {"W": generator.standard_normal((2, 3)), "v": generator.standard_normal(3)}, generator.standard_normal((5, 2))
    H = inner_hessian(tm.Bilevel(network, None), phi, 0.1, task)
    nested = tm.hessian(network)(phi, 0.1, task)  # eagerly, and in blocks
    np.testing.assert_allclose(H.matrix[:6, 6:], nested["W"]["v"].reshape(6, 3), rtol=1e-12, atol=1e-14)
    assert H.names == ("phi['W']", "phi['v']") and H.sizes == (6, 3)
    v = {"W": generator.standard_normal((2, 3)), "v": generator.standard_normal(3)}
    product = tm.hvp(lambda phi: network(phi, 0.1, task), phi, v)
    np.testing.assert_allclose(H.matrix @ tm.ravel(v)[0], tm.ravel(product)[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("eigenvalues, labels", [((1, 2, 3, 4), ["positive"]), ((-1, 2, 3, 4), ["positive", "negative (its size)"])])
def test_what_is_drawn_is_the_matrix_and_its_spectrum(eigenvalues, labels):
    H = with_spectrum(*eigenvalues)
    H.names, H.sizes = ("phi['w']", "phi['b']"), (3, 1)
    figure = H.plot()
    image, spectrum = figure.axes[:2]
    np.testing.assert_array_equal(image.images[0].get_array(), H.matrix)
    assert [tick.get_text() for tick in image.get_yticklabels()] == ["phi['w']", "phi['b']"] and len(image.lines) == 2
    assert [line.get_ydata()[0] for line in image.lines[:1]] == [line.get_xdata()[0] for line in image.lines[1:]] == [2.5]
    assert image.get_yticks().tolist() == [1, 3]  # in the middle of rows 0 to 2, and of row 3
    assert image.images[0].get_clim() == (-np.abs(H.matrix).max(), np.abs(H.matrix).max())
    assert [text.get_text() for text in spectrum.get_legend().get_texts()] == labels
    drawn = sorted(y for line in spectrum.lines for y in line.get_ydata())
    np.testing.assert_allclose(drawn, sorted(np.abs(eigenvalues)), rtol=1e-12)
    figure.canvas.draw()
    plt.close(figure)


def test_a_matrix_of_one_leaf_or_of_zeros_can_be_drawn():
    for H in (with_spectrum(1, 2, 3, 4), Hessian(np.zeros((2, 2)), ("phi",), (2,))):
        figure = H.plot()
        figure.canvas.draw()
        plt.close(figure)
