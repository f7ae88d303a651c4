"""Invented characters: shapes and seeds, the ink of a stroke, and how hard they are to tell apart."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from tinymeta.tasks import characters, few_shot, omniglot


@pytest.fixture(scope="module")
def drawn():
    return characters.draw_characters(np.random.default_rng(0), 60)


def test_shapes_and_names(drawn):
    assert drawn.images.shape == (60, 20, 28, 28) and drawn.images.dtype == np.float32
    assert len(set(drawn.names)) == 60 and drawn.names == sorted(drawn.names) and drawn.alphabets == ["invented"]
    assert characters.draw_characters(np.random.default_rng(0), 2, drawings=3, size=14).images.shape == (2, 3, 14, 14)


def test_every_image_has_ink_on_paper(drawn):
    assert drawn.images.min() == 0 and drawn.images.max() <= 1
    ink = drawn.images.mean(axis=(2, 3))
    assert 0.005 < ink.min() and ink.max() < 0.3 and 0.04 < ink.mean() < 0.1  # Omniglot's mean is 0.076
    assert drawn.images.max(axis=(2, 3)).min() > 0.8


def test_no_drawing_is_like_another(drawn):
    images = drawn.images.reshape(1200, -1)
    assert len(np.unique(images, axis=0)) == 1200


def test_the_seed_decides():
    same, again, other = (characters.draw_characters(np.random.default_rng(seed), 2).images for seed in (0, 0, 1))
    assert np.array_equal(same, again) and not np.array_equal(same, other)


def test_a_smaller_drawing_is_the_larger_one_with_averaged_areas():
    large, small = (characters.draw_characters(np.random.default_rng(0), 10, size=size).images for size in (56, 14))
    A = omniglot.area_weights(14, 56)
    assert np.abs(A @ large @ A.T - small).mean() < 0.02 < 0.2 * small.std()


def test_neither_trivial_nor_impossible(drawn):
    """For the pixels' nearest neighbour it is about as hard as Omniglot: 42 % and 62 % there."""
    for shots, expected in ((1, 0.42), (5, 0.62)):
        share = few_shot.nearest_neighbour(few_shot.draw(np.random.default_rng(1), 200, drawn, 5, shots, 15)).mean()
        assert abs(share - expected) < 0.05


# ## A stroke
def straight(begin, end):
    return np.linspace(begin, end, characters.CONTROLS)[None, None]


def test_the_ink_of_a_straight_stroke():
    """On the middle of the row of pixels 5 of 10, 1.6 pixels thick, from the middle of pixel 2 to that of pixel 7."""
    image = characters._rendered(straight(-0.25 + 0.05j, 0.25 + 0.05j), np.array([0.16]), 10)[0]
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[:, 3:7].T, np.tile([0, 0, 0, 0, 0.3, 1, 0.3, 0, 0, 0], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(image[5], [0, 0.3, 1, 1, 1, 1, 1, 1, 0.3, 0], atol=1e-6)


def test_a_thin_stroke_is_grey():
    image = characters._rendered(straight(-0.4 + 0.05j, 0.4 + 0.05j), np.array([0.03]), 10)[0]
    np.testing.assert_allclose(image[4:7, 5], [0, 0.3, 0], atol=1e-6)


def test_the_ink_is_that_of_the_nearest_point_of_any_stroke():
    rng = np.random.default_rng(0)
    controls = rng.uniform(-0.4, 0.4, (3, 2, characters.CONTROLS)) + 1j * rng.uniform(-0.4, 0.4, (3, 2, characters.CONTROLS))
    thickness = np.array([0.05, 0.1, 0.02])
    images = characters._rendered(controls, thickness, 12)
    for drawing, h, image in zip(controls, thickness, images, strict=True):
        points = []
        for stroke in drawing:
            corners = CubicSpline(range(characters.CONTROLS), stroke)(np.linspace(0, characters.CONTROLS - 1, characters.CORNERS))
            points += [a + t * (b - a) for a, b in pairwise(corners) for t in np.linspace(0, 1, 200)]
        for i in range(12):
            for j in range(12):
                d = 12 * np.abs(np.array(points) - ((j + 0.5) / 12 - 0.5) - 1j * ((i + 0.5) / 12 - 0.5)).min()
                covered = min(d + 6 * h, 0.5) - max(d - 6 * h, -0.5)
                assert abs(image[i, j] - max(0, covered)) < 0.01


def test_a_character_fills_its_box():
    for seed in range(20):
        strokes = characters._character(np.random.default_rng(seed))
        assert strokes.shape[1:] == (characters.CONTROLS,) and 1 <= len(strokes) <= 4
        low, high = ([extreme(part) for part in (strokes.real, strokes.imag)] for extreme in (np.min, np.max))
        np.testing.assert_allclose(np.add(low, high), 0, atol=1e-12)
        np.testing.assert_allclose(np.max(np.subtract(high, low)), 1, rtol=1e-12)


def test_another_hand_moves_every_control_and_maps_the_plane():
    """The best map z -> a z + b conj(z) + c is the hand's; what it leaves is what moved the controls one by one."""
    z = np.random.default_rng(1).standard_normal((100, characters.CONTROLS, 2)) @ [1, 1j]
    drawings = characters._by_hand(np.random.default_rng(0), z, 2000)
    assert drawings.shape == (2000, *z.shape)
    real = lambda w: np.concatenate([w.real.ravel(), w.imag.ravel()])  # conj(z) is not linear in the complex numbers, but in the real ones
    basis = np.stack([real(w) for w in (z, 1j * z, z.conj(), 1j * z.conj(), np.ones_like(z), 1j * np.ones_like(z))], axis=1)
    fit, squares, *_ = np.linalg.lstsq(basis, np.array([real(drawing) for drawing in drawings]).T, rcond=None)
    scale = np.sqrt(0.65**2 + 0.3**2 / 12)  # root of the mean square of what is uniform between 0.5 and 0.8
    np.testing.assert_allclose(fit.mean(axis=1), [0.65, 0, 0, 0, 0, 0], atol=0.01)
    np.testing.assert_allclose(fit[1:].std(axis=1), [0.12 * scale, 0.1 * scale, 0.1 * scale, 0.06, 0.06], rtol=0.1)
    np.testing.assert_allclose(np.sqrt(squares.mean() / len(basis)), 0.04 * scale, rtol=0.05)
