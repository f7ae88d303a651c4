r"""
# Invented characters

Classes of handwritten characters in the shapes of Omniglot's, drawn by a program, so that everything runs where Omniglot isn't.

A character is one to four strokes, each a smooth curve through a few points, its *controls*. They are the stops of a walk that sets out
along one of the axes, about, and mostly goes on turning to the same side. A further stroke mostly begins where another one has a control.
Every drawing of the character is by another hand: the controls are moved a little, and all of it is stretched, turned, slanted and shifted.

The plane is that of the complex numbers, the character in the middle, 1 the side of the image. That makes a step of the walk
$\rho e^{i\gamma}$, and any linear map of the plane $z \mapsto a z + b \bar z$, near the identity for a near 1 and b near 0.
"""

from __future__ import annotations

import numpy as np

from ..arguments import check_count, check_generator
from .few_shot import Characters

CONTROLS, CORNERS = 4, 13  # of a stroke: the points that its curve goes through, and the corners of the polygon that is drawn


def draw_characters(rng: np.random.Generator, classes: int, drawings: int = 20, size: int = 28) -> Characters:
    """Random classes, and random drawings of each, with 1 for ink and 0 for paper.

    >>> draw_characters(np.random.default_rng(0), 3).images.shape
    (3, 20, 28, 28)
    """
    check_generator("rng", rng)
    check_count("classes", classes, 1)
    check_count("drawings", drawings, 1, of="of each class")
    check_count("size", size, 1, of="the pixels of a side")
    images = [_rendered(_by_hand(rng, _character(rng), drawings), rng.uniform(0.04, 0.05, drawings), size) for _ in range(classes)]
    return Characters(np.stack(images), [f"invented/character{i + 1:04}" for i in range(classes)])


def _character(rng: np.random.Generator) -> np.ndarray:
    """The controls of its strokes, of shape (strokes, CONTROLS), with 1 for the longer side of the box that they fill."""
    strokes: list[np.ndarray] = []
    for _ in range(rng.choice([1, 2, 3, 4], p=[0.1, 0.4, 0.35, 0.15])):
        joined = strokes and rng.random() < 0.7
        begin = rng.choice(rng.choice(strokes)) if joined else rng.uniform(-0.5, 0.5) + 1j * rng.uniform(-0.5, 0.5)
        turns = rng.normal(0, 0.8) + rng.normal(0, 0.35, CONTROLS - 1)
        angles = np.pi / 2 * rng.integers(4) + rng.normal(0, 0.25) + np.cumsum(turns)
        strokes.append(begin + np.cumsum([0, *rng.uniform(0.2, 0.5) * np.exp(1j * angles)]))
    controls = np.array(strokes)
    low, high = (extreme(controls.real) + 1j * extreme(controls.imag) for extreme in (np.min, np.max))
    return (controls - (low + high) / 2) / max((high - low).real, (high - low).imag)


def _by_hand(rng: np.random.Generator, character: np.ndarray, drawings: int) -> np.ndarray:
    """The controls of each drawing, of shape (drawings, strokes, CONTROLS)."""

    def random(sigma: float, *shape: int) -> np.ndarray:
        return sigma * (rng.standard_normal((drawings, *shape)) + 1j * rng.standard_normal((drawings, *shape)))

    z = character + random(0.04, *character.shape)
    z = (1 + random(0.12, 1, 1)) * z + random(0.1, 1, 1) * z.conj()
    return rng.uniform(0.5, 0.8, (drawings, 1, 1)) * z + random(0.06, 1, 1)


# ## From strokes to pixels
# Seen from the segment that begins at a and ends at a + v, a point p is at $z = (p - a)/v$: its real part says how far along the point is,
# between 0 and 1 if it is beside the segment. The nearest point of the segment is the real part, clipped, and so
# $$ d = |v|\,\big| z - \operatorname{clip}(\operatorname{Re} z, 0, 1) \big|. $$
# With pixels as the unit, a stroke of thickness h at the distance d covers $[d - h/2,\, d + h/2]$ of a line across it, and the pixel
# $[-\tfrac12, \tfrac12]$. The ink is what they have in common, just as in averaging areas, when the stroke is straight and along an axis:
# $$ \text{ink} = \max\big(0,\; \min(d + \tfrac h2, \tfrac12) - \max(d - \tfrac h2, -\tfrac12)\big). $$
def _rendered(controls: np.ndarray, thickness: np.ndarray, size: int) -> np.ndarray:
    """Images of shape (drawings, size, size) in float32."""
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.arange(CONTROLS), np.eye(CONTROLS))(np.linspace(0, CONTROLS - 1, CORNERS))  # from controls to corners
    corners = size * np.complex64(controls @ spline.T)
    a, v = (points.reshape(len(corners), -1, 1) for points in (corners[..., :-1], np.diff(corners)))
    middles = np.arange(size, dtype=np.float32) + (1 - size) / 2
    z = ((middles + 1j * middles[:, None]).ravel() - a) * (1 / v)
    beyond = z.real - np.clip(z.real, 0, 1)
    d = np.sqrt(np.min(np.abs(v) ** 2 * (beyond**2 + z.imag**2), axis=1))
    h = np.float32(size * thickness[:, None])
    return np.maximum(0, np.minimum(d + h / 2, 0.5) - np.maximum(d - h / 2, -0.5)).reshape(-1, size, size)
