"""Networks against loops, initialisations against their moments."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import nn

POINTS_X, POINTS_Y = np.random.default_rng(1).standard_normal((4, 2)), np.random.default_rng(2).standard_normal((4, 2))


# ## Initial weights
def test_the_truncated_normal_has_the_moments_of_one():
    sigma, beyond = 0.3, 2.0
    values = nn.truncated_normal(np.random.default_rng(0), (400, 1000), sigma)
    assert values.shape == (400, 1000) and np.abs(values).max() <= beyond * sigma
    density, inside = np.exp(-(beyond**2) / 2) / np.sqrt(2 * np.pi), 0.954499736103642
    variance = sigma**2 * (1 - 2 * beyond * density / inside)
    assert abs(values.mean()) < 4 * np.sqrt(variance / values.size)
    np.testing.assert_allclose(values.var(), variance, rtol=0.01)
    np.testing.assert_allclose((np.abs(values) > 1.9 * sigma).mean(), 0.0125, rtol=0.05)  # drawn again, not clipped


def test_the_truncated_normal_has_sigma_one_hundredth_if_nobody_says():
    one, other = (nn.truncated_normal(np.random.default_rng(1), (3, 4), *sigma) for sigma in [(), (0.01,)])
    assert one.tolist() == other.tolist()


def test_weights_are_the_generators_numbers_times_their_scale():
    rng = lambda: np.random.default_rng(3)
    values, normal = nn.truncated_normal(rng(), (20, 5), 0.3), rng().standard_normal((20, 5))
    inside = np.abs(normal) <= 2
    assert not inside.all()
    np.testing.assert_allclose(values[inside], 0.3 * normal[inside], rtol=1e-15)
    np.testing.assert_allclose(nn.glorot_uniform(rng(), (2, 4)), (2 * rng().random((2, 4)) - 1), rtol=1e-14)  # the limit is 1


def test_glorot_has_variance_2_over_fan_in_plus_fan_out():
    values = nn.glorot_uniform(np.random.default_rng(0), (300, 700))
    limit = np.sqrt(6 / 1000)
    np.testing.assert_allclose(values.var(), 2 / 1000, rtol=0.01)
    assert abs(values.mean()) < 4 * np.sqrt(2 / 1000 / values.size)
    assert 0.999 * limit < np.abs(values).max() <= limit


@pytest.mark.parametrize("weights", [nn.truncated_normal, nn.glorot_uniform])
def test_the_layers_of_an_mlp(weights):
    layers = nn.initialize_mlp(np.random.default_rng(0), (2, 5, 3), weights)
    generator = np.random.default_rng(0)
    assert [layer["W"].tolist() for layer in layers] == [weights(generator, shape).tolist() for shape in [(2, 5), (5, 3)]]
    assert [layer["b"].tolist() for layer in layers] == [[0] * 5, [0] * 3]


def test_a_forget_gate_remembers_at_first():
    theta = nn.initialize_lstm(np.random.default_rng(0), 3, 2)
    assert theta["b"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0] and theta["W"].shape == (5, 8)


# ## Networks
def test_an_mlp_by_hand():
    theta = [
        {"W": np.array([[1.0, -2.0]]), "b": np.array([0.5, 1.0])},
        {"W": np.array([[2.0, 0.0], [1.0, 3.0]]), "b": np.array([0.0, -1.0])},
        {"W": np.array([[1.0], [-1.0]]), "b": np.array([10.0])},
    ]
    # x = 1: (1.5, -1) -> (1.5, 0) -> (3, -1) -> (3, 0) -> 13;  x = -1: (-0.5, 3) -> (0, 3) -> (3, 8) -> 5
    assert nn.mlp(theta, np.array([[1.0], [-1.0]])).tolist() == [[13.0], [5.0]]
    hidden = np.tanh(np.tanh(np.array([1.5, -1.0])) @ theta[1]["W"] + theta[1]["b"])
    np.testing.assert_allclose(nn.mlp(theta, np.ones((1, 1)), np.tanh), [[hidden[0] - hidden[1] + 10]], rtol=1e-15)


def test_an_mlp_of_one_layer_is_affine():
    assert nn.mlp([{"W": np.array([[2.0]]), "b": np.array([-7.0])}], np.array([[3.0]])).tolist() == [[-1.0]]


def test_batch_norm_against_loops():
    generator = np.random.default_rng(0)
    x, scale, shift = generator.standard_normal((4, 3)), generator.standard_normal(3), generator.standard_normal(3)
    y = nn.batch_norm({"scale": scale, "shift": shift}, x, epsilon=0.1)
    for j in range(3):
        mean = sum(x[i, j] for i in range(4)) / 4
        variance = sum((x[i, j] - mean) ** 2 for i in range(4)) / 4
        by_hand = [scale[j] * (x[i, j] - mean) / (variance + 0.1) ** 0.5 + shift[j] for i in range(4)]
        np.testing.assert_allclose(y[:, j], by_hand, rtol=1e-13)


def test_a_normalised_mlp_by_hand():
    generator = np.random.default_rng(0)
    theta, x = nn.initialize_normalised_mlp(generator, (3, 4, 4, 4)), generator.standard_normal((4, 3))
    theta[1]["scale"], theta[0]["shift"], theta[2]["b"] = generator.standard_normal((3, 4))

    def hidden(layer, x):
        z = np.einsum("ij,jk->ik", x, layer["W"])
        normalised = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
        return np.tanh(layer["scale"] * normalised + layer["shift"])

    by_hand = np.einsum("ij,jk->ik", hidden(theta[1], hidden(theta[0], x)), theta[2]["W"]) + theta[2]["b"]
    np.testing.assert_allclose(nn.normalised_mlp(theta, x, np.tanh), by_hand, rtol=1e-12)


def test_batch_norm_forgets_where_a_column_was_and_how_wide():
    x, theta = np.random.default_rng(0).standard_normal((5, 2)), {"scale": np.ones(2), "shift": np.zeros(2)}
    np.testing.assert_allclose(nn.batch_norm(theta, 100 * x + 7, epsilon=0), nn.batch_norm(theta, x, epsilon=0), rtol=1e-12)
    assert not nn.batch_norm(theta, np.ones((3, 2))).any()  # a constant column is finite


def test_batch_norm_takes_each_batch_of_a_stack_for_itself():
    x, theta = np.random.default_rng(0).standard_normal((2, 4, 3)), {"scale": np.ones(3), "shift": np.zeros(3)}
    np.testing.assert_array_equal(nn.batch_norm(theta, x)[1], nn.batch_norm(theta, x[1]))


def test_an_lstm_against_loops():
    generator = np.random.default_rng(0)
    rows, inputs, hidden = 2, 3, 4
    theta = {"W": generator.standard_normal((inputs + hidden, 4 * hidden)), "b": generator.standard_normal(4 * hidden)}
    x, h, c = (generator.standard_normal((rows, n)) for n in (inputs, hidden, hidden))
    new_h, new_c = nn.lstm_cell(theta, x, (h, c))
    sigma = lambda z: 1 / (1 + np.exp(-z))
    for r in range(rows):
        for k in range(hidden):

            def gate(number):
                column = number * hidden + k  # noqa: B023 - used at once
                z = theta["b"][column]
                z += sum(x[r, j] * theta["W"][j, column] for j in range(inputs))  # noqa: B023
                return z + sum(h[r, j] * theta["W"][inputs + j, column] for j in range(hidden))  # noqa: B023

            cell = sigma(gate(1)) * c[r, k] + sigma(gate(0)) * np.tanh(gate(3))
            np.testing.assert_allclose(new_c[r, k], cell, rtol=1e-13)
            np.testing.assert_allclose(new_h[r, k], sigma(gate(2)) * np.tanh(cell), rtol=1e-13)


# ## Losses
def test_the_mean_squared_error_is_a_mean():
    assert nn.mean_squared_error(np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [0.0], [1.0]])) == 13 / 3


def test_cross_entropy_by_hand():
    logits = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]])
    labels = np.array([1, 0])
    np.testing.assert_allclose(nn.cross_entropy(logits, labels), -(np.log(2 / 8) + np.log(3 / 8)) / 2, rtol=1e-15)
    # Its gradient is (softmax - one-hot) / rows.
    gradient = np.array([[1 / 8, 2 / 8 - 1, 5 / 8], [3 / 8 - 1, 3 / 8, 2 / 8]]) / 2
    np.testing.assert_allclose(tm.grad(nn.cross_entropy)(logits, labels), gradient, rtol=1e-14)


def test_cross_entropy_of_large_logits():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]])
    assert nn.cross_entropy(logits, np.array([0, 1])) == 0 and nn.cross_entropy(logits, np.array([1, 0])) == 1000


@pytest.mark.parametrize("f", [
    lambda theta, x, y: nn.mean_squared_error(nn.mlp(theta, x, np.tanh), y),
    lambda theta, x, y: nn.cross_entropy(nn.mlp(theta, x, np.tanh), np.array([0, 1, 1, 0])),
])  # fmt: skip
def test_the_derivatives(f):
    generator = np.random.default_rng(0)
    theta = nn.initialize_mlp(generator, (2, 3, 2))
    assert tm.check_grad(lambda theta: f(theta, POINTS_X, POINTS_Y), theta)


def test_the_derivative_of_an_lstm():
    generator = np.random.default_rng(0)
    theta, x = nn.initialize_lstm(generator, 2, 2), generator.standard_normal((3, 2))
    state = (generator.standard_normal((3, 2)), generator.standard_normal((3, 2)))
    assert tm.check_grad(nn.lstm_cell, theta, x, state)


def test_the_derivative_of_batch_norm():
    generator = np.random.default_rng(0)
    theta = {"scale": generator.standard_normal(2), "shift": generator.standard_normal(2)}
    assert tm.check_grad(nn.batch_norm, theta, generator.standard_normal((4, 2)))


def test_accuracy_is_the_share_of_rows_whose_largest_logit_is_the_labels():
    logits = np.array([[0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 3.0], [2.0, 1.0, 0.0, 0.0]])
    assert nn.accuracy(logits, np.array([1, 3, 2])) == 2 / 3
    assert nn.accuracy(np.stack([logits, -logits]), np.array([[1, 3, 0], [0, 1, 2]])) == 5 / 6


def test_losses_refuse_what_would_be_repeated_or_taken_for_another_class():
    column, row = np.ones((3, 1)), np.ones(3)  # whose difference is of shape (3, 3)
    with pytest.raises(ValueError, match=r"prediction=float64\[3, 1\] and y=float64\[3\]: arrays of one shape"):
        nn.mean_squared_error(column, row)
    assert nn.mean_squared_error(column, 0.0) == nn.mean_squared_error(0.0, column) == 1.0
    for labels in ([0, -1], [0, 2]):
        with pytest.raises(ValueError, match=r"labels=.*: from 0 to 1 are wanted"):
            nn.cross_entropy(np.zeros((2, 2)), np.array(labels))
    for loss in (nn.cross_entropy, nn.accuracy):
        with pytest.raises(ValueError, match=r"labels=int64\[1\]: an array with an integer for each row of logits=float64\[2, 2\]"):
            loss(np.zeros((2, 2)), np.array([0]))


def test_a_network_says_what_does_not_fit_and_passes_on_what_the_activation_raises():
    theta = nn.initialize_mlp(np.random.default_rng(0), (3, 4, 2))
    with pytest.raises(ValueError, match=r"x=float64\[5, 4\]: an array of numbers, of shape \(points, 3\), for theta's first layer"):
        nn.mlp(theta, np.ones((5, 4)))
    with pytest.raises(TypeError, match="number 1 a dict with W, b"):
        nn.mlp([theta[0], {"W": np.ones((4, 2))}], np.ones((5, 3)))
    with pytest.raises(ZeroDivisionError):
        nn.mlp(theta, np.ones((5, 3)), lambda x: x * (1 // 0))
