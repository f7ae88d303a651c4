r"""
# Tensor: a value that remembers where it came from

A computation is a graph. Each *node* holds a value, the operation that made the value, and the inputs
that the operation was given:

$$ c = \mathrm{op}(a, b) \qquad\longleftrightarrow\qquad \texttt{Tensor(c, op, inputs=(a, b))} $$

A node never changes once it exists, and it can only have been made from nodes that existed before it.
So *the order of creation is already a topological order*: whoever walks the nodes from the newest to
the oldest meets every node after all of its users. The reverse sweep needs nothing else, and nothing in
this engine ever recurses over a graph.

Two numbers travel with a node:

- `index` is its place in the order of creation;
- `oldest` is the smallest index among the leaves that it depends on, with or without a derivative. A function
  that notes the time before it begins can tell by one comparison, `oldest < start`, whether a node depends on
  anything from outside. `grad` asks it of the function's *value*, to know whether to record the sweep, and of each
  of its *results*, to know whether to return a Tensor or a plain array.

Models are plain NumPy: `Tensor` takes part in NumPy's own dispatch (`__array_ufunc__`, NEP 13, and
`__array_function__`, NEP 18), so `np.tanh(x @ W + b)` means the same for arrays and for Tensors.

Complex Tensors exist for the complex step only (see `check`): their imaginary part is a small step in some direction. So
nothing conjugates, and kinks go by the real part: `np.abs(tm.tensor(3 + 4j))` is 3+4j, not 5.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..arguments import shown, wanted

now: Callable[[], int] = itertools.count().__next__
"""The time. Each call is a tick: the number is larger than every earlier index and smaller than every later one."""

NEVER, BEFORE_ALL = float("inf"), -1  # larger than any index, where a minimum of indices starts; and smaller than any

SCALARS = (bool, int, float, complex)
"""Python's own numbers are *weak*: they take the dtype of their neighbours, so a float32 array times 2.0 stays float32."""

OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""What to do when NumPy hands over one of its functions.

The keys are NumPy's functions, pairs (ufunc, method), and names: of SciPy's ufuncs (found without loading SciPy) and of a
Tensor's methods. The values are functions or Operations.
"""


# ## While a function is traced
# A trace records *what* is computed, for any input of the same shapes. A value seen during the trace would
# be baked in, so `bool(t)`, `t.value` and their like refuse to answer until the trace is over.
Watch = Callable[["Tensor"], None]
_watching: contextvars.ContextVar[tuple[Watch, bool] | None] = contextvars.ContextVar("watching", default=None)  # and whether it traces
_watches: list[Any] = []  # those of all threads: an empty list is asked faster than the variable


def is_tracing() -> bool:
    """Whether the function that is running now is being traced."""
    return bool(_watches) and (watching := _watching.get()) is not None and watching[1]


def watch() -> Watch | None:
    """Who looks at the values that are computed now (see `debug`), if anybody does."""
    return watching[0] if _watches and (watching := _watching.get()) is not None and not watching[1] else None


def tracing(watch: Watch = lambda node: None) -> contextlib.AbstractContextManager[None]:
    """While this lasts, Tensors stand for *any* value of their shape, and `watch` is shown each one when it is made."""
    return watched(watch, traced=True)


@contextlib.contextmanager
def watched(watch: Watch, traced: bool = False) -> Iterator[None]:
    """While this lasts, `watch` is shown each Tensor when it is made, in this thread."""
    token = _watching.set((watch, traced))
    _watches.append(token)
    try:
        yield
    finally:
        _watches.remove(token)
        _watching.reset(token)


# ## Operations
class Operation:
    r"""One step of a computation: a forward function on plain data, and the rule that reverses it.

    The rule answers one question. Let $c = \mathrm{op}(a, b)$ and let a scalar $s$ depend on $c$ with
    cotangent $\bar c = \partial s / \partial c$. What are $\bar a$ and $\bar b$? It is called as
    `rule(c_bar, c, a, b, **params)` and returns one cotangent for each input; `lambda:` in front of one
    postpones it until it is known to be wanted. Rules are written in NumPy, so they run on Tensors (and
    the gradient can be differentiated again) as well as on arrays (when nobody will).

    An operation without a rule has derivative zero: comparisons, `argmax`, `floor`.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> tm.grad(np.tanh)(0.0)
    array(1.)
    """

    def __init__(self, forward: Callable[..., Any], name: str = "") -> None:
        self.forward = forward
        self.name = name or forward.__name__.strip("_")
        self.vjp: Callable[..., Any] | None = None
        self.complex_forward: Callable[..., Any] | None = None
        self.__doc__ = forward.__doc__

    def rule(self, vjp: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: this is the rule."""
        self.vjp = vjp
        return vjp

    def holomorphic(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: on complex Tensors (there for the complex step only) compute this instead."""
        self.complex_forward = forward
        return forward

    def not_analytic(self) -> Operation:
        """Refuse complex Tensors: `check_grad` then falls back to differences."""
        name = self.name

        def refuse(*_: Any, **__: Any) -> Any:
            raise NotAnalytic(f"{name} is not analytic, so the complex step can't pass through it: use differences")

        self.complex_forward = refuse
        return self

    def pull(self, c_bar: Any, c: Any, inputs: Sequence[Any], params: dict[str, Any], wanted: list[bool]) -> Sequence[Any]:
        """Apply the rule: one cotangent for each input, some postponed. (Blocks, which have rules of their own, ask what is wanted.)"""
        terms = self.vjp(c_bar, c, *inputs, **params)  # type: ignore[misc]
        if len(terms) != len(inputs):
            raise ValueError(f"the rule of {self.name} returned {len(terms)} cotangents for {len(inputs)} inputs")
        return terms

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        """Compute, and remember: a Tensor if any input is one, else just the forward's value."""
        data, kept, oldest = [], [], NEVER
        for x in inputs:
            if type(x) is Tensor:
                data.append(x.data)
                if x.oldest < oldest:
                    oldest = x.oldest
            else:
                x = own(x)
                data.append(x)
            kept.append(x)
        if oldest == NEVER:  # no Tensor among them
            return self.forward(*data, **params)
        forward = self.forward
        if self.complex_forward and any(np.iscomplexobj(x) for x in data):
            forward = self.complex_forward
        try:
            value = forward(*data, **params)
        except (ValueError, TypeError, IndexError, np.linalg.LinAlgError) as error:
            if isinstance(error, np.linalg.LinAlgError) and is_tracing():  # only the shape of the value matters
                value = forward(*map(regular_example, data), **params)
            else:
                given = ", ".join(map(describe, data)) + "".join(f", {k}={v!r}" for k, v in params.items())
                raise type(error)(f"{self.name}({given}): {error}") from None
        weak = type(value) is not np.ndarray and type(value) is not tuple and all(type(x) in SCALARS for x in data)
        if weak:
            value = np.asarray(value).item()  # weak in, weak out
        return Tensor(value, self, tuple(kept), params, oldest)

    def __reduce__(self) -> Any:
        """Pickled by name, if it is one of the library's."""
        return (_named, (self.name,)) if NAMED.get(self.name) is self else object.__reduce_ex__(self, 2)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


NAMED: dict[str, Operation] = {}  # those of the library


def _named(name: str) -> Operation:
    return NAMED[name]


class NotAnalytic(TypeError):
    """An operation that has no holomorphic form met a complex Tensor."""


def operation(forward: Callable[..., Any], name: str = "") -> Operation:
    """Decorator: make an `Operation` of a forward function. Inputs are positional, parameters keyword-only."""
    made = Operation(forward, name)
    NAMED.setdefault(made.name, made)
    return made


def implements(*numpy_functions: Any) -> Callable[[Any], Any]:
    """Decorator: call this when one of `numpy_functions` is given a Tensor."""

    def register(ours: Any) -> Any:
        OPERATIONS.update(dict.fromkeys(numpy_functions, ours))
        return ours

    return register


def own(x: Any) -> Any:
    """A read-only copy of an array, which nobody else can change; Python's scalars as they are."""
    if isinstance(x, SCALARS):
        return x
    if isinstance(x, (list, tuple)) and any(isinstance(part, Tensor) for part in x):
        raise TypeError("a list of Tensors isn't an array: join them with np.stack or np.concatenate")
    try:
        array = np.array(x)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biufc" or (type(x) is not np.ndarray and isinstance(x, np.ma.MaskedArray)):
        raise TypeError(f"{shown(x)} isn't numeric: a Tensor holds numbers (float, complex, integer, bool), and no masks")
    array.flags.writeable = False
    return array


def regular_example(x: Any) -> Any:
    """The identity in the place of square matrices: the values of a trace are examples, and may happen to be singular."""
    square = np.ndim(x) >= 2 and x.shape[-1] == x.shape[-2]
    return np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape) if square else x


def describe(x: Any) -> str:
    """An operand, in an error message."""
    if isinstance(x, (np.ndarray, np.generic)):
        return f"{x.dtype}{list(x.shape)}"
    return repr(x) if isinstance(x, SCALARS) else type(x).__name__


# ## The node itself
class Tensor:
    """A node of the graph. Make leaves with `tm.tensor`; every other node is made by an operation.

    A Tensor is a value: immutable, and it owns its data. It has an array's methods and attributes
    (`.shape .dtype .T .sum() .reshape() ...`) and takes part in NumPy's functions and operators. In
    addition it has `value` (the array), `op` (the `Operation` that made it, None for a leaf), and
    `inputs` (Tensors and constants, in the order of the rule's arguments).

    Source: the graph as in Griewank & Walther, Evaluating Derivatives (2008), chapter 3.

    Example
    -------
    >>> import numpy as np, tinymeta as tm
    >>> x = tm.tensor([1.0, 2.0])
    >>> y = np.sum(x * x)
    >>> y.value, y.op.name, y.inputs[0].op.name
    (array(5.), 'sum', 'multiply')
    """

    __slots__ = ("data", "op", "inputs", "params", "index", "oldest", "__weakref__")  # noqa: RUF023 (in the order of __init__)

    def __init__(self, data: Any, op: Operation | None, inputs: tuple[Any, ...], params: dict[str, Any], oldest: float | None = None):
        if type(data) is np.ndarray:
            data.setflags(write=False)
        elif type(data) not in SCALARS and type(data) is not tuple:
            data = np.asarray(data)  # NumPy's 0-d results come as scalars
            data.setflags(write=False)
        self.data = data  # what forwards see: an array, a weak scalar, or a block's tuple (a custom operation's ends in a Structure)
        self.op = op
        self.inputs = inputs
        self.params = params
        self.index = now()
        self.oldest = self.index if oldest is None else oldest  # None: a leaf
        if _watches and (watching := _watching.get()) is not None:
            watching[0](self)

    # ### Attributes
    @property
    def value(self) -> np.ndarray:
        """The value as a read-only array."""
        if is_tracing():
            raise TypeError(_untraceable(".value"))
        return _read_only(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape if type(self.data) is np.ndarray else np.shape(self.data)

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype if type(self.data) is np.ndarray else np.asarray(self.data).dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim if type(self.data) is np.ndarray else np.ndim(self.data)

    @property
    def size(self) -> int:
        return np.size(self.data)

    @property
    def T(self) -> Tensor:
        return OPERATIONS[np.transpose](self)

    @property
    def mT(self) -> Tensor:
        return OPERATIONS[np.matrix_transpose](self)

    # ### NumPy's protocols
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if kwargs.pop("out", None) is not None:
            raise TypeError(f"np.{ufunc.__name__} can't write a Tensor into an array (out= or an in-place operator): "
                            "write a = a + t instead of a += t, and use tm.set_at for assignment")  # fmt: skip
        if method == "at":
            raise TypeError(f"np.{ufunc.__name__}.at changes its argument, and Tensors are immutable: use tm.set_at")
        ours = OPERATIONS.get(ufunc if method == "__call__" else (ufunc, method)) or OPERATIONS.get(ufunc.__name__)
        if ours is None or (method != "__call__" and (ufunc, method) not in OPERATIONS):
            raise TypeError(_missing(f"{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")))
        if method == "__call__" and kwargs:
            raise TypeError(f"np.{ufunc.__name__}({', '.join(kwargs)}=...) isn't supported on Tensors: for where=, "
                            "write np.where(condition, result, otherwise); for dtype=, use .astype")  # fmt: skip
        return ours(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in OPERATIONS:
            name = f"{func.__module__}.{func.__name__}".replace("numpy", "np")
            raise TypeError(_missing(name))
        return OPERATIONS[func](*args, **kwargs)

    # ### What would cut a gradient without a word, refused
    def __float__(self) -> float:
        raise TypeError(_cut("float(t)"))

    def __int__(self) -> int:
        raise TypeError(_cut("int(t)"))

    def __complex__(self) -> complex:
        raise TypeError(_cut("complex(t)"))

    def __index__(self) -> int:
        raise TypeError(_cut("a Tensor as a Python index"))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(_cut("np.asarray(t), a[t] or a[i] = t"))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("Tensors are immutable: instead of t[index] = value write t = tm.set_at(t, index, value)")

    def __bool__(self) -> bool:
        if is_tracing():
            raise TypeError(_untraceable("its truth, as in `if`, `while`, `and` or `assert`,"))
        if self.size != 1:
            raise ValueError(f"the truth of a Tensor of shape {self.shape} is ambiguous: use np.any(t) or np.all(t)")
        return bool(self.data)

    # ### Sequence behaviour
    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a Tensor of shape ()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Tensor:
        return OPERATIONS["getitem"](self, index)

    # ### Copying
    # A value needs no copies. What leaves the process leaves its graph behind, so only a leaf may.
    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self

    def __reduce__(self) -> Any:
        if self.op is not None:
            raise TypeError("only a leaf can be pickled, not a Tensor with a graph: pickle t.value")
        return tensor, (self.data,)

    # ### Printing
    def __repr__(self) -> str:
        made = f", op={self.op.name}" if self.op else ""
        if is_tracing() or type(self.data) is tuple:
            return f"Tensor(shape={self.shape}, dtype={self.dtype}{made})" if type(self.data) is not tuple else "Tensor(...)"
        return f"Tensor({np.array2string(_read_only(self.data), separator=', ', prefix='Tensor(')}{made})"

    def __format__(self, spec: str) -> str:
        return format(self.value.item(), spec) if spec else repr(self)

    # ### Arithmetic
    # Equality compares element by element, as an array's does; as a key, a Tensor is itself.
    __hash__ = object.__hash__

    def __pow__(self, exponent: Any) -> Tensor:
        squared = type(exponent) in (int, float) and exponent == 2
        return OPERATIONS[np.square](self) if squared else OPERATIONS[np.power](self, exponent)


def tensor(value: Any) -> Tensor:
    """A leaf: a Tensor that holds its own read-only copy of a value.

    A Python scalar gives a *weak* Tensor (see `SCALARS`).

    Raises TypeError for what isn't numeric.

    >>> import tinymeta as tm
    >>> tm.tensor([1, 2]) * 0.5
    Tensor([0.5, 1. ], op=multiply)
    """
    if isinstance(value, Tensor):
        return value
    if type(value) is int and abs(value) >= 2**63:
        raise wanted("value", value, "an integer of 64 bits, or a float")
    return Tensor(own(value), None, (), {})


def data_of(x: Any) -> Any:
    """The plain data of a Tensor; anything else as it is."""
    return x.data if type(x) is Tensor else x


# ## Operators and methods, from the table
# `a + t` calls `t.__radd__` or, if `a` is an array, `np.add`, which calls `t.__array_ufunc__`: all roads lead to
# the one operation that is registered for `np.add`.
def _give_operators() -> None:
    def forward_operator(ufunc: Any) -> Callable[[Tensor, Any], Any]:
        return lambda self, other: OPERATIONS[ufunc](self, other)

    def reflected_operator(ufunc: Any) -> Callable[[Tensor, Any], Any]:
        return lambda self, other: OPERATIONS[ufunc](other, self)

    def unary_operator(ufunc: Any) -> Callable[[Tensor], Any]:
        return lambda self: OPERATIONS[ufunc](self)

    def method(function: Any) -> Callable[..., Any]:
        return lambda self, *args, **kwargs: OPERATIONS[function](self, *args, **kwargs)

    binary = dict(add=np.add, sub=np.subtract, mul=np.multiply, truediv=np.divide, pow=np.power, matmul=np.matmul,
                  floordiv=np.floor_divide, mod=np.remainder, and_=np.bitwise_and, or_=np.bitwise_or,
                  xor=np.bitwise_xor)  # fmt: skip
    for name, ufunc in binary.items():
        if name != "pow":
            setattr(Tensor, f"__{name.strip('_')}__", forward_operator(ufunc))
        setattr(Tensor, f"__r{name.strip('_')}__", reflected_operator(ufunc))
    comparisons = dict(lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal, eq=np.equal, ne=np.not_equal)
    for name, ufunc in comparisons.items():
        setattr(Tensor, f"__{name}__", forward_operator(ufunc))
    for name, ufunc in dict(neg=np.negative, pos=np.positive, abs=np.absolute, invert=np.invert).items():
        setattr(Tensor, f"__{name}__", unary_operator(ufunc))
    for name in ("sum mean prod max min var std cumsum argmax argmin argsort all any round clip swapaxes squeeze "
                 "ravel repeat take diagonal trace dot").split():  # fmt: skip
        setattr(Tensor, name, method(getattr(np, name)))
    for name in ("reshape", "transpose", "astype", "flatten", "copy"):
        setattr(Tensor, name, method(f"Tensor.{name}"))


_give_operators()


# A `__getattr__` could say this too, but with one Python looks up *every* attribute the slow way, and nodes are little but attributes.
class _Missing:
    """In the place of an attribute that arrays have and Tensors don't: an error that says what to do instead."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, owner: Any = None) -> Any:
        raise AttributeError(f"a Tensor has no .{self.name}: compose it from NumPy functions, or, where no gradient "
                             f"is wanted, write t.value.{self.name}")  # fmt: skip


for _name in dir(np.ndarray):
    if not (_name.startswith("__") or hasattr(Tensor, _name)):
        setattr(Tensor, _name, _Missing(_name))


# ## Messages
def _read_only(data: Any) -> np.ndarray:
    array = np.asarray(data)
    array.setflags(write=False)
    return array


def _cut(what: str) -> str:
    return (f"{what} would turn a Tensor into a plain number, and its gradient would be lost. Use NumPy's functions "
            "(np.sin, not math.sin) to compute with it, tm.tensor(a)[t] to index an array with it, tm.set_at to put it into "
            "an array, np.stack to join several; where no gradient is wanted, take t.value")  # fmt: skip


def _untraceable(what: str) -> str:
    return (f"{what} can't be known while the function is traced: a trace records the computation for every value "
            "of these shapes. Use np.where to choose between values; keep Python's `if` for shapes and for static "
            "arguments (int, bool, str, None)")  # fmt: skip


def _missing(name: str) -> str:
    return (f"{name} has no differentiable form here: compose it from operations that have one, or define your own "
            "with tm.custom_vjp(forward, rule); where no gradient is wanted, apply it to t.value")  # fmt: skip
