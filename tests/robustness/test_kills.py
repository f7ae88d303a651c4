"""Six of the kills that `python -m tests.robustness kills` makes."""

import pytest

from tests.robustness import kills
from tinymeta import checkpoints


@pytest.fixture(autouse=True)
def short_and_slow(monkeypatch):
    monkeypatch.setattr(kills, "ITERATIONS", 100)
    monkeypatch.setattr(kills, "PAUSE", 0.005)


def test_a_training_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    done = kills.kill_and_go_on(tmp_path, 6, seed=0)
    assert done["kills"] == 6 and done["by SIGKILL"] == done["by SIGTERM"] == done["by SIGINT"] == 2
    assert done["between the first iteration and the last"] + done["while the file was being written"] > 0


def test_another_training_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    assert kills.finish(kills.training(path)) == 0
    whole = checkpoints.load_checkpoint(path)
    kills.check(path, whole)
    for wrong in (whole._replace(losses=whole.losses[::-1]), whole._replace(evaluations=whole.evaluations[::-1])):
        with pytest.raises(AssertionError):
            kills.check(path, wrong)
