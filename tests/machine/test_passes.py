"""Each pass leaves the results as they are, and saves what it is there to save."""

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import tree
from tinymeta.autodiff.blocks import run
from tinymeta.autodiff.tensor import tensor, tracing
from tinymeta.machine import blocks, passes
from tinymeta.machine.code import code_of
from tinymeta.machine.costs import flops
from tinymeta.machine.execute import Executable

generator = np.random.default_rng(0)
THETA = {"W": generator.normal(size=(3, 4)), "b": generator.normal(size=4)}
TASKS = (generator.normal(size=(5, 6, 3)), generator.normal(size=(5, 6, 4)))


def loss(theta, x, y):
    return np.mean((np.tanh(x @ theta["W"] + theta["b"]) - y) ** 2)


def adapted(theta, x, y):
    g = tm.grad(loss)(theta, x, y)
    return loss(tm.tree.map(lambda t, g: t - 0.1 * g, theta, g), x, y)


def meta(theta, xs, ys):
    return np.mean(tm.vmap(adapted, (None, 0, 0))(theta, xs, ys))


FUNCTIONS = {
    "gradient": (tm.value_and_grad(loss), THETA, TASKS[0][0], TASKS[1][0]),
    "MAML": (tm.value_and_grad(meta), THETA, *TASKS),
    "Hessian": (tm.hessian(loss), THETA, TASKS[0][0], TASKS[1][0]),
    "checkpoint": (tm.grad(tm.checkpoint(loss)), THETA, TASKS[0][0], TASKS[1][0]),
    "a loss that isn't linear": (tm.value_and_grad(lambda *a: np.log(meta(*a))), THETA, *TASKS),
    "two results, one taken": (lambda x: tm.vmap(lambda row: (np.sin(row), np.cos(row)))(x)[1], TASKS[0]),
    "a chain of products": (lambda A, x: A @ (A @ (A @ (A @ x))), TASKS[0][0, :3], TASKS[0][1, :3]),
    "a map of a map": (tm.grad(lambda x: np.sum(tm.vmap(tm.vmap(lambda a: np.sin(a) * x[0, 0, 0]))(x))), TASKS[0]),
}

# These change the order of the arithmetic, all others leave each bit as it is.
ROUNDING = ("constant_factors", "scaled_products", "associations", "multiply_adds", "sums_of_rows", "optimize")
LENGTHENING = ("constant_factors", "associations")  # the one leaves dead code, the other saves work by more instructions


def traced(f, *args):
    leaves, structure = tree.flatten(args)
    with tracing():
        return code_of(run(lambda *given: f(*tree.unflatten(structure, given)), list(map(tensor, leaves)))), leaves


def execute(code, inputs):
    """In NumPy, which is the same to the bit each time."""
    return Executable(passes.in_bodies(blocks.inline_checkpoints)(code), machine=False)(inputs, [])


def length(code):
    return len(list(code.walk()))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("transform", [*dict.fromkeys(passes.PASSES), passes.optimize], ids=lambda transform: transform.__name__)
def test_results_are_unchanged(transform, name):
    code, inputs = traced(*FUNCTIONS[name])
    after = transform(code)
    for before, now in zip(execute(code, inputs), execute(after, inputs), strict=True):
        np.testing.assert_allclose(now, before, rtol=1e-12 if transform.__name__ in ROUNDING else 0)
    assert length(after) <= length(code) or transform.__name__ in LENGTHENING


def test_dead_code():
    code, _ = traced(lambda x: (np.sin(x), np.cos(x)), np.ones(3))
    assert length(passes.dead_code(code._replace(outputs=code.outputs[:1]))) == 1


def test_dead_code_in_a_block_takes_its_operands_along():
    code, _ = traced(lambda x, y: tm.vmap(lambda a, b: (np.sin(a), np.cos(b)))(x, y)[0], np.ones(3), np.ones(3))
    block = next(i for i in passes.in_bodies(passes.dead_code)(code).instructions if i.body)
    assert [i.operation.name for i in block.body.instructions] == ["sin"]
    assert len(block.operands) == len(block.body.inputs) == len(block.type) == 1


def test_common_subexpressions():
    code, _ = traced(lambda x: np.sin(x + 1) * np.sin(x + 1), np.ones(3))
    assert length(code) == 5
    assert [i.operation.name for i in passes.common_subexpressions(code).instructions] == ["add", "sin", "multiply"]


def test_common_subexpressions_keep_constants_of_different_kinds_apart():
    def f(x):
        return x * 2 + x * np.float32(2) + x * 2.0 + x * np.array(2.0)

    code, (x,) = traced(f, np.ones(3, np.float32))
    after = passes.common_subexpressions(code)
    assert len(after.constants) == len(code.constants)
    assert execute(after, [x])[0].dtype == np.float64  # the last one is strong


def test_a_checkpoint_is_never_merged_with_what_it_computes_again():
    code, _ = traced(tm.value_and_grad(lambda x: np.sum(tm.checkpoint(lambda x: np.sin(x) ** 2)(x)) + np.sum(np.sin(x))), np.ones(3))
    names = [i.operation.name for i in passes.optimize(code).walk()]
    assert names.count("sin") == 3  # outside, in the checkpoint, and in its second run
    assert "checkpoint" not in names


def test_constant_folding():
    code, _ = traced(lambda x: x * np.sum(tm.stop_gradient(tm.tensor(np.ones(3)) * 2)), np.ones(3))
    folded = passes.constant_folding(code)
    assert [i.operation.name for i in folded.instructions][-1] == "multiply"
    assert length(folded) <= length(code)


def test_what_depends_on_a_shape_alone_is_a_constant():
    code, inputs = traced(lambda x: x * np.ones_like(x) + np.full_like(x, 2.0), np.ones(3, np.float32))
    folded = passes.constant_folding(code)
    assert [i.operation.name for i in folded.instructions] == ["multiply", "add"]
    (result,) = execute(folded, inputs)
    assert result.dtype == np.float32 and result.tolist() == [3, 3, 3]


@pytest.mark.parametrize("f", [lambda x: x * 1, lambda x: 1.0 * x, lambda x: x + 0, lambda x: 0.0 + x, lambda x: x - 0,
                               lambda x: x / 1, lambda x: np.reshape(x, (3,)), lambda x: np.broadcast_to(x, (3,)),
                               lambda x: np.sum(x, axis=())])  # fmt: skip
def test_algebra_drops_what_changes_nothing(f):
    code, _ = traced(lambda x: np.sin(f(x)), np.ones(3))
    assert [i.operation.name for i in passes.algebra(code).instructions] == ["sin"]


@pytest.mark.parametrize("f", [lambda x: x * 2, lambda x: 0 - x, lambda x: 1 / x, lambda x: x * np.ones((2, 3)), lambda x: x + 0j,
                               lambda x: x.astype(np.float32) * np.ones(3)])  # fmt: skip
def test_algebra_keeps_what_changes_something(f):
    code, _ = traced(f, np.ones(3))
    assert length(passes.algebra(code)) == length(code)


def test_two_maps_become_one_with_the_length_of_one_task():
    code, _ = traced(*FUNCTIONS["MAML"])
    after = passes.optimize(code)
    assert [i.operation.name for i in code.instructions].count("map") == 2
    assert [i.operation.name for i in after.instructions].count("map") == 1
    forward = [i.operation.name for i in after.walk()].count("tanh")
    assert forward == 2  # the inner and the outer loss, each once


def test_what_a_map_has_in_common_with_its_gradient_has_one_slot():
    code, _ = traced(*FUNCTIONS["MAML"])
    first, second = (i for i in code.instructions if i.body)
    made = {i.slot: i for i in first.body.instructions}
    shared = [i for i in second.body.instructions if i.slot in made]
    assert [i.operation.name for i in shared].count("tanh") == 2 and all(i is made[i.slot] for i in shared)
    assert first.body.inputs.items() < second.body.inputs.items()  # which has a cotangent too
    assert set(first.body.captured) == set(second.body.captured) <= set(code.inputs)
    merged = next(i for i in blocks.merge_maps(code).instructions if i.body)
    assert len(merged.body.instructions) == len(made) + len(second.body.instructions) - len(shared)


def test_a_node_with_two_names_is_captured_once():
    code, (x, y) = traced(lambda x, y: tm.grad(lambda z: np.sum(tm.vmap(lambda r: r * z**2 * y)(x)))(y), np.ones(3), 2.0)
    assert execute(passes.optimize(code), [x, y]) == [24.0]


def test_a_map_that_needs_the_other_stays_apart():
    code, _ = traced(*FUNCTIONS["a loss that isn't linear"])
    assert [i.operation.name for i in passes.optimize(code).instructions].count("map") == 2


@pytest.mark.parametrize("f, names", [
    (lambda a, b: a.T @ b.T, ["product"]), (lambda a, b: (b @ a).T.T @ a, ["product", "product"]),
    (lambda a, b: 2.0 * (a @ b) + a[0, 0], ["product", "getitem", "add"]),
    (lambda a, b: b - 0.1 * (a @ b), ["product"]), (lambda a, b: a @ b + b[0], ["getitem", "product"]),
    (lambda a, b: (a @ b) * b, ["product", "multiply"]), (lambda a, b: a @ b + 1.0, ["product", "add"]),
    (lambda a, b: (lambda c: c + np.sin(c))(a @ b), ["product", "sin", "add"]),
])  # fmt: skip
def test_products_take_transposition_scale_and_addition(f, names):
    code, inputs = traced(f, generator.normal(size=(3, 3)), generator.normal(size=(3, 3)))
    after = passes.optimize(code)
    assert [i.operation.name for i in after.instructions] == names
    np.testing.assert_allclose(execute(after, inputs)[0], f(*inputs), rtol=1e-14)


def test_savings_count_what_each_pass_saved():
    code, _ = traced(*FUNCTIONS["MAML"])
    saved = passes.savings(code)
    assert [name for name, _ in saved] == [transform.__name__ for transform in passes.PASSES]
    assert sum(n for _, n in saved) == length(code) - length(passes.optimize(code)) > 20


# ## Fusion
A, B, D = (np.random.default_rng(k).normal(size=(3, 3)) for k in range(3))


def names_after(f, *args):
    """The operations of the optimised code, which computes what f does."""
    code, inputs = traced(f, *args)
    after = passes.optimize(code)
    for now, expected in zip(execute(after, inputs), tree.flatten(f(*args))[0], strict=True):
        np.testing.assert_allclose(now, expected, rtol=1e-13, atol=1e-15)
    return [i.operation.name for i in after.instructions]


@pytest.mark.parametrize("f, names", [
    (lambda a, b, d: (a @ b).T, ["product"]),  # as B' A'
    (lambda a, b, d: np.sin((a.T @ b).T), ["product", "sin"]),
    (lambda a, b, d: (lambda c: c + c.T)(a @ b), ["product", "transpose", "add"]),  # needed both ways
    (lambda a, b, d: a @ (-0.1 * b), ["product"]),  # a factor of a factor
    (lambda a, b, d: (3.0 * a).T @ (2.0 * b) * 0.5, ["product"]),
    (lambda a, b, d: np.sum(0.1 * (a * b), axis=0) * 10.0, ["multiply", "sum"]),  # factors that make 1 are gone
    (lambda a, b, d: (a @ b + d @ a) + b, ["product", "product"]),  # the first product takes the addition
    (lambda a, b, d: d + a * b, ["multiply_add"]), (lambda a, b, d: 1.0 - a * a, ["multiply_add"]),
    (lambda a, b, d: d - 0.1 * a, ["multiply_add"]), (lambda a, b, d: d - a**2, ["multiply_add"]),
    (lambda a, b, d: 2.0 * (a * b) * d, ["multiply", "multiply_add"]),
    (lambda a, b, d: a * b - d, ["multiply", "subtract"]), (lambda a, b, d: np.negative(np.negative(a)) * b, ["multiply"]),
    (lambda a, b, d: (a + a) / 2.0 + np.broadcast_to(b[0], (3, 3)), ["getitem", "add"]),
])  # fmt: skip
def test_fusion(f, names):
    assert names_after(f, A, B, D) == names


def test_what_is_used_twice_is_not_absorbed():
    assert names_after(lambda a, b: (lambda c: (c, c + 1.0))(a * b), A, B) == ["multiply", "add"]


def test_the_square_of_a_product_of_numbers():
    program = tm.trace(lambda a, b: (a * b) ** 2, np.array(2.0), np.array(3.0))
    assert program(np.array(2.0), np.array(5.0)) == 100.0


def test_a_factor_that_may_keep_numbers_in_range_stays():
    huge = np.full(3, 1e160)
    assert names_after(lambda x: (1e-150 * x) * (1e-150 * x), huge) == ["multiply", "multiply"]


# ## Association
def thin(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


W, X, P, Q, Y = thin(60, 50), thin(7, 60), thin(2, 60), thin(2, 50), thin(50, 8)


@pytest.mark.parametrize("f, shapes", [
    (lambda W, X, P, Q, Y: X @ (W - 0.1 * (P.T @ Q)), [(7, 50), (7, 2), (7, 50)]),  # X W, X P', and what makes the whole
    (lambda W, X, P, Q, Y: (W - 0.1 * (P.T @ Q)) @ Y, [(60, 8), (2, 8), (60, 8)]),
    (lambda W, X, P, Q, Y: (W - 0.1 * (P.T @ Q)).T @ X.T, [(50, 7), (2, 7), (50, 7)]),
    (lambda W, X, P, Q, Y: 3.0 * (X @ (P.T @ Q)) + 1.0, [(7, 2), (7, 50)]),
    (lambda W, X, P, Q, Y: (P.T @ Q) @ Y + W[:, :8], [(2, 8), (60, 8)]),
    (lambda W, X, P, Q, Y: X @ (W - 0.1 * (P.T @ Q) - 0.2 * (P[::-1].T @ Q)), [(7, 50), (7, 2), (7, 50), (7, 2), (7, 50)]),
    (lambda W, X, P, Q, Y: (X @ (W - 0.1 * (P.T @ Q))) @ Y, [(7, 50), (7, 2), (7, 50), (7, 8)]),
])  # fmt: skip
def test_a_product_of_thin_matrices_is_not_written_down_to_be_multiplied(f, shapes):
    code, inputs = traced(f, W, X, P, Q, Y)
    after = passes.optimize(code)
    np.testing.assert_allclose(execute(after, inputs)[0], f(*inputs), rtol=1e-12, atol=1e-12)
    made = sorted(i.type.shape for i in after.instructions if i.operation.name == "product")
    assert made == sorted(shapes)
    assert flops(after) < flops(passes.in_bodies(passes.transposed_products)(code))


@pytest.mark.parametrize("f", [
    lambda W, X, P, Q, Y: (lambda V: (X @ V, V))(W - 0.1 * (P.T @ Q)),  # it is needed itself
    lambda W, X, P, Q, Y: (lambda V: (X @ V, np.sin(V)))(W - 0.1 * (P.T @ Q)),
    lambda W, X, P, Q, Y: W @ (W - 0.1 * (P.T @ Q)).T,  # as many rows as columns: no less work
])
def test_a_product_that_pays_is_written_down(f):
    code, inputs = traced(f, W, X, P, Q, Y)
    after = passes.optimize(code)
    assert [i.operation.name for i in after.instructions].count("product") == 2
    for now, expected in zip(execute(after, inputs), tree.flatten(f(*inputs))[0], strict=True):
        np.testing.assert_allclose(now, expected, rtol=1e-12, atol=1e-12)


def test_maps_sum_their_rows():
    code, inputs = traced(lambda x, w: (np.sum(tm.vmap(lambda r: np.sin(r) * w)(x), axis=0), tm.vmap(np.cos)(x)), TASKS[0], np.ones(3))
    after = passes.optimize(code)
    (block,) = (i for i in after.instructions if i.length)
    assert block.params["summed"] == (True, False)
    assert [t.shape for t in block.type] == [(6, 3), (5, 6, 3)]
    for now, before in zip(execute(after, inputs), execute(code, inputs), strict=True):
        np.testing.assert_allclose(now, before, rtol=1e-14)


def test_a_result_that_is_needed_itself_is_not_summed():
    code, _ = traced(lambda x: (lambda y: (np.sum(y, axis=0), y))(tm.vmap(np.sin)(x)), TASKS[0])
    (block,) = (i for i in passes.optimize(code).instructions if i.length)
    assert not any(block.params.get("summed", [False]))


def test_constants_with_equal_rows_are_constants_of_the_body():
    code, _ = traced(*FUNCTIONS["MAML"])
    assert any(i.length and set(i.operands) & set(code.constants) for i in code.instructions)
    assert not any(i.length and set(i.operands) & set(code.constants) for i in passes.optimize(code).instructions)
