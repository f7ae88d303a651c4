"""SciPy's special functions: values, slopes, and the complex step or differences to order 3."""

import numpy as np
import pytest
from catalogue import errors, value
from scipy import special

import tinymeta as tm


@pytest.mark.parametrize(("f", "slope"), [
    (special.expit, lambda x: special.expit(x) * special.expit(-x)), (special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    (special.gammaln, special.digamma),
])  # fmt: skip
def test_scipys_special_functions(f, slope):
    x = np.array([0.3, 1.7, 4.5])
    np.testing.assert_allclose(value(f, [x]), f(x), rtol=1e-15)
    np.testing.assert_allclose(tm.grad(lambda a: np.sum(f(a)))(x), slope(x), rtol=1e-14)
    assert max(errors(f, [x], order=3)) < 1e-9


def test_the_third_derivative_of_the_logarithm_of_gamma():
    third = tm.grad(tm.grad(tm.grad(special.gammaln)))(1.3)
    np.testing.assert_allclose(third, special.polygamma(2, 1.3), rtol=1e-14)
