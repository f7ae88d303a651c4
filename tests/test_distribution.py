"""Many machines: the result doesn't depend on the executor, a program is sent once, and a worker may die."""

import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from on_a_cluster import START, difference, fit, objective

import tinymeta as tm
from tinymeta import distribution

BATCH = np.random.default_rng(1).normal(size=(10, 6, 4))


def answer(f, *args):
    future = Future()
    future.set_result(f(*args))
    return future


class Workers:
    """An executor with workers of which any one may get a call; each has programs of its own, as processes have."""

    def __init__(self, monkeypatch, count):
        self.monkeypatch, self.programs, self.calls, self.random = monkeypatch, [{} for _ in range(count)], [], random.Random(0)

    def submit(self, f, *args):
        self.calls.append(args)
        self.monkeypatch.setattr(distribution, "PROGRAMS", self.random.choice(self.programs))
        return answer(f, *args)

    @property
    def sent(self):
        """How often a program was sent."""
        return sum(len(args) == 4 for args in self.calls)


@pytest.mark.parametrize("parts", [1, 3, 4, 10, 25])
def test_the_parts_add_up_to_the_whole(monkeypatch, parts):
    workers = Workers(monkeypatch, 1)
    whole = distribution.mean_over_tasks(objective, START, BATCH)
    cut = distribution.mean_over_tasks(objective, START, BATCH, workers, parts)
    for batch in (BATCH, BATCH + 1):
        (value, gradient), (loss, g) = whole(START, batch), cut(START, batch)
        np.testing.assert_allclose(loss, value, rtol=1e-14)
        np.testing.assert_allclose(tm.ravel(g)[0], tm.ravel(gradient)[0], rtol=1e-13)
    sizes = [len(args[2]) for args in workers.calls[-min(parts, 10) :]]
    assert sum(sizes) == 10 and max(sizes) - min(sizes) <= 1 and len(sizes) == min(parts, 10)


def test_dtypes_stay():
    with ThreadPoolExecutor(1) as executor:
        mean = distribution.mean_over_tasks(objective, tm.tree.map(np.float32, START), np.float32(BATCH), executor)
        assert {x.dtype for x in tm.tree.flatten(mean(tm.tree.map(np.float32, START), np.float32(BATCH)))[0]} == {np.dtype(np.float32)}


# ## Programs
def test_each_worker_loads_a_program_once_and_when_all_have_it_nothing_is_sent(monkeypatch):
    workers, loaded = Workers(monkeypatch, 3), []
    loads = distribution.pickle.loads
    monkeypatch.setattr(distribution.pickle, "loads", lambda pickled: (loaded.append(len(workers.calls)), loads(pickled))[1])
    fit(executor=workers, parts=4)
    assert {len(args[2]) for args in workers.calls} == {2, 3} and len({args[0] for args in workers.calls}) == 2  # sizes, and programs
    assert len(loaded) == 2 * 3 <= workers.sent and all(len(programs) == 2 for programs in workers.programs)
    assert all(len(args) == 3 for args in workers.calls[loaded[-1] + 4 :])  # but for what was on its way


def test_a_worker_that_takes_the_place_of_another_gets_it_too(monkeypatch):
    workers = Workers(monkeypatch, 1)
    plain = fit(executor=workers)
    sent = workers.sent
    replaced = fit(executor=workers, callbacks=[lambda record: workers.programs[0].clear() if record.iteration == 7 else None])
    assert difference(plain, replaced) == 0 and workers.sent > sent


def test_a_process_keeps_few_programs(monkeypatch):
    workers = Workers(monkeypatch, 1)
    one, batch = np.ones(()), np.ones(4)
    for scale in np.arange(2.0 * distribution.MOST_PROGRAMS):
        distribution.mean_over_tasks(lambda theta, task, scale=scale: theta * task * scale, one, batch, workers)(one, batch)
    assert len(workers.programs[0]) == distribution.MOST_PROGRAMS
    assert workers.calls[-1][0] in workers.programs[0]  # the last one is there


# ## Executors
def test_threads():
    with ThreadPoolExecutor(3) as executor:
        assert difference(fit(), fit(executor=executor)) < 1e-12


def test_new_processes():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes, ThreadPoolExecutor(2) as threads:
        there = fit(executor=processes)
        assert difference(fit(), there) < 1e-12
        assert difference(fit(executor=threads), there) == 0  # the parts matter, not who computes them


def printed_by(script, *arguments):
    """What another process prints, as JSON, and what it says besides."""
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, str(folder / script), *arguments], capture_output=True, text=True, timeout=100,
                          env=os.environ | {"PYTHONPATH": str(folder.parent)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes can't be forked here")
def test_forked_processes_and_a_pool_that_is_broken_says_how_to_go_on(tmp_path):
    path = str(tmp_path / "x.npz")
    result, said = printed_by("in_forked_processes.py", path)
    assert result["difference"] < 1e-12 and result["resumed"] == 0 and result["kept"] == 7
    assert re.fullmatch(r"the executor failed \(BrokenProcessPool: .*\); 7 iterations were made; they are kept in "
                        f"{re.escape(path)}, and the same call with resume=True goes on from there", result["end"])  # fmt: skip
    assert "KeyboardInterrupt" not in said


def test_whatever_fails_is_named():
    class Broken:
        def submit(self, f, *args):
            raise OSError("no route to host")

    with pytest.raises(tm.ExecutorError, match=r"^the executor failed \(OSError: no route to host\); 0 iterations were") as caught:
        fit(executor=Broken())
    assert isinstance(caught.value.__cause__, OSError)


def test_ctrl_c_while_a_part_is_computed():
    class Interrupted:
        def submit(self, f, *args):
            raise KeyboardInterrupt

    assert fit(executor=Interrupted()).interrupted


@pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra `distributed`")
def test_a_dask_cluster_one_of_whose_workers_is_killed():
    result, _ = printed_by("on_a_cluster.py")
    assert result["in one piece"] < 1e-12 and result["in parts"] == 0 and result["processes"] == 3
