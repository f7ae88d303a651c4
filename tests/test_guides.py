"""The guides' scripts compute the same in four frameworks."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymeta as tm

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def printed(framework):
    """What a script prints: for one task and for all of them, the value and the elements of its gradient."""
    command = [sys.executable, GUIDES / f"maml_in_{framework}.py"]
    environment = os.environ | {"PYTHONPATH": str(GUIDES.parents[1])}
    return np.array(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split(), float)


@pytest.fixture(scope="module")
def ours():
    return printed("tinymeta")


def test_ours_are_the_gradients(ours):
    script = runpy.run_path(str(GUIDES / "maml_in_tinymeta.py"))
    theta, x, y = script["theta"], script["x"], script["y"]
    for i, f, (value, *elements) in zip((0, slice(None)), (script["after_one_step"], script["mean"]), ours.reshape(2, -1), strict=True):
        loss = lambda theta, i=i, f=f: f(theta, (x[i, 0], y[i, 0]), (x[i, 1], y[i, 1]))
        assert value == pytest.approx(float(loss(theta)), abs=1e-10)
        assert elements == pytest.approx(tm.ravel(tm.grad(loss)(theta))[0], abs=1e-10)
        assert tm.check_grad(loss, theta, order=1)


@pytest.mark.parametrize("framework", ["jax", "torch", "autograd"])
def test_other_frameworks_print_the_same(framework, ours):
    pytest.importorskip(framework)
    theirs = printed(framework)
    assert theirs.shape == ours.shape == (2 * (1 + 3 * 4),)
    assert np.max(np.abs(theirs - ours)) < 1e-10
