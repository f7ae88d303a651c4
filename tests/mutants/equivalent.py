"""Changes that are no mistakes: what they change makes no difference, or none that is promised. Each reason, and what it holds for."""

REASONS: dict[str, list[str]] = {
    "only its shape and dtype are used": [
        "reductions.py prod: scaled: np.sum(factors, axis=0)",
    ],
    "softmax divides by the sum of the same": [
        "reductions.py softmax_: scaled: np.exp(_shifted(a, axis))",
    ],
    "any shift near the largest will do": [
        "reductions.py _shifted: scaled: np.max(a.real, axis=axis, keepdims=True)",
    ],
    "a rate in a message, of six digits": [
        "maml.py _diverged: scaled: np.concatenate([np.ravel(rate) for rate in tree.flatten(alpha)[0]])",
    ],
    "only whether it depends on theta is asked": [
        "implicit.py _enters: scaled: problem.outer(phi, given, task)",
    ],
    "whether it is 0 (that by which is divided is caught)": [
        "curvature.py condition: scaled: sizes.min()",
    ],
    "only the symmetric part is returned": [
        "linear_algebra.py _: transposition missing: np.linalg.solve(l.mT, left.mT).mT",
    ],
    "both are multiples of the step, but for a rest that stays": [
        "kernels.py along_line: sign flipped: last - first",
    ],
    "what is dropped is a multiple of the step": [
        "kernels.py along_line: second term dropped: last - first",
    ],
    "a loop's step is an integer: 16.016 is 16": [
        "kernels.py along_line: scaled: 4 * size",
    ],
    "a loop's step is an integer: 8.008 is 8": [
        "maps.py map_two: scaled: 2 * lanes(W)",
    ],
    "whether to pack B: the result is the same, the time is another": [
        "products.py product: scaled: k * n",
    ],
    "the number becomes a vector when vectors are added to it": [
        "products.py finish: first term dropped: zero + load(W, at(D, i, 0))",
    ],
    "a row is compared with itself": [
        "elimination.py pivot_row: second term dropped: c + 1",
    ],
    "what is left of the diagonal isn't read again": [
        "elimination.py eliminate: first term dropped: c + 1",
        "elimination.py eliminate: second term dropped: c + 1",
    ],
    "where 2^k is cut in two": [
        "elementary.py exponential: scaled: k * 0.5",
    ],
    "where the fraction's range is cut": [
        "elementary.py logarithm: scaled: 2 ** 0.5",
    ],
    "less than a unit in the last place, and four are promised": [
        "elementary.py logarithm: scaled: -k * log_two_low(x)",
        "elementary.py logarithm: sign flipped: -k",
    ],
    "NaN": [
        "elementary.py logarithm: scaled: x * nan",
    ],
    "the norm is the same whatever it is divided by, and multiplied with again": [
        "linear_algebra.py _largest: scaled: np.max(np.abs(stop_gradient(x)), axis=axes, keepdims=True)",
        "linear_algebra.py _largest: scaled: np.where(np.logical_and(largest > 0, np.isfinite(largest)), largest, 1)",
    ],
    "a count is an integer: 3.000003 is 3": [
        "nn.py truncated_normal: scaled: outside.sum()",
    ],
    "a vector is its own transpose, and so is the Hessian": [
        "solvers.py conjugate_gradients: left operand transposed: r @ r",
        "solvers.py conjugate_gradients: right operand transposed: r @ r",
        "solvers.py conjugate_gradients: left operand transposed: p @ Hp",
        "solvers.py conjugate_gradients: right operand transposed: p @ Hp",
        "solvers.py __call__: left operand transposed: np.asarray(H) @ attempt.v",
        "solvers.py __call__: right operand transposed: np.asarray(H) @ attempt.v",
        "solvers.py judge: left operand transposed: attempt.v @ Hv",
        "solvers.py judge: right operand transposed: attempt.v @ Hv",
        "solvers.py __call__: left operand transposed: p @ Hp",
        "solvers.py __call__: right operand transposed: p @ Hp",
        "solvers.py __call__: left operand transposed: p @ p",
        "solvers.py __call__: right operand transposed: p @ p",
        "solvers.py curved: left operand transposed: p @ Hp",
        "solvers.py curved: right operand transposed: p @ Hp",
    ],
    "a threshold, whose size is meant and not its sixth digit": [
        "solvers.py cholesky: scaled: 2 * abs(eigenvalues[0])",
        "solvers.py cholesky: scaled: 1e-08 * abs(eigenvalues[-1])",
        "solvers.py _regular: scaled: 10 * len(pivots) * np.finfo(pivots.dtype).eps * pivots.max(initial=0.0)",
        "solvers.py _regular: scaled: 10 * len(pivots) * np.finfo(pivots.dtype).eps",
        "solvers.py _regular: scaled: 10 * len(pivots)",
        "solvers.py _regular: scaled: pivots.max(initial=0.0)",
        "solvers.py _minres: scaled: 10 * b.size",
        "solvers.py _neumann: scaled: tolerance * size",
        "solvers.py _neumann: scaled: 1000 * size",
        "solvers.py _tolerance: scaled: eps ** 0.75",
        "solvers.py judge: scaled: 10 * self._tolerance(b)",
        "solvers.py judge: scaled: 100 * float(np.finfo(b.dtype).eps) * np.linalg.norm(attempt.v) * np.linalg.norm(Hv)",
        "solvers.py judge: scaled: 100 * float(np.finfo(b.dtype).eps) * np.linalg.norm(attempt.v)",
        "solvers.py judge: scaled: 100 * float(np.finfo(b.dtype).eps)",
        "solvers.py _status: scaled: 1000.0 * tolerance",
        "solvers.py indefinite: scaled: -100 * self.eps * self.stretch",
        "solvers.py indefinite: scaled: -100 * self.eps",
        "curvature.py is_indefinite: scaled: len(self.matrix) * np.finfo(self.dtype).eps * np.linalg.norm(self.matrix)",
        "curvature.py is_indefinite: scaled: len(self.matrix) * np.finfo(self.dtype).eps",
    ],
    "compared with such a threshold, or asked for its sign": [
        "solvers.py cholesky: scaled: np.diag(factor[0]) ** 2",
        "solvers.py is_positive_definite: scaled: np.diag(np.linalg.cholesky(H)) ** 2",
        "solvers.py _regular: scaled: pivots.min(initial=np.inf)",
        "solvers.py judge: scaled: attempt.v @ Hv",
        "solvers.py curved: scaled: p @ Hp",
        "nn.py cross_entropy: scaled: labels.min(initial=0)",
        "curvature.py plot: scaled: sign * self.eigenvalues",
    ],
    "the stand-ins of a trace: only their shape and dtype are used": [
        "blocks.py _stack: scaled: np.broadcast_to(values[0], (length, *np.shape(values[0])))",
    ],
    "what is left over follows in the same order, and is added up when it is fitted": [
        "blocks.py again: sign flipped: len(found) - len(captured)",
        "blocks.py again: second term dropped: len(found) - len(captured)",
    ],
}
EQUIVALENT = {key: reason for reason, keys in REASONS.items() for key in keys}
