"""How the machine's functions are compiled."""

import functools
import warnings
from pathlib import Path

import numba
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
    compiled._cache._cache_file._source_stamp = tuple((state.st_mtime_ns, state.st_size) for state in states)
    return compiled


@functools.cache
def warn_once():
    warnings.warn("no folder for Numba's cache can be written, so the machine is compiled anew in every process (about 20 seconds): "
                  "set NUMBA_CACHE_DIR to a folder of yours", RuntimeWarning, stacklevel=2)  # fmt: skip
