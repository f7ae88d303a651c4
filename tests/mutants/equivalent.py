"""Changes that are no mistakes: what they change makes no difference, or none that is promised."""

EQUIVALENT: dict[str, str] = {
    "reductions.py prod: scaled: np.sum(factors, axis=0)": "only its shape and dtype are used",
    "reductions.py softmax_: scaled: np.exp(_shifted(a, axis))": "softmax divides by the sum of the same",
    "reductions.py _shifted: scaled: np.max(a.real, axis=axis, keepdims=True)": "any shift near the largest will do",
    "maml.py _diverged: scaled: np.concatenate([np.ravel(rate) for rate in tree.flatten(alpha)[0]])": "a rate in a message, of six digits",
    "implicit.py _enters: scaled: problem.outer(phi, given, task)": "only whether it depends on theta is asked",
    "linear_algebra.py _: transposition missing: np.linalg.solve(l.mT, left.mT).mT": "only the symmetric part is returned",
    "kernels.py along_line: sign flipped: last - first": "both are multiples of the step, but for a rest that stays",
    "kernels.py along_line: second term dropped: last - first": "what is dropped is a multiple of the step",
    "kernels.py along_line: scaled: 4 * size": "a loop's step is an integer: 16.016 is 16",
    "maps.py map_two: scaled: 2 * lanes(W)": "a loop's step is an integer: 8.008 is 8",
    "products.py product: scaled: k * n": "whether to pack B: the result is the same, the time is another",
    "products.py finish: first term dropped: zero + load(W, at(D, i, 0))": "the number becomes a vector when vectors are added to it",
    "elimination.py pivot_row: second term dropped: c + 1": "a row is compared with itself",
    "elimination.py eliminate: first term dropped: c + 1": "what is left of the diagonal isn't read again",
    "elimination.py eliminate: second term dropped: c + 1": "what is left of the diagonal isn't read again",
    "elementary.py exponential: scaled: k * 0.5": "where 2^k is cut in two",
    "elementary.py logarithm: scaled: 2 ** 0.5": "where the fraction's range is cut",
    "elementary.py logarithm: scaled: -k * log_two_low(x)": "less than a unit in the last place, and four are promised",
    "elementary.py logarithm: sign flipped: -k": "less than a unit in the last place, and four are promised",
    "elementary.py logarithm: scaled: x * nan": "NaN",
}
