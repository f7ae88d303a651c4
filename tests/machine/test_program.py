"""A program: how it is called, what it refuses, what it returns, and its listing."""

import pickle
import re
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest

import tinymeta as tm

generator = np.random.default_rng(0)
MATRIX = generator.normal(size=(4, 3))
VECTOR = generator.normal(size=3)
Pair = namedtuple("Pair", "first second")


# ## Arguments
def test_nested_containers_in_and_out():
    def f(theta, pair, nothing):
        return {"a": [theta["W"] @ theta["b"][0], None], "c": Pair(pair.second, (pair.first * 2,))}

    args = ({"W": MATRIX, "b": (VECTOR, None)}, Pair(1.0, VECTOR), None)
    program = tm.trace(f, *args)
    assert program.names == ["theta['W']", "theta['b'][0]", "pair.first", "pair.second"]
    result = program(*args)
    np.testing.assert_array_equal(result["a"][0], MATRIX @ VECTOR)
    assert result["a"][1] is None
    assert type(result["c"]) is Pair
    assert result["c"].second[0] == 2


def test_dicts_are_matched_by_key():
    program = tm.trace(lambda p: p["a"] - p["b"], {"a": 1.0, "b": 2.0})
    assert program({"b": 5.0, "a": 7.0}) == 2


@pytest.mark.parametrize("args", [(), (VECTOR, 1.0), ([VECTOR],), ({"x": VECTOR},), (None,)])
def test_another_structure(args):
    program = tm.trace(lambda x: x * 2, VECTOR)
    with pytest.raises(TypeError, match="another structure: trace again"):
        program(*args)


@pytest.mark.parametrize("other", [np.ones(4), np.ones((3, 1)), np.ones(3, np.float32), np.ones(3, int), 1.0, 2])
def test_another_shape_or_dtype(other):
    program = tm.trace(lambda x: x * 2, VECTOR)
    with pytest.raises(TypeError, match=r"traced with x as float64\[3\], and can't run with .*: trace again"):
        program(other)


def test_the_error_names_the_argument():
    program = tm.trace(lambda theta, y: theta["W"][0] * y, {"W": MATRIX}, VECTOR)
    with pytest.raises(TypeError, match=r"theta\['W'\] as float64\[4, 3\], and can't run with float64\[3, 4\]"):
        program({"W": MATRIX.T}, VECTOR)


def scaled(x, n, flag, kind, nothing):
    return x * n if flag and kind == "up" and nothing is None else x


def test_static_arguments():
    program = tm.trace(scaled, VECTOR, 3, True, "up", None)
    assert program.names == ["x"]
    np.testing.assert_array_equal(program(VECTOR, 3, True, "up", None), 3 * VECTOR)


@pytest.mark.parametrize("static", [(4, True, "up"), (3, False, "up"), (3, True, "down"), (3.0, True, "up"), (3, 1, "up"),
                                    (np.array([3, 3]), True, "up"), (np.array(3), True, "up")])  # fmt: skip
def test_other_static_arguments(static):
    program = tm.trace(scaled, VECTOR, 3, True, "up", None)
    with pytest.raises(TypeError, match=r"as a static argument, and can't run with .*: trace again"):
        program(VECTOR, *static, None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_floats_are_inputs_and_stay_weak(dtype):
    program = tm.trace(lambda x, rate: x - rate * tm.grad(lambda x: np.sum(x**2))(x), np.ones(3, dtype), 0.5)
    result = program(np.ones(3, dtype), 0.25)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, [0.5] * 3)
    assert program(np.ones(3, dtype), 1).dtype == dtype  # 1 means 1.0
    assert program(np.ones(3, dtype), np.float64(0.25)).dtype == dtype


@pytest.mark.parametrize("f", [
    lambda x, rate: x * np.exp(rate),
    lambda x, rate: x * (2 * rate) ** 3,
    lambda x, rate: x * np.where(rate > 0, rate, 1.0),
    lambda x, rate: x * tm.grad(np.sin)(rate),
    lambda x, rate: x * tm.checkpoint(np.sin)(rate),
    lambda x, rate: tm.vmap(lambda row: row * (rate + 1))(x),
])  # fmt: skip
def test_what_is_computed_from_a_weak_float_is_weak(f):
    x = np.ones(3, np.float32)
    expected = f(tm.tensor(x), tm.tensor(0.25)).value
    result = tm.trace(f, x, 0.5)(x, 0.25)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("other", [np.ones(3), np.array(0.5), np.float32(0.5), True])
def test_where_a_python_float_was_traced_nothing_else_will_do(other):
    program = tm.trace(lambda x, rate: x * rate, VECTOR, 0.5)
    with pytest.raises(TypeError, match="traced with rate as float, and can't run"):
        program(VECTOR, other)


def test_float32_stays_float32():
    def f(x):
        return tm.grad(lambda x: np.mean(np.tanh(x / 3) ** 2 * 0.5) + np.var(x))(x)

    program = tm.trace(f, VECTOR.astype(np.float32))
    assert program(VECTOR.astype(np.float32)).dtype == np.float32
    assert not re.search("float64", str(program))


def test_a_tensor_is_refused_since_its_gradient_would_be_lost():
    program = tm.trace(lambda x: np.sum(x**2), VECTOR)
    with pytest.raises(TypeError, match=r"x is a Tensor, whose gradient would be lost.*tm\.trace\(tm\.grad\(f\)"):
        tm.grad(program)(VECTOR)


def test_trace_takes_example_tensors():
    np.testing.assert_array_equal(tm.trace(lambda x: x * 2, tm.tensor(VECTOR))(VECTOR), 2 * VECTOR)


# ## Results
def test_outputs_that_are_inputs_or_constants():
    constant = np.arange(2.0)

    def f(x, n):
        return x, x, n, constant, 3.0, None, "text", np.sum(MATRIX)

    program = tm.trace(f, VECTOR, 5)
    first, second, n, again, number, nothing, text, total = program(VECTOR, 5)
    assert len(program) == 0
    np.testing.assert_array_equal(first, VECTOR)
    assert (n, float(number), nothing, text, total) == (5, 3.0, None, "text", np.sum(MATRIX))
    first[:] = 0
    again[:] = 7
    np.testing.assert_array_equal(second, VECTOR)
    np.testing.assert_array_equal(constant, [0, 1])
    np.testing.assert_array_equal(program(VECTOR, 5)[3], [0, 1])


RESULTS = {
    "the argument": lambda x: x,
    "a view of it": lambda x: x.T,
    "a slice": lambda x: x[1:],
    "broadcast": lambda x: np.broadcast_to(x[0], (4, 3)),
    "computed": lambda x: x * 2,
    "a map": tm.vmap(lambda row: row[::-1]),
    "a gradient": tm.grad(lambda x: np.sum(x)),
    "a number": lambda x: np.sum(x),
    "a constant": lambda x: np.ones(3),
}


@pytest.mark.parametrize("f", RESULTS.values(), ids=RESULTS.keys())
def test_results_belong_to_the_caller_and_inputs_are_not_modified(f):
    program = tm.trace(f, MATRIX)
    x = MATRIX.copy()
    result = program(x)
    assert type(result) is np.ndarray
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, x)
    expected = result.copy()
    result[...] = -1
    np.testing.assert_array_equal(x, MATRIX)
    np.testing.assert_array_equal(program(x), expected)


def test_a_readonly_argument_will_do():
    x = VECTOR.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(tm.trace(np.sin, VECTOR)(x), np.sin(x))


def test_constants():
    program = tm.trace(lambda x: 2 * x + np.array([1.0, 2.0, 3.0]), VECTOR)
    values = list(program.code.constants.values())
    assert 2 in [x for x in values if np.ndim(x) == 0]
    assert any(np.array_equal(x, [1, 2, 3]) for x in values)
    np.testing.assert_array_equal(program(VECTOR), 2 * VECTOR + [1, 2, 3])


def test_what_the_result_does_not_need_is_no_instruction():
    def f(x):
        np.linalg.inv(np.outer(x, x) + np.eye(3))
        return np.sin(x)

    assert [i.operation.name for i in tm.trace(f, VECTOR).instructions] == ["sin"]


def test_a_function_without_arrays():
    assert tm.trace(lambda n: n + 1, 3)(3) == 4
    assert tm.trace(lambda: np.float64(2.0))() == 2


# ## The listing
def test_a_short_listing():
    t = tm.tensor([1.0, 2.0, 3.0])
    program = tm.trace(lambda theta: np.sum(np.tanh(theta["W"] @ t) * 2.5 + np.ones(4)), {"W": MATRIX})
    lines = str(program).splitlines()
    assert re.fullmatch(r"%0 += theta\['W'\] +float64\[4, 3\]", lines[0])
    assert re.fullmatch(r"%1 += captured +float64\[3\]", lines[1])
    assert re.fullmatch(r"%\d+ += constant +float64\[4\]", lines[2])
    assert re.search(r"multiply_add +%\d+ \+ 2\.5 \* %\d+ +float64\[4\]", str(program)), "a number stands where it is used"
    assert re.fullmatch(r"%\d+ += sum +%\d+ axis=\(0,\) +float64\[\] +# test_program\.py:\d+", lines[-2])
    assert re.fullmatch(r"return %\d+", lines[-1])


def test_one_line_for_each_input_array_and_instruction():
    program = tm.trace(tm.grad(lambda x, y: np.sum(np.tanh(x @ y) ** 2)), MATRIX, VECTOR)
    lines = str(program).splitlines()
    arrays = [x for x in program.code.constants.values() if np.ndim(x)]
    assert len(lines) == 2 + len(arrays) + len(program.instructions) + 1
    assert len({line.index("=") for line in lines[:-1]}) == 1
    assert len({line.rindex("float64") for line in lines[:-1]}) == 1, "the types stand below each other"
    assert max(map(len, lines)) < 100


def test_every_slot_is_defined_before_it_is_used():
    for line_number, line in enumerate(lines := str(tm.trace(tm.hessian(lambda x: np.sum(np.exp(x) * x)), VECTOR)).splitlines()):
        if "|" in line:
            continue  # the body has slots of its own
        _, _, right = line.rpartition(" = ")
        for slot in re.findall(r"%\d+", right):
            assert any(re.match(rf"{slot} +=|{slot} =", earlier) for earlier in lines[:line_number]), f"{slot} in {line}"


def test_the_body_of_a_block_is_indented_below_its_line():
    program = tm.trace(tm.vmap(lambda x, y: tm.vmap(lambda element: element * y)(x), (0, None)), MATRIX, 2.0)
    lines = str(program).splitlines()
    outer = next(i for i, line in enumerate(lines) if re.match(r"%\d+ += map +4 times", line))
    assert re.match(r"    \| %\d+ += row of %0 ", lines[outer + 1])
    inner = next(i for i, line in enumerate(lines) if re.match(r"    \| %\d+ += map +3 times", line))
    assert re.match(r"    \|     \| %\d+ += row of %\d+ ", lines[inner + 1])
    assert re.search(r"shared +float", str(program)), "what the body takes from outside"
    bodies = [line for line in lines if line.startswith("    |     | ")]
    assert bodies[-1].split("| ")[-1].startswith("return %")


def test_len_counts_the_instructions_of_bodies_once():
    program = tm.trace(tm.vmap(lambda x: np.sin(np.cos(x))), MATRIX)
    assert [i.operation.name for i in program.instructions] == ["map", "item"]
    assert len(program) == 4


# ## Data
def test_flops_count_multiply_adds_twice_and_each_row_of_a_map():
    assert tm.trace(lambda a, b: a @ b, np.ones((4, 3)), np.ones((3, 5))).flops == 2 * 4 * 3 * 5
    assert tm.trace(lambda a, b: a.T @ b, np.ones((3, 4)), np.ones((3, 5))).flops == 2 * 4 * 3 * 5
    assert tm.trace(lambda x: np.sum(np.sin(x).T), np.ones((4, 3))).flops == 12 + 12
    assert tm.trace(tm.vmap(lambda x: np.sin(x)), np.ones((7, 3))).flops == 21


def test_the_arena_is_smaller_than_all_results_together():
    def long(x):
        for _ in range(100):
            x = np.sin(x) + 1
        return x

    program = tm.trace(long, np.ones(64))
    assert program.arena_bytes in (0, 2 * 64 * 8)  # 0 if there is no machine


def test_a_program_can_be_pickled_and_runs_in_another_process(tmp_path):
    def loss(theta, x):
        return np.mean(tm.vmap(lambda row: np.sum(np.tanh(row @ theta["W"]) ** 2))(x) + tm.checkpoint(np.sum)(x))

    program = tm.trace(tm.value_and_grad(loss), {"W": MATRIX.T}, MATRIX)
    value, gradient = program({"W": MATRIX.T}, MATRIX)
    (tmp_path / "program").write_bytes(pickle.dumps((program, MATRIX)))
    code = """
import pickle, sys, numpy as np
program, matrix = pickle.load(open(sys.argv[1], "rb"))
value, gradient = program({"W": matrix.T}, matrix)
print(value.item().hex(), gradient["W"].sum().item().hex())
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "program"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [value.item().hex(), gradient["W"].sum().item().hex()]
    assert str(pickle.loads(pickle.dumps(program))) == str(program)
