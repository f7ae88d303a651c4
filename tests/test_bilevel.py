"""The two-level problem: where the adaptation starts, and diagnostics that are computed when asked for."""

import dataclasses

import numpy as np
import pytest

import tinymeta as tm


def loss(phi, theta, task):
    return (phi - task) ** 2


def test_by_default_the_adaptation_starts_at_theta_itself():
    theta = {"W": np.ones(2)}
    assert tm.Bilevel(loss, loss).start(theta, None) is theta


def test_init_says_where_the_adaptation_starts():
    problem = tm.Bilevel(loss, loss, init=lambda theta, task: theta["start"] + task)
    assert problem.start({"start": 1.0}, 2.0) == 3.0


def test_a_problem_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tm.Bilevel(loss, loss).inner = None


def test_a_meta_gradient_is_a_named_tuple():
    result = tm.maml.meta_gradient(tm.Bilevel(loss, loss), 3.0, 1.0, steps=1, lr=0.25)
    value, gradient, phi, info = result
    assert (result.value, result.grad, result.phi, result.info) == (value, gradient, phi, info)
    assert (value, gradient, phi) == (1.0, 1.0, 2.0)


# ## Info
def test_info_is_a_mapping_that_computes_what_is_costly_once_and_when_it_is_asked_for():
    calls = []

    def spectrum():
        calls.append(1)
        return 71.0

    info = tm.Info(steps=5, spectrum=spectrum)
    assert repr(info) == "Info(steps=5, spectrum=<computed when asked for>)" and calls == []
    assert info["spectrum"] == info["spectrum"] == 71.0 and len(calls) == 1
    assert repr(info) == "Info(steps=5, spectrum=71.0)"
    assert dict(info) == {"steps": 5, "spectrum": 71.0} and len(info) == 2 and list(info) == ["steps", "spectrum"]
    assert "steps" in info and "residual" not in info


def test_info_without_the_entry():
    with pytest.raises(KeyError, match="residual"):
        tm.Info(steps=5)["residual"]
