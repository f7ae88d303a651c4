"""Memory: flat over many meta-steps, and as much as a loop's steps need. (`tests/autodiff/test_reverse.py` has a million nodes.)"""

import math
from functools import partial

import numpy as np
import pytest

import tinymeta as tm
from tests.robustness import memory
from tinymeta import maml
from tinymeta.tasks import quadratics


# ## Many meta-steps
@pytest.mark.parametrize("way, steps", [("eagerly", 100), ("on the machine", 300)])
def test_it_is_flat_over_many_meta_steps(way, steps):
    grown = memory.growth(memory.WAYS[way], steps)
    assert grown.is_flat, grown


def test_a_node_that_stays_behind_in_each_step_is_noticed():
    kept = []

    def leaking(steps, callback):
        for k in range(steps):
            kept.append(tm.tensor(np.ones(2)) * 2.0)
            callback(k)

    assert not memory.growth(leaking, 100).is_flat


# ## Loops
def chain(steps, pieces):
    """The gradient of a chain of steps, which are three nodes each, in so many checkpointed pieces."""

    def piece(x):
        for _ in range(steps // pieces):
            x = np.sin(x) * 1.1 + x
        return x

    def whole(x):
        for _ in range(pieces):
            x = tm.checkpoint(piece)(x)
        return np.sum(x)

    return lambda: tm.grad(whole if pieces > 1 else lambda x: np.sum(piece(x)))(np.ones(2))


@pytest.mark.parametrize("steps", [16, 64, 256])
def test_a_chain_keeps_its_nodes_and_one_in_pieces_about_twice_the_root_of_its_steps(steps):
    root = math.isqrt(steps)
    assert 3 * steps <= memory.most_nodes_alive(chain(steps, 1)) <= 3 * steps + 5
    assert 3 * root <= memory.most_nodes_alive(chain(steps, root)) <= 3 * 2 * root + 5


RNG = np.random.default_rng(0)
TASK, THETA = quadratics.draw(RNG, 6), RNG.normal(size=6)


@pytest.mark.parametrize("steps", [16, 64, 256])
def test_an_inner_loop_keeps_what_it_says(steps):
    """21 nodes a step: of the inner loss, of its gradient, of the update. And 14 of the outer loss, and so on."""
    problem, told = tm.Bilevel(quadratics.inner, quadratics.outer), []

    def run(checkpoint):
        told.append(maml.meta_gradient(problem, THETA, TASK, steps=steps, lr=0.01, checkpoint=checkpoint).info["nodes"])

    whole, in_segments = (memory.most_nodes_alive(partial(run, checkpoint)) for checkpoint in (False, True))
    assert whole <= 21 * steps + 20 and in_segments <= 21 * 2 * math.isqrt(steps) + 20
    assert told[0] <= whole <= told[0] + 5 and told[1] <= in_segments <= told[1] + 5  # info["nodes"] is true
