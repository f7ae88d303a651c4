r"""
# Omniglot

1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015). tinymeta doesn't bring them along: `DOWNLOAD` says where they
are. The zips are read as they are; nothing is unpacked, and nothing but images of the right name, place and size is let in.

    train, test = few_shot.split(omniglot.load("images_background_small1.zip"), omniglot.load("images_background_small2.zip"))
    tasks = few_shot.draw(rng, 32, train.rotated(), ways=5, shots=1, queries=15)
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arguments import wanted
from .few_shot import Characters

DOWNLOAD = """Omniglot can be downloaded from https://github.com/brendenlake/omniglot (MIT licence), in its folder python/:
  images_background.zip and images_evaluation.zip, which are all of it, or two parts of the first,
  images_background_small1.zip  SHA-256 f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4
  images_background_small2.zip  SHA-256 3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"""
EXPECTED = "expected names like Greek/character01/0394_01.png, perhaps below one folder"
PLACE = re.compile(r"([\w()' -]+)/(character\d\d)/(\d{4}_\d\d\.png)")  # nothing here leads to another folder
SIDE = 105
MOST_FILES, MOST_BYTES = 50_000, 50_000  # in one zip or folder, and in one image; Omniglot has 32,460 images of less than 500 bytes
MOST_IN_ALL = 50_000_000  # bytes, of all that a zip unpacks to


class File(NamedTuple):
    """An image that may be read."""

    shown: str
    """its name, for an error"""
    place: tuple[str, str, str]
    """alphabet, character, drawing"""
    open: Callable[[], Any]


# ## Smaller images
# New pixel i of n, in the place of m, covers the interval $[i r,\, (i + 1) r]$ of the old ones, with $r = m/n$; old pixel j covers
# $[j,\, j + 1]$. The new one is the mean of what it covers, so each old one counts with the share that lies inside:
# $$ A_{ij} = \tfrac1r\,\big|\,[i r, (i + 1) r] \cap [j, j + 1]\,\big|
#    = \tfrac1r \max\big(0,\; \min((i + 1) r, j + 1) - \max(i r, j)\big). $$
# So for the rows of an image X, and for its columns as well:
# $$ Y_{ik} = \sum_{jl} A_{ij}\,X_{jl}\,A_{kl}, \qquad Y = A X A^\top. $$
def area_weights(n: int, m: int = SIDE) -> np.ndarray:
    """A, of shape (n, m): averages m pixels into n.

    >>> area_weights(2, 3).round(3)
    array([[0.667, 0.333, 0.   ],
           [0.   , 0.333, 0.667]])
    """
    r, i, j = m / n, np.arange(n)[:, None], np.arange(m)
    return np.maximum(0, np.minimum((i + 1) * r, j + 1) - np.maximum(i * r, j)) / r


# ## Loading
def load(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], size: int = 28) -> Characters:
    """All characters that are found, in the order of their names.

    Parameters
    ----------
    path : a zip of Omniglot; or a folder with zips `images_*.zip`, or unpacked ones, or alphabets, or the characters of one alphabet; or a
        list of such. What is found twice is taken once.
    size : of the images, made smaller by averaging areas: 28, or any other up to 105

    Returns
    -------
    Characters, with 1 for ink and 0 for paper.

    Raises FileNotFoundError where there is nothing, and says where to download it; ValueError for a file that doesn't belong there, and
    names it.

    Example
    -------
    >>> load("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: no images of characters in nowhere. Omniglot can be downloaded from https://github.com/brendenlake/omniglot ...
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= SIDE:
        raise wanted("size", size, f"choose one from 1 to {SIDE}, such as 28 or 14")
    paths = [path] if isinstance(path, str | os.PathLike) else path
    if not isinstance(paths, (list, tuple)) or not all(isinstance(where, str | os.PathLike) for where in paths):
        raise wanted("path", path, "the place of a zip or a folder, or a list of such places", TypeError)
    if not paths:
        raise FileNotFoundError(f"the list of places to look in is empty. {DOWNLOAD}")
    A = area_weights(size)
    classes: dict[str, dict[str, np.ndarray]] = {}
    for where in paths:
        files = 0
        for file in _files(Path(where)):
            files += 1
            alphabet, character, drawing = file.place
            drawings = classes.setdefault(f"{alphabet}/{character}", {})
            if drawing not in drawings:
                drawings[drawing] = (A @ _ink(file) @ A.T).astype(np.float32)
        if files == 0:
            raise FileNotFoundError(f"no images of characters in {where}. {DOWNLOAD}")
    counts = sorted((len(drawings), name) for name, drawings in classes.items())
    (fewest, one), (most, other) = counts[0], counts[-1]
    if fewest < most:
        raise ValueError(f"{one} has {fewest} drawings and {other} has {most}: expected as many of each, which is 20 in Omniglot")
    names = sorted(classes)
    return Characters(np.array([[classes[name][drawing] for drawing in sorted(classes[name])] for name in names]), names)


def _files(path: Path) -> Iterator[File]:
    if path.is_dir():
        for archive in sorted(path.glob("images_*.zip")):
            yield from _zipped(archive)
        yield from _unpacked(path)
    elif path.exists():
        yield from _zipped(path)


def _zipped(path: Path) -> Iterator[File]:
    import zipfile

    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is no zip, or not a whole one ({error}). {DOWNLOAD}") from error
    with archive:
        _limit(path, len(archive.infolist()))
        if (size := sum(member.file_size for member in archive.infolist())) > MOST_IN_ALL:  # whoever says less is cut off there
            raise ValueError(f"{path} unpacks to {size:,} bytes: expected at most {MOST_IN_ALL:,}; Omniglot is smaller than 10 million")
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # of others, one can't read a little at a time
                raise ValueError(f"{path}: {member.filename} is compressed in another way than Omniglot's files")
            if not member.filename.endswith("/"):
                place = re.fullmatch(rf"(?:[\w-]+/)?{PLACE.pattern}", member.filename)
                yield _file(f"{path}: {member.filename}", place, partial(archive.open, member))


def _unpacked(folder: Path) -> Iterator[File]:
    found = [file for depth in (1, 2, 3) for file in folder.resolve().glob("*/" * depth + "*.png")]
    _limit(folder, len(found))
    for file in found:
        yield _file(str(file), PLACE.fullmatch("/".join(file.parts[-3:])), partial(file.open, "rb"))


def _limit(path: Path, files: int) -> None:
    if files > MOST_FILES:
        raise ValueError(f"{path} holds {files:,} files: expected at most {MOST_FILES:,}; Omniglot has 32,460")


def _file(shown: str, place: re.Match[str] | None, open: Callable[[], Any]) -> File:
    if place is None:
        raise ValueError(f"{shown} is none of Omniglot's files: {EXPECTED}")
    alphabet, character, drawing = place.groups()
    return File(shown, (alphabet, character, drawing), open)


def _ink(file: File) -> np.ndarray:
    """One image, of shape (105, 105). The header says how large it is before anything is decoded."""
    from matplotlib.image import imread

    try:
        with file.open() as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        if not content.startswith(b"\x89PNG\r\n\x1a\n") or content[16:24] != 2 * SIDE.to_bytes(4, "big"):
            raise ValueError("its header is another one")
        pixels = imread(io.BytesIO(content), format="png")
    except Exception as error:  # whatever can be wrong with a zip or with an image
        raise ValueError(f"{file.shown} can't be read ({error}): expected a PNG of {SIDE} x {SIDE} pixels") from error
    return 1 - (pixels if pixels.ndim == 2 else pixels[:, :, :3].mean(axis=2))
