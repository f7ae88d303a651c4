r"""
# Few-shot sinusoids

Each task is a sine wave, to be learned from a few points on it (Finn et al. 2017, section 5.1):

$$ y = A \sin(x - p), \qquad A \in [0.1, 5], \qquad p \in [0, \pi], \qquad x \in [-5, 5], $$

all uniform. Errors from elsewhere compare only with the same ranges, the same sign of the phase, and the same reduction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

AMPLITUDE, PHASE, RANGE = (0.1, 5.0), (0.0, np.pi), (-5.0, 5.0)


class Data(NamedTuple):
    """Points: x of shape (..., points, inputs), y of shape (..., points, outputs)."""

    x: Any
    y: Any


class Task(NamedTuple):
    """What is given, and what is asked."""

    support: Data
    query: Data


class Waves(NamedTuple):
    """The waves behind a batch of tasks: amplitude and phase of shape (tasks,)."""

    amplitude: np.ndarray
    phase: np.ndarray

    def at(self, x: np.ndarray) -> Data:
        """The points of each wave at x, of shape (tasks, points, 1)."""
        return Data(x, self.amplitude[:, None, None] * np.sin(x - self.phase[:, None, None]))


def draw_waves(rng: np.random.Generator, count: int) -> Waves:
    """Random waves.

    >>> draw_waves(np.random.default_rng(0), 25).amplitude.shape
    (25,)
    """
    return Waves(rng.uniform(*AMPLITUDE, count), rng.uniform(*PHASE, count))


def draw(rng: np.random.Generator, count: int, support: int = 10, query: int = 10) -> Task:
    """A batch of random tasks, with arrays of shape (count, points, 1).

    >>> draw(np.random.default_rng(0), 25, support=5).support.x.shape
    (25, 5, 1)
    """
    waves = draw_waves(rng, count)
    return Task(waves.at(rng.uniform(*RANGE, (count, support, 1))), waves.at(rng.uniform(*RANGE, (count, query, 1))))
