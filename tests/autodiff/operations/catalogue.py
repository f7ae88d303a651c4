"""One example call of every operation, shared by the tests that hold for all of them; and the oracle they are held against.

An example is a function written in NumPy and the arrays to call it with, all of which are differentiated. The values
are generic: no ties, no kinks, no zeros (those are pinned one by one in the other files).
"""

import numpy as np
from scipy import special

import tinymeta as tm
from tinymeta.autodiff import operations
from tinymeta.autodiff.tensor import NotAnalytic, Operation

random = np.random.default_rng(2017)


def normal(*shape):
    return random.normal(size=shape)


def positive(*shape):
    return random.uniform(0.5, 2.0, shape)


def regular(*shape):
    """Square matrices far from singular."""
    return 0.5 * normal(*shape) + 2 * np.eye(shape[-1])


def definite(a):
    return a @ np.matrix_transpose(a) + np.eye(a.shape[-1], dtype=a.dtype)


UNARY = {
    "negative": (np.negative, normal), "positive": (np.positive, normal), "square": (np.square, normal),
    "sqrt": (np.sqrt, positive), "exp": (np.exp, normal), "expm1": (np.expm1, normal), "log": (np.log, positive),
    "log1p": (np.log1p, positive), "sin": (np.sin, normal), "cos": (np.cos, normal), "tan": (np.tan, positive),
    "sinh": (np.sinh, normal), "cosh": (np.cosh, normal), "tanh": (np.tanh, normal), "arctan": (np.arctan, normal),
    "absolute": (np.abs, normal), "fabs": (np.fabs, normal), "relu": (tm.relu, normal), "sigmoid": (tm.sigmoid, normal),
    "softplus": (tm.softplus, normal), "expit": (special.expit, normal), "erf": (special.erf, normal),
    "gammaln": (special.gammaln, positive), "log_softmax": (tm.log_softmax, normal), "softmax": (tm.softmax, normal),
    "logsumexp": (tm.logsumexp, normal),
}  # fmt: skip
BINARY = {
    "add": (np.add, normal), "subtract": (np.subtract, normal), "multiply": (np.multiply, normal),
    "divide": (np.divide, positive), "power": (np.power, positive), "maximum": (np.maximum, normal),
    "minimum": (np.minimum, normal), "remainder": (lambda a, b: np.remainder(5 * a, b), positive),
    "where": (lambda a, b: np.where(a > 0.1, a, b), normal), "clip": (lambda a, b: np.clip(a, b, b + 1), normal),
}  # fmt: skip
REDUCTIONS = {
    "sum": (np.sum, normal), "mean": (np.mean, normal), "prod": (np.prod, normal), "max": (np.max, normal),
    "min": (np.min, normal), "var": (np.var, normal), "std": (np.std, normal), "logsumexp": (tm.logsumexp, normal),
}  # fmt: skip

SHAPES = {
    "reshape": (lambda a: np.reshape(a, (3, -1)), normal(2, 3)),
    "transpose": (np.transpose, normal(2, 3, 2)),
    "transpose axes": (lambda a: np.transpose(a, (1, 2, 0)), normal(2, 3, 2)),
    "matrix_transpose": (np.matrix_transpose, normal(2, 3, 2)),
    "swapaxes": (lambda a: np.swapaxes(a, 0, -1), normal(2, 3, 4)),
    "moveaxis": (lambda a: np.moveaxis(a, (0, 1), (-1, 0)), normal(2, 3, 4)),
    "expand_dims": (lambda a: np.expand_dims(a, (0, -1)), normal(2, 3)),
    "squeeze": (lambda a: np.squeeze(a, 1), normal(2, 1, 3)),
    "ravel": (np.ravel, normal(2, 3)),
    "broadcast_to": (lambda a: np.broadcast_to(a, (4, 2, 3)), normal(2, 1)),
    "concatenate": (lambda a, b, c: np.concatenate([a, b, c], -1), normal(2, 3), normal(2, 2), normal(2, 2)),
    "stack": (lambda a, b: np.stack([a, b], 1), normal(2, 3), normal(2, 3)),
    "vstack": (lambda a, b: np.vstack([a, b]), normal(3), normal(2, 3)),
    "hstack": (lambda a, b: np.hstack([a, b]), normal(2, 1), normal(2, 3)),
    "split": (lambda a: np.split(a, 2, -1)[1], normal(2, 4)),
    "split at": (lambda a: np.split(a, [1, 3])[1], normal(4, 2)),
    "take": (lambda a: np.take(a, [[0, 2], [2, 1]], -1), normal(2, 3)),
    "repeat": (lambda a: np.repeat(a, [1, 0, 2], 1), normal(2, 3)),
    "tile": (lambda a: np.tile(a, (2, 1, 2)), normal(2, 3)),
    "roll": (lambda a: np.roll(a, (1, -2), (0, 1)), normal(2, 3)),
    "flip": (lambda a: np.flip(a, -1), normal(2, 3)),
    "pad": (lambda a: np.pad(a, ((1, 0), (2, 1)), constant_values=2), normal(2, 3)),
    "pad reflect": (lambda a: np.pad(a, 1, mode="reflect"), normal(2, 3)),
    "tril": (lambda a: np.tril(a, -1), normal(3, 3)),
    "triu": (lambda a: np.triu(a, 1), normal(2, 3, 3)),
    "cumsum": (lambda a: np.cumsum(a, -1), normal(2, 3)),
    "sort": (np.sort, normal(2, 3)),
}  # fmt: skip
INDEXING = {
    "slice": (lambda a: a[1:, ::-2], normal(3, 4)),
    "index arrays": (lambda a: a[[0, 2, 0], [[1], [1]]], normal(3, 4)),
    "mask": (lambda a: a[np.array([True, False, True])], normal(3, 2)),
    "set_at": (lambda a, v: tm.set_at(a, (slice(None), 1), v), normal(3, 2), normal(3)),
    "set_at duplicates": (lambda a, v: tm.set_at(a, [0, 2, 0], v), normal(3, 2), normal(3, 2)),
    "take_along_axis": (lambda a: np.take_along_axis(a, np.array([[0, 0], [2, 1]]), 1), normal(2, 3)),
    "diagonal": (lambda a: np.diagonal(a, 1, 0, -1), normal(3, 2, 4)),
    "diag": (lambda a: np.diag(a, -1), normal(3)),
    "trace": (np.trace, normal(3, 4, 2)),
}
PRODUCTS = {
    "matmul": (np.matmul, normal(2, 3), normal(3, 4)),
    "matmul batch": (np.matmul, normal(5, 1, 2, 3), normal(4, 3, 2)),
    "dot": (np.dot, normal(2, 3), normal(4, 3, 2)),
    "tensordot": (lambda a, b: np.tensordot(a, b, ([0, -1], [1, 0])), normal(2, 3, 4), normal(4, 2, 3)),
    "inner": (np.inner, normal(2, 3), normal(4, 3)),
    "outer": (np.outer, normal(2), normal(3)),
    "vdot": (np.vdot, normal(2, 3), normal(2, 3)),
    "einsum": (lambda a, b, c: np.einsum("bij,jk,bk->ib", a, b, c), normal(2, 3, 4), normal(4, 2), normal(2, 2)),
    "einsum diagonal": (lambda a, b: np.einsum("iij,j", a, b), normal(3, 3, 2), normal(2)),
    "multiply.outer": (np.multiply.outer, normal(2), normal(3, 2)),
}
LINEAR_ALGEBRA = {
    "solve": (np.linalg.solve, regular(3, 3), normal(3, 2)),
    "solve vector": (np.linalg.solve, regular(3, 3), normal(3)),
    "solve batch": (np.linalg.solve, regular(2, 1, 3, 3), normal(4, 3, 2)),
    "inv": (np.linalg.inv, regular(2, 3, 3)),
    "det": (np.linalg.det, regular(2, 3, 3)),
    "slogdet": (lambda a: np.linalg.slogdet(a).logabsdet, regular(2, 3, 3)),
    "cholesky": (lambda a: np.linalg.cholesky(definite(a)), regular(3, 3)),
    "cholesky batch": (lambda a: np.linalg.cholesky(definite(a)), regular(2, 2, 2)),
    "norm": (np.linalg.norm, normal(2, 3)),
    "norm 3": (lambda a: np.linalg.norm(a, 3, axis=1), normal(2, 3)),
    "norm inf": (lambda a: np.linalg.norm(a, np.inf, axis=0, keepdims=True), normal(2, 3)),
}
EXAMPLES = {
    **{name: (f, sample(2, 3)) for name, (f, sample) in UNARY.items()},
    **{name: (f, sample(2, 3), sample(3)) for name, (f, sample) in BINARY.items()},
    "power -3": (lambda a: a**-3, positive(2, 3)), "power 3": (lambda a: np.power(a, 3), normal(2, 3)),
    "softmax of columns": (lambda a: tm.softmax(a, axis=0), normal(3, 2)),
    "log_softmax of columns": (lambda a: tm.log_softmax(a, axis=-2), normal(2, 3, 2)),
    "astype": (lambda a: np.sin(a.astype(np.float64) * a), normal(2, 3)),
    **{name: (lambda a, f=f: f(a, axis=1), sample(2, 3)) for name, (f, sample) in REDUCTIONS.items()},
    **SHAPES, **INDEXING, **PRODUCTS, **LINEAR_ALGEBRA,
}  # fmt: skip


# ## The oracle
# At each order the dot-product identity <u, J v> = <J' u, v> is tested for random u and v: J v by the complex step on
# complex Tensors (no rule takes part in it), J' u by the rules. Then f becomes x -> J(x)' u, and the next order begins.
def value(f, xs):
    return f(*map(tm.tensor, xs)).value


def pulled(f, u):
    """The function x -> J(x)' u, with the cotangents of all arguments in one flat vector."""

    def cotangents(*xs):
        nodes = [np.positive(x) for x in xs]
        return np.concatenate([np.ravel(x_bar) for x_bar in tm.gradients(np.sum(u * f(*nodes)), nodes)])

    return cotangents


def push(f, xs, vs):
    """The directional derivative J v: by the complex step, or by 5-point differences where that can't pass."""

    def along(t):
        return value(f, [x + t * v for x, v in zip(xs, vs, strict=True)])

    try:
        return along(1e-30j).imag / 1e-30
    except NotAnalytic:
        h = 1e-3
        return (along(-2 * h) - 8 * along(-h) + 8 * along(h) - along(2 * h)) / (12 * h)


def errors(f, xs, order=2):
    """The errors of the dot-product identity at orders 1, 2, ..., relative to |u| |J v|."""
    generator = np.random.default_rng(1)
    found = []
    for _ in range(order):
        vs = [generator.normal(size=np.shape(x)) for x in xs]
        pushed = push(f, xs, vs)
        u = generator.normal(size=pushed.shape)
        f = pulled(f, u)
        difference = np.sum(u * pushed) - np.dot(value(f, xs), np.concatenate([v.ravel() for v in vs]))
        found.append(abs(difference) / max(np.linalg.norm(u) * np.linalg.norm(pushed), 1e-300))
    return found


def is_analytic(f, xs):
    try:
        value(f, [x + 0j for x in xs])
    except NotAnalytic:
        return False
    return True


ANALYTIC = {name: is_analytic(f, xs) for name, (f, *xs) in EXAMPLES.items()}


# ## All operations, and the examples that use their rules
FILES = [getattr(operations, name) for name in operations.__all__]
OPERATIONS = sorted({x for file in FILES for x in vars(file).values() if isinstance(x, Operation)}, key=lambda op: op.name)


def uses():
    """(operation, k) -> the names of the examples in which its rule is asked for the cotangent of input k."""
    found = {}

    def spy(op, name):
        def pull(c_bar, c, inputs, params, wanted):
            for k in np.flatnonzero(wanted).tolist():
                found.setdefault((op, k), set()).add(name)
            return Operation.pull(op, c_bar, c, inputs, params, wanted)

        return pull

    for name, (f, *xs) in EXAMPLES.items():
        for op in OPERATIONS:
            op.pull = spy(op, name)
        errors(f, xs)
    for op in OPERATIONS:
        del op.pull
    return {key: sorted(names) for key, names in found.items()}


USES = uses()
