"""What holds for every operation: its value, its derivatives, its precision, its complex form; and that a wrong rule is caught."""

import numpy as np
import pytest
from catalogue import ANALYTIC, EXAMPLES, OPERATIONS, USES, errors, pulled, value

import tinymeta as tm
from tinymeta.autodiff.tensor import OPERATIONS as TABLE
from tinymeta.autodiff.tensor import NotAnalytic, Tensor

every_example = pytest.mark.parametrize("name", EXAMPLES)


@every_example
def test_value_on_tensors_is_the_value_on_arrays(name):
    f, *xs = EXAMPLES[name]
    expected, result = f(*xs), f(*map(tm.tensor, xs))
    assert isinstance(result, Tensor)
    assert result.shape == np.shape(expected)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.value, expected, rtol=1e-13, atol=1e-15)


@every_example
def test_dot_product_identity_at_orders_1_and_2(name):
    f, *xs = EXAMPLES[name]
    assert max(errors(f, xs)) < (1e-13 if ANALYTIC[name] else 1e-10)


@every_example
def test_check_grad_agrees_in_every_coordinate(name):
    f, *xs = EXAMPLES[name]
    check = tm.check_grad(f, *xs)
    assert check, str(check)
    assert check.method == ("complex" if ANALYTIC[name] else "differences")


@pytest.mark.parametrize("name", [name for name, (_, *xs) in EXAMPLES.items() if len(xs) > 1])
def test_each_argument_alone_among_arrays(name):
    f, *xs = EXAMPLES[name]
    together = tm.grad(lambda *xs: np.sum(f(*xs) ** 2), argnums=range(len(xs)))(*xs)
    for k, expected in enumerate(together):
        np.testing.assert_array_equal(tm.grad(lambda *xs: np.sum(f(*xs) ** 2), argnums=k)(*xs), expected)


# ## Precision
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "astype"])
def test_float32_stays_float32_at_every_node_up_to_order_2(name):
    f, *xs = EXAMPLES[name]
    u = np.random.default_rng(3).normal(size=np.shape(f(*xs))).astype(np.float32)
    low = [tm.tensor(x.astype(np.float32)) for x in xs]
    result, first = f(*low), pulled(f, u)(*low)
    second = pulled(pulled(f, u), np.ones(first.shape, np.float32))(*low)
    assert {node.dtype.name for node in graph([result, first, second])} <= {"float32", "bool", "int64"}
    np.testing.assert_allclose(result.value, f(*xs), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first.value, value(pulled(f, u), xs), rtol=1e-3, atol=1e-3)


def graph(outputs):
    """All nodes whose value has a dtype of its own."""
    found, waiting = {}, list(outputs)
    while waiting:
        node = waiting.pop()
        if node.index not in found:
            found[node.index] = node
            waiting.extend(x for x in node.inputs if isinstance(x, Tensor))
    return [node for node in found.values() if isinstance(node.data, np.ndarray)]


SCALAR_FUNCTIONS = {
    "+": lambda t: 1 + t + 1.0, "-": lambda t: 1.0 - (t - 2), "*": lambda t: 2 * t * 0.5, "/": lambda t: 1 / (t / 2.0),
    "**": lambda t: 2.0**t + t**3 + t**0.5 + t**-2, "maximum": lambda t: np.maximum(t, 1.0) + np.minimum(2, t),
    "clip": lambda t: np.clip(t, 0.1, 9), "where": lambda t: np.where(t > 1.0, t, 0.0), "%": lambda t: t % 0.7 + 7 % t,
    "weak leaf": lambda t: t * tm.tensor(2.0) + t ** tm.tensor(3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALAR_FUNCTIONS)
def test_python_scalars_are_weak(name):
    f = SCALAR_FUNCTIONS[name]
    x = np.array([0.5, 1.5, 2.5], np.float32)
    assert f(tm.tensor(x)).dtype == np.float32
    assert tm.grad(lambda t: np.sum(f(t)))(x).dtype == np.float32
    np.testing.assert_allclose(f(tm.tensor(x)).value, f(x) if name != "weak leaf" else x * 2 + x**3, rtol=1e-6)


# ## The complex step
BY_REAL_PART = set(
    "absolute maximum minimum relu astype sigmoid softplus max min sign floor ceil trunc rint less less_equal greater "
    "greater_equal equal not_equal isfinite isnan isinf signbit logical_and logical_or logical_xor logical_not floor_divide "
    "remainder".split()
)
REFUSED = {"cholesky", "sign_of_determinant", "log_absolute_determinant", "erf", "gammaln", "polygamma"}


def test_which_operation_does_what_with_complex_tensors():
    special = {op.name for op in OPERATIONS if op.complex_forward}
    assert {op.name for op in OPERATIONS if op.complex_forward and refuses(op)} == REFUSED
    assert special - REFUSED == BY_REAL_PART


def refuses(op):
    try:
        op.complex_forward(np.ones((1, 1), complex))
    except NotAnalytic:
        return True
    except TypeError:  # it has other inputs, or parameters
        return False
    return False


def test_exactly_the_refused_ones_refuse():
    assert {name.split()[0] for name, analytic in ANALYTIC.items() if not analytic} == {"cholesky", "slogdet", "erf", "gammaln"}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not ANALYTIC[name]])
def test_refusal_names_the_way_out(name):
    f, *xs = EXAMPLES[name]
    with pytest.raises(NotAnalytic, match="use differences"):
        value(f, [x + 0j for x in xs])


# ## The catalogue is complete
CONTRACT = """add subtract multiply divide negative power sqrt exp log log1p expm1 sin cos tan sinh cosh tanh arctan abs maximum
minimum where clip sign sum mean prod max min var std cumsum reshape transpose swapaxes moveaxis expand_dims squeeze ravel
broadcast_to concatenate stack split tile repeat roll flip pad diag diagonal trace tril triu dot matmul tensordot einsum outer
inner vdot linalg.norm linalg.solve linalg.inv linalg.cholesky linalg.det linalg.slogdet argmax argsort sort floor round
isfinite zeros_like take_along_axis""".split()


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_is_in_the_table(name):
    function = np
    for part in name.split("."):
        function = getattr(function, part)
    assert function in TABLE


def test_every_rule_is_used_by_an_example():
    assert {op.name for op in OPERATIONS if op.vjp} == {op.name for op, _ in USES}


# ## Mutants: each rule, spoilt in one cotangent, must be caught
MUTATIONS = {
    "1e-6 too large": lambda x_bar: x_bar * (1 + 1e-6),
    "dropped": np.zeros_like,
    "negated": lambda x_bar: -x_bar,
    "misplaced": np.flip,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize(("op", "k"), USES, ids=lambda part: getattr(part, "name", str(part)))
def test_wrong_rule_is_caught(op, k, mutation, monkeypatch):
    rule = op.vjp

    def wrong(*args, **params):
        terms = list(rule(*args, **params))
        x_bar = terms[k]() if callable(terms[k]) else terms[k]
        terms[k] = MUTATIONS[mutation](x_bar)
        return tuple(terms)

    monkeypatch.setattr(op, "vjp", wrong)
    assert any(max(errors(f, xs)) > 1e-9 for f, *xs in map(EXAMPLES.get, USES[op, k]))
    assert any(not tm.check_grad(*EXAMPLES[name]) for name in USES[op, k])
