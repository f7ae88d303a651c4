r"""
# Products

All products of arrays are sums over paired indices. Matrix multiplication and `einsum` are the two with a
rule of their own; the others are reshapes around them.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..tensor import Tensor, implements, operation


# ## Matrix product
# $$ C = A B, \qquad dC = dA\,B + A\,dB $$
# A cotangent $\bar C$ pairs with $dC$; move everything but $dA$, then everything but $dB$, to the other side:
# $$ \langle \bar C, dA\,B \rangle = \langle \bar C B^\top, dA \rangle, \qquad
#    \langle \bar C, A\,dB \rangle = \langle A^\top \bar C, dB \rangle $$
# Leading axes are a batch; where one factor has fewer of them it was broadcast, and the sweep sums over those.
# A column times a row is a sum of one term, and a multiplication is faster at it.
def product(a, b):
    """The matrix product of two arrays with two axes or more; those before the last two broadcast."""
    return np.multiply(a, b) if a.shape[-1] == b.shape[-2] == 1 else np.matmul(a, b)


matmul_ = operation(product, "matmul")


@matmul_.rule
def _(c_bar, c, a, b):
    times = matmul_ if type(c) is Tensor else product  # recorded, it is one operation whatever its shapes
    return lambda: times(c_bar, b.mT), lambda: times(a.mT, c_bar)


# A vector is a row on the left and a column on the right.
@implements(np.matmul, np.linalg.matmul)
def matmul(a, b):
    """np.matmul, which takes vectors too."""
    a_ndim, b_ndim = np.ndim(a), np.ndim(b)
    if a_ndim == 0 or b_ndim == 0:
        raise ValueError(f"matmul of shapes {np.shape(a)} and {np.shape(b)}: a scalar has no matrix product, use *")
    if a_ndim > 1 and b_ndim > 1:
        return matmul_(a, b)
    row = np.reshape(a, (1, -1)) if a_ndim == 1 else a
    column = np.reshape(b, (-1, 1)) if b_ndim == 1 else b
    c = matmul_(row, column)
    shape = c.shape[: c.ndim - 2] + c.shape[-2:-1] * (a_ndim > 1) + c.shape[-1:] * (b_ndim > 1)
    return np.reshape(c, shape)


# ## Products by reshaping
@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a, b, axes=2):
    """Sum over pairs of axes: bring them to the end of a and to the front of b, then multiply matrices."""
    a_ndim, b_ndim = np.ndim(a), np.ndim(b)
    if isinstance(axes, int):
        axes = (range(a_ndim - axes, a_ndim), range(axes))
    a_axes, b_axes = (normalize_axis_tuple(side, n) for side, n in zip(axes, (a_ndim, b_ndim), strict=True))
    a_free = [i for i in range(a_ndim) if i not in a_axes]
    b_free = [i for i in range(b_ndim) if i not in b_axes]
    summed = [np.shape(a)[i] for i in a_axes]
    if summed != [np.shape(b)[i] for i in b_axes]:
        raise ValueError(f"tensordot of shapes {np.shape(a)} and {np.shape(b)}: axes {a_axes} and {b_axes} differ in length")
    a_kept, b_kept = [np.shape(a)[i] for i in a_free], [np.shape(b)[i] for i in b_free]
    left = np.reshape(np.transpose(a, (*a_free, *a_axes)), (math.prod(a_kept), math.prod(summed)))
    right = np.reshape(np.transpose(b, (*b_axes, *b_free)), (math.prod(summed), math.prod(b_kept)))
    return np.reshape(matmul_(left, right), a_kept + b_kept)


@implements(np.dot)
def dot(a, b):
    """np.dot, which pairs the last axis of a with the last but one of b."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(a) <= 2 and np.ndim(b) <= 2:
        return matmul(a, b)
    return tensordot(a, b, ([-1], [-2 if np.ndim(b) > 1 else -1]))


@implements(np.inner)
def inner(a, b):
    """np.inner, which pairs the last axes."""
    return np.multiply(a, b) if np.ndim(a) == 0 or np.ndim(b) == 0 else tensordot(a, b, ([-1], [-1]))


# NumPy's vdot conjugates its first argument; on complex Tensors this one doesn't, so that it stays holomorphic.
@implements(np.vdot)
def vdot(a, b):
    """np.vdot: the sum of the products of all elements."""
    return matmul(np.ravel(a), np.ravel(b))


@implements(np.outer, np.linalg.outer)
def outer(a, b):
    """np.outer: every element of a times every one of b."""
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@implements((np.multiply, "outer"))
def _multiply_outer(a, b):
    return np.reshape(a, np.shape(a) + (1,) * np.ndim(b)) * b


# ## Einstein summation
# $$ c_{\mathrm{out}} = \sum_{\text{letters not in out}} \prod_k (a_k)_{\mathrm{in}_k} $$
# is linear in each factor, so $\bar a_k$ is the same kind of sum, with $\bar c$ in the place of $a_k$:
# $$ (\bar a_k)_{\mathrm{in}_k} = \sum_{\text{letters not in } \mathrm{in}_k} \bar c_{\mathrm{out}} \prod_{j \ne k} (a_j)_{\mathrm{in}_j} $$
# This holds if each letter of $a_k$ also stands in another factor or in the output, once in each: `einsum` sees to it.
@operation
def einsum_(*factors, inputs, output):
    """Einstein's sum over factors in which each letter stands once."""
    return np.einsum(f"{','.join(inputs)}->{output}", *factors)


@einsum_.rule
def _(c_bar, c, *factors, inputs, output):
    def cotangent(k):
        others = [i for i in range(len(factors)) if i != k]
        return einsum_(c_bar, *(factors[i] for i in others), inputs=(output, *(inputs[i] for i in others)), output=inputs[k])

    return tuple(lambda k=k: cotangent(k) for k in range(len(factors)))


@implements(np.einsum)
def einsum(subscripts, *factors, **options):
    """np.einsum, with the subscripts as text."""
    options.pop("optimize", None)
    if options or not isinstance(subscripts, str):
        raise TypeError("einsum on Tensors takes a string of subscripts and the factors: np.einsum('ij,jk->ik', A, B)")
    inputs, output = _subscripts(subscripts, factors)
    sizes = dict.fromkeys("".join(inputs), 1)
    for letters, factor in zip(inputs, factors, strict=True):
        sizes.update((letter, n) for letter, n in zip(letters, np.shape(factor), strict=True) if n != 1)
    plain = [_simplify(letters, factor, sizes) for letters, factor in zip(inputs, factors, strict=True)]
    for k, (letters, factor) in enumerate(plain):
        elsewhere = set(output).union(*(other for j, (other, _) in enumerate(plain) if j != k))
        alone = tuple(i for i, letter in enumerate(letters) if letter not in elsewhere)
        if alone:  # a letter that stands nowhere else is a sum
            plain[k] = ("".join(x for x in letters if x in elsewhere), np.sum(factor, axis=alone))
    return einsum_(*(factor for _, factor in plain), inputs=tuple(letters for letters, _ in plain), output=output)


def _subscripts(subscripts, factors):
    """The letters of each factor and of the output, with `...` written out and the output made explicit."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(factors):
        raise ValueError(f"einsum {subscripts!r} names {len(inputs)} factors, got {len(factors)}")
    spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in subscripts]
    widths = [np.ndim(factor) - len(letters.replace("...", "")) for letters, factor in zip(inputs, factors, strict=True)]
    for letters, factor, width in zip(inputs, factors, widths, strict=True):
        if width < 0 or (width > 0 and "..." not in letters):
            raise ValueError(f"einsum {subscripts!r}: {letters!r} doesn't fit a factor of shape {np.shape(factor)}")
    batch = "".join(spare[: max(widths)])
    if not arrow:
        once = sorted(x for x in set(left) - set(",.") if left.count(x) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    if not set(output.replace("...", "")) <= set(left) or (batch and "..." not in output):
        raise ValueError(f"einsum {subscripts!r}: the output has a letter that no factor has, or it lacks the '...' of a factor")
    inputs = [letters.replace("...", batch[len(batch) - width :]) for letters, width in zip(inputs, widths, strict=True)]
    return inputs, output.replace("...", batch)


def _simplify(letters, factor, sizes):
    """Each letter once in a factor (a repeated one is a diagonal), and no axis that only broadcasts."""
    for letter in letters:
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            if np.shape(factor)[first] != np.shape(factor)[second]:
                raise ValueError(f"einsum: {letter!r} stands twice for a factor of shape {np.shape(factor)}, at axes of different lengths")
            factor = np.diagonal(factor, 0, first, second)
            letters = letters[:first] + letters[first + 1 : second] + letters[second + 1 :] + letter
    ones = tuple(i for i, letter in enumerate(letters) if np.shape(factor)[i] == 1 and sizes[letter] != 1)
    kept = "".join(letter for i, letter in enumerate(letters) if i not in ones)
    return kept, np.squeeze(factor, axis=ones) if ones else factor
