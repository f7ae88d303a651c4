"""Classes of images, and the tasks made of them: everything random is counted, and nothing is in support and query at once."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.tasks import Characters, Data, Task, few_shot


def numbered(classes, drawings, size=2):
    """Every pixel of an image says which one it is."""
    images = np.arange(classes * drawings, dtype=np.float32).reshape(classes, drawings, 1, 1)
    return Characters(np.broadcast_to(images, (classes, drawings, size, size)).copy(), [f"Greek/character{i:02}" for i in range(classes)])


def which(data, drawings):
    """The class and the drawing of each image."""
    numbers = data.x[..., 0].astype(int)
    assert np.all(data.x == numbers[..., None])
    return numbers // drawings, numbers % drawings


# ## Tasks
@pytest.mark.parametrize("ways, shots, queries", [(5, 1, 15), (5, 5, 3), (2, 1, 1), (12, 3, 17)])
def test_a_batch(ways, shots, queries):
    task = few_shot.draw(np.random.default_rng(0), 50, numbered(12, 20), ways, shots, queries)
    assert isinstance(task, Task) and isinstance(task.support, Data)
    for data, each in zip(task, (shots, queries), strict=True):
        assert data.x.shape == (50, ways * each, 4) and data.x.dtype == np.float32
        assert data.y.shape == (50, ways * each) and data.y.dtype.kind == "i"
        assert np.all(data.y == np.repeat(np.arange(ways), each))


@pytest.mark.parametrize("ways, shots, queries", [(5, 1, 15), (5, 5, 3), (2, 1, 1), (12, 3, 17)])
def test_no_image_is_in_support_and_query_and_none_is_there_twice(ways, shots, queries):
    task = few_shot.draw(np.random.default_rng(1), 200, numbered(12, 20), ways, shots, queries)
    images = np.concatenate([task.support.x, task.query.x], axis=1)[..., 0]
    assert all(len(set(one)) == ways * (shots + queries) for one in images.tolist())


def test_a_label_is_one_class_in_a_task_and_another_one_in_the_next():
    task = few_shot.draw(np.random.default_rng(2), 3000, numbered(6, 20), 3, 2, 4)
    support, query = (which(data, 20)[0] for data in task)
    classes = support[:, ::2]
    assert np.array_equal(support, np.repeat(classes, 2, axis=1)) and np.array_equal(query, np.repeat(classes, 4, axis=1))
    counts = Counter(map(tuple, classes.tolist()))
    assert counts.keys() == set(permutations(range(6), 3))
    expected = 3000 / 120
    assert sum((n - expected) ** 2 for n in counts.values()) / expected < 119 + 4 * np.sqrt(2 * 119)  # chi squared


def test_every_drawing_is_given_and_asked_as_often_as_any_other():
    task = few_shot.draw(np.random.default_rng(3), 2000, numbered(5, 8), 4, 2, 3)
    for data, each in zip(task, (2, 3), strict=True):
        counts = np.bincount(which(data, 8)[1].ravel(), minlength=8)
        np.testing.assert_allclose(counts / (2000 * 4 * each), 1 / 8, atol=5 * np.sqrt(1 / 8 / (2000 * 4 * each)))


@pytest.mark.parametrize("n, k", [(5, 3), (4, 4), (5, 1)])
def test_every_choice_in_every_order_is_equally_likely(n, k):
    choices = few_shot._distinct(np.random.default_rng(4), (20, 600), n, k)
    counts = Counter(map(tuple, choices.reshape(-1, k).tolist()))
    possible = set(permutations(range(n), k))
    assert choices.shape == (20, 600, k) and counts.keys() == possible
    expected, freedom = 12_000 / len(possible), len(possible) - 1
    assert sum((n - expected) ** 2 for n in counts.values()) / expected < freedom + 4 * np.sqrt(2 * freedom)


def test_all_classes_and_all_drawings_may_be_used():
    task = few_shot.draw(np.random.default_rng(0), 10, numbered(4, 6), 4, 2, 4)
    images = np.concatenate([task.support.x, task.query.x], axis=1)[..., 0]
    assert np.array_equal(np.sort(images, axis=1), np.tile(np.arange(24), (10, 1)))


def test_the_seed_decides():
    same, again, other = (few_shot.draw(np.random.default_rng(seed), 20, numbered(30, 20), 5, 1, 5) for seed in (0, 0, 1))
    assert np.array_equal(same.query.x, again.query.x) and not np.array_equal(same.query.x, other.query.x)


def test_too_few_classes_or_drawings():
    with pytest.raises(ValueError, match="5 ways need as many classes, and there are 4"):
        few_shot.draw(np.random.default_rng(0), 1, numbered(4, 20), 5, 1, 1)
    with pytest.raises(ValueError, match="shots=5 and queries=16 need 21 drawings of each class, and there are 20"):
        few_shot.draw(np.random.default_rng(0), 1, numbered(5, 20), 5, 5, 16)


def test_a_batch_can_be_mapped_and_differentiated():
    tasks = few_shot.draw(np.random.default_rng(0), 3, numbered(5, 4), 5, 1, 2)
    loss = lambda W, task: tm.nn.cross_entropy(task.query.x @ W, task.query.y)
    program = tm.jit(tm.grad(lambda W, tasks: np.mean(tm.vmap(loss, (None, 0))(W, tasks))))
    W = np.random.default_rng(1).normal(0, 0.01, (4, 5)).astype(np.float32)
    each = [tm.grad(loss)(W, tm.tree.map(lambda x: x[i], tasks)) for i in range(3)]  # noqa: B023 - used at once
    np.testing.assert_allclose(program(W, tasks), np.mean(each, axis=0), rtol=1e-4)


# ## Classes
CHARACTERS = Characters(numbered(4, 2).images, ["Greek/a", "Latin/a", "Greek/b", "N_Ko/a"])


def test_alphabets():
    assert CHARACTERS.alphabets == ["Greek", "Latin", "N_Ko"]
    chosen = CHARACTERS.of(["N_Ko", "Greek"])
    assert chosen.names == ["Greek/a", "Greek/b", "N_Ko/a"] and np.array_equal(chosen.images, CHARACTERS.images[[0, 2, 3]])
    with pytest.raises(ValueError, match="there is no Gree or Klingon: the alphabets are Greek, Latin, N_Ko"):
        CHARACTERS.of(["Klingon", "Greek", "Gree"])


def test_turning_makes_new_classes():
    images = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)
    turned = Characters(images, ["Greek/a", "Latin/a"]).rotated()
    assert turned.images.shape == (8, 3, 4, 4) and turned.images.dtype == np.float32 and len(set(turned.names)) == 8
    assert turned.alphabets == ["Greek", "Latin"] and turned.names[5] == "Latin/a turned by 180"
    for i in range(8):
        np.testing.assert_array_equal(turned.images[i, 2], np.rot90(images[i % 2, 2], i // 2))
    assert np.array_equal(turned.images[2, 0, 0], images[0, 0, :, -1])  # by 90 degrees: the last column is the first row


def test_a_split_into_unseen_alphabets():
    other = Characters(numbered(3, 2).images, ["Latin/a", "Tagalog/a", "Korean/b"])
    train, test = few_shot.split(CHARACTERS, other)
    assert train is CHARACTERS and test.names == ["Tagalog/a", "Korean/b"] and np.array_equal(test.images, other.images[1:])
    assert not set(train.alphabets) & set(test.alphabets)
    with pytest.raises(ValueError, match="nothing is left to test on: all of Greek, Latin are among what is trained on"):
        few_shot.split(CHARACTERS, CHARACTERS.of(["Greek", "Latin"]))


# ## Nearest neighbour
def test_the_nearest_neighbour_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    draw = lambda points: Data(rng.random((6, points, 9)), rng.integers(0, 3, (6, points)))
    task = Task(draw(7), draw(11))
    for i, share in enumerate(few_shot.nearest_neighbour(task)):
        right = 0
        for x, y in zip(task.query.x[i], task.query.y[i], strict=True):
            distances = [np.linalg.norm(x - s) for s in task.support.x[i]]
            right += task.support.y[i][int(np.argmin(distances))] == y
        assert share == right / 11
    assert np.all(few_shot.nearest_neighbour(Task(task.support, task.support)) == 1)
