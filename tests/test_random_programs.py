"""Programs put together at random, a few hundred of those that `python -m tests.random_programs` tries."""

import pytest

pytest.importorskip("hypothesis")

from tests import random_programs
from tinymeta.autodiff.tensor import NAMED


def test_random_programs_agree_however_they_are_computed():
    assert set(random_programs.run(count=150, seed=0)) >= {"complex step, orders 1 to 3", "machine"}


@pytest.mark.parametrize("name", ["exp", "matmul", "sum", "transpose", "multiply", "divide"])
def test_a_wrong_rule_does_not_get_through(name, monkeypatch):
    right = NAMED[name].vjp

    def wrong(c_bar, *inputs, **params):
        terms = right(c_bar, *inputs, **params)
        return tuple((lambda term=term: (term() if callable(term) else term) * (1 + 1e-6)) for term in terms)

    monkeypatch.setattr(NAMED[name], "vjp", wrong)
    with pytest.raises(AssertionError):
        random_programs.run(count=400, seed=0)
