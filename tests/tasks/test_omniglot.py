"""Omniglot's zips and folders, from tiny copies and, where they are, from the real ones; and zips that should not be let in."""

import hashlib
import io
import itertools
import re
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from tinymeta.tasks import few_shot, omniglot

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "omniglot"
NAMES = [f"{place}/{number:04}_{drawing:02}.png" for number, place in enumerate(
    ["Greek/character01", "Greek/character02", "Japanese_(katakana)/character01"], 394) for drawing in (1, 2, 3)]  # fmt: skip
rng = np.random.default_rng(0)
PAPER = {name: (rng.random((105, 105)) > 0.1).astype(np.float32) for name in NAMES}  # 1 where there is no ink


def png(pixels):
    with io.BytesIO() as file:
        matplotlib.image.imsave(file, pixels, cmap="gray", vmin=0, vmax=1, format="png")
        return file.getvalue()


CONTENTS = {name: png(pixels) for name, pixels in PAPER.items()}


def write_zip(path, contents, top="images_background_small1/", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(top + name, content)
    return path


def write_folder(path, contents):
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def averaged(pixels, size):
    """Each pixel as `size` equal ones, and the mean over every 105 of these: along the rows, then along the columns."""
    for _ in range(2):
        pixels = np.repeat(pixels, size, axis=0).reshape(size, 105, -1).mean(axis=1).T
    return pixels


# ## Smaller images
@pytest.mark.parametrize("n, m", [(28, 105), (14, 105), (105, 105), (1, 105), (2, 3), (7, 10)])
def test_the_weights_average_areas(n, m):
    A = omniglot.area_weights(n, m)
    finer = np.repeat(np.eye(m), n, axis=0).reshape(n, m, m).mean(axis=1)  # each pixel as n equal ones, and the mean of every m of them
    np.testing.assert_allclose(A, finer, atol=1e-14)
    np.testing.assert_allclose(A.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("size", [28, 14, 105])
def test_ink_is_1_and_areas_are_averaged(tmp_path, size):
    characters = omniglot.load(write_zip(tmp_path / "x.zip", CONTENTS), size)
    assert characters.images.shape == (3, 3, size, size) and characters.images.dtype == np.float32
    assert characters.images.min() >= 0 and characters.images.max() <= 1
    for name, image in zip(NAMES, characters.images.reshape(9, size, size), strict=True):
        np.testing.assert_allclose(image, averaged(1 - PAPER[name], size), atol=1e-6)


@pytest.mark.parametrize("size", [0, 106, -1])
def test_a_size_that_is_none(size):
    with pytest.raises(ValueError, match=rf"size={size}: choose one from 1 to 105, such as 28 or 14"):
        omniglot.load("x.zip", size)


# ## Where it may be
PLACES = {
    "a zip": lambda path: write_zip(path / "a.zip", CONTENTS),
    "a zip, not sorted": lambda path: write_zip(path / "a.zip", dict(reversed(CONTENTS.items()))),
    "a zip without a folder on top": lambda path: str(write_zip(path / "a.zip", CONTENTS, top="")),
    "a folder with a zip": lambda path: write_zip(path / "images_background_small1.zip", CONTENTS).parent,
    "a folder with unpacked zips": lambda path: write_folder(path / "images_background", CONTENTS).parent,
    "a folder of alphabets": lambda path: write_folder(path, CONTENTS),
    "the folder of each alphabet": lambda path: [write_folder(path, CONTENTS) / name for name in ("Japanese_(katakana)", "Greek")],
    "all of it twice": lambda path: [write_zip(path / "a.zip", CONTENTS), str(write_folder(path / "images", CONTENTS))],
    "one part after the other": lambda path: [
        write_zip(path / "b.zip", dict(list(CONTENTS.items())[2:])), write_zip(path / "a.zip", dict(list(CONTENTS.items())[:4]))],
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_and_nothing_is_written(tmp_path, place):
    where = PLACES[place](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    characters = omniglot.load(where)
    assert sorted(tmp_path.rglob("*")) == before
    assert characters.names == ["Greek/character01", "Greek/character02", "Japanese_(katakana)/character01"]
    assert characters.alphabets == ["Greek", "Japanese_(katakana)"]
    for name, image in zip(NAMES, characters.images.reshape(9, 28, 28), strict=True):
        np.testing.assert_allclose(image, averaged(1 - PAPER[name], 28), atol=1e-6)


def test_one_character_is_enough(tmp_path):
    assert omniglot.load(write_folder(tmp_path, {NAMES[0]: CONTENTS[NAMES[0]]})).images.shape == (1, 1, 28, 28)


@pytest.mark.parametrize("where, found", [
    (lambda path: path / "nowhere.zip", "no images of characters in .*nowhere.zip"),
    (lambda path: path, "no images of characters in "),
    (lambda path: [write_zip(path / "a.zip", CONTENTS), path / "b.zip"], "no images of characters in .*b.zip"),
    (lambda path: write_zip(path / "empty.zip", {}), "no images of characters in .*empty.zip"),
    (lambda path: [], "the list of places to look in is empty"),
])  # fmt: skip
def test_where_there_is_nothing_it_says_where_to_find_it(tmp_path, where, found):
    with pytest.raises(FileNotFoundError, match=found) as error:
        omniglot.load(where(tmp_path))
    for word in ("https://github.com/brendenlake/omniglot", "python/", "images_background.zip", "images_evaluation.zip", "MIT licence"):
        assert word in str(error.value)
    assert re.search(r"images_background_small1\.zip +SHA-256 f38eb80f[0-9a-f]{56}\n", str(error.value))
    assert re.search(r"images_background_small2\.zip +SHA-256 3ccaa407[0-9a-f]{56}$", str(error.value))


# ## What is not let in
@pytest.mark.parametrize("name", [
    "/Greek/character01/0394_01.png", "../Greek/character01/0394_01.png", "Greek/../character01/0394_01.png", "../../../etc/passwd",
    "images/../../Greek/character01/0394_01.png", "/etc/passwd", "C:/Greek/character01/0394_01.png", "..\\Greek/character01/0394_01.png",
    "a/b/Greek/character01/0394_01.png", "character01/0394_01.png", "Greek/character1/0394_01.png", "Greek/character01/394_01.png",
    "Greek/character01/0394_01.png.exe", "Greek/character01/0394_01.jpg", "Greek/character01/0394_01.png\n", "readme.txt",
])  # fmt: skip
def test_another_name_in_a_zip(tmp_path, name):
    path = write_zip(tmp_path / "x.zip", {**CONTENTS, name: CONTENTS[NAMES[0]]}, top="")
    with pytest.raises(ValueError, match=rf"x\.zip: {re.escape(name)} is none of Omniglot's files: expected names like Greek/character01/"):
        omniglot.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"]


def test_another_name_in_a_folder(tmp_path):
    write_folder(tmp_path, {**CONTENTS, "Greek/notes/figure.png": b""})
    with pytest.raises(ValueError, match=r"figure\.png is none of Omniglot's files"):
        omniglot.load(tmp_path)


def with_size(width, height, content=CONTENTS[NAMES[0]]):
    return content[:16] + struct.pack(">II", width, height) + content[24:]


BROKEN = {
    "empty": (b"", "its header is another one"),
    "text": (b"no image at all, but some text", "its header is another one"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(100), "its header is another one"),
    "a header alone": (CONTENTS[NAMES[0]][:33], ""),
    "truncated": (CONTENTS[NAMES[0]][:-200], ""),
    "noise behind the header": (CONTENTS[NAMES[0]][:33] + bytes(range(256)), ""),
    "smaller": (png(np.ones((28, 28))), "its header is another one"),
    "another shape": (png(np.ones((105, 28))), "its header is another one"),
    "said to be huge": (with_size(100_000, 100_000), "its header is another one"),
    "large": (CONTENTS[NAMES[0]] + bytes(omniglot.MOST_BYTES), "it has more than 50,000 bytes"),
    "very large": (bytes(20_000_000), "it has more than 50,000 bytes"),
}


@pytest.mark.parametrize("place", ["a zip", "a folder of alphabets"])
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image(tmp_path, monkeypatch, what, place):
    content, why = BROKEN[what]
    monkeypatch.setitem(CONTENTS, NAMES[4], content)
    where = PLACES[place](tmp_path)
    message = rf"{re.escape(str(tmp_path))}.*{re.escape(NAMES[4])} can't be read \(.*{why}.*\): expected a PNG of 105 x 105 pixels"
    with pytest.raises(ValueError, match=message):
        omniglot.load(where)


def test_no_more_is_read_than_allowed():
    class Endless(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= omniglot.MOST_BYTES + 1
            return bytes(size)

    with pytest.raises(ValueError, match=r"Greek can't be read \(it has more than 50,000 bytes\)"):
        omniglot._ink(omniglot.File("Greek", ("Greek", "character01", "0394_01.png"), Endless))


def test_a_zip_that_lies_about_a_size(tmp_path):
    """20 MB that are said to be 100 bytes: the checksum can't be right."""
    path = write_zip(tmp_path / "x.zip", {NAMES[0]: bytes(20_000_000)})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 20_000_000), struct.pack("<I", 100)))
    with pytest.raises(ValueError, match=r"0394_01\.png can't be read \(Bad CRC-32"):
        omniglot.load(path)


def peak(load):
    """The most memory that it takes, in bytes."""
    tracemalloc.start()
    try:
        load()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_zip_that_unpacks_to_much_more_than_it_is(tmp_path):
    """A hundred megabytes in a hundred kilobytes, in one file or in many, of which each is small enough: nothing is unpacked."""
    one = write_zip(tmp_path / "one.zip", {NAMES[0]: bytes(100_000_000)})
    many = write_zip(tmp_path / "many.zip", {f"Greek/character01/{k:04}_01.png": bytes(49_000) for k in range(2041)})
    for path, size in ((one, "100,000,000"), (many, "100,009,000")):
        assert path.stat().st_size < 1_000_000

        def refused(path=path, size=size):
            with pytest.raises(ValueError, match=rf"{path.name} unpacks to {size} bytes: expected at most 50,000,000; Omniglot is smaller"):
                omniglot.load(path)

        assert peak(refused) < 5_000_000


def test_a_zip_whose_entries_are_all_the_same_one(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(NAMES[0], bytes(40_000))
        archive.filelist *= 2000  # in the directory at the end, of which each entry says where it is
    assert path.stat().st_size < 300_000
    with pytest.raises(ValueError, match="unpacks to 80,000,000 bytes"):
        omniglot.load(path)


def test_a_link_in_a_zip_is_not_followed(tmp_path):
    target = tmp_path / "secret.png"
    target.write_bytes(CONTENTS[NAMES[0]])  # which would do
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        link = zipfile.ZipInfo(NAMES[0])
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(target))
    with pytest.raises(ValueError, match=r"0394_01\.png can't be read \(its header is another one\)"):
        omniglot.load(tmp_path / "x.zip")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression(tmp_path, compression):
    path = write_zip(tmp_path / "x.zip", CONTENTS, compression=compression)
    with pytest.raises(ValueError, match=r"x\.zip: .*0394_01\.png is compressed in another way than Omniglot's files"):
        omniglot.load(path)
    assert omniglot.load(write_zip(tmp_path / "y.zip", CONTENTS, compression=zipfile.ZIP_STORED)).images.shape == (3, 3, 28, 28)


@pytest.mark.parametrize("place", ["a zip", "a folder of alphabets"])
def test_too_many_files(tmp_path, monkeypatch, place):
    where = PLACES[place](tmp_path)
    monkeypatch.setattr(omniglot, "MOST_FILES", 9)
    omniglot.load(where)
    monkeypatch.setattr(omniglot, "MOST_FILES", 8)
    with pytest.raises(ValueError, match="holds 9 files: expected at most 8; Omniglot has 32,460"):
        omniglot.load(where)


def test_a_zip_that_is_none_or_is_cut_off_or_damaged(tmp_path):
    path = write_zip(tmp_path / "x.zip", CONTENTS)
    content = path.read_bytes()
    damaged = [content[:n] for n in (0, 10, len(content) // 2, len(content) - 1)] + [b"this is no zip", content[len(content) // 2 :]]
    for part in damaged:
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"x\.zip is no zip, or not a whole one|0394_01\.png can't be read") as error:
            omniglot.load(path)
    assert "github.com/brendenlake/omniglot" in str(error.value) or "0394_01" in str(error.value)


def test_every_damage_is_an_error_that_names_the_file_or_does_none(tmp_path):
    """One byte after the other is changed; what comes out is the same images, or a ValueError."""
    path = write_zip(tmp_path / "x.zip", {NAMES[0]: CONTENTS[NAMES[0]]}, top="")
    content, right = path.read_bytes(), omniglot.load(path)
    ends = itertools.chain(range(100), range(len(content) - 150, len(content)))
    for i in ends:
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        try:
            loaded = omniglot.load(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert np.array_equal(loaded.images, right.images)


def test_a_missing_drawing(tmp_path):
    path = write_zip(tmp_path / "x.zip", {name: CONTENTS[name] for name in NAMES[:-1]})
    with pytest.raises(ValueError, match=r"Japanese_\(katakana\)/character01 has 2 drawings and Greek/character02 has 3: expected as many"):
        omniglot.load(path)


# ## The real one
real = pytest.mark.skipif(not REAL.is_dir(), reason="Omniglot is not there")


@real
def test_the_checksums():
    for name in ("images_background_small1.zip", "images_background_small2.zip"):
        assert f"{name}  SHA-256 {hashlib.sha256((REAL / name).read_bytes()).hexdigest()}" in omniglot.DOWNLOAD


@real
def test_omniglot_itself():
    first, second = (omniglot.load(REAL / f"images_background_small{k}.zip") for k in (1, 2))
    assert first.images.shape == (136, 20, 28, 28) and second.images.shape == (156, 20, 28, 28)
    assert first.alphabets == ["Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"]
    assert second.alphabets == ["Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"]
    assert first.images.min() == 0 and first.images.max() == 1 and 0.05 < first.images.mean() < 0.1
    np.testing.assert_array_equal(first.of(["Greek", "Latin"]).images, second.of(["Greek", "Latin"]).images)
    _, unseen = few_shot.split(first, second)
    assert unseen.images.shape == (106, 20, 28, 28)
    assert omniglot.load(REAL).names == sorted(set(first.names + second.names))


@real
def test_nearest_neighbour_on_omniglot():
    """On the pixels of the whole set, 41.7 % and 63.2 % are published (Vinyals et al. 2016, table 1, with the cosine)."""
    characters = omniglot.load(REAL).rotated()
    for shots, expected in ((1, 0.43), (5, 0.65)):
        share = few_shot.nearest_neighbour(few_shot.draw(np.random.default_rng(0), 200, characters, 5, shots, 15)).mean()
        assert abs(share - expected) < 0.03
