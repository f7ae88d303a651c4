"""How the machine's functions are compiled."""

import contextlib
import functools
import io
import warnings
import zlib
from pathlib import Path

import numba
from numba.core.caching import IndexDataCacheFile
from numba.np import linalg


# To take a function from its cache Numba loads all that it knows of NumPy, and imports SciPy's linear algebra only to see whether it is
# there: a seventh of the time from a new process's start to its first meta-gradient. It is there, as we require it; whoever compiles a
# product of matrices with Numba has it imported then.
def load_numba_without_scipy():
    check = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = check


load_numba_without_scipy()

# How functions are compiled: some are put into their callers after they are compiled themselves, some before (less work for what
# has one caller). Neither kind needs an entry from Python.
inner = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True, forceinline=True)
spliced = numba.njit(nogil=True, error_model="numpy", inline="always")
PARTS = ["compiling", "vectors", "elementary", "maps", "moves", "products", "elimination", "kernels", "lower", "interpreter", "threads"]
FILES = [Path(__file__).with_name(name + ".py") for name in PARTS]


def kernel(function):
    """What the interpreter calls: compiled at its first call, and kept on disk until one of the kernels' files changes.

    Left to itself, Numba would look at the function's own file only, and go on using what has changed in another one.
    """
    try:
        compiled = numba.njit(nogil=True, error_model="numpy", cache=True, no_cfunc_wrapper=True)(function)
    except RuntimeError:  # nowhere to keep it
        warn_once()
        return numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    states = [file.stat() for file in (*FILES, Path(function.__code__.co_filename))]
    compiled._cache._guard_against_spurious_io_errors = at_most_a_warning
    compiled._cache._cache_file.__class__ = CacheFile
    compiled._cache._cache_file._source_stamp = tuple((state.st_mtime_ns, state.st_size) for state in states)
    return compiled


# ## The cache on disk
# Numba runs whatever its cache's files contain. So a checksum at the end of each says that they contain what was written: where a disk was
# full, or a machine was switched off in the middle, the function is compiled anew.
class CacheFile(IndexDataCacheFile):
    """Where a function is kept: an index, and a file for each of its signatures."""

    def save(self, key, data):
        """(Numba would number the signatures; two processes, each of which has compiled another one, would give both the same number.)"""
        name = self._data_name(zlib.crc32(repr(key).encode()))
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})

    def _load_index(self):
        return super()._load_index() if intact(self._index_path) else {}

    def _load_data(self, name):
        if not intact(self._data_path(name)):
            raise FileNotFoundError(name)
        return super()._load_data(name)

    @contextlib.contextmanager
    def _open_for_write(self, path):
        content = io.BytesIO()
        yield content
        with super()._open_for_write(path) as file:
            file.write(content.getvalue() + checksum(content.getvalue()))


def checksum(content):
    return zlib.crc32(content).to_bytes(4, "little")


def intact(path):
    """Whether a file is there, and as it was written."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return False
    return checksum(content[:-4]) == content[-4:]


@contextlib.contextmanager
def at_most_a_warning():
    """Around all that reads or writes the cache."""
    try:
        yield
    except OSError:
        warn_once()


@functools.cache
def warn_once():
    warnings.warn("Numba's cache can't be written, so the machine is compiled anew in every process (about 20 seconds): "
                  "set NUMBA_CACHE_DIR to a folder of yours", RuntimeWarning, stacklevel=2)  # fmt: skip
