"""Checkpoints: what is written is read again, exactly; a stopped training goes on to the bit; a file is never lost."""

import errno
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stopped_training import EVERY

import tinymeta as tm
from tinymeta import checkpoints, optim
from tinymeta.checkpoints import Checkpoint


class Affine(NamedTuple):
    W: np.ndarray
    b: np.ndarray


def loss(theta, task):
    return np.sum((theta[0].W @ task + theta[0].b) ** 2) + theta[1]["scale"] ** 2


def draw(rng, count):
    return rng.normal(size=(count, 2))


START = (Affine(np.ones((2, 2)), np.zeros(2)), {"scale": 1.0})


def fit(iterations, path=None, tasks=draw, optimizer=None, theta=START, **options):
    options = {"meta_batch": 3, "seed": (0, 1), "quiet": True, "checkpoint": path} | options
    return tm.fit(loss, theta, tasks, optimizer or optim.adam(0.01), iterations=iterations, **options)


def assert_identical(a, b):
    """The same to the bit, types and all. (A namedtuple's type is another one, of the same name.)"""
    assert type(a).__name__ == type(b).__name__
    if isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    elif isinstance(a, (dict, list, tuple)):
        assert len(a) == len(b) and getattr(a, "_fields", None) == getattr(b, "_fields", None)
        if isinstance(a, dict):
            assert_identical(list(a), list(b))
        for x, y in zip(a.values() if isinstance(a, dict) else a, b.values() if isinstance(b, dict) else b, strict=True):
            assert_identical(x, y)
    else:
        assert repr(a) == repr(b)  # NaN and -0.0 as well


def assert_same_training(a, b):
    assert_identical(a._replace(interrupted=None), b._replace(interrupted=None))


# ## What is written is read again
class Pair(NamedTuple):
    first: object
    second: object


ARRAYS = hnp.arrays(
    st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?"), hnp.complex_number_dtypes(),
              hnp.unicode_string_dtypes(max_len=3), hnp.datetime64_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), ARRAYS, ARRAYS.map(lambda x: x.T),
                   ARRAYS.filter(lambda x: x.size > 0).map(lambda x: x.ravel()[0]))  # fmt: skip
KEYS = st.one_of(st.text(max_size=3), st.integers())
TREES = st.recursive(LEAVES, lambda parts: st.one_of(st.lists(parts, max_size=3), st.lists(parts, max_size=3).map(tuple),
                     st.dictionaries(KEYS, parts, max_size=3), st.builds(Pair, parts, parts)), max_leaves=10)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TREES, TREES)
def test_any_nested_structure_comes_back_exactly(tmp_path_factory, theta, state):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    checkpoint = Checkpoint(theta, state, {"state": 2**100}, 3, np.ones(3), ((2, theta),), [0], 25, {"x": [1]}, tm.__version__)
    checkpoints.save_checkpoint(path, checkpoint)
    assert_identical(checkpoint, tm.load_checkpoint(path))


def test_who_loads_need_not_know_the_structure(tmp_path):
    result = fit(6, tmp_path / "x.npz", configuration={"alpha": 0.1, "sizes": (1, 2)}, evaluate=lambda theta: theta[0], evaluate_every=4)
    found = tm.load_checkpoint(str(tmp_path / "x.npz"))
    assert_identical((found.theta, found.losses, list(found.evaluations)), (result.theta, result.losses, result.evaluations))
    assert found.theta[0].W.shape == (2, 2) and found.theta[1]["scale"].shape == () and found.evaluations[0][1].b.shape == (2,)
    assert type(found.evaluations[0][1]) is type(found.theta[0]) is not Affine
    assert (found.iteration, found.seed, found.meta_batch) == (6, [0, 1], 3) and found.state["t"] == 6
    assert found.configuration == {"alpha": 0.1, "sizes": (1, 2)} and found.version == tm.__version__


def test_the_file_is_an_archive_of_arrays_that_numpy_reads(tmp_path):
    result = fit(2, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive["theta[0].W"].tolist() == result.theta[0].W.tolist()
        assert json.loads(archive["about"].item())["format"] == 1
        assert {"theta[0].W", "theta[0].b", "theta[1]['scale']", "state['m'][0].W", "losses", "about"} < set(archive)


class Opaque:
    pass


@pytest.mark.parametrize("x, message", [
    ({"a": [Opaque()]}, r"can't store theta\['a'\]\[0\], of type Opaque"),
    (np.array([Opaque()]), "can't store theta, of type ndarray"),
    (1j, "can't store theta, of type complex"),
    ({(1, 2): 1.0}, r"can't store a dict with the key \(1, 2\)"),
    ({None: 1.0}, "can't store a dict with the key None"),
])  # fmt: skip
def test_what_cannot_be_stored(x, message):
    with pytest.raises(TypeError, match=message):
        checkpoints.stored(x, "theta", {})


def test_what_cannot_be_stored_is_said_when_it_comes_up(tmp_path):
    with pytest.raises(TypeError, match="can't store what evaluate returns, of type Opaque"):
        fit(100, tmp_path / "x.npz", evaluate=lambda theta: Opaque(), evaluate_every=3)
    assert tm.load_checkpoint(tmp_path / "x.npz").iteration == 2  # nothing is lost
    assert len(fit(5, evaluate=lambda theta: Opaque(), evaluate_every=3).evaluations) == 1  # without a file there is no reason to complain


# ## Resuming
OPTIMIZERS = [optim.sgd(0.01), optim.momentum(0.01), optim.rmsprop(0.01), optim.adam(0.01)]


def interrupted_after(iterations, error=KeyboardInterrupt):
    left = iter([None] * (iterations + 1))

    def tasks(rng, count):
        batch = draw(rng, count)  # the generator has moved on already
        if next(left, "stop") == "stop":
            raise error
        return batch

    return tasks


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_stopped_training_goes_on_to_the_bit(tmp_path, optimizer, dtype):
    theta = tm.tree.map(dtype, START)
    same = {"optimizer": optimizer, "theta": theta, "evaluate": lambda theta: theta[1], "evaluate_every": 4}
    whole = fit(20, **same)
    for made in (0, 3, 5, 6):  # each time from where it stopped
        assert fit(20, tmp_path / "x.npz", tasks=interrupted_after(made), resume=True, **same).interrupted
    resumed = fit(20, tmp_path / "x.npz", resume=True, **same)
    assert_same_training(resumed, whole)
    assert type(resumed.theta[0]) is Affine and resumed.theta[0].W.dtype == dtype


def test_a_finished_training_goes_on_if_it_gets_more_iterations(tmp_path):
    path = tmp_path / "x.npz"
    fit(10, path, evaluate=lambda theta: {"scale": theta[1]["scale"]}, evaluate_every=5)
    before = path.read_bytes(), path.stat().st_mtime_ns
    fit(10, path, resume=True)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before  # there is nothing to do
    more = fit(15, path, resume=True, evaluate=lambda theta: {"scale": theta[1]["scale"]}, evaluate_every=5)
    assert_same_training(more, fit(15, evaluate=lambda theta: {"scale": theta[1]["scale"]}, evaluate_every=5))
    with pytest.raises(tm.CheckpointError, match="has made 15 iterations already: iterations=12 is how many in all"):
        fit(12, path, resume=True)


def test_it_is_kept_at_the_start_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    kept = []
    save = checkpoints.save_checkpoint
    monkeypatch.setattr(checkpoints, "save_checkpoint", lambda path, run: (kept.append((run.iteration, len(run.losses))), save(path, run)))
    fit(10, tmp_path / "x.npz", checkpoint_every=4)
    assert kept == [(0, 0), (4, 4), (8, 8), (10, 10)]
    fit(16, tmp_path / "x.npz", checkpoint_every=4, resume=True)
    assert kept[4:] == [(12, 12), (16, 16)]  # once each
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError, StopIteration])
def test_an_error_costs_nothing(tmp_path, error):
    with pytest.raises((error, RuntimeError)):  # Python makes one of a StopIteration
        fit(20, tmp_path / "x.npz", tasks=interrupted_after(7, error))
    assert tm.load_checkpoint(tmp_path / "x.npz").iteration == 7
    assert_same_training(fit(20, tmp_path / "x.npz", resume=True), fit(20))


def test_divergence_leaves_the_last_good_parameters_in_the_file(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(tm.Diverged, match=r"are in this error's .theta, and in .*x\.npz, for tm.load_checkpoint$") as caught:
        fit(10_000, path, optimizer=optim.sgd(10.0), checkpoint_every=1)
    found = tm.load_checkpoint(path)
    assert_identical(found.theta, caught.value.theta)
    assert found.iteration == caught.value.iteration == len(found.losses) > 0
    with pytest.raises(tm.Diverged) as again:
        fit(10_000, path, optimizer=optim.sgd(10.0), resume=True)
    assert_identical(again.value.theta, found.theta)


# A Ctrl-C may come at any line. Each of these raises it at another one, of all that train.py and checkpoints.py run.
def interrupted_at_line(number, run):
    """What `run` returned, or None, and how many lines were left to go."""
    left = [number]

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.endswith(("tinymeta/train.py", "tinymeta/checkpoints.py")):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        return run(), left[0]
    except KeyboardInterrupt:
        return None, left[0]
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in case that it came when this was about to be done


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that was opened, and not yet in its `with`
def test_ctrl_c_at_any_line_loses_nothing(tmp_path):
    options = {"checkpoint_every": 2, "evaluate": lambda theta: theta[1], "evaluate_every": 3}
    whole = fit(6, **options)
    path, seen = tmp_path / "x.npz", set()
    _, left = interrupted_at_line(10**6, lambda: fit(6, path, **options))
    for line in np.linspace(1, 10**6 - left, 100, dtype=int):
        path.unlink(missing_ok=True)
        outcome, _ = interrupted_at_line(line, lambda: fit(6, path, **options))
        seen.add(None if outcome is None else (outcome.interrupted, len(outcome.losses)))
        assert_same_training(fit(6, path, resume=True, **options), whole)
        assert [found.name for found in tmp_path.iterdir()] == ["x.npz"]
    assert seen >= {None, (True, 0), (True, 1), (True, 2), (True, 3), (True, 4), (True, 5)}  # before it begins, and in each iteration


# ## Stopped from outside, at any moment
SCRIPT = Path(__file__).parent / "stopped_training.py"
ITERATIONS = 1000


def start(path, iterations, pause, *point):
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent.parent), "TINYMETA_MACHINE": "numpy"}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(path), str(iterations), str(pause), *point], env=environment)


def wait(process):
    try:
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "x.npz"
    assert wait(start(path, ITERATIONS, 0)) == 0
    return tm.load_checkpoint(path)


def test_stopped_at_random_moments_it_loses_at_most_the_interval(tmp_path, uninterrupted):
    rng, path, log = random.Random(0), tmp_path / "x.npz", tmp_path / "x.npz.log"
    kept, working = 0, 0
    for number in range(10):
        stop = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT][number % 4]
        before = log.stat().st_mtime_ns if log.exists() else 0
        process = start(path, ITERATIONS, 0.003)
        while process.poll() is None and (not log.exists() or log.stat().st_size == 0 or log.stat().st_mtime_ns == before):
            time.sleep(0.002)  # until it has made an iteration
        time.sleep(rng.uniform(0, 0.06))
        process.send_signal(stop)
        assert wait(process) == (-signal.SIGKILL if stop == signal.SIGKILL else 0)
        found, made = tm.load_checkpoint(path).iteration, int(log.read_text())
        assert kept <= found and made - found < EVERY if stop == signal.SIGKILL else 0 <= found - made <= 1
        working += found > kept
        kept = found
    assert working >= 5 and kept < ITERATIONS
    assert wait(start(path, ITERATIONS, 0)) == 0
    assert_identical(tm.load_checkpoint(path), uninterrupted)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x.npz", "x.npz.log"]


@pytest.mark.parametrize("point, kept", [("savez", EVERY), ("fsync", EVERY), ("replace", EVERY), ("replaced", 2 * EVERY)])
def test_killed_in_the_middle_of_saving(tmp_path, uninterrupted, point, kept):
    path = tmp_path / "x.npz"
    assert wait(start(path, ITERATIONS, 0, point)) == -signal.SIGKILL
    assert tm.load_checkpoint(path).iteration == kept
    if point == "savez":
        assert wait(start(path, ITERATIONS, 0)) == 0
        assert_identical(tm.load_checkpoint(path), uninterrupted)
        assert sorted(found.name for found in tmp_path.iterdir()) == ["x.npz", "x.npz.log"]  # the half of a file is gone


# ## When it can't be written
def failing(error, after=0):
    left = iter([None] * after)

    def call(*_, **__):
        if next(left, "fail") == "fail":
            raise error

    return call


FULL, READ_ONLY = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("where, error", [("fsync", FULL), ("replace", READ_ONLY)])
def test_a_disk_that_is_full_leaves_the_file_as_it_is(tmp_path, monkeypatch, where, error):
    path = tmp_path / "x.npz"
    fit(5, path)
    before = path.read_bytes()
    with monkeypatch.context() as patched, pytest.raises(OSError, match="can't be written, the one that is there is untouched") as caught:
        patched.setattr(checkpoints.os, where, failing(error))
        fit(50, path, resume=True, checkpoint_every=10)
    assert caught.value.errno == error.errno and caught.value.filename == str(path) and error.strerror in str(caught.value)
    assert path.read_bytes() == before and [found.name for found in tmp_path.iterdir()] == ["x.npz"]
    assert_same_training(fit(50, path, resume=True), fit(50))


def test_a_disk_that_fills_up_while_the_file_is_written(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    fit(5, path)
    before = path.read_bytes()

    class Full(io.FileIO):
        def write(self, data):
            raise FULL

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device: the checkpoint can't be written"):
        patched.setattr(checkpoints, "open", Full, raising=False)
        fit(50, path, resume=True)
    assert path.read_bytes() == before and [found.name for found in tmp_path.iterdir()] == ["x.npz"]


def test_that_it_cannot_be_written_is_said_before_the_training(tmp_path, monkeypatch):
    never = lambda rng, count: pytest.fail("this comes too late")
    with pytest.raises(FileNotFoundError, match="can't be written, there was none before"):
        fit(5, tmp_path / "no such folder" / "x.npz", tasks=never)
    monkeypatch.setattr(checkpoints, "open", failing(PermissionError(errno.EACCES, "Permission denied")), raising=False)
    with pytest.raises(PermissionError, match=r"Permission denied: .*x\.npz"):
        fit(5, tmp_path / "x.npz", tasks=never)


# ## Files that can't be used
@pytest.fixture
def path(tmp_path):
    fit(5, tmp_path / "x.npz", configuration={"alpha": 0.1, "layers": [4, 4]})
    return tmp_path / "x.npz"


def refused(path, message, **options):
    """The file is refused with this message, and stays as it is."""
    before = path.read_bytes()
    options = {"configuration": {"alpha": 0.1, "layers": [4, 4]}, "resume": True} | options
    with pytest.raises(tm.CheckpointError, match=message) as caught:
        fit(10, path, **options)
    assert str(path) in str(caught.value) and path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_starting_anew_never_overwrites(path):
    refused(path, "exists: resume=True goes on from there; to start anew, remove it or choose another name", resume=False)


def test_resuming_without_a_file_begins(tmp_path):
    assert_same_training(fit(5, tmp_path / "x.npz", resume=True), fit(5))
    with pytest.raises(ValueError, match="resume=True goes on from a file"):
        fit(5, resume=True)


OTHER = START[0]._replace(b=np.zeros(2, np.float32)), START[1]
LARGER = Affine(np.ones((3, 2)), np.zeros(3)), START[1]


@pytest.mark.parametrize("options, message", [
    ({"configuration": {"alpha": 0.2, "layers": [4, 4]}}, r"configuration\['alpha'\] is 0.1 in the file, 0.2 here"),
    ({"configuration": {"alpha": 0.1, "layers": [4]}}, r"configuration\['layers'\]\[1\] is 4 in the file, missing here"),
    ({"configuration": None}, r"configuration\['alpha'\] is 0.1 in the file, missing here; configuration\['layers'\]\[0\] is 4 in"),
    ({"seed": 5}, r"seed\[0\] is 0 in the file, 5 here; seed\[1\] is 1 in the file, missing here"),
    ({"meta_batch": 4}, "meta_batch is 3 in the file, 4 here"),
    ({"theta": OTHER}, r"theta\[0\]\.b is float64\[2\] in the file, float32\[2\] here$"),
    ({"theta": LARGER}, r"theta\[0\]\.W is float64\[2, 2\] in the file, float64\[3, 2\] here"),
    ({"theta": (START[0]._asdict(), START[1])}, r"theta\[0\]\['W'\] is missing in the file, float64\[2, 2\] here"),
    ({"optimizer": optim.momentum(0.01)}, r"state\[0\]\.W is missing in the file, \(2, 2\) here"),
])  # fmt: skip
def test_another_training(path, options, message):
    refused(path, f"is of another training: .*{message}", **options)


def test_a_configuration_of_equal_values_is_the_same(path):
    fit(6, path, resume=True, configuration={"layers": (4, np.int64(4)), "alpha": np.float64(0.1)})


def test_a_truncated_file(path):
    data = path.read_bytes()
    for length in (4, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        refused(path, "is damaged, or not a checkpoint of tinymeta: ")


def test_a_flipped_byte_is_found_or_does_no_harm(path):
    """A byte of the archive may mean nothing (a date). No other content is ever read than what was written."""
    data, whole, rng, found = path.read_bytes(), tm.load_checkpoint(path), random.Random(0), 0
    for position in [*rng.sample(range(len(data)), 300), *range(len(data) - 300, len(data))]:
        path.write_bytes(data[:position] + bytes([data[position] ^ rng.choice([1, 16, 128, 255])]) + data[position + 1 :])
        try:
            assert_identical(tm.load_checkpoint(path), whole)
        except tm.CheckpointError:
            found += 1
    assert found > 400
    path.write_bytes(data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 1]) + data[len(data) // 3 + 1 :])
    refused(path, "is damaged")


def test_a_header_that_was_damaged_so_that_less_is_read(path):
    """The checksum is compared all the same."""
    checkpoints.save_checkpoint(path, tm.load_checkpoint(path)._replace(losses=np.ones(10_000)))
    path.write_bytes(path.read_bytes().replace(b"(10000,)", b"(1000,) "))
    refused(path, "is damaged")


def test_other_files(path):
    for content in (b"", b"a text\n", pickle.dumps([1, 2]), b"\x00" * 1000):
        path.write_bytes(content)
        refused(path, "is not a checkpoint of tinymeta")
    np.savez(path, theta=np.ones(3))
    refused(path, "is not a checkpoint of tinymeta")
    np.savez(path, about=np.ones(3))
    refused(path, "is damaged, or not a checkpoint of tinymeta")
    np.savez(path, about=np.array('{"title": "no checkpoint"}'))
    refused(path, "is damaged, or not a checkpoint of tinymeta")


def test_of_a_later_format(path, monkeypatch):
    path.unlink()
    with monkeypatch.context() as later:
        later.setattr(checkpoints, "FORMAT", 2)
        later.setattr(tm, "__version__", "9.1")
        fit(5, path)
    refused(path, r"is of format 2, written by tinymeta 9\.1; this tinymeta reads formats up to 1: update it")


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def test_no_pickle_is_ever_loaded(path):
    np.savez(path, about=np.array([Harmful()], dtype=object))
    refused(path, "Object arrays cannot be loaded when allow_pickle=False")
    path.unlink()
    fit(5, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    harmful = io.BytesIO()
    np.save(harmful, np.array([Harmful()], dtype=object))
    for content in (harmful.getvalue(), pickle.dumps(Harmful())):
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in (members | {"theta[0].W.npy": content}).items():
                archive.writestr(name, member)
        refused(path, "is damaged")


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The same file, with changed members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)


def with_contents(change):
    """With another description of what is in it."""

    def changed(members):
        about = json.loads(np.load(io.BytesIO(members["about.npy"])).item())
        change(about["contents"])
        file = io.BytesIO()
        np.save(file, np.array(json.dumps(about)))
        return members | {"about.npy": file.getvalue()}

    return changed


def test_a_file_that_unpacks_to_much_more_than_it_is(path):
    """A hundred megabytes of zeros in a hundred kilobytes; and one array that is named again and again."""
    large = io.BytesIO()
    np.save(large, np.zeros(12_500_000))
    rewritten(path, lambda members: members | {"theta[0].W.npy": large.getvalue()}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    refused(path, r"is damaged, .* its arrays, up to theta\[0\]\.W, have more bytes than the file")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    path.unlink()
    fit(5, path)
    again = {"kind": "list", "children": [{"array": "losses"}] * 1000}
    rewritten(path, with_contents(lambda contents: contents.update(state=again)))
    refused(path, "its arrays, up to losses, have more bytes than the file")


@pytest.mark.parametrize("name, keys", [
    ("a=__import__('os').getpid()", ["W"]), ("Affine", ["W=__import__('os').getpid()", "b"]), ("class", ["W"]), ("Affine", ["__class__"]),
    ("Affine", ["W", "W"]), ("Affine\nimport os\n", ["W"]),
])  # fmt: skip
def test_names_that_are_none_are_never_run(path, name, keys):
    """Python makes a namedtuple by running code with these names in it; it looks at them before."""
    harmful = {"kind": "namedtuple", "name": name, "keys": keys, "children": [1.0] * len(keys)}
    rewritten(path, with_contents(lambda contents: contents.update(theta=harmful)))
    refused(path, "is damaged, or not a checkpoint of tinymeta: ValueError: ")


def test_containers_without_end(path):
    """A thousand deep is too deep for Python's stack: an error, not a crash."""
    deep = "[" * 100_000 + "]" * 100_000
    file = io.BytesIO()
    np.save(file, np.array(deep))
    rewritten(path, lambda members: members | {"about.npy": file.getvalue()})
    refused(path, "is damaged, or not a checkpoint of tinymeta: RecursionError")
