r"""
# Few-shot tasks, and classes of characters to make them from

A few-shot task gives some examples, its *support* set, and asks others, its *query* set. From images of many classes one gets as many tasks
as one likes: choose N of the classes ("N ways"), give each of them a label, and choose K images of each to give ("K shots") and some others
to ask. What a label stands for changes from task to task, so that nothing but the support set tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..arguments import check_count, check_generator, check_type, wanted


class Data(NamedTuple):
    """Points: x of shape (..., points, inputs), and y of shape (..., points, outputs), or labels of shape (..., points)."""

    x: Any
    y: Any


class Task(NamedTuple):
    """What is given, and what is asked."""

    support: Data
    query: Data


# ## Classes
class Characters(NamedTuple):
    """Classes of small images, all with the same number of drawings.

    >>> shapes = Characters(np.zeros((3, 20, 28, 28), np.float32), ["Greek/alpha", "Greek/beta", "Latin/a"])
    >>> shapes.alphabets, shapes.of(["Latin"]).names
    (['Greek', 'Latin'], ['Latin/a'])
    """

    images: np.ndarray
    """(classes, drawings, size, size), float32: 1 is ink, 0 is paper"""
    names: list[str]
    """of the classes: the alphabet, a slash, the character"""

    @property
    def alphabets(self) -> list[str]:
        """Their names, each once."""
        return list(dict.fromkeys(_alphabet(name) for name in self.names))

    def of(self, alphabets: Iterable[str]) -> Characters:
        """The classes of these alphabets. Raises ValueError if there are none of one of them."""
        names: list[Any] = [None] if isinstance(alphabets, str) or not isinstance(alphabets, Iterable) else list(alphabets)
        if not all(isinstance(name, str) for name in names):
            raise wanted("alphabets", alphabets, "a list of names, such as ['Greek', 'Latin']", TypeError)
        chosen = set(names)
        if missing := chosen.difference(self.alphabets):
            raise ValueError(f"there is no {' or '.join(sorted(missing))}: the alphabets are {', '.join(self.alphabets)}")
        places = [i for i, name in enumerate(self.names) if _alphabet(name) in chosen]
        return Characters(self.images[places], [self.names[i] for i in places])

    def rotated(self) -> Characters:
        """Four times as many classes: these, and all of them turned by 90, 180 and 270 degrees (Santoro et al. 2016).

        >>> Characters(np.eye(2, dtype=np.float32).reshape(1, 1, 2, 2), ["Latin/x"]).rotated().names
        ['Latin/x', 'Latin/x turned by 90', 'Latin/x turned by 180', 'Latin/x turned by 270']
        """
        turns = [np.rot90(self.images, k, axes=(2, 3)) for k in range(4)]
        return Characters(np.concatenate(turns), self.names + [f"{name} turned by {90 * k}" for k in (1, 2, 3) for name in self.names])


def _alphabet(name: str) -> str:
    return name.split("/")[0]


def split(first: Characters, second: Characters) -> tuple[Characters, Characters]:
    """To train on and to test on: all of the first, and of the second the alphabets that the first doesn't have.

    Raises ValueError if there are none.

    >>> images = np.zeros((2, 20, 28, 28), np.float32)
    >>> train, test = split(Characters(images, ["Greek/alpha", "Korean/a"]), Characters(images, ["Greek/alpha", "Latin/a"]))
    >>> test.names
    ['Latin/a']
    """
    check_type("first", first, Characters, "Characters, such as those of omniglot.load")
    check_type("second", second, Characters, "Characters, such as those of omniglot.load")
    unseen = [alphabet for alphabet in second.alphabets if alphabet not in first.alphabets]
    if not unseen:
        raise ValueError(f"nothing is left to test on: all of {', '.join(second.alphabets)} are among what is trained on")
    return first, second.of(unseen)


# ## Tasks
# To choose k of the numbers 0, ..., n - 1, each set equally likely, for each row of a batch at once (Bentley and Floyd 1987): let S be
# k - 1 of 0, ..., n - 2, each set equally likely, and t one of 0, ..., n - 1. Add t to S, or n - 1 if t is there already. Each set of k
# then comes from k of the equally likely pairs (S, t): if n - 1 is not in it, t is one of its k elements, and S the others; if n - 1 is in
# it, S is the others, and t is n - 1 or one of the k - 1 in S. So begin with the empty set, and n - k in the place of n - 1; both grow.
def _distinct(rng: np.random.Generator, rows: tuple[int, ...], n: int, k: int) -> np.ndarray:
    """For each row, k different numbers below n, in random order: shape (*rows, k)."""
    chosen = np.empty((*rows, k), int)
    for i, last in enumerate(range(n - k, n)):
        t = rng.integers(0, last, rows, endpoint=True)
        chosen[..., i] = np.where((chosen[..., :i] == t[..., None]).any(axis=-1), last, t)
    return rng.permuted(chosen, axis=-1)


def draw(rng: np.random.Generator, count: int, characters: Characters, ways: int, shots: int, queries: int) -> Task:
    """A batch of random tasks.

    Parameters
    ----------
    count : how many tasks
    characters : the classes to choose from
    ways : how many classes a task has; which they are, and which label each gets, is random
    shots, queries : how many images of each class are given, and how many others are asked

    Returns
    -------
    Task: x of shape (count, ways * shots, pixels) in float32 and y of shape (count, ways * shots), labels from 0 to ways - 1, to give;
    the same with `queries` in the place of `shots`, to ask. No image is in both. The images are in the order of their labels.

    Raises ValueError if there are too few classes, or too few drawings of each.

    Example
    -------
    >>> from tinymeta.tasks import characters
    >>> task = draw(np.random.default_rng(0), 32, characters.draw_characters(np.random.default_rng(1), 10), ways=5, shots=1, queries=15)
    >>> task.support.x.shape, task.query.x.shape, task.support.y[0].tolist()
    ((32, 5, 784), (32, 75, 784), [0, 1, 2, 3, 4])
    """
    check_generator("rng", rng)
    check_type("characters", characters, Characters, "Characters, such as those of omniglot.load")
    for name, number in {"count": count, "ways": ways, "shots": shots, "queries": queries}.items():
        check_count(name, number, 1)
    classes, drawings = characters.images.shape[:2]
    if ways > classes:
        raise ValueError(f"ways={ways}: {ways} ways need as many classes, and there are {classes}")
    if shots + queries > drawings:
        raise ValueError(f"shots={shots} and queries={queries} need {shots + queries} drawings of each class, and there are {drawings}")
    images = characters.images.reshape(classes * drawings, -1)
    chosen = _distinct(rng, (count,), classes, ways)
    places = drawings * chosen[:, :, None] + _distinct(rng, (count, ways), drawings, shots + queries)

    def data(places: np.ndarray) -> Data:
        each = places.shape[2]
        return Data(images[places.reshape(count, ways * each)], np.tile(np.repeat(np.arange(ways), each), (count, 1)))

    return Task(data(places[:, :, :shots]), data(places[:, :, shots:]))


# ## What any method has to beat
def nearest_neighbour(tasks: Task) -> np.ndarray:
    r"""How often the label of the nearest support image is right, by the Euclidean distance of the pixels: one share for each task.

    $$ \arg\min_s |q - s|^2 = \arg\min_s \big( |s|^2 - 2\,q^\top s \big) $$

    >>> images = np.array([[[0.0, 0.0], [9.0, 9.0]]])
    >>> nearest_neighbour(Task(Data(images, np.array([[0, 1]])), Data(images + 1, np.array([[0, 0]]))))
    array([0.5])
    """
    check_type("tasks", tasks, Task, "a Task, such as those of few_shot.draw")
    support, query = tasks
    nearest = np.argmin(np.sum(support.x**2, axis=-1)[:, None, :] - 2 * query.x @ np.swapaxes(support.x, 1, 2), axis=-1)
    return np.mean(np.take_along_axis(support.y, nearest, axis=1) == query.y, axis=1)
