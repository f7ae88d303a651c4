"""Figures: where people would rather look than read.

Matplotlib is loaded by the first call. Every figure can be written as PNG or SVG.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .experiments import Evaluation
    from .tasks import Data, Task
    from .train import Training


def save(figure: Figure, name: str, folder: str | os.PathLike[str] | None = None, announce: bool = True) -> None:
    """Write a figure into a folder, print where, and close it, unless a notebook is there to show it.

    Parameters
    ----------
    figure : the matplotlib Figure
    name : file name; without a suffix it is a PNG
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
    path = target / (name if Path(name).suffix else f"{name}.png")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    if announce:
        print(f"wrote {path}")
    if "inline" not in plt.get_backend():
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
    from . import experiments, nn

    phis = experiments.adaptation(trained.theta, task)
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
