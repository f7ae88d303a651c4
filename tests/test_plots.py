"""Figures: where they are written, that they are closed, and what is in the main job's."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tinymeta import nn, plots
from tinymeta.comparison import Comparison, Row
from tinymeta.experiments import few_shot, sinusoid
from tinymeta.side_by_side import Point
from tinymeta.train import Training


@pytest.fixture
def figure():
    yield plt.figure()
    plt.close("all")


# ## Saving
@pytest.mark.parametrize("name, file, start", [("a", "a.png", b"\x89PNG"), ("a.png", "a.png", b"\x89PNG"), ("a.svg", "a.svg", b"<?xml")])
def test_a_figure_is_written_announced_and_closed(figure, tmp_path, capsys, name, file, start):
    plots.save(figure, name, tmp_path / "new" / "folder")
    path = tmp_path / "new" / "folder" / file
    assert path.read_bytes().startswith(start)
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert not plt.fignum_exists(figure.number)


def test_in_silence(figure, tmp_path, capsys):
    plots.save(figure, "a", tmp_path, announce=False)
    assert capsys.readouterr() == ("", "") and (tmp_path / "a.png").exists()


def test_where_a_notebook_shows_the_figure_no_path_is_printed(figure, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    plots.save(figure, "a", tmp_path)
    assert capsys.readouterr() == ("", "") and (tmp_path / "a.png").exists() and plt.fignum_exists(figure.number)
    plt.close(figure)


def test_the_folder_comes_from_the_environment_if_it_is_not_given(figure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYMETA_FIGURES", str(tmp_path / "figures"))
    plots.save(figure, "a")
    monkeypatch.delenv("TINYMETA_FIGURES")
    plots.save(figure, "b")
    plots.save(figure, "c", "here")
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert written == ["figures/a.png", "here/c.png", "tinymeta-results/b.png"]


def test_other_formats_for_slides(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYMETA_FIGURES_AS", "svg png")
    plots.save(figure, "a", tmp_path)
    plots.save(figure, "b.pdf", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.pdf"]


# ## The main job's figure
@pytest.mark.parametrize("iterations", [0, 1, 30, 250])
def test_the_main_jobs_figure(tmp_path, iterations):
    theta = nn.initialize_mlp(np.random.default_rng(0), (1, 5, 1))
    losses = np.linspace(4, 1, iterations)
    errors = np.random.default_rng(0).exponential(1.0, (600, 11))
    evaluations = {"MAML": few_shot.Evaluation(errors), "pretrained": few_shot.Evaluation(2 * errors)}
    task, truth = sinusoid.example_task(0)
    figure = plots.sinusoids(Training(theta, losses, [], False), evaluations, task, truth)
    adaptation, learning, error = figure.axes
    assert all(ax.get_title() and ax.get_xlabel() and ax.get_legend() for ax in figure.axes)

    # What is drawn is what was given.
    lines = {line.get_label(): line.get_xydata() for line in adaptation.lines}
    np.testing.assert_allclose(lines["truth"], np.hstack(truth))
    phis = sinusoid.adaptation(theta, task)
    for label, steps in (("before", 0), ("after 1 step", 1), ("after 10 steps", 10)):
        np.testing.assert_allclose(lines[label][:, 1], nn.mlp(phis[steps], truth.x)[:, 0])
    np.testing.assert_allclose(lines["the 5 points given"], np.hstack(task.support))
    if iterations:
        np.testing.assert_allclose(learning.lines[0].get_ydata(), losses)
        smooth = learning.lines[1].get_xydata()
        window = min(100, iterations)
        np.testing.assert_allclose(smooth[-1], [iterations, losses[-window:].mean()])
        np.testing.assert_allclose(smooth[0], [window, losses[:window].mean()])
    drawn = {line.get_label(): line.get_ydata() for line in error.lines}
    np.testing.assert_allclose(drawn["MAML"], errors.mean(axis=0))
    np.testing.assert_allclose(drawn["pretrained"], 2 * errors.mean(axis=0))
    plots.save(figure, "sinusoids", tmp_path, announce=False)
    assert (tmp_path / "sinusoids.png").stat().st_size > 10_000
    assert not plt.fignum_exists(figure.number)


# ## Estimators side by side
ROWS = [Row("right", 1.0, 2.0, 0.0, 0.0, 1e-15, hessian_products=5, nodes=100, seconds=0.002, truth="complex step"),
        Row("wrong", 1.0, 2.0, 33.0, 0.5, hessian_products=0, seconds=0.001, truth="complex step"),
        Row("zero", 1.0, 0.0, np.nan, 1.0, seconds=0.001, truth="differences"),
        Row("broken", failure="ValueError: why")]  # fmt: skip


def points_of(ax):
    """By colour, what is drawn, without what is unknown."""
    drawn = {}
    for line in ax.lines:
        xy = line.get_xydata()
        drawn.setdefault(line.get_color(), []).extend(map(tuple, xy[np.isfinite(xy).all(axis=1)].tolist()))
    return drawn


def test_the_comparisons_figure(tmp_path):
    figure = plots.comparisons({"the first": Comparison(ROWS, {}, {}), "the second": Comparison(ROWS[:1], {}, {})})
    axes = np.reshape(figure.axes, (2, 5))
    assert [ax.get_title() for ax in axes[:, 1]] == ["the first", "the second"]
    assert [label.get_text() for label in axes[0, 0].get_yticklabels()] == ["right", "wrong", "zero", "broken"]
    labels = [ax.get_xlabel() for ax in axes[1]]
    for word, label in zip(("error", "degrees", "Hessian products", "nodes", "milliseconds"), labels, strict=True):
        assert word in label
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["is the gradient of what it ran", "is not"]
    error, angle, products, nodes, milliseconds = (points_of(ax) for ax in axes[0])
    assert error == {plots.BLUE: [(plots.LEAST, 0)], plots.ORANGE: [(0.5, 1), (1.0, 2)], "black": [(1e-15, 0)]}
    assert angle == {plots.BLUE: [(0, 0)], plots.ORANGE: [(33, 1)]}
    assert products == {plots.BLUE: [(5, 0)], plots.ORANGE: [(0, 1)]} and nodes == {plots.BLUE: [(100, 0)], plots.ORANGE: []}
    assert milliseconds == {plots.BLUE: [(2, 0)], plots.ORANGE: [(1, 1), (1, 2)]}
    assert [text.get_text() for text in axes[0, 0].texts] == ["failed: ValueError: why"]
    plots.save(figure, "compare", tmp_path, announce=False)
    assert (tmp_path / "compare.png").stat().st_size > 10_000


def test_one_comparison_draws_itself():
    figure = Comparison(ROWS[:2], {}, {}).plot()
    assert len(figure.axes) == 5 and figure.axes[1].get_title() == ""
    plt.close(figure)


def test_accuracy_against_cost(tmp_path):
    curves = {"one": [Point(1, 10, 0.5), Point(2, 20, 0.0)], "another": [Point(1, 10, 0.1), Point(3, 10, 1e-8)]}
    figure = plots.accuracy_against_cost(curves)
    assert len(figure.axes) == 2
    assert all(ax.get_title() and ax.get_xlabel() == "Hessian products" and ax.get_ylabel() and ax.get_legend() for ax in figure.axes)
    drawn = [{line.get_label(): line.get_xydata().tolist() for line in ax.lines} for ax in figure.axes]
    assert drawn[0] == {"one": [[1, 0.5], [2, plots.LEAST]], "another": [[1, 0.1], [3, 1e-8]]}
    assert drawn[1] == {"one": [[1, 10], [2, 20]], "another": [[1, 10], [3, 10]]}
    plots.save(figure, "imaml", tmp_path, announce=False)
    assert (tmp_path / "imaml.png").stat().st_size > 10_000


def test_matplotlib_is_loaded_by_the_first_figure_and_not_by_the_import():
    code = "import sys, tinymeta; print([name for name in ('matplotlib', 'scipy', 'numba') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ## Learned optimizers
def test_the_curves_past_the_horizon(tmp_path):
    curves = {"learned": np.array([4.0, 1.0, 2.0]), "SGD": np.array([4.0, 3.0, 2.0])}
    figure = plots.learning_curves(curves, horizon=1)
    (ax,) = figure.axes
    drawn = {line.get_label(): line for line in ax.lines}
    for name, losses in curves.items():
        np.testing.assert_array_equal(drawn[name].get_xydata(), np.stack([range(3), losses], axis=1))
    assert drawn["learned"].get_linewidth() > drawn["SGD"].get_linewidth()
    assert ax.lines[-1].get_xdata()[0] == 1 and ax.get_yscale() == "log"
    assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    plots.save(figure, "curves", tmp_path, announce=False)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


# ## The papers' figures
def test_a_band_that_reaches_zero_is_left_out():
    figure = plots.after_steps({"MAML": ([3.0, 1.0], [0.5, 0.1]), "ANIL": ([3.0, 2.0], [0.5, 2.5])}, "error")
    bands = [np.concatenate([path.vertices[:, 1] for path in band.get_paths()]) for band in figure.axes[0].collections]
    assert [round(float(np.min(band)), 6) for band in bands] == [0.9, 2.5]  # of ANIL, the first step's alone
    plt.close(figure)


def test_after_steps_tells_a_dozen_methods_apart_and_says_which_diverge():
    curves = {f"method {i}": ([3.0, 1.0, 0.5, 0.4], [0.1] * 4) for i in range(12)} | {"iMAML": ([np.nan] * 4, [np.nan] * 4)}
    figure = plots.after_steps(curves, "error")
    ax, (legend,) = figure.axes[0], figure.legends
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 13
    assert [text.get_text() for text in legend.get_texts()] == [*list(curves)[:12], "iMAML (diverges)"]
    figure.canvas.draw()
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1  # beside the curves
    assert all(float(tick).is_integer() for tick in ax.get_xticks())
    plt.close(figure)
