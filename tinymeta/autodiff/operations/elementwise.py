r"""
# Element by element

All rules are derived in one way. Let $\langle x, y \rangle$ be the sum of the products of the elements of $x$ and $y$ (nothing
is conjugated). The cotangent $\bar c$ is defined by $ds = \langle \bar c, dc \rangle$. Write $ds$ as
$\langle \text{something}, da \rangle$ for every $da$: the something is $\bar a$. For $c = f(a)$, applied to each element,

$$ ds = \langle \bar c, dc \rangle = \langle \bar c, f'(a)\, da \rangle = \langle \bar c\, f'(a), da \rangle
\quad\Longrightarrow\quad \bar a = \bar c\, f'(a). $$

This last step is the same for all, so the derivations below stop at $dc$.

Broadcasting needs no word in any rule: a rule returns a cotangent in the shape of $c$, and the sweep sums it over the
axes along which the input was repeated (`reverse.fit` says why).
"""

import numpy as np

from ..tensor import OPERATIONS, implements, operation


def elementwise(ufunc):
    """An operation whose forward is one of NumPy's universal functions, registered for it."""
    OPERATIONS[ufunc] = made = operation(ufunc)
    return made


# ## Arithmetic
# $$ c = a + b, \qquad dc = da + db $$
add = elementwise(np.add)


@add.rule
def _(c_bar, c, a, b):
    return c_bar, c_bar


# $$ c = a - b, \qquad dc = da - db $$
subtract = elementwise(np.subtract)


@subtract.rule
def _(c_bar, c, a, b):
    return c_bar, lambda: -c_bar


# $$ c = a\,b, \qquad dc = b\,da + a\,db $$
multiply = elementwise(np.multiply)


@multiply.rule
def _(c_bar, c, a, b):
    return lambda: c_bar * b, lambda: c_bar * a


# $$ c = a / b, \qquad dc = \frac{da}{b} - \frac{a}{b^2}\,db = \frac{da}{b} - \frac{c}{b}\,db $$
divide = elementwise(np.divide)


@divide.rule
def _(c_bar, c, a, b):
    return lambda: c_bar / b, lambda: -c_bar * c / b


# $$ c = -a, \qquad dc = -da $$
negative = elementwise(np.negative)


@negative.rule
def _(c_bar, c, a):
    return (-c_bar,)


# $$ c = a, \qquad dc = da $$
# A node of its own, over the same data.
OPERATIONS[np.positive] = identity = operation(lambda a: a, "identity")


@identity.rule
def _(c_bar, c, a):
    return (c_bar,)


# $$ c = a^2, \qquad dc = 2a\,da $$
square = elementwise(np.square)


@square.rule
def _(c_bar, c, a):
    return (c_bar * (2 * a),)


# $$ c = a^b, \qquad dc = b\,a^{b-1}\,da + a^b \log a\,db $$
# Two corners: $b\,a^{b-1}$ is 0 at $a = b = 0$, although $a^{-1}$ is infinite there; and $0^b$ stays 0 when $b > 0$
# moves a little, although $\log 0$ is infinite.
power = elementwise(np.power)


@power.rule
def _(c_bar, c, a, b):
    return lambda: c_bar * b * a ** _one_less(b, a), lambda: c_bar * c * _safe_log(a)


def _one_less(b, a):
    if isinstance(b, (int, float)):  # a weak exponent stays weak
        return b - 1 if b != 0 else 1
    return np.where((a == 0) & (b == 0), 1, b - 1)


def _safe_log(a):
    return np.log(np.where(a == 0, 1, a))


# ## Roots, exponentials, logarithms
# $$ c = \sqrt a, \qquad dc = \frac{da}{2\sqrt a} = \frac{da}{2c} $$
# At 0 the derivative is infinite: $\sqrt{a + \epsilon}$ has a finite one.
sqrt = elementwise(np.sqrt)


@sqrt.rule
def _(c_bar, c, a):
    return (c_bar / (2 * c),)


# $$ c = e^a, \qquad dc = e^a\,da = c\,da $$
exp = elementwise(np.exp)


@exp.rule
def _(c_bar, c, a):
    return (c_bar * c,)


# $$ c = e^a - 1, \qquad dc = (c + 1)\,da = e^a\,da $$
# In the last form, as $c + 1$ would lose all digits for very negative $a$.
expm1 = elementwise(np.expm1)


@expm1.rule
def _(c_bar, c, a):
    return (c_bar * np.exp(a),)


# $$ c = \log a, \qquad dc = da / a $$
log = elementwise(np.log)


@log.rule
def _(c_bar, c, a):
    return (c_bar / a,)


# $$ c = \log(1 + a), \qquad dc = da / (1 + a) $$
log1p = elementwise(np.log1p)


@log1p.rule
def _(c_bar, c, a):
    return (c_bar / (1 + a),)


# ## Trigonometry
# $$ c = \sin a, \qquad dc = \cos a\,da $$
sin = elementwise(np.sin)


@sin.rule
def _(c_bar, c, a):
    return (c_bar * np.cos(a),)


# $$ c = \cos a, \qquad dc = -\sin a\,da $$
cos = elementwise(np.cos)


@cos.rule
def _(c_bar, c, a):
    return (-c_bar * np.sin(a),)


# $$ c = \tan a, \qquad dc = (1 + \tan^2 a)\,da = (1 + c^2)\,da $$
tan = elementwise(np.tan)


@tan.rule
def _(c_bar, c, a):
    return (c_bar * (1 + c**2),)


# $$ c = \sinh a, \qquad dc = \cosh a\,da $$
sinh = elementwise(np.sinh)


@sinh.rule
def _(c_bar, c, a):
    return (c_bar * np.cosh(a),)


# $$ c = \cosh a, \qquad dc = \sinh a\,da $$
cosh = elementwise(np.cosh)


@cosh.rule
def _(c_bar, c, a):
    return (c_bar * np.sinh(a),)


# $$ c = \tanh a, \qquad dc = (1 - \tanh^2 a)\,da = (1 - c^2)\,da $$
tanh = elementwise(np.tanh)


@tanh.rule
def _(c_bar, c, a):
    return (c_bar * (1 - c**2),)


# $$ c = \arctan a, \qquad dc = \frac{da}{1 + a^2} $$
arctan = elementwise(np.arctan)


@arctan.rule
def _(c_bar, c, a):
    return (c_bar / (1 + a * a),)


# ## Kinks
# Where a function has a kink there is no derivative; each rule states the one it returns there. Complex Tensors
# exist for the complex step alone: their small imaginary part is a direction, so the *real* part decides on which
# side of the kink we are, and both sides stay holomorphic.
# $$ c = |a|, \qquad dc = \operatorname{sign}(a)\,da, \qquad 0 \text{ at } a = 0 $$
absolute = elementwise(np.absolute)
OPERATIONS[np.fabs] = absolute


@absolute.rule
def _(c_bar, c, a):
    return (c_bar * np.sign(a),)


@absolute.holomorphic
def _(a):
    return a * np.sign(a.real)


# $$ c = \max(a, b), \qquad dc = [a > b]\,da + [b > a]\,db, \qquad \text{half each at } a = b $$
maximum = elementwise(np.maximum)


@maximum.rule
def _(c_bar, c, a, b):
    return lambda: _share(c_bar, a > b, a == b), lambda: _share(c_bar, b > a, a == b)


@maximum.holomorphic
def _(a, b):
    return _winner(a, b, np.greater)


# $$ c = \min(a, b), \qquad dc = [a < b]\,da + [b < a]\,db, \qquad \text{half each at } a = b $$
minimum = elementwise(np.minimum)


@minimum.rule
def _(c_bar, c, a, b):
    return lambda: _share(c_bar, a < b, a == b), lambda: _share(c_bar, b < a, a == b)


@minimum.holomorphic
def _(a, b):
    return _winner(a, b, np.less)


def _share(c_bar, wins, tie):
    """All of it to the winner, half of it in a tie."""
    return np.where(tie, 0.5 * c_bar, np.where(wins, c_bar, 0))


def _winner(a, b, beats):
    """The winner by the real part; in a tie the mean of both, whose derivatives are the same halves."""
    x, y = np.real(a), np.real(b)
    return np.where(x == y, 0.5 * (a + b), np.where(beats(x, y), a, b))


# $$ c = \max(a, 0), \qquad dc = [a > 0]\,da, \qquad 0 \text{ at } a = 0 $$
@operation
def relu(a):
    """a where it is positive, and 0 elsewhere."""
    return np.maximum(a, 0)


@relu.rule
def _(c_bar, c, a):
    return (c_bar * (a > 0),)


@relu.holomorphic
def _(a):
    return a * (a.real > 0)


# `np.clip` is a maximum and a minimum, and at the bounds it shares as they do.
@implements(np.clip)
def clip(a, a_min=None, a_max=None, *, min=None, max=None):
    """np.clip: at least the lower bound, then at most the upper one; None is no bound."""
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        a = maximum(a, low)
    return a if high is None else minimum(a, high)


# $$ c = \begin{cases} a & \text{if } m \\ b & \text{else} \end{cases} \qquad dc = m\,da + (1 - m)\,db $$
# The cotangent is *selected*, not multiplied: a NaN in the branch that is not taken does not touch the other one.
# (It can still be made further up: the rule of $\log$ at 0 divides the 0 that it gets by 0. Guard the argument,
# `np.log(np.where(x > 0, x, 1))`, as well as the result.)
@operation
def where(condition, a, b):
    """a where the condition is true (not 0), and b elsewhere."""
    return np.where(np.real(condition) != 0, a, b)


@where.rule
def _(c_bar, c, condition, a, b):
    return None, lambda: np.where(condition, c_bar, 0), lambda: np.where(condition, 0, c_bar)


@implements(np.where)
def _where(condition, a=None, b=None):
    """np.where with three arguments."""
    if a is None or b is None:
        raise TypeError("np.where(condition) has a shape that depends on values: write np.where(condition, a, b), "
                        "or take np.nonzero(condition.value)")  # fmt: skip
    return where(condition, a, b)


# ## Nodes whose derivative is zero
# Piecewise constant, so $dc = 0$ wherever there is a derivative. They are nodes all the same: a trace records a mask
# as an instruction that is computed anew for each input.
def _by_real_part(ufunc):
    made = elementwise(ufunc)
    made.holomorphic(lambda *inputs: ufunc(*map(np.real, inputs)))
    return made


less, less_equal, greater, greater_equal = map(_by_real_part, (np.less, np.less_equal, np.greater, np.greater_equal))
equal, not_equal = map(_by_real_part, (np.equal, np.not_equal))
isfinite, isnan, isinf, signbit = map(_by_real_part, (np.isfinite, np.isnan, np.isinf, np.signbit))
sign, floor, ceil, trunc, rint = map(_by_real_part, (np.sign, np.floor, np.ceil, np.trunc, np.rint))
logical_and, logical_or, logical_xor, logical_not = map(_by_real_part, (np.logical_and, np.logical_or, np.logical_xor, np.logical_not))
bitwise_and, bitwise_or, bitwise_xor, invert = map(elementwise, (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert))


# `a // b` is piecewise constant as well, and `a % b` differs from $a$ by a multiple of $b$:
# $$ c = a - b\,\lfloor a / b \rfloor, \qquad dc = da - \lfloor a / b \rfloor\,db $$
floor_divide = _by_real_part(np.floor_divide)
remainder = elementwise(np.remainder)


@remainder.rule
def _(c_bar, c, a, b):
    return c_bar, lambda: -c_bar * np.floor_divide(a, b)


@remainder.holomorphic
def _(a, b):
    return a - b * np.floor_divide(np.real(a), np.real(b))


@operation
def round_(a, *, decimals):
    """a rounded to so many decimals."""
    return np.round(a.real, decimals)


@implements(np.round, np.around)
def _round(a, decimals=0):
    """np.round."""
    return round_(a, decimals=decimals)


# $$ c = a, \qquad \bar a = 0 $$
@operation
def stop_gradient(a):
    """a itself, as a constant."""
    return a


# $$ c = a \text{ in another precision}, \qquad dc = da $$
# The sweep casts each cotangent to the dtype of its input, so the rule passes it on. Integers have no derivative.
@operation
def astype(a, *, dtype):
    """a in another precision."""
    return np.asarray(a).astype(dtype)


@astype.rule
def _(c_bar, c, a, *, dtype):
    return (c_bar,)


@astype.holomorphic
def _(a, *, dtype):
    return a


@operation
def to_integer(a, *, dtype):
    """a as integers or booleans, which have no derivative."""
    return np.asarray(a.real).astype(dtype)


@implements("Tensor.astype")
def _astype(a, dtype, copy=True):
    """x.astype(dtype): x itself if it has this dtype already."""
    dtype = np.dtype(dtype)
    if a.dtype == dtype and isinstance(a.data, np.ndarray):
        return a
    return astype(a, dtype=dtype) if dtype.kind in "fc" else to_integer(a, dtype=dtype)
