r"""
# A gradient without differentiation: antithetic evolution strategies

Through a long unroll the derivative may explode although the loss is harmless. The loss *smoothed* by Gaussian noise on the weights,

$$ F_\sigma(\theta) = \mathbb E\,F(\theta + \sigma\epsilon), \qquad \epsilon \sim \mathcal N(0, I), $$

has a gradient that needs values of F alone. Put the shift into the density, $p(x) \propto e^{-|x - \theta|^2 / 2\sigma^2}$ for
$x = \theta + \sigma\epsilon$, and differentiate the density, $\nabla_\theta\, p(x) = p(x)\,(x - \theta) / \sigma^2$:

$$ \nabla F_\sigma(\theta) = \int F(x)\, \nabla_\theta\, p(x)\, dx = \frac1\sigma\, \mathbb E\,F(\theta + \sigma\epsilon)\,\epsilon. $$

$-\epsilon$ is as likely as $\epsilon$. In the mean of both (*antithetic* sampling)
what is even in $\epsilon$ drops out, such as $F(\theta)$,
which would have been most of the noise:

$$ \nabla F_\sigma(\theta) = \mathbb E\,\hat g(\epsilon), \qquad
   \hat g(\epsilon) = \frac{F(\theta + \sigma\epsilon) - F(\theta - \sigma\epsilon)}{2\sigma}\,\epsilon. $$

On a quadratic the fraction is $g^\top\epsilon$ exactly, for any $\sigma$, and $\mathbb E\,\epsilon\epsilon^\top = I$:
the estimate has no bias.
What it has is variance,

$$ \operatorname{Cov} \hat g = |g|^2 I + g g^\top, \qquad
   \frac{\mathbb E\,|\text{mean of } P - g|^2}{|g|^2} = \frac{d + 1}{P}, $$

and so as many pairs as there are weights are about what it takes. With the d directions $\sqrt d\, e_i$ in place of random ones the mean of
$\epsilon\epsilon^\top$ is I to the digit, and so is the gradient of a quadratic exact.

(Source: Salimans et al., Evolution strategies as a scalable alternative to reinforcement learning, 2017; for learned optimizers:
Metz et al., Understanding and correcting pathologies in the training of learned optimizers, 2019.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import check_array, check_count, check_function, check_generator, check_number
from .autodiff import ravel, tree, vmap
from .bilevel import Info, MetaGradient, floats
from .machine import jit


def evolution_strategies(
    F: Callable[[Any, Any], Any],
    theta: Any,
    task: Any,
    rng: np.random.Generator,
    *,
    sigma: float,
    pairs: int,
    directions: Callable[[np.random.Generator, tuple[int, int]], np.ndarray] = lambda rng, shape: rng.standard_normal(shape),
) -> MetaGradient:
    r"""$\nabla F_\sigma(\theta)$, estimated from `pairs` pairs of values of F.

    Parameters
    ----------
    F : traceable scalar function of (theta, task), such as `learned_optimizer.objective` returns. It is traced when it is first seen
        and run on the machine, so make it once and call this often
    theta, task : nested containers of arrays; the task may be a batch, if F takes one
    rng : where the directions are drawn from
    sigma : how far to go; the gradient is that of F smoothed so far, and that of F itself as sigma tends to 0
    pairs : how many directions
    directions : function (rng, (pairs, d)) -> array, with mean 0 and covariance I, for theta of d numbers

    Returns
    -------
    MetaGradient (value, grad, phi, info): value is F(theta), phi is None. info has `standard_error`, a tree like theta: of each number of
    grad, estimated from the spread between the pairs (NaN for a single pair), and `evaluations`, the number of values of F.

    Raises ValueError for sigma or pairs that make no sense, TypeError if theta is not made of floats, FloatingPointError if a value is not
    finite.

    Example
    -------
    >>> F = lambda theta, task: np.sum((theta - task) ** 2)
    >>> result = evolution_strategies(F, np.zeros(2), np.ones(2), np.random.default_rng(0), sigma=1.0, pairs=10_000)
    >>> bool(np.all(np.abs(result.grad - [-2, -2]) < 4 * result.info["standard_error"]))
    True
    """
    check_function("F", F, "a function of (theta, task)", 2)
    check_generator("rng", rng)
    check_number("sigma", sigma, above=0, of="how far the weights are shifted")
    check_count("pairs", pairs, least=1, of="the number of directions")
    check_function("directions", directions, "a function of (rng, shape)", 2)
    vector, unravel = ravel(floats(theta, "theta"))
    epsilon = directions(rng, (pairs, vector.size))
    check_array("directions(rng, shape)", epsilon, (pairs, vector.size))
    shifts = np.concatenate([np.zeros((1, vector.size)), sigma * epsilon, -sigma * epsilon]).astype(vector.dtype)
    thetas = tree.map(lambda *rows: np.stack(rows), *(unravel(vector + shift) for shift in shifts))
    with np.errstate(all="ignore"):  # what isn't finite is told
        values = _of_each(F)(thetas, task)
    if not np.all(np.isfinite(values)):
        if not np.isfinite(values[0]):
            raise FloatingPointError(f"F(theta, task) is {values[0]}: it isn't finite where theta is, and so not around it")
        raise FloatingPointError(f"{np.sum(~np.isfinite(values))} of the {len(values)} values of F are not finite: "
                                 f"sigma={sigma} shifts the weights too far, or F diverges where they are")  # fmt: skip
    # $$ \hat g_p = \frac{F(\theta + \sigma\epsilon_p) - F(\theta - \sigma\epsilon_p)}{2\sigma}\,\epsilon_p, \qquad
    #    \hat g = \frac1P \sum_p \hat g_p $$
    plus, minus = values[1 : pairs + 1], values[pairs + 1 :]
    each = ((plus - minus) / (2 * sigma))[:, None] * epsilon
    # The standard error of the mean: the spread of what it is the mean of, over the root of their number.
    error = np.std(each, axis=0, ddof=1) / np.sqrt(pairs) if pairs > 1 else np.full(vector.size, np.nan)
    info = Info(standard_error=unravel(error), evaluations=len(values), sigma=sigma)
    return MetaGradient(np.asarray(values[0]), unravel(np.mean(each, axis=0)), None, info)


@functools.lru_cache(maxsize=16)
def _of_each(F: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """F at many thetas, over threads: a program that is kept as long as it is among the last that were used."""
    return jit(vmap(F, (0, None)))
