r"""
# Characters from a few examples

The second experiment of MAML's paper (Finn et al. 2017, section 5.2), with its network without convolutions: tell N characters apart that
were never seen before, from K drawings of each. The labels are dealt anew for each task, so that only the drawings can tell.

The network normalises each layer over the images that it is shown together, of the query set as well (transductive); the parameters of that
are learned and don't adapt. The original code sums the cross-entropy over the N classes and divides it by K alone. So its $\alpha = 0.4$ is
$0.4\,N$ for the mean over all images, which is used here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..autodiff import tree
from ..bilevel import Bilevel
from ..tasks.few_shot import Characters, Task, draw
from .few_shot import FewShot

HIDDEN = (256, 128, 64, 64)
STEPS = {"maml": 1, "fomaml": 1, "meta-sgd": 1, "anil": 1, "imaml": 5, "reptile": 5}
QUERIES = 15  # images asked of each character
ALPHA = 0.4  # times the number of ways


def support_loss(phi: Any, theta: Any, task: Task) -> Any:
    """The inner loss: the cross-entropy of the images that are given."""
    return nn.cross_entropy(nn.normalised_mlp(phi, task.support.x), task.support.y)


def query_loss(phi: Any, theta: Any, task: Task) -> Any:
    """The outer loss: the cross-entropy of the images that are asked."""
    return nn.cross_entropy(nn.normalised_mlp(phi, task.query.x), task.query.y)


def query_accuracy(phi: Any, theta: Any, task: Task) -> Any:
    """The share of the images asked that are told right."""
    return nn.accuracy(nn.normalised_mlp(phi, task.query.x), task.query.y)


def experiment(train: Characters, test: Characters, *, ways: int = 5, shots: int = 1, hidden: tuple[int, ...] = HIDDEN) -> FewShot:
    """Tell characters of `test` apart after having seen those of `train`, and these turned by 90, 180 and 270 degrees as others.

    >>> from tinymeta.tasks.characters import draw_characters
    >>> train, test = (draw_characters(np.random.default_rng(seed), 10) for seed in (0, 1))
    >>> chosen = experiment(train, test, ways=3)
    >>> [layer["W"].shape for layer in chosen.start(0)]
    [(784, 256), (256, 128), (128, 64), (64, 64), (64, 3)]
    """
    sizes = (train.images[0, 0].size, *hidden, ways)
    last = len(hidden)

    def start(seed: int) -> Any:
        return tree.map(np.float32, nn.initialize_normalised_mlp(np.random.default_rng(seed), sizes))

    def tasks_of(characters: Characters) -> Callable[[np.random.Generator, int], Task]:
        return lambda rng, count: draw(rng, count, characters, ways, shots, QUERIES)

    return FewShot(
        Bilevel(support_loss, query_loss),
        start=start,
        draw=tasks_of(train.rotated()),
        draw_unseen=tasks_of(test),
        judged_by=query_accuracy,
        alpha=ALPHA * ways,
        steps=STEPS,
        evaluation_steps=3,
        evaluation_tasks=600,
        meta_batch=32,
        learning_rate=1e-3,
        adapts=lambda name: not name.endswith(("['scale']", "['shift']")),
        is_last=lambda name: name.startswith(f"phi[{last}]"),
    )
