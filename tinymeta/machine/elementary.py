r"""
# exp, log, tanh and sigmoid of vectors

A library's `exp` takes one number at a time. These take a vector, and consist of additions and multiplications alone; where
a library would branch, they compute both and choose. Errors are below 3 units in the last place; infinities, NaN, the sign of zero and
numbers too small to be normalised come out as they should.
"""

from math import factorial, inf, log, nan

from .compiling import inner
from .vectors import bits_of, choose, constant, copy_sign, float_of, fma, magnitude, polynomial

# ## Powers of two
# A float64 is $\pm\,1.f \times 2^{e - 1023}$, with 52 bits of $f$ after 11 bits of $e$. Adding $1.5 \cdot 2^{52}$ to a
# small number leaves no bits for a fraction: it is rounded to an integer, which stands in the lowest bits of the sum.
# Subtracting the constant again gives the rounded number. With 1023 more, the lowest bits are an exponent, and a shift by
# 52 moves it to its place: $2^k$ without a table. (float32: 23 bits, 127.)
rounder = constant(1.5 * 2**52, 1.5 * 2**23)
exponent_rounder = constant(1.5 * 2**52 + 1023, 1.5 * 2**23 + 127)
fraction_bits = constant(52, 23)


@inner
def rounded(x):
    """To the nearest integer."""
    return (x + rounder(x)) - rounder(x)


@inner
def power_of_two(k):
    """For integers between the exponents of the smallest and the largest normalised number."""
    moved = bits_of(k + exponent_rounder(k))
    return float_of(moved << fraction_bits(moved))


# ## exp
# $$ x = k \ln 2 + r, \quad |r| \le \tfrac12 \ln 2 \quad\Longrightarrow\quad e^x = 2^k e^r $$
# with $k$ the integer next to $x / \ln 2$. The difference $r = x - k \ln 2$ cancels, so $\ln 2$ comes in two parts. Taylor's
# series of $e^r - 1$ is below the rounding error after 13 terms (float32: 7), as $0.35^{14} / 14! < 10^{-17}$.
#
# At the ends $2^k$ is too large or too small for a float while the result isn't: so it is multiplied by two factors of about the
# same size. Further out, the clamped argument overflows to infinity or vanishes to 0, as it should. A comparison with NaN is false, so
# the clamp lets it pass.
one_over_log_two = constant(1 / log(2), 1 / log(2))
log_two_high = constant(0.6931471805599453, 0.693147182464599609375)
log_two_low = constant(2.3190468138462996e-17, -1.904654299957768e-9)
exp_is_infinite, exp_is_zero = constant(710.0, 89.0), constant(-746.0, -104.0)
exp_minus_one_over_r = polynomial([1 / factorial(i + 1) for i in range(13)], [1 / factorial(i + 1) for i in range(7)])


@inner
def reduced(x):
    k = rounded(x * one_over_log_two(x))
    return k, fma(-k, log_two_low(x), fma(-k, log_two_high(x), x))


@inner
def exponential(x):
    """exp(x) in each lane."""
    x = choose(x > exp_is_infinite(x), exp_is_infinite(x), choose(x < exp_is_zero(x), exp_is_zero(x), x))
    k, r = reduced(x)
    half = rounded(k * 0.5)
    return fma(r, exp_minus_one_over_r(r), 1) * power_of_two(half) * power_of_two(k - half)


# ## sigmoid
# $$ \sigma(x) = \frac{1}{1 + e^{-x}} = \frac{e^{x}}{1 + e^{x}} $$
# the first for positive $x$ and the second for negative, so that the exponential is at most 1 and nothing overflows.
@inner
def sigmoid_of(x):
    """1 / (1 + exp(-x)) in each lane."""
    e = exponential(-magnitude(x))
    return choose(x < 0, e, 1) / (1 + e)


# ## tanh
# $$ \tanh x = \frac{u}{u + 2}, \quad u = e^{2x} - 1 = 2^k (e^r - 1) + (2^k - 1) $$
# where $u$ keeps its digits near 0, as $k = 0$ there. From 20 on (float32: 10) it is 1.
tanh_is_one = constant(20.0, 10.0)


@inner
def tanh_of(x):
    """tanh(x) in each lane."""
    distance = magnitude(x)
    k, r = reduced(2 * choose(distance > tanh_is_one(x), tanh_is_one(x), distance))
    power = power_of_two(k)
    u = fma(power, r * exp_minus_one_over_r(r), power - 1)
    return copy_sign(u / (u + 2), x)


# ## log
# $$ x = 2^k m, \quad \sqrt{\tfrac12} \le m < \sqrt 2, \qquad \ln x = k \ln 2 + \ln m $$
# With $f = m - 1$ and $s = f / (2 + f)$ we have $m = (1 + s) / (1 - s)$, so that
# $$ \ln m = \ln(1 + s) - \ln(1 - s) = 2s + s\,R, \qquad R = \tfrac23 s^2 + \tfrac25 s^4 + \dots $$
# Since $2s = f - s f$, this is $f - s\,(f - R)$: the large term is exact, and the correction small.
# $|s| < 0.172$, and 10 terms are enough (float32: 4).
#
# $k$ comes from the bits of $x$ shifted down, read as the lowest bits of $2^{52}$. Numbers too small to be normalised are multiplied by
# $2^{54}$ before.
log_series = polynomial([2 / (2 * i + 3) for i in range(10)], [2 / (2 * i + 3) for i in range(4)])
exponent_bits_of_one = constant(1023 << 52, 127 << 23)
fraction_mask = constant((1 << 52) - 1, (1 << 23) - 1)
integers_from = constant(2.0**52, 2.0**23)
exponent_of_zero = constant(2.0**52 + 1023, 2.0**23 + 127)
smallest_normalised = constant(2.0**-1022, 2.0**-126)


@inner
def exponent_and_fraction(x):
    """(k, m) with x = 2**k * m and 1 <= m < 2, for positive and normalised x."""
    bits = bits_of(x)
    k = float_of((bits >> fraction_bits(bits)) | bits_of(integers_from(x))) - exponent_of_zero(x)
    return k, float_of((bits & fraction_mask(bits)) | exponent_bits_of_one(bits))


@inner
def logarithm(x):
    """log(x) in each lane."""
    tiny = x < smallest_normalised(x)
    k, m = exponent_and_fraction(choose(tiny, x * 2.0**54, x))
    large = m > 2**0.5
    k = choose(tiny, k - 54, k)
    k = choose(large, k + 1, k)
    f = choose(large, m * 0.5, m) - 1
    s = f / (2 + f)
    square = s * s
    correction = fma(s, f - square * log_series(square), -k * log_two_low(x))
    result = fma(k, log_two_high(x), f - correction)
    return choose(x > 0, choose(x == inf, x, result), choose(x == 0, x - inf, x * nan))
