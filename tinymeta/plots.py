"""Figures: where people would rather look than read.

Matplotlib is loaded by the first call. Every figure can be written as PNG or SVG.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .comparison import Comparison, Row
    from .experiments.few_shot import Evaluation
    from .side_by_side import Point
    from .tasks import Data, Task
    from .train import Training

# Colours that can be told apart without seeing red and green alike (Okabe & Ito 2008).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"


def save(figure: Figure, name: str, folder: str | os.PathLike[str] | None = None, announce: bool = True) -> None:
    """Write a figure into a folder, print where, and close it, unless a notebook is there to show it.

    Parameters
    ----------
    figure : the matplotlib Figure
    name : file name; without a suffix it is a PNG, or whatever formats the environment variable TINYMETA_FIGURES_AS lists ("png svg")
    folder : where; the environment variable TINYMETA_FIGURES if None, and without it `tinymeta-results`
    announce : whether to print where

    Example
    -------
    >>> import matplotlib.pyplot as plt, tempfile
    >>> figure, ax = plt.subplots()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(figure, "empty", folder)
    wrote ...empty.png
    """
    import matplotlib.pyplot as plt

    target = Path(folder or os.environ.get("TINYMETA_FIGURES", "tinymeta-results"))
    target.mkdir(parents=True, exist_ok=True)
    kinds = os.environ.get("TINYMETA_FIGURES_AS", "png").split()
    in_notebook = "inline" in plt.get_backend()
    for path in [target / name] if Path(name).suffix else [target / f"{name}.{kind}" for kind in kinds]:
        figure.savefig(path, dpi=150, bbox_inches="tight")
        if announce and not in_notebook:
            print(f"wrote {path}")
    if not in_notebook:
        plt.close(figure)


def sinusoids(trained: Training, evaluations: dict[str, Evaluation], task: Task, truth: Data) -> Figure:
    """The main job's figure: adaptation to one task, the learning curve, the error against inner steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), width_ratios=(1.4, 1, 1), layout="constrained")
    _adaptation(axes[0], trained, task, truth)
    _learning_curve(axes[1], trained.losses)
    _error_against_steps(axes[2], evaluations)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[1:]:
        ax.legend(frameon=False)
    axes[0].legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14), columnspacing=1.2, handlelength=1.5)
    return figure


def _adaptation(ax: Axes, trained: Training, task: Task, truth: Data) -> None:
    from . import nn
    from .experiments import sinusoid

    phis = sinusoid.adaptation(trained.theta, task)
    x = truth.x[:, 0]
    ax.plot(x, truth.y[:, 0], color="black", linewidth=1.2, label="truth")
    for steps, color, style in ((0, "tab:gray", ":"), (1, "tab:orange", "--"), (10, "tab:blue", "-")):
        label = "before" if steps == 0 else f"after {steps} step{'s' * (steps > 1)}"
        ax.plot(x, nn.mlp(phis[steps], truth.x)[:, 0], color=color, linestyle=style, linewidth=2, label=label)
    points = f"the {len(task.support.x)} points given"
    ax.plot(task.support.x[:, 0], task.support.y[:, 0], "o", color="tab:red", markersize=8, label=points, zorder=5)
    ax.set(title="A new task, learned from a few points", xlabel="x", ylabel="y")


def _learning_curve(ax: Axes, losses: np.ndarray) -> None:
    if len(losses) == 0:
        ax.set(title="No training", xlabel="iteration")
        ax.plot([], [], label="no iterations were made")
        return
    window = min(100, len(losses))
    ax.plot(np.arange(1, len(losses) + 1), losses, color="tab:blue", alpha=0.35, linewidth=0.6, label="one batch of 25 tasks")
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(window, len(losses) + 1), smooth, color="tab:blue", linewidth=2, label=f"mean of {window}")
    ax.set(title="Training MAML", xlabel="iteration", ylabel="mean squared error after 1 step", ylim=(0, None))


def _error_against_steps(ax: Axes, evaluations: dict[str, Evaluation]) -> None:
    for (name, evaluation), color in zip(evaluations.items(), ("tab:blue", "tab:gray", "tab:green"), strict=False):
        steps = np.arange(len(evaluation.mean))
        ax.plot(steps, evaluation.mean, "o-", color=color, label=name)
        low, high = evaluation.mean - evaluation.confidence, evaluation.mean + evaluation.confidence
        ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    tasks = len(next(iter(evaluations.values())).errors)
    ax.set(title=f"{tasks} unseen tasks, 95 % bands", xlabel="inner steps", ylabel="mean squared error", ylim=(0, None))


# ## Estimators side by side
LEAST = 1e-17  # where an error of 0 is drawn
AGREES = 1e-7  # an error that differences can leave


def comparisons(shown: dict[str, Comparison]) -> Figure:
    """Comparisons by title, one below the other: a line for each estimator, a column for its error, its angle, and each of its costs."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, SymmetricalLogLocator

    heights = [len(comparison.rows) + 1.5 for comparison in shown.values()]
    figure, axes = plt.subplots(len(shown), 5, figsize=(13, 0.9 + 0.24 * sum(heights)), squeeze=False, sharex="col", sharey="row",
                                height_ratios=heights, width_ratios=(1.5, 1, 1, 1, 1), layout="constrained")  # fmt: skip
    for line, (title, comparison) in zip(axes, shown.items(), strict=True):
        _estimators(line, comparison.rows)
        line[1].set_title(title, fontsize=10, fontweight="bold")  # in the middle of the figure
    for ax, label in zip(axes[-1], ("relative error\n(hollow: to the closed form)", "angle to the truth\n(degrees)", "Hessian products",
                                    "graph nodes kept", "milliseconds"), strict=True):  # fmt: skip
        ax.set_xlabel(label)
    axes[-1, 0].set(xscale="log", xlim=(LEAST / 3, 100), xticks=(1e-16, 1e-12, 1e-8, 1e-4, 1))
    axes[-1, 1].set(xlim=(-10, 190), xticks=(0, 90, 180))
    axes[-1, 2].set_xscale("symlog", linthresh=1)
    axes[-1, 2].xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
    for ax in axes[-1, 3:]:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_minor_formatter("")
    for ax in axes[-1, 2:]:
        ax.margins(x=0.12)
        ax.xaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _estimators(axes: Sequence[Axes], rows: list[Row]) -> None:
    """One comparison: the estimators from the top downwards."""
    places = np.arange(len(rows))
    right = np.array([row.error is not None and row.error <= AGREES for row in rows])
    columns = [(row.error, row.angle, row.hessian_products, row.nodes, None if row.seconds is None else 1e3 * row.seconds) for row in rows]
    for ax, column in zip(axes, np.array(columns, float).T, strict=True):
        for chosen, color, label in ((right, BLUE, "is the gradient of what it ran"), (~right, ORANGE, "is not")):
            ax.plot(np.where(column == 0, LEAST, column)[chosen] if ax is axes[0] else column[chosen], places[chosen], "o", color=color,
                    label=label)  # fmt: skip
        ax.set_yticks(places, [row.name for row in rows])
        ax.grid(axis="y", alpha=0.3)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.patch.set_visible(False)  # what is written may reach over the next columns
    exact = np.array([np.nan if row.exact_error is None else max(row.exact_error, LEAST) for row in rows])
    axes[0].plot(exact, places, "o", color="black", markersize=9, markerfacecolor="none")
    for place, row in enumerate(rows):
        if row.failure:
            axes[0].text(LEAST, place, f"failed: {row.failure[:90]}", va="center", fontsize=8).set_in_layout(False)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)


def accuracy_against_cost(curves: Mapping[str, list[Point]], cost: str = "Hessian products") -> Figure:
    """Ways to the meta-gradient: how near they are to it at what cost, and what they keep in memory by then."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    styles = zip((ORANGE, GREEN, BLUE, PURPLE), ("o-", "s-", "^-", "x--"), strict=True)
    for (name, points), (color, style) in zip(curves.items(), styles, strict=False):
        products, nodes, errors = np.array(points, float).T
        left.plot(products, np.maximum(errors, LEAST), style, color=color, label=name, markersize=5)
        right.plot(products, nodes, style, color=color, label=name, markersize=5)
    left.set(title="Accuracy", ylabel="relative error of the meta-gradient")
    right.set(title="Memory", ylabel="graph nodes kept at once")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel=cost)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return figure


def learning_curves(curves: Mapping[str, np.ndarray], horizon: int, learned: str = "learned") -> Figure:
    """The loss against the steps, of learned and of tuned optimizers, within the steps that were trained for and beyond.

    Parameters
    ----------
    curves : by name, the mean loss after 0, 1, ... steps, from `baselines.learning_curves`
    horizon : how many steps were trained for: a line is drawn there
    learned : the name of the curve to draw thick

    Example
    -------
    >>> figure = learning_curves({"learned": np.array([4.0, 1.0, 2.0]), "SGD": np.array([4.0, 3.0, 2.0])}, horizon=1)
    >>> [ax.get_yscale() for ax in figure.axes]
    ['log']
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for name, losses in curves.items():
        ax.plot(losses, label=name, linewidth=2.5 if name == learned else 1.5, zorder=3 if name == learned else 2)
    ax.axvline(horizon, color="black", linestyle=":", linewidth=1)
    ax.annotate("trained up to here", (horizon, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points", va="top")
    ax.set(title="Within its horizon, and past it", xlabel="step", ylabel="mean loss", yscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def after_steps(curves: Mapping[str, tuple[Any, Any]], unit: str) -> Figure:
    """Errors or accuracies against inner steps, with their 95 % bands, but for those that reach 0: they would cover everything else.

    Parameters
    ----------
    curves : by name, the means after 0, 1, ... steps, and half the widths of their intervals
    unit : what is measured

    Example
    -------
    >>> figure = after_steps({"MAML": ([3.0, 0.7, 0.5], [0.2, 0.1, 0.1])}, "Mean squared error")
    >>> figure.axes[0].get_ylabel()
    'Mean squared error'
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    top = 0.0  # what diverges leaves the figure
    for number, (name, (mean, half)) in enumerate(curves.items()):
        mean, half = np.asarray(mean), np.nan_to_num(half)
        steps = np.flatnonzero(mean < 1e3)
        top = max(top, *mean[steps][:1], np.median(mean[steps]) if len(steps) else 0.0)
        shown = name if len(steps) else f"{name} (diverges)"
        (line,) = ax.plot(steps, mean[steps], "-" if number < 10 else "--", label=shown)  # there are ten colours
        banded = np.where(half < mean, half, np.nan)[steps]
        ax.fill_between(steps, mean[steps] - banded, mean[steps] + banded, color=line.get_color(), alpha=0.15, linewidth=0)
    ax.set(title="After steps on what is given, 95 % bands", xlabel="inner steps", ylabel=unit, ylim=(0, 1.2 * top or None))
    ax.locator_params(axis="x", integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def strengths(values: np.ndarray) -> Figure:
    """How strongly each weight is held.

    >>> strengths(np.array([0.01, 10.0])).axes[0].get_yscale()
    'log'
    """
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    ax.stem(np.arange(1, len(values) + 1), values, bottom=1.0, basefmt="k:")
    ax.set(title="Strengths of regularisation, from 1", xlabel="weight", ylabel="strength", yscale="log")
    ax.locator_params(axis="x", integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def chaos(rates: np.ndarray, losses: np.ndarray, slopes: np.ndarray) -> Figure:
    """The final loss, and the size of its derivative, against the learning rate.

    >>> len(chaos(np.array([0.1, 1.0]), np.array([0.5, 2.0]), np.array([0.1, 1e9])).axes)
    2
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(6.5, 5.5), sharex=True, layout="constrained")
    for ax, y, label in zip(axes, (losses, slopes), ("final loss", "size of the derivative"), strict=True):
        ax.plot(rates, y, ".-", color=BLUE, linewidth=0.8, markersize=4)
        ax.set(xscale="log", yscale="log", ylabel=label)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_title("Through many steps of gradient descent")
    axes[1].set_xlabel("learning rate")
    return figure
