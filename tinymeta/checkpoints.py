"""
# Checkpoints

One file holds all that a training needs to go on as if it had never stopped. It is an .npz, NumPy's archive of named arrays; one of them,
`about`, is JSON text with everything that isn't an array:

    {"format": 1, "tinymeta": "0.1.0", "contents": {"theta": ..., "state": ..., ...}}

An array is there by its name, `{"array": "theta[0]['W']"}`; a container says what it is,

    {"kind": "dict", "keys": ["W", "b"], "children": [..., ...]}

(or list, or tuple, or namedtuple with its name); numbers, text and None stand for themselves. So whoever reads the file needs to know
nothing in advance, and nothing in it is ever run: there is no pickle. A namedtuple comes back as a new one with the same name and fields.

The file is written under another name, brought to the disk, and renamed: at any moment there is a whole one, the old one or the new one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arguments import check_type
from .autodiff import tree
from .autodiff.tensor import describe

FORMAT = 1
PLAIN = (bool, int, float, str)

PathLike = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A file isn't a checkpoint that can be used, or must not be overwritten."""


class Checkpoint(NamedTuple):
    """How a training stands between two iterations."""

    theta: Any
    state: Any
    """the optimizer's"""
    random: Any
    """the state of the random generator"""
    iteration: int
    """how many have been made"""
    losses: Any
    """one for each iteration"""
    evaluations: tuple[tuple[int, Any], ...]
    """(iteration, result)"""
    seed: Any
    meta_batch: int
    configuration: dict[str, Any]
    """what the caller wanted to be kept with it"""
    version: str = ""
    """of tinymeta, when the file was written"""


# ## Writing
def save_checkpoint(path: PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: all of it, or nothing, and then what was there before is still there.

    Raises TypeError for what can't be stored (anything but arrays, numbers, text and None in dicts, lists, tuples and namedtuples), and
    OSError if the file can't be written.
    """
    import json

    from . import __version__

    arrays: dict[str, np.ndarray] = {}
    contents = {field: stored(x, field, arrays) for field, x in checkpoint._replace(version=__version__)._asdict().items()}
    about = json.dumps({"format": FORMAT, "tinymeta": __version__, "contents": contents})
    content = io.BytesIO()
    np.savez(content, about=np.array(about), **arrays)  # type: ignore[arg-type]
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            before = "the one that is there is untouched" if path.exists() else "there was none before"
            raise OSError(error.errno, f"{error.strerror or error}: the checkpoint can't be written, {before}", str(path)) from error
        raise


def stored(x: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A tree in JSON's terms; its arrays are put aside, under their names.

    Raises TypeError for what can't be stored, see `save_checkpoint`.

    >>> arrays = {}
    >>> stored([np.ones(2), 3], "theta", arrays)
    {'kind': 'list', 'children': [{'array': 'theta[0]'}, 3]}
    >>> arrays
    {'theta[0]': array([1., 1.])}
    """
    return _stored(x, iter(tree.names(x, name)), arrays)


def _stored(x: Any, names: Iterator[str], arrays: dict[str, np.ndarray]) -> Any:
    if x is None:
        return None
    found = tree.children(x)
    if found is None:
        name = next(names)
        if type(x) in PLAIN:
            return x
        if not isinstance(x, (np.ndarray, np.generic)) or x.dtype.hasobject:
            raise TypeError(f"a checkpoint can't store {name}, of type {type(x).__name__}: it holds arrays, numbers, text and None, "
                            "in dicts, lists, tuples and namedtuples")  # fmt: skip
        arrays[name] = np.asarray(x)
        return {"array" if isinstance(x, np.ndarray) else "scalar": name}
    keys, children = found
    described = {"children": [_stored(child, names, arrays) for child in children]}
    if isinstance(x, dict):
        if unfit := [key for key in keys if type(key) not in (str, int)]:
            raise TypeError(f"a checkpoint can't store a dict with the key {unfit[0]!r}: keys are text or int")
        return {"kind": "dict", "keys": keys, **described}
    if hasattr(x, "_fields"):
        return {"kind": "namedtuple", "name": type(x).__name__, "keys": keys, **described}
    return {"kind": "list" if isinstance(x, list) else "tuple", **described}


# ## Reading
def load_checkpoint(path: PathLike) -> Checkpoint:
    """Read a checkpoint that `tm.fit` wrote.

    Returns
    -------
    Checkpoint (theta, state, random, iteration, losses, evaluations, seed, meta_batch, configuration, version)

    Raises CheckpointError (a ValueError) if the file is damaged, is something else, or is of a later format.

    Example
    -------
    >>> import os, tempfile, tinymeta as tm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "training.npz")
    ...     _ = tm.fit(lambda theta, task: (theta["w"] - task) ** 2, {"w": np.zeros(())}, lambda rng, count: rng.uniform(1, 3, count),
    ...                tm.optim.sgd(0.1), iterations=10, meta_batch=100, seed=0, quiet=True, checkpoint=path, configuration={"lr": 0.1})
    ...     found = tm.load_checkpoint(path)
    >>> found.iteration, list(found.theta), found.configuration
    (10, ['w'], {'lr': 0.1})
    """
    check_type("path", path, (str, os.PathLike), "the name of a file")
    data = Path(path).read_bytes()
    if not data.startswith(b"PK"):  # as all zip files do
        raise CheckpointError(f"{path} is not a checkpoint of tinymeta")
    try:
        return _loaded(data, path)
    except CheckpointError:
        raise
    except Exception as error:  # there are as many as there are ways to be damaged
        raise CheckpointError(f"{path} is damaged, or not a checkpoint of tinymeta: {type(error).__name__}: {error}") from error


def _loaded(data: bytes, path: PathLike) -> Checkpoint:
    import json
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        left = len(data)  # nothing in it is compressed, and each array is there once

        def array(name: str) -> np.ndarray:
            nonlocal left
            left -= archive.getinfo(f"{name}.npy").file_size
            if left < 0:
                raise ValueError(f"its arrays, up to {name}, have more bytes than the file")
            content = archive.read(f"{name}.npy")  # to its end, where its checksum is compared
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)

        if "about.npy" not in archive.namelist():
            raise CheckpointError(f"{path} is not a checkpoint of tinymeta")
        about = json.loads(array("about").item())
        if about["format"] > FORMAT:
            raise CheckpointError(f"{path} is of format {about['format']}, written by tinymeta {about['tinymeta']}; this tinymeta reads "
                                  f"formats up to {FORMAT}: update it")  # fmt: skip
        return Checkpoint(**{field: _restored(x, array) for field, x in about["contents"].items()})


def _restored(x: Any, array: Callable[[str], np.ndarray]) -> Any:
    """What `stored` was given."""
    if not isinstance(x, dict):
        return x
    if "array" in x:
        return array(x["array"])
    if "scalar" in x:
        return array(x["scalar"])[()]
    children = [_restored(child, array) for child in x["children"]]
    if x["kind"] == "dict":
        return dict(zip(x["keys"], children, strict=True))
    if x["kind"] == "namedtuple":
        return _namedtuple(x["name"], tuple(x["keys"]))(*children)
    return children if x["kind"] == "list" else tuple(children)


_namedtuple = functools.cache(namedtuple)  # the same type for the same name and fields


# ## The file of a training
class Keeper:
    """Where a training is kept: in a file, or nowhere if `path` is None."""

    def __init__(self, path: PathLike | None, every: int) -> None:
        self.path, self.every = None if path is None else Path(path), every
        self.kept: int | None = None  # the iteration of what is in the file

    def begin(self, start: Checkpoint, resume: bool) -> Checkpoint:
        """Where the training begins: at its start, or where the file's stopped."""
        if self.path is None:
            return start
        if not self.path.exists():
            self.keep(start)  # if that can't be done, it had better be known now
            return start
        if not resume:
            raise CheckpointError(f"{self.path} exists: resume=True goes on from there; to start anew, remove it or choose another name")
        found = load_checkpoint(self.path)
        if different := list(_differences(found, start)):
            raise CheckpointError(f"{self.path} is of another training: {'; '.join(different[:3])}")
        self.kept = found.iteration
        theta, state = (tree.map(lambda _, x: x, *pair) for pair in ((start.theta, found.theta), (start.state, found.state)))
        return found._replace(theta=theta, state=state, losses=found.losses.tolist())  # theta and state in the caller's own containers

    def keep(self, run: Checkpoint) -> None:
        """Put it into the file, if it isn't there."""
        if self.path is not None and run.iteration != self.kept:
            save_checkpoint(self.path, settled(run))
            self.kept = run.iteration

    def keep_now_and_then(self, run: Checkpoint) -> None:
        """Every so many iterations."""
        if run.iteration % self.every == 0:
            self.keep(run)

    @property
    def hint(self) -> str:
        """How to go on later."""
        return f"; they are kept in {self.path}, and the same call with resume=True goes on from there" if self.path else ""


def settled(run: Checkpoint) -> Checkpoint:
    """With its losses as an array. (While an iteration is being made, their list may be longer than it should.)"""
    return run._replace(losses=np.array(run.losses[: run.iteration], dtype=float))


def _differences(found: Checkpoint, start: Checkpoint) -> Iterator[str]:
    """In what a training may not differ from the one that it continues. (The state's dtypes may be others than at the start.)"""
    value = lambda x: np.asarray(x).tolist()
    compared = {"theta": lambda x: describe(np.asarray(x)), "state": np.shape, "seed": value, "meta_batch": value, "configuration": value}
    for field, essence in compared.items():
        there, here = (
            {name: essence(leaf) for name, leaf in zip(tree.names(x, field), tree.flatten(x)[0], strict=True)}
            for x in (getattr(found, field), getattr(start, field))
        )
        for name in {**here, **there}:
            old, new = (essences.get(name, "missing") for essences in (there, here))
            if old != new:
                yield f"{name} is {old} in the file, {new} here"
