"""Changes that are no mistakes: what they change makes no difference, or none that is promised."""

EQUIVALENT: dict[str, str] = {
    "reductions.py prod: scaled: np.sum(factors, axis=0)": "only its shape and dtype are used",
    "reductions.py softmax_: scaled: np.exp(_shifted(a, axis))": "softmax divides by the sum of the same",
    "reductions.py _shifted: scaled: np.max(a.real, axis=axis, keepdims=True)": "any shift near the largest will do",
    "linear_algebra.py _: transposition missing: np.linalg.solve(l.mT, left.mT).mT": "only the symmetric part is returned",
}
