"""Trees of any form, taken apart and put together again."""

from collections import namedtuple

import numpy as np
import pytest

from tinymeta.autodiff import tree

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

Pair = namedtuple("Pair", "first second")

leaves = st.floats(-1, 1) | st.integers(-3, 3).map(lambda n: np.arange(3.0) + n)
trees = st.recursive(
    leaves | st.none(),
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.sampled_from("abc") | st.integers(0, 3), inner, max_size=3)
    | st.builds(Pair, inner, inner),
    max_leaves=8,
)


@hypothesis.settings(derandomize=True, max_examples=200)
@hypothesis.given(trees)
def test_unflatten_undoes_flatten(nested):
    found, structure = tree.flatten(nested)
    rebuilt = tree.unflatten(structure, found)
    assert tree.flatten(rebuilt)[1] == structure and hash(tree.flatten(rebuilt)[1]) == hash(structure)
    assert all(a is b for a, b in zip(tree.flatten(rebuilt)[0], found, strict=True))
    assert type(rebuilt) is type(nested)
    assert len(tree.names(nested)) == len(found)
    for name, leaf in zip(tree.names(nested, "nested"), found, strict=True):
        assert eval(name) is leaf
