"""Pictures of graphs, and the reverse sweep as a table."""

import html
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

import tinymeta as tm
from tinymeta.autodiff import view
from tinymeta.autodiff.layout import Link, Spot, crossings, lay_out, layers_of
from tinymeta.autodiff.tensor import Operation, Tensor

matplotlib.use("Agg")


def mlp():
    """The loss of a network with two hidden layers and weight decay: about 30 nodes."""
    generator = np.random.default_rng(0)
    sizes = {"W1": (1, 40), "b1": (40,), "W2": (40, 40), "b2": (40,), "W3": (40, 1), "b3": (1,)}
    theta = {name: tm.tensor(generator.normal(size=size) / 5) for name, size in sizes.items()}
    x, y = tm.tensor(generator.normal(size=(10, 1))), tm.tensor(generator.normal(size=(10, 1)))
    hidden = np.tanh(np.tanh(x @ theta["W1"] + theta["b1"]) @ theta["W2"] + theta["b2"])
    error = np.mean((hidden @ theta["W3"] + theta["b3"] - y) ** 2)
    return error + 0.01 * sum(np.sum(theta[name] ** 2) for name in ("W1", "W2", "W3")), theta, x, y


def gradient_graph():
    loss, theta, _, _ = mlp()
    return [loss, *tm.gradients(loss, list(theta.values()))]


def maml_graph():
    theta = tm.tensor([0.3, -0.7])
    inner = lambda phi: np.sum((np.sin(phi) - 1) ** 2)
    phi = theta - 0.1 * tm.grad(inner)(theta)
    return tm.gradients(inner(phi), [theta])


def tangle():
    """A random graph, with operands from near and far."""
    generator = np.random.default_rng(1)
    nodes = [tm.tensor(0.5), tm.tensor(0.7)]
    for _ in range(60):
        i, j = generator.integers(0, len(nodes), 2)
        nodes.append(nodes[i] * nodes[j] if generator.random() < 0.7 else np.sin(nodes[i]))
    return nodes[-12:]


def alone():
    return tm.tensor(1.0)


GRAPHS = [lambda: mlp()[0], gradient_graph, maml_graph, tangle, alone]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def boxes(output):
    return view.boxes_of(view.graph_of(output, None, None))


# Layout


@pytest.mark.parametrize("make", GRAPHS)
def test_no_two_boxes_overlap_and_no_edge_runs_behind_a_box(make):
    found = boxes(make())
    centres, sizes, _ = lay_out(found)
    apart = np.abs(centres[:, None] - centres[None]) - (sizes[:, None] + sizes[None]) / 2
    np.fill_diagonal(apart[..., 0], np.inf)
    apart[len(found) :, len(found) :] = np.inf  # two bends may be anywhere
    assert np.all(apart.max(axis=-1) > 0.1)


@pytest.mark.parametrize("make", GRAPHS)
def test_every_edge_of_the_graph_is_a_chain_of_links_downwards(make):
    found = boxes(make())
    centres, sizes, links = lay_out(found)
    above = {lower: upper for upper, lower, _ in links if lower >= len(found)}
    edges = []
    for upper, lower, port in links:
        assert centres[upper, 1] - sizes[upper, 1] / 2 > centres[lower, 1] + sizes[lower, 1] / 2
        assert abs(port) < sizes[lower, 0] / 2 or port == 0
        while upper >= len(found):
            upper = above[upper]
        edges += [(upper, lower)] if lower < len(found) else []
    assert sorted(edges) == sorted((i, k) for k, box in enumerate(found) for i in box.inputs)


def test_arguments_enter_a_box_from_left_to_right():
    a, b = tm.tensor(1.0), tm.tensor(2.0)
    found = boxes(np.where(a > b, a - b, b))
    ports = [port for _, lower, port in lay_out(found).links if lower == len(found) - 1]
    width = lay_out(found).sizes[len(found) - 1, 0]
    np.testing.assert_allclose(ports, [-width / 4, 0, width / 4], atol=1e-15)


def test_operations_go_below_their_inputs_and_leaves_beside_their_first_user():
    a, b = tm.tensor(1.0), tm.tensor(2.0)
    found = boxes(np.sin(np.sin(np.sin(a))) + 2 * b)
    layers = dict(zip([box.lines[0] for box in found], layers_of(found), strict=True))
    assert layers == {"v0": 0, "v2 = sin": 1, "v3 = sin": 2, "v4 = sin": 3, "v1": 0, "2": 0, "v5 = multiply": 1, "v6 = add": 4}


def test_the_picture_of_a_network_has_no_crossings_to_speak_of():
    found = boxes(mlp()[0])
    assert 28 <= len(found) <= 35
    centres, _, links = lay_out(found)
    assert count_crossings(centres, links) <= 3


def count_crossings(centres, links):
    """One pair after the other, from the drawn places."""
    count = 0
    for k, one in enumerate(links):
        for other in links[:k]:
            if centres[one.upper, 1] == centres[other.upper, 1]:
                top = centres[one.upper, 0] - centres[other.upper, 0]
                bottom = centres[one.lower, 0] + one.port - centres[other.lower, 0] - other.port
                count += top * bottom < 0
    return count


def test_crossings_are_counted_once():
    spots = [Spot(layer, 0.0, 1.0) for layer in (0, 0, 1, 1)]
    x = np.array([0.0, 1.0, 0.0, 1.0])
    assert crossings(x, spots, [Link(0, 2, 0.0), Link(1, 3, 0.0)]) == 0
    assert crossings(x, spots, [Link(0, 3, 0.0), Link(1, 2, 0.0)]) == 1
    assert crossings(x, spots, [Link(0, 2, 0.1), Link(1, 2, -0.1)]) == 1
    assert crossings(x, spots, [Link(0, 2, 0.1), Link(0, 2, -0.1)]) == 0


# The figure


def test_draw_shows_operation_shape_and_value_in_colours():
    x = tm.tensor(np.ones((2, 3)))
    y = np.sum(x * 2.5)
    axes = view.draw(y, names={"theta": {"W": x}})
    texts = {text.get_text(): text for text in axes.texts}
    assert set(texts) == {"theta['W']", "(2, 3)", "2.5", "v1 = multiply", "v2 = sum", "() = 15"}
    assert texts["2.5"].get_color() != texts["v2 = sum"].get_color()
    fills = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches[-4:]]
    assert fills == [view.COLOURS[kind][0] for kind in ("leaf", "constant", "operation", "output")] and len(set(fills)) == 4


def test_text_stays_inside_its_box():
    loss, theta, _, _ = mlp()
    axes = view.draw(loss, names={"theta": theta})
    axes.figure.canvas.draw()
    rectangles = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, matplotlib.patches.FancyBboxPatch)]
    for text in axes.texts:
        extent = text.get_window_extent()
        inside = [r for r in rectangles if r.x0 < extent.x0 and extent.x1 < r.x1 and r.y0 < extent.y0 and extent.y1 < r.y1]
        assert len(inside) == 1


def test_draw_fits_into_given_axes():
    import matplotlib.pyplot as plt

    small, large = plt.subplots(1, 2, width_ratios=[1, 3])[1]
    loss = mlp()[0]
    assert view.draw(loss, ax=small) is small and view.draw(loss, ax=large) is large
    assert small.texts[0].get_fontsize() < large.texts[0].get_fontsize() < view.FONT
    assert len(plt.get_fignums()) == 1


def test_draw_refuses_what_nobody_can_read():
    y = tm.tensor(0.5)
    for _ in range(view.MOST_NODES - 1):
        y = np.sin(y)
    assert len(view.draw(y).texts) == 2 * view.MOST_NODES
    with pytest.raises(ValueError, match=r"201 nodes.*inputs=.*view\.dot or view\.mermaid"):
        view.draw(np.sin(y))
    assert len(view.draw(np.sin(y), inputs=y).texts) == 4


def test_inputs_cut_the_graph():
    x = tm.tensor(0.5)
    middle = np.sin(x)
    graph = view.graph_of(np.cos(middle) + 1, [middle], None)
    assert [node.op.name for node in graph.nodes] == ["sin", "cos", "add"]
    assert [box.kind for box in view.boxes_of(graph)] == ["leaf", "operation", "constant", "output"]


# DOT and Mermaid


@pytest.mark.parametrize("make", GRAPHS)
def test_every_node_and_edge_is_in_the_text(make):
    output = make()
    found = boxes(output)
    edges = sorted((i, k) for k, box in enumerate(found) for i in box.inputs)
    dot, mermaid = view.dot(output), view.mermaid(output)
    for text, node, arrow in [(dot, r'^  n(\d+) \[label="(.*)", fillcolor', "->"), (mermaid, r'^  n(\d+)\["(.*)"\]:::', "-->")]:
        assert [int(k) for k, _ in re.findall(node, text, re.M)] == list(range(len(found)))
        assert sorted((int(i), int(k)) for i, k in re.findall(rf"^  n(\d+) {arrow} n(\d+)$", text, re.M)) == edges
    tensors = [box for box in found if box.kind != "constant"]
    assert len(tensors) == len(view.graph_of(output, None, None).nodes)


WILD = 'a "b" \\n <i>&amp;</i> #1; [c] {d} | _e_ `f`'


def test_labels_are_escaped():
    y = -tm.tensor(1.0)
    dot, mermaid = view.dot(y, names={WILD: y}), view.mermaid(y, names={WILD: y})
    [_, label] = re.findall(r'label="((?:[^"\\]|\\.)*)", fillcolor', dot)
    assert re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label) == f"{WILD} = negative\n() = -1"
    [_, label] = re.findall(r'n\d\["([^"]*)"\]:::', mermaid)
    assert not set(label.replace("<br/>", "")) & set("<>\"&`_\\")
    assert html.unescape(re.sub(r"#(\d+);", r"&#\1;", label)) == f"{WILD} = negative<br/>() = -1"


def test_thousands_of_nodes_are_no_trouble():
    x = y = tm.tensor(0.5)
    for _ in range(5000):
        y = np.sin(y)
    assert view.dot(y).count(" -> ") == view.mermaid(y).count(" --> ") == len(view.sweep_table(y, [x])) == 5000


def test_blocks_are_one_node():
    x = tm.tensor([1.0, 2.0])
    inside = tm.checkpoint(lambda x: (np.sin(np.cos(x)), np.exp(x)))
    a, b = inside(x)
    y = np.sum(tm.vmap(lambda row: np.sin(row) ** 3)(a) + b)
    names = [node.op.name for node in view.graph_of(y, None, None).nodes if node.op]
    assert names.count("checkpoint") == names.count("map") == 1 and not {"sin", "cos", "exp"} & set(names)
    assert "v1 = checkpoint\\n(2,) and (2,)" in view.dot(y)
    assert len(view.sweep_table(y, [x])) == len(names)


def test_names_must_be_unique_and_outputs_tensors():
    x = tm.tensor(1.0)
    y = np.sin(x)
    with pytest.raises(ValueError, match="several nodes are called v0:"):
        view.dot(y, names={"v0": y})
    with pytest.raises(TypeError, match=r"must be a Tensor, got float64\[2\].*tm\.gradients"):
        view.draw(np.ones(2))
    with pytest.raises(TypeError, match="got nothing"):
        view.mermaid([])


# The table


def same(a, b):
    return np.array_equal(a, b) and np.shape(a) == np.shape(b) and np.asarray(a).dtype == np.asarray(b).dtype


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_steps_are_those_of_gradients_to_the_bit(dtype):
    generator = np.random.default_rng(2)
    x, W, b = (tm.tensor(generator.normal(size=size).astype(dtype)) for size in [(5, 3), (3, 4), (4,)])
    hidden = np.tanh(x @ W + b)
    loss = np.mean(hidden * hidden + np.exp(-hidden)) + np.sum(W**2)
    table = view.sweep_table(loss, [x, W, b], names={"x": x, "W": W, "b": b})
    final = {}
    for step in table:
        [expected] = tm.gradients(loss, [step.node])
        assert same(step.cotangent, expected.value)
        assert list(step.before) == list(step.after) == list(step.rule)
        for name, bar in step.before.items():
            assert bar is final.get(name)  # each step begins where the one before it ended
        final.update(step.after)
    for name, leaf in zip("xWb", (x, W, b), strict=True):
        assert same(final[name], tm.gradients(loss, [leaf])[0].value)


def test_each_step_adds_what_the_rule_says():
    x, W = tm.tensor([[1.0, 2.0]]), tm.tensor([[3.0], [4.0]])
    table = view.sweep_table(np.sum((x @ W) ** 2), [x, W], names={"x": x, "W": W})
    assert [step.operation for step in table] == ["sum(v3)", "square(v2)", "matmul(x, W)"]
    assert [step.name for step in table] == ["v4", "v3", "v2"]
    product = table[2]
    assert isinstance(product.node, Tensor) and product.node.op.name == "matmul"
    assert list(product.rule) == ["x", "W"] and all("c_bar" in term and "lambda" not in term for term in product.rule.values())
    assert product.before == {"x": None, "W": None}
    np.testing.assert_array_equal(product.cotangent, [[22.0]])
    np.testing.assert_array_equal(product.after["x"], [[66.0, 88.0]])
    np.testing.assert_array_equal(product.after["W"], [[22.0], [44.0]])


def test_only_inputs_that_lead_on_are_listed():
    x, y = tm.tensor(3.0), tm.tensor(4.0)
    table = view.sweep_table(x * y * 2, [y], names={"x": x, "y": y})
    assert [list(step.after) for step in table] == [["v2"], ["y"]]
    assert table[1].rule == {"y": "c_bar * a"} and table[1].after == {"y": 6.0}
    assert len(view.sweep_table(x * 2, [y])) == 0


def test_an_input_that_is_used_twice_receives_both_terms_in_one_step():
    x = tm.tensor(3.0)
    [step] = view.sweep_table(x * x, x, names={"x": x})
    assert step.rule == {"x": "c_bar * b + c_bar * a"} and step.before == {"x": None} and step.after == {"x": 6.0}


def test_an_input_on_the_way_to_another():
    x = tm.tensor(3.0)
    y = x * x
    table = view.sweep_table(np.sin(y), [x, y], names={"x": x, "y": y})
    assert same(table[-1].after["x"], tm.gradients(np.sin(y), [x, y])[0].value)


def test_the_printed_table():
    x = tm.tensor([0.5, 2.0])
    table = view.sweep_table(np.sum(x * np.exp(x)), [x], names={"x": x})
    head, line, *rows = str(table).splitlines()
    starts = [match.start() for match in re.finditer("-+", line)]
    assert [head[start:].split()[0] for start in starts] == list(view.SweepTable.HEAD)
    cells = [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]
    assert cells[0] == ["0", "v3", "sum(v2)", "1", "v2", table[0].rule["v2"], "0", "[1, 1]"]
    assert cells[1] == ["1", "v2", "multiply(x, v1)", "[1, 1]", "x", "c_bar * b", "0", "[1.649, 7.389]"]
    assert cells[2] == ["", "", "", "", "v1", "c_bar * a", "0", "[0.5, 2]"]
    assert cells[3] == ["2", "v1", "exp(x)", "[0.5, 2]", "x", "c_bar * c", "[1.649, 7.389]", "[2.473, 22.17]"]
    assert len(cells) == 4


def test_a_step_and_a_slice_print_as_tables_too():
    x = tm.tensor(1.0)
    table = view.sweep_table(np.sin(np.cos(x)), x)
    assert str(table).splitlines()[3].split() == repr(table[1]).splitlines()[2].split() == str(table[1:]).splitlines()[2].split()
    assert len(table[:1]) == 1 and [step.number for step in table] == [0, 1]


def test_the_table_in_a_notebook_is_escaped():
    x = tm.tensor(3.0)
    page = view.sweep_table(np.maximum(x, 2.0), [x], names={"<x>": x})._repr_html_()
    assert "<x>" not in page and "&lt;x&gt;" in page
    assert page.count("<tr>") == 2 and page.count("<td") == page.count("<th ") == len(view.SweepTable.HEAD)


def test_large_cotangents_are_summarised():
    x = tm.tensor(np.ones(100))
    assert "(100,) norm 20" in str(view.sweep_table(np.sum(x * x), [x]))


def test_rules_are_read_from_their_source():
    x = tm.tensor([1.0, 2.0])

    def terms(y):
        return view.rule_terms(y.op, len(y.inputs))

    assert terms(np.tanh(x)) == ["c_bar * (1 - c ** 2)"]
    assert terms(x - 1) == ["c_bar", "-c_bar"]
    assert terms(np.where(x > 0, x, 0.0))[0] == "None"
    assert terms(np.concatenate([x, x]))[0] == terms(np.concatenate([x, x]))[1]  # one expression stands for both
    assert "add_at" in terms(x[np.array([0, 0])])[0]
    shown, hidden = Operation(np.cbrt), Operation(np.cbrt)
    shown.rule(lambda c_bar, c, a: (c_bar / (3 * c * c),))
    hidden.rule(eval("lambda c_bar, c, a: (c_bar / (3 * c * c),)"))
    assert view.rule_terms(shown, 1) == ["c_bar / (3 * c * c)"]
    assert view.rule_terms(hidden, 1) == ["(no source)"]


def test_the_table_of_a_gradient_refuses_what_is_not_a_scalar():
    x = tm.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="needs a scalar"):
        view.sweep_table(x * 2, [x])
    with pytest.raises(TypeError, match="must be a Tensor"):
        view.sweep_table(1.0, [x])


# The import


def test_nothing_heavy_is_imported_before_something_is_drawn():
    code = ("import sys; from tinymeta.autodiff import view; import tinymeta as tm; y = -tm.tensor(1.0); view.dot(y); view.mermaid(y);"
            "str(view.sweep_table(y, [y])); print([name for name in ('matplotlib', 'scipy', 'numba') if name in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
