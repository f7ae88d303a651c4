"""Bad input at every public function ends in an error that helps: `tests/fuzz.py`, all of it, and whether it would see."""

from typing import Any

import numpy as np
import pytest

import tinymeta as tm
from tests import fuzz

FINE = {
    ("custom_vjp", "forward", "a function"): "what it returned is an integer, and grad says that it has no derivative",
    ("jvp", "primals", "ragged"): "two arguments, of which the function takes one, as Python says",
    ("nn.mlp", "activation", "a function"): "what it returned doesn't fit the next layer, as NumPy says",
    ("nn.normalised_mlp", "activation", "a function"): "the same",
    ("omniglot.load", "path", "an empty list"): "the message is about the places to look in, and where to find Omniglot",
    ("omniglot.load", "path", "a list of text"): "the message names the first place",
}
"""Calls whose message may leave the argument unnamed, and why."""


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_every_bad_argument_is_named(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some calls write files
    wrong = [str(case) for case in fuzz.cases([name]) if case.outcome in ("unnamed", "inside") and case[:3] not in FINE]
    assert not wrong, "\n".join(wrong)


@fuzz.callers
def one_of(x: Any) -> Any:
    return {"a": 1.0}[x]


def unchecked(f: Any = one_of, steps: Any = 1) -> Any:
    if steps == "abc":
        raise ValueError("the count has to be an integer")
    if steps is None:
        raise ValueError("steps must be an integer")
    while steps == 0.5:
        pass
    return [1.0, 2.0][steps] if f is one_of else f("b")


@pytest.mark.parametrize(("argument", "value", "outcome"), [
    ("steps", 0, "returned"), ("steps", None, "told"), ("steps", "abc", "unnamed"), ("steps", 5, "inside"), ("f", len, "returned"),
    ("f", lambda x: np.ones(2) + np.ones(4), "unnamed"), ("f", fuzz.callers(lambda x: np.ones(2) + np.ones(3)), "caller's"),
    ("f", fuzz.callers(lambda x: one_of(x)), "caller's"), ("f", fuzz.callers(lambda x: tm.tensor(np.ones(2)) @ np.ones(3)), "caller's"),
    ("steps", 0.5, "inside"),
])  # fmt: skip
def test_the_harness_sees(argument: str, value: Any, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    found, message = fuzz.outcome_of(unchecked, {"f": one_of, "steps": 1} | {argument: value}, argument, value)
    assert found == outcome, message


@pytest.mark.parametrize(("message", "argument", "value", "says"), [
    ("x: a number", "x", 0.5, True), ("an index is out of bounds", "x", 0.5, False), ("theta['W'] is complex", "theta", 1j, True),
    ("got 0.5", "x", 0.5, True), ("got 0", "x", 0, False), ("float64[0, 3] and float64[2]", "x", np.zeros((0, 3)), True),
    ("shape (0, 3)", "x", np.zeros((0, 3)), True), ("shape (2,)", "x", np.zeros((0, 3)), False), ("len() takes one", "f", len, True),
])  # fmt: skip
def test_a_message_says_which(message: str, argument: str, value: Any, says: bool) -> None:
    assert fuzz.says(message, argument, value) == says
