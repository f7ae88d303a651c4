r"""
# SciPy's special functions

They are found by name, so that SciPy is loaded by those who use it; and the two activations that are made like them.
"""

import numpy as np

from ..tensor import implements, operation


# ## The error function
# $$ c = \operatorname{erf} a = \frac{2}{\sqrt\pi} \int_0^a e^{-t^2} dt, \qquad dc = \frac{2}{\sqrt\pi}\,e^{-a^2}\,da $$
@implements("erf")
@operation
def erf(a):
    """The error function."""
    from scipy import special

    return special.erf(a)


@erf.rule
def _(c_bar, c, a):
    return (c_bar * (2 / float(np.sqrt(np.pi)) * np.exp(-a * a)),)


erf.not_analytic()


# ## The logarithm of gamma
# $$ c = \log \Gamma(a), \qquad dc = \psi_0(a)\,da, \qquad d\psi_k(a) = \psi_{k+1}(a)\,da $$
@implements("gammaln")
@operation
def gammaln(a):
    """The logarithm of the gamma function."""
    from scipy import special

    return special.gammaln(a)


@gammaln.rule
def _(c_bar, c, a):
    return (c_bar * polygamma(a, order=0),)


@operation
def polygamma(a, *, order):
    """The derivative of this order of the digamma function, which is itself that of order 0."""
    from scipy import special

    return special.polygamma(order, a).astype(np.result_type(a))


@polygamma.rule
def _(c_bar, c, a, *, order):
    return (c_bar * polygamma(a, order=order + 1),)


gammaln.not_analytic()
polygamma.not_analytic()


# ## Sigmoid
# $$ c = \sigma(a) = \frac{1}{1 + e^{-a}}, \qquad dc = c\,(1 - c)\,da $$
# With $s = e^{-|a|} \le 1$ nothing overflows:
# $$ \sigma(a) = \frac{1}{1 + s} \text{ for } a \ge 0, \qquad \sigma(a) = \frac{s}{1 + s} \text{ for } a < 0 $$
@implements("expit")
@operation
def sigmoid(a):
    """1 / (1 + exp(-a))."""
    s = np.exp(-np.abs(a))
    return np.where(np.greater_equal(a, 0), 1, s) / (1 + s)


@sigmoid.rule
def _(c_bar, c, a):
    return (c_bar * (c * (1 - c)),)


@sigmoid.holomorphic
def _(a):
    s = np.exp(-_outward(a) * a)
    return np.where(a.real >= 0, 1, s) / (1 + s)


def _outward(a):
    """The sign of the real part, and 1 at 0."""
    return np.where(a.real >= 0, 1, -1)


# ## Softplus
# $$ c = \log(1 + e^a), \qquad dc = \sigma(a)\,da $$
@operation
def softplus(a):
    """log(1 + exp(a))."""
    return np.logaddexp(a, 0)


@softplus.rule
def _(c_bar, c, a):
    return (c_bar * sigmoid(a),)


@softplus.holomorphic
def _(a):
    return np.log1p(np.exp(-_outward(a) * a)) + np.where(a.real >= 0, a, 0)
