r"""
# Few-shot sinusoids

Each task is a sine wave, to be learned from a few points on it:

$$ y = A \sin(\omega x \pm p), \qquad x \in [-5, 5], $$

with all uniform in ranges that differ from paper to paper, and so do the errors: they compare only with the same ranges, the same sign of
the phase, and the same reduction of the loss.

| variant | A | p | sign | omega |
|---|---|---|---|---|
| "finn" | [0.1, 5] | [0, pi] | - | 1 |
| "reptile" | [0.1, 5] | [0, 2 pi] | + | 1 |
| "meta-sgd" | [0.1, 5] | [0, pi] | + | [0.8, 1.2] |

"finn" is Finn et al. (2017), section 5.1, with the sign of their code. "reptile" is Nichol et al. (2018), with ranges and sign as in the
script that its authors published; there the points are chosen from a grid of 50, here they are uniform. "meta-sgd" is the regression of
Li et al. (2017), as their text has it: no code of theirs is known to compare with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_choice, check_count, check_generator
from .few_shot import Data, Task


class Variant(NamedTuple):
    """The ranges of one paper, and the sign of the phase in y = A sin(omega x + sign p)."""

    amplitude: tuple[float, float]
    phase: tuple[float, float]
    sign: int
    frequency: tuple[float, float] | None = None
    """None: omega is 1"""


RANGE = (-5.0, 5.0)
VARIANTS = {
    "finn": Variant((0.1, 5.0), (0.0, np.pi), sign=-1),
    "reptile": Variant((0.1, 5.0), (0.0, 2 * np.pi), sign=1),
    "meta-sgd": Variant((0.1, 5.0), (0.0, np.pi), sign=1, frequency=(0.8, 1.2)),
}


class Waves(NamedTuple):
    """The waves behind a batch of tasks: amplitude, phase and frequency of shape (tasks,), and the phase's sign."""

    amplitude: np.ndarray
    phase: np.ndarray
    sign: int = -1
    frequency: Any = 1.0

    def at(self, x: np.ndarray) -> Data:
        """The points of each wave at x, of shape (tasks, points, 1)."""
        amplitude, phase, frequency = (np.reshape(value, (-1, 1, 1)) for value in (self.amplitude, self.phase, self.frequency))
        return Data(x, amplitude * np.sin(frequency * x + self.sign * phase))


def draw_waves(rng: np.random.Generator, count: int, variant: str = "finn") -> Waves:
    """Random waves. Raises ValueError for a variant that isn't one.

    >>> draw_waves(np.random.default_rng(0), 25).amplitude.shape
    (25,)
    """
    check_generator("rng", rng)
    check_count("count", count, 1, of="the waves")
    check_choice("variant", variant, VARIANTS)
    ranges = VARIANTS[variant]
    amplitude, phase = rng.uniform(*ranges.amplitude, count), rng.uniform(*ranges.phase, count)
    return Waves(amplitude, phase, ranges.sign, rng.uniform(*ranges.frequency, count) if ranges.frequency else 1.0)


def draw(rng: np.random.Generator, count: int, support: int = 10, query: int = 10, variant: str = "finn") -> Task:
    """A batch of random tasks, with arrays of shape (count, points, 1).

    Raises ValueError for a variant that isn't one.

    >>> draw(np.random.default_rng(0), 25, support=5).support.x.shape
    (25, 5, 1)
    """
    check_count("support", support, 1, of="the points to give")
    check_count("query", query, 1, of="the points to ask")
    waves = draw_waves(rng, count, variant)
    return Task(waves.at(rng.uniform(*RANGE, (count, support, 1))), waves.at(rng.uniform(*RANGE, (count, query, 1))))
