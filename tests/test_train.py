"""Training: the same seed gives the same result, Ctrl-C ends it cleanly, and a diverging loss is an error."""

import io
import sys

import numpy as np
import pytest

from tinymeta import optim, train


def loss(theta, task):
    return np.sum((theta["W"] - task) ** 2)


def draw(rng, count):
    return rng.uniform(1, 3, (count, 2))


START = {"W": np.zeros(2)}


def fit(iterations=20, draw=draw, optimizer=None, seed=0, quiet=True, **options):
    rng = np.random.default_rng(seed)
    return train.fit(loss, START, draw, optimizer or optim.adam(0.1), iterations=iterations, meta_batch=5, rng=rng, quiet=quiet, **options)


def test_it_is_the_loop_that_one_would_write():
    rng, theta, losses = np.random.default_rng(0), np.zeros(2), []
    for _ in range(10):
        tasks = draw(rng, 5)
        losses.append(np.mean(np.sum((theta - tasks) ** 2, axis=1)))
        theta = theta - 0.1 * np.mean(2 * (theta - tasks), axis=0)
    result = fit(10, optimizer=optim.sgd(0.1))
    np.testing.assert_allclose(result.theta["W"], theta, rtol=1e-13)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-13)
    assert not result.interrupted and START["W"].tolist() == [0, 0]


def test_the_same_seed_gives_the_same_result_to_the_bit():
    one, again, other = fit(), fit(), fit(seed=1)
    assert one.theta["W"].tobytes() == again.theta["W"].tobytes() and one.losses.tobytes() == again.losses.tobytes()
    assert not np.any(one.losses == other.losses)


def test_it_minimises():
    result = fit(300, optimizer=optim.sgd(0.05))
    np.testing.assert_allclose(result.theta["W"], 2, atol=0.2)
    assert result.losses[-50:].mean() < 0.2 * result.losses[0]


def test_no_iterations():
    result = fit(0)
    assert result.theta["W"].tolist() == [0, 0] and result.losses.shape == (0,) and not result.interrupted


def test_the_loss_is_traced_once():
    calls = []

    def counted(theta, task):
        calls.append(1)
        return loss(theta, task)

    train.fit(counted, START, draw, optim.sgd(0.1), iterations=10, meta_batch=5, rng=np.random.default_rng(0), quiet=True)
    once = len(calls)
    train.fit(counted, START, draw, optim.sgd(0.1), iterations=100, meta_batch=5, rng=np.random.default_rng(0), quiet=True)
    assert len(calls) == 2 * once


# ## Ctrl-C
def interrupted_after(iterations):
    """A draw in the middle of which someone presses Ctrl-C (the very first draw is the trace's)."""
    left = iter([None] * (iterations + 1))

    def impatient(rng, count):
        if next(left, "Ctrl-C") == "Ctrl-C":
            raise KeyboardInterrupt
        return draw(rng, count)

    return impatient


@pytest.mark.parametrize("made", [0, 1, 7])
def test_ctrl_c_ends_it_with_what_there_is_by_then(made):
    result, whole = fit(20, draw=interrupted_after(made)), fit(made)
    assert result.interrupted
    assert result.theta["W"].tolist() == whole.theta["W"].tolist() and result.losses.tolist() == whole.losses.tolist()


# ## Divergence
def test_a_diverging_loss_is_an_error_with_advice():
    message = r"the loss is inf in iteration \d+: .*learning rate is probably too large"
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=message):
        fit(10_000, optimizer=optim.sgd(10.0))


def test_a_loss_that_is_not_a_number_is_the_same_error():
    with pytest.raises(FloatingPointError, match="the loss is nan in iteration 0"):
        fit(5, draw=lambda rng, count: np.full((count, 2), np.nan))


# ## The progress line
class Terminal(io.StringIO):
    def isatty(self):
        return True


def at(monkeypatch, *times, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(train.time, "monotonic", iter(times).__next__)


def test_on_a_terminal_there_is_one_line_that_is_written_over_and_over(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 0.1, 2.0, 2.1, 4.0, stderr=stderr)
    progress = train.Progress("MAML", 1000, quiet=False)
    for done in (1, 40, 41):  # after 0.1 s and at 2.1 s it is too early to write
        progress.show(done, [3.0, 5.0])
    progress.finish(80, interrupted=False)
    assert stderr.getvalue() == ("\r\x1b[KMAML: 40/1000, 20 iterations a second, 0:48 left, loss 4.000"
                                 "\r\x1b[KMAML: 80 iterations in 4.0 s\n")  # fmt: skip


def test_in_a_file_there_is_a_line_every_ten_seconds(monkeypatch):
    stderr = io.StringIO()
    at(monkeypatch, 0.0, 2.0, 10.0, 19.0, 20.0, 30.0, stderr=stderr)
    progress = train.Progress("MAML", 1000, quiet=False)
    for done in (2, 10, 19, 20):
        progress.show(done, [4.0])
    progress.finish(25, interrupted=True)
    assert stderr.getvalue().splitlines() == [
        "MAML: 10/1000, 1 iterations a second, 16:30 left, loss 4.000",
        "MAML: 20/1000, 1 iterations a second, 16:20 left, loss 4.000",
        "MAML: interrupted after 25 of 1000 iterations in 30.0 s",
    ]


def test_what_is_left_never_has_sixty_seconds(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 1.0, stderr=stderr)
    train.Progress("MAML", 1207, quiet=False).show(10, [1.0])  # 119.7 seconds
    assert "2:00 left" in stderr.getvalue()


def test_the_loss_shown_is_the_mean_of_the_last_hundred(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 1.0, stderr=stderr)
    train.Progress("MAML", 1000, quiet=False).show(200, [100.0] * 100 + [7.0] * 100)
    assert stderr.getvalue().endswith("loss 7.000")


def test_quiet_prints_nothing(capsys):
    fit(20, label="MAML")
    assert capsys.readouterr() == ("", "")
    fit(20, label="MAML", quiet=False)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("MAML: 20 iterations in ")
