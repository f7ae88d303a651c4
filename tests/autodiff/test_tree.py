"""Trees: taking nested parameters apart, putting them together, and one flat vector for them all."""

from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import tree

Pair = namedtuple("Pair", "first second")
NESTED = {"W": 1.0, "layers": [(2.0, None), Pair(3.0, {"c": 4.0, "empty": []})], "none": None}


# ## flatten and unflatten
def test_flatten_goes_from_left_to_right():
    assert tree.flatten(NESTED)[0] == [1.0, 2.0, 3.0, 4.0]
    assert tree.flatten(5.0)[0] == [5.0] and tree.flatten(None)[0] == [] and tree.flatten("text")[0] == ["text"]
    assert tree.flatten(np.ones(3))[0][0].shape == (3,)


def test_structures_differ_where_trees_do():
    different = [1.0, None, [1.0], (1.0,), {"a": 1.0}, {"b": 1.0}, Pair(1.0, 1.0), (1.0, 1.0), [1.0, 1.0], [[1.0], 1.0], [1.0, None]]
    different += [{}, [], ()]
    assert len({tree.flatten(t)[1] for t in different}) == len(different)


def test_a_structure_shows_the_tree_with_stars_for_leaves():
    assert repr(tree.flatten(NESTED)[1]) == "{'W': *, 'layers': [(*, None), Pair(first=*, second={'c': *, 'empty': []})], 'none': None}"


def test_kinds_of_dicts_become_dicts():
    for given_dict in (OrderedDict(a=1.0), defaultdict(float, a=1.0)):
        assert tree.map(lambda x: 2 * x, given_dict) == {"a": 2.0}


# ## map and leaves_like
def test_map_matches_dicts_by_key():
    assert tree.map(lambda a, b: a - b, {"a": 1, "b": 2}, {"b": 20, "a": 10}) == {"a": -9, "b": -18}
    assert tree.map(lambda a, b, c: (a, b, c), [1, None], [2, None], [3, None]) == [(1, 2, 3), None]
    assert tree.map(lambda a, b: a + b, Pair(1, 2), Pair(3, 4)) == Pair(4, 6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": 1.0}, {"b": 1.0}, r"expected dict with \['a'\], got dict with \['b'\]"),
        ({"a": 1.0}, [1.0], r"expected dict with \['a'\], got list"),
        ({"a": 1.0}, 1.0, r"expected dict with \['a'\], got float"),
        ([1.0, 2.0], [1.0], r"expected list with \[0, 1\], got list with \[0\]"),
        ({0: 1.0}, [1.0], r"expected dict with \[0\], got list"),
        ([1.0], {0: 1.0}, r"expected list with \[0\], got dict"),
        (None, 1.0, "expected an empty NoneType, got float"),
        ([], [1.0], r"expected an empty list, got list with \[0\]"),
        (1.0, [1.0], r"expected an array or a number, got list.*np\.array"),
        (1.0, None, "expected an array or a number, got NoneType"),
        ({"a": {"b": (1.0, 2.0)}}, {"a": {"b": (1.0, [2.0])}}, r"argument 2 of tree\.map\['a'\]\['b'\]\[1\] has another structure"),
        (Pair(1.0, 2.0), {"first": 1.0, "second": 2.0}, "expected Pair with"),
    ],
)
def test_different_structures_are_refused_and_the_place_is_named(first, second, message):
    with pytest.raises(ValueError, match=message):
        tree.map(lambda a, b: a, first, second)


def test_names_are_python():
    assert tree.names(NESTED, "theta") == [
        "theta['W']", "theta['layers'][0][0]", "theta['layers'][1].first", "theta['layers'][1].second['c']"
    ]  # fmt: skip
    assert tree.names(1.0, "x") == ["x"]


# ## spread
def test_spread_gives_each_leaf_its_value():
    theta = {"W": 1.0, "b": [2.0, 3.0]}
    assert tree.spread(0, theta, "axes") == [0, 0, 0]
    assert tree.spread(None, theta, "axes") == [None, None, None]
    assert tree.spread({"b": 1, "W": None}, theta, "axes") == [None, 1, 1]
    assert tree.spread({"W": 0, "b": [1, None]}, theta, "axes") == [0, 1, None]
    assert tree.spread([0, 1], (1.0, theta), "axes") == [0, 1, 1, 1]
    assert tree.spread((), (), "axes") == []


@pytest.mark.parametrize("prefix", [{"W": 0}, {"W": 0, "c": 1}, [0, 1], {"W": 0, "b": [1]}, {"W": [0], "b": 1}])
def test_a_prefix_that_does_not_fit_is_refused(prefix):
    with pytest.raises(ValueError, match=r"axes=.* doesn't match the structure"):
        tree.spread(prefix, {"W": 1.0, "b": [2.0, 3.0]}, "axes")


# ## ravel
def test_ravel_and_back():
    theta = {"W": np.arange(6.0).reshape(2, 3), "b": (np.array(7.0), None, 8.0)}
    vector, unravel = tm.ravel(theta)
    np.testing.assert_array_equal(vector, np.arange(9.0)[[0, 1, 2, 3, 4, 5, 7, 8]])
    again = unravel(vector)
    assert tree.map(np.shape, again) == {"W": (2, 3), "b": ((), None, ())}
    assert tm.ravel(again)[0].tolist() == vector.tolist()
    vector[:] = -1.0
    assert theta["W"][0, 0] == 0.0  # the vector is a copy


def test_ravel_of_mixed_dtypes():
    theta = [np.ones(2, np.float32), np.array([3, 4]), np.float64(5.0), True]
    vector, unravel = tm.ravel(theta)
    assert vector.dtype == np.float64
    assert [leaf.dtype for leaf in unravel(vector)] == [np.float32, np.int64, np.float64, bool]
    only_single, unravel = tm.ravel({"a": np.ones(2, np.float32), "b": np.zeros((1, 2), np.float32)})
    assert only_single.dtype == np.float32 and unravel(only_single.astype(float))["b"].dtype == np.float32


@pytest.mark.parametrize("empty", [None, {}, [], {"a": (), "b": None}, [np.zeros((0, 3))]])
def test_ravel_of_empty_trees(empty):
    vector, unravel = tm.ravel(empty)
    assert vector.shape == (0,)
    assert tree.map(np.shape, unravel(vector)) == tree.map(np.shape, empty)


def test_unravel_refuses_other_lengths():
    _, unravel = tm.ravel([np.ones(2), 1.0])
    for wrong in (np.ones(2), np.ones((3, 1)), np.ones(4)):
        with pytest.raises(ValueError, match=r"vector of shape \(3,\), got shape"):
            unravel(wrong)


def test_ravel_is_differentiable():
    theta = {"W": np.arange(4.0).reshape(2, 2), "b": np.array([5.0, 6.0])}
    weights = np.arange(1.0, 7.0)
    gradient = tm.grad(lambda theta: np.sum(tm.ravel(theta)[0] ** 2 * weights))(theta)
    np.testing.assert_array_equal(gradient["W"], 2 * theta["W"] * weights[:4].reshape(2, 2))
    np.testing.assert_array_equal(gradient["b"], 2 * theta["b"] * weights[4:])
    vector, unravel = tm.ravel(theta)
    np.testing.assert_array_equal(tm.grad(lambda v: np.sum(unravel(v)["W"] @ unravel(v)["b"]))(vector), [5, 6, 5, 6, 2, 4])
    _, unravel = tm.tree.ravel([np.ones(2, np.float32), 1.0])
    assert tm.grad(lambda v: np.sum(unravel(v)[0] * 2))(np.ones(3)).tolist() == [2.0, 2.0, 0.0]


def test_ravel_of_tensors():
    t = tm.tensor(np.ones(2, np.float32))
    vector, unravel = tm.ravel([t, tm.tensor(2.0)])
    assert type(vector) is tm.Tensor and vector.shape == (3,)
    assert all(type(leaf) is tm.Tensor for leaf in unravel(vector))
    assert [leaf.shape for leaf in unravel(np.arange(3.0))] == [(2,), ()]


def test_unravel_keeps_the_imaginary_part_of_a_complex_step():
    _, unravel = tm.ravel([1.0, np.ones(2)])
    assert unravel(np.array([1 + 1j, 2.0, 3.0]))[0] == 1 + 1j
