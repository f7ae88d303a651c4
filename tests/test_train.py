"""Training: the same seed gives the same result, Ctrl-C ends it cleanly, and a diverging loss is an error."""

import os
import pickle
import signal
import threading
from typing import NamedTuple

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import nn, optim


def loss(theta, task):
    return np.sum((theta["W"] - task) ** 2)


def draw(rng, count):
    return rng.uniform(1, 3, (count, 2))


START = {"W": np.zeros(2)}


def fit(iterations=20, tasks=draw, optimizer=None, **options):
    options = {"meta_batch": 5, "seed": 0, "quiet": True} | options
    return tm.fit(loss, START, tasks, optimizer or optim.adam(0.1), iterations=iterations, **options)


def test_it_is_the_loop_that_one_would_write():
    rng, theta, losses = np.random.default_rng(0), np.zeros(2), []
    for _ in range(10):
        tasks = draw(rng, 5)
        losses.append(np.mean(np.sum((theta - tasks) ** 2, axis=1)))
        theta = theta - 0.1 * np.mean(2 * (theta - tasks), axis=0)
    result = fit(10, optimizer=optim.sgd(0.1))
    np.testing.assert_allclose(result.theta["W"], theta, rtol=1e-13)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-13)
    assert not result.interrupted and result.evaluations == [] and START["W"].tolist() == [0, 0]


@pytest.mark.parametrize("seeds", [(0, 1), ((0, 1), (0, 2)), (0, (0, 1))])
def test_the_same_seed_gives_the_same_result_to_the_bit(seeds):
    one, again, other = fit(seed=seeds[0]), fit(seed=seeds[0]), fit(seed=seeds[1])
    assert one.theta["W"].tobytes() == again.theta["W"].tobytes() and one.losses.tobytes() == again.losses.tobytes()
    assert not np.any(one.losses == other.losses)


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    start = nn.initialize_mlp(np.random.default_rng(0), (2, 20, 20, 1))

    def trained_with(threads):
        monkeypatch.setenv("TINYMETA_THREADS", str(threads))
        return tm.fit(lambda theta, task: np.mean(nn.mlp(theta, task) ** 2), start, lambda rng, count: rng.normal(size=(count, 10, 2)),
                      optim.adam(0.01), iterations=20, meta_batch=50, seed=0, quiet=True)  # fmt: skip

    one = trained_with(1)
    for threads in (2, 3):
        other = trained_with(threads)
        assert one.losses.tobytes() == other.losses.tobytes()
        assert tm.ravel(one.theta)[0].tobytes() == tm.ravel(other.theta)[0].tobytes()


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

    tm.fit(counted, START, draw, optim.sgd(0.1), iterations=10, meta_batch=5, seed=0, quiet=True)
    once = len(calls)
    tm.fit(counted, START, draw, optim.sgd(0.1), iterations=100, meta_batch=5, seed=0, quiet=True)
    assert len(calls) == 2 * once


class Line(NamedTuple):
    slope: float
    through: list


def test_theta_may_be_any_containers_of_arrays_and_floats():
    start = Line(1.0, [np.zeros((), np.float32), None])
    result = tm.fit(lambda theta, task: (theta.slope * task + theta.through[0]) ** 2, start, lambda rng, count: rng.normal(size=count),
                    optim.momentum(0.01), iterations=3, meta_batch=4, seed=0, quiet=True)  # fmt: skip
    assert type(result.theta) is Line and result.theta.through[1] is None and start.slope == 1.0 != result.theta.slope
    assert result.theta.through[0].dtype == np.float32 and result.theta.through[0] != 0


@pytest.mark.parametrize("name, value", [("iterations", -1), ("iterations", 2.0), ("meta_batch", 0), ("meta_batch", True), ("parts", 0),
                                         ("checkpoint_every", 0), ("checkpoint_every", None)])  # fmt: skip
def test_numbers_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: an integer, {0 if name == 'iterations' else 1} or more"):
        fit(**{name: value})


# ## Evaluations and callbacks
def test_evaluations_and_what_callbacks_are_told():
    records, evaluated = [], []

    def evaluate(theta):
        evaluated.append(theta["W"].tolist())
        return {"first": theta["W"][0]}

    result = fit(7, evaluate=evaluate, evaluate_every=3, callbacks=[records.append])
    assert [iteration for iteration, _ in result.evaluations] == [3, 6] and len(evaluated) == 2
    for iteration, found in result.evaluations:
        theta = fit(iteration).theta["W"]
        assert found == {"first": theta[0]} and theta.tolist() in evaluated
    assert [record.iteration for record in records] == list(range(1, 8))
    assert [record.loss for record in records] == result.losses.tolist()
    assert [record.evaluation for record in records] == [None, None, result.evaluations[0][1], None, None, result.evaluations[1][1], None]
    assert records[-1].theta["W"].tolist() == result.theta["W"].tolist()


def test_evaluating_changes_nothing_else():
    plain = fit()
    evaluated = fit(evaluate=lambda theta: np.random.default_rng(0).random(), evaluate_every=2, callbacks=[lambda record: None])
    assert plain.losses.tobytes() == evaluated.losses.tobytes() and plain.theta["W"].tobytes() == evaluated.theta["W"].tobytes()


@pytest.mark.parametrize("half", [{"evaluate": lambda theta: 0}, {"evaluate_every": 5}])
def test_half_of_an_evaluation(half):
    with pytest.raises(ValueError, match="evaluate and evaluate_every go together"):
        fit(**half)


def test_an_error_in_a_callback_is_not_hidden():
    def broken(record):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(callbacks=[broken])


# ## Ctrl-C
def interrupted_after(iterations, error=KeyboardInterrupt):
    """Tasks in the middle of whose drawing someone presses Ctrl-C (the very first are for the trace)."""
    left = iter([None] * (iterations + 1))

    def impatient(rng, count):
        if next(left, "Ctrl-C") == "Ctrl-C":
            raise error
        return draw(rng, count)

    return impatient


@pytest.mark.parametrize("made", [0, 1, 7])
def test_ctrl_c_ends_it_with_what_there_is_by_then(made):
    result, whole = fit(20, tasks=interrupted_after(made)), fit(made)
    assert result.interrupted
    assert result.theta["W"].tolist() == whole.theta["W"].tolist() and result.losses.tolist() == whole.losses.tolist()


def test_ctrl_c_in_the_middle_of_an_evaluation():
    def evaluate(theta):
        raise KeyboardInterrupt

    result, whole = fit(evaluate=evaluate, evaluate_every=5), fit(4)
    assert result.interrupted and result.evaluations == [] and result.losses.tolist() == whole.losses.tolist()


def terminate(record):
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_like_ctrl_c_where_there_is_something_to_keep(tmp_path):
    result = fit(checkpoint=tmp_path / "x.npz", callbacks=[terminate])
    assert result.interrupted and len(result.losses) == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_ones_own_stays(tmp_path, monkeypatch):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        assert not fit(3, checkpoint=tmp_path / "x.npz", callbacks=[terminate]).interrupted
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1, 1, 1]


def test_it_runs_in_any_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(3, checkpoint=tmp_path / "x.npz")))
    thread.start()
    thread.join()
    assert results[0].losses.tolist() == fit(3).losses.tolist()


# ## Divergence
def test_a_diverging_loss_is_an_error_with_advice_and_the_last_good_parameters():
    message = r"^the loss is inf in iteration \d+: the inner learning rate is probably too large, or else the outer one\. The last good"
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(10_000, optimizer=optim.sgd(10.0))
    error = caught.value
    assert isinstance(error, tm.Diverged) and f"after {error.iteration} updates, are in this error's .theta" in str(error)
    good, next_ = (fit(error.iteration + k, optimizer=optim.sgd(10.0)) for k in (0, 1))
    assert error.theta["W"].tobytes() == good.theta["W"].tobytes() and error.good.losses.tolist() == good.losses.tolist()
    assert np.isfinite(next_.losses).all() and f"in iteration {error.iteration + 1}:" in str(error)  # the loss at the good ones was finite


def test_a_loss_that_is_not_a_number_is_the_same_error():
    with pytest.raises(tm.Diverged, match="the loss is nan in iteration 0") as caught:
        fit(5, tasks=lambda rng, count: np.full((count, 2), np.nan))
    assert caught.value.theta["W"].tolist() == [0, 0] and caught.value.iteration == 0


def test_a_gradient_that_is_not_finite_although_the_loss_is():
    """The slope of sqrt(x) where x is 0, which it is after the first step."""
    with pytest.raises(tm.Diverged, match=r"the gradient isn't finite in iteration 1: the inner .* after 0 updates") as caught:
        tm.fit(lambda theta, task: np.sqrt(theta) * task, np.ones(()), lambda rng, count: np.ones(count), optim.sgd(2.0),
               iterations=5, meta_batch=2, seed=0, quiet=True)  # fmt: skip
    assert caught.value.theta == 1.0


def test_an_update_that_is_not_finite_although_the_gradient_is():
    with pytest.raises(tm.Diverged, match=r"the update isn't finite in iteration 0: the outer learning rate .* after 0 updates") as caught:
        fit(1, optimizer=optim.sgd(1e308))
    assert caught.value.theta["W"].tolist() == [0, 0]


def test_the_error_can_come_from_another_process():
    with pytest.raises(tm.Diverged) as caught:
        fit(10_000, optimizer=optim.sgd(10.0))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.theta["W"].tolist() == caught.value.theta["W"].tolist()


# ## What it says
def test_quiet_prints_nothing(capsys):
    fit(20, label="MAML")
    assert capsys.readouterr() == ("", "")
    fit(20, label="MAML", quiet=False)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("MAML: 20 iterations in ")


def test_how_it_ended_and_how_to_go_on(capsys, tmp_path):
    path = tmp_path / "x.npz"
    told = {"quiet": False, "label": "MAML", "checkpoint": path}
    fit(20, tasks=interrupted_after(7), **told)
    with pytest.raises(ZeroDivisionError):
        fit(20, tasks=interrupted_after(2, ZeroDivisionError), resume=True, **told)
    fit(20, resume=True, **told)
    hint = f" s; they are kept in {path}, and the same call with resume=True goes on from there"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "MAML: interrupted after 7 of 20 iterations",
        "MAML: stopped after 9 of 20 iterations",
        "MAML: 20 iterations, 9 of them earlier,",
    ]
    assert lines[0].endswith(hint) and lines[1].endswith(hint) and lines[2].endswith(" s")


# ## What makes no sense
def test_an_objective_that_is_not_a_scalar():
    with pytest.raises(ValueError, match=r"objective\(theta, task\) has shape \(2,\), to be a scalar"):
        tm.fit(lambda theta, task: theta * task, np.ones(2), lambda rng, count: rng.normal(size=count), tm.optim.sgd(0.1),
               iterations=1, meta_batch=3, seed=0, quiet=True)  # fmt: skip


@pytest.mark.parametrize("options, message", [
    ({"tasks": lambda rng, count: 1.0}, r"tasks\(rng, count\)=.*: arrays with the tasks stacked along the first axis"),
    ({"theta": np.array([np.nan, 1.0])}, "theta isn't finite where the training starts"),
    ({"seed": [1, -1]}, "seed=-1: an integer, 0 or more"), ({"seed": []}, "seed=.*: an integer"), ({"seed": None}, "seed=None"),
    ({"callbacks": [print, 1]}, r"callbacks\[1\]=1: a function of a Record"), ({"callbacks": print}, "callbacks=.*: a list of functions"),
    ({"optimizer": tm.optim.sgd}, "optimizer=.*: an Optimizer, such as"), ({"executor": 1}, "executor=1: with the interface"),
    ({"resume": "no"}, "resume='no': True or False"),
    ({"evaluate": np.sum, "evaluate_every": 0}, "evaluate_every=0: an integer, 1 or more"),
])  # fmt: skip
def test_what_fit_refuses(options, message):
    right = {"objective": lambda theta, task: np.sum((theta - task) ** 2), "theta": np.ones(2),
             "tasks": lambda rng, count: rng.normal(size=(count, 2)), "optimizer": tm.optim.sgd(0.1),
             "iterations": 1, "meta_batch": 2, "seed": 0, "quiet": True}  # fmt: skip
    with pytest.raises((TypeError, ValueError, FloatingPointError), match=message):
        tm.fit(**(right | options))
