"""What an argument must be, and the error that says so: it names the argument, and says what was given and what is wanted.

Functions that users call begin with these; what they call may trust.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np


def shown(x: Any) -> str:
    """What was given, in an error: short, whatever it is.

    >>> shown(0.5), shown("abc"), shown(np.zeros((2, 3))), shown(dict(enumerate(range(100))))
    ('0.5', "'abc'", 'float64[2, 3]', 'a dict')
    """
    shape = getattr(x, "shape", None)
    if isinstance(shape, tuple) and shape:
        return ("" if type(x) is np.ndarray else f"a {type(x).__name__} of ") + f"{x.dtype}{list(shape)}"
    if isinstance(x, (dict, list, tuple)) and not x:
        return f"an empty {type(x).__name__}"
    text = repr(x)
    return text if len(text) <= 40 and "\n" not in text else f"a {type(x).__name__}"


def wanted(name: str, x: Any, what: str, kind: type[Exception] = ValueError) -> Exception:
    """The error.

    >>> wanted("steps", 1.5, "an integer, 0 or more")
    ValueError('steps=1.5: an integer, 0 or more')
    """
    return kind(f"{name}={shown(x)}: {what}")


def check_count(name: str, x: Any, least: int = 0, of: str = "") -> None:
    """An integer; `of` says what it counts.

    >>> check_count("steps", -1, of="the inner steps")
    Traceback (most recent call last):
    ValueError: steps=-1: an integer, 0 or more, the inner steps
    """
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, (int, np.integer)) or x < least:
        raise wanted(name, x, f"an integer, {least} or more" + (f", {of}" if of else ""))


def check_number(name: str, x: Any, least: float = -np.inf, above: float = -np.inf, below: float = np.inf, of: str = "") -> None:
    """A finite real number.

    >>> check_number("sigma", 0.0, above=0, of="how far to go")
    Traceback (most recent call last):
    ValueError: sigma=0.0: a number above 0, how far to go
    """
    if type(x) is float and least <= x < below and x > above:  # the bounds of all numbers are infinite
        return
    number = x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x
    real = isinstance(number, (int, float, np.integer, np.floating)) and not isinstance(number, bool)
    if not (real and np.isfinite(float(number)) and number >= least and above < number < below):
        bounds = f" above {above:g}" if above > -np.inf else f", {least:g} or more" if least > -np.inf else ""
        raise wanted(name, x, f"a number{bounds}{f' and below {below:g}' if below < np.inf else ''}" + (f", {of}" if of else ""))


def check_array(name: str, x: Any, shape: tuple[int | None, ...] | None = None, of: str = "", finite: bool = True) -> None:
    """Real numbers that NumPy makes an array of, finite unless that is said elsewhere; `shape` has None for any length.

    >>> check_array("weights", [1.0, 2.0], (3,), "one for each step")
    Traceback (most recent call last):
    ValueError: weights=[1.0, 2.0]: finite numbers of shape (3,), one for each step
    """
    try:
        array = np.array(None) if isinstance(x, np.ma.MaskedArray) else np.asarray(x)  # the mask would be lost
    except (TypeError, ValueError):  # a Tensor, or rows of several lengths
        array = np.array(None)
    fits = shape is None or (array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True)))
    if array.dtype.kind not in "iuf" or not fits or (finite and not np.isfinite(array).all()):
        sizes = "" if shape is None else f" of shape {shape}".replace("None", "n")
        raise wanted(name, x, f"{'finite ' * finite}numbers{sizes}" + (f", {of}" if of else ""))


def check_choice(name: str, x: Any, choices: Iterable[Any], of: str = "") -> None:
    """One of a few; `of` says what they are.

    >>> check_choice("losses", "mean", ["query", "sum"])
    Traceback (most recent call last):
    ValueError: losses='mean': choose one of 'query', 'sum'
    """
    known = list(choices)
    if not any(type(x) is type(choice) and x == choice for choice in known):
        raise wanted(name, x, f"choose one of {', '.join(map(repr, known))}" + (f": {of}" if of else ""))


def check_flag(name: str, x: Any, of: str = "") -> None:
    """True or False.

    >>> check_flag("resume", "no")
    Traceback (most recent call last):
    TypeError: resume='no': True or False
    """
    check_type(name, x, (bool, np.bool_), "True or False" + (f", {of}" if of else ""))


def check_type(name: str, x: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Of a class.

    >>> check_type("rng", 0, np.random.Generator, "a generator, such as np.random.default_rng(0)")
    Traceback (most recent call last):
    TypeError: rng=0: a generator, such as np.random.default_rng(0)
    """
    if not isinstance(x, kind):
        raise wanted(name, x, what, TypeError)


def check_function(name: str, x: Any, what: str, count: int | None = None) -> None:
    """Something that can be called, with so many arguments.

    >>> check_function("f", 2.0, "a function of arrays")
    Traceback (most recent call last):
    TypeError: f=2.0: a function of arrays
    """
    if not callable(x) or not (count is None or _takes(x, count)):
        raise wanted(name, x, what, TypeError)


def _takes(f: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as one can know."""
    if hasattr(f, "__wrapped__"):  # what a wrapper takes isn't what it looks like
        return True
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # some that are written in C don't tell
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def check_generator(name: str, x: Any) -> None:
    """NumPy's source of random numbers."""
    check_type(name, x, np.random.Generator, "a random generator, such as np.random.default_rng(0)")


def check_counts(name: str, xs: Any, length: int, of: str) -> None:
    """A sequence of so many integers, 1 or more; or of more.

    >>> check_counts("sizes", (3, 0), 2, of="the inputs and the outputs")
    Traceback (most recent call last):
    ValueError: sizes[1]=0: an integer, 1 or more
    """
    if not isinstance(xs, (list, tuple)) or len(xs) < length:
        raise wanted(name, xs, f"a list of {length} integers or more, {of}", TypeError)
    for i, x in enumerate(xs):
        check_count(f"{name}[{i}]", x, 1)


def check_numbers(name: str, x: Any, what: str, axes: int = 0, last: int | None = None) -> None:
    """Numbers, in an array or a Tensor (or in what makes an array), with so many axes or more, and so many along the last one.

    >>> check_numbers("x", np.ones((2, 3)), "of shape (points, 4)", axes=2, last=4)
    Traceback (most recent call last):
    ValueError: x=float64[2, 3]: an array of numbers, of shape (points, 4)
    """
    try:
        array = x if hasattr(x, "__array_ufunc__") else np.asarray(x)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    numeric = array.dtype.kind in "biufc" and not isinstance(x, np.ma.MaskedArray)
    if not numeric or array.ndim < axes or (last is not None and array.shape[-1:] != (last,)):
        raise wanted(name, x, f"an array of numbers, {what}", ValueError if numeric else TypeError)


F = TypeVar("F", bound=Callable[..., Any])


def explained_by(check: Callable[..., None]) -> Callable[[F], F]:
    """Decorator, for what is called again and again: only when it fails, `check` is given the same arguments, to say which one is wrong.

    If none is, the error stays what it was.

    >>> @explained_by(lambda x: check_function("x", x, "a function"))
    ... def called(x):
    ...     return x()
    >>> called(3)
    Traceback (most recent call last):
    TypeError: x=3: a function
    """

    def explained(f: F) -> F:
        @functools.wraps(f)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                return f(*args, **kwargs)
            except Exception as error:
                failed = error
            check(*args, **kwargs)
            raise failed

        return checked  # type: ignore[return-value]

    return explained
