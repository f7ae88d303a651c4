"""What was measured, as a figure: speed against the peers, and how near tinymeta's programs come to the machine's best."""

from pathlib import Path
from typing import Any

import numpy as np

from .measure import Row, bandwidth, ceiling, share_of_jax

TARGET = 1 / 3
# Colours that can be told apart without seeing red and green alike (Okabe & Ito 2008); the names are the beginnings of engines' names.
FAMILIES = {"tinymeta jit": "#0072B2", "tinymeta eager": "#56B4E9", "JAX, slower form": "#009E73", "torch.func": "#CC79A7",
            "autograd": "#E69F00"}  # fmt: skip
DTYPES = {np.dtype(np.float64): ("o", "#0072B2", "-"), np.dtype(np.float32): ("s", "#D55E00", "--")}


def draw(rows: list[Row], sweeps: dict[str, dict[int, Row]], path: Path) -> None:
    """Write the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 2 + 0.8 * max(len(rows), 5)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    speed(left, rows)
    roofline(right, rows, sweeps)
    figure.savefig(path, dpi=150)


# ## On the left: times as shares of JAX's
def shares(row: Row) -> dict[str, float]:
    """The share of JAX's time of each family of engines, by its faster member; JAX itself, whose faster form is 1, by its slower one."""
    found: dict[str, float] = {}
    for engine in row.timings:
        name, ratio = family(engine), share_of_jax(row.timings, engine)
        if ratio is not None:
            found[name] = (max if engine.startswith("JAX") else min)(found.get(name, ratio), ratio)
    return found


def family(engine: str) -> str:
    if engine.startswith("JAX"):
        return "JAX, slower form"
    if engine in ("tinymeta vmap", "tinymeta by hand"):
        return "tinymeta eager"
    return next(name for name in FAMILIES if engine.startswith(name))


def speed(ax: Any, rows: list[Row]) -> None:
    height = 0.8 / len(FAMILIES)
    for i, row in enumerate(rows):
        for k, (name, color) in enumerate(FAMILIES.items()):
            if (ratio := shares(row).get(name)) is not None:
                place = i - 0.4 + (k + 0.5) * height
                ax.barh(place, ratio - 1, height, left=1, color=color, label=name if i == 0 else None)
                ax.annotate(f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}", (ratio, place), (4 if ratio >= 1 else -4, 0),
                            textcoords="offset points", va="center", ha="left" if ratio >= 1 else "right", fontsize=7, zorder=3,
                            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    ax.axvline(1, color="black", linewidth=1)
    ax.axvline(TARGET, color="black", linestyle=":", label="the target: a third of JAX's time")
    ax.set(xscale="log", xlabel="time, as a share of that of JAX's faster form (log scale; to the left is faster)",
           title="Speed against the peers, value and gradient")  # fmt: skip
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(rows)), [f"{row.title}  [{i}]" for i, row in enumerate(rows, 1)])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    below(ax)


# ## On the right: operations a second against operations a byte
def roofline(ax: Any, rows: list[Row], sweeps: dict[str, dict[int, Row]]) -> None:
    from matplotlib.ticker import LogLocator

    points = [*rows, *(row for points in sweeps.values() for row in points.values())]
    intensity = np.geomspace(min(row.program.intensity for row in points) / 3, max(row.program.intensity for row in points) * 3)
    for dtype, (marker, color, style) in DTYPES.items():
        roof = np.minimum(bandwidth() * intensity, ceiling(dtype))
        ax.plot(intensity, roof / 1e9, style, color=color, label=f"{dtype}: the best of memory and gemm")
        mine = [(i, row) for i, row in enumerate(rows, 1) if row.dtype == dtype]
        ax.plot(*coordinates([row for _, row in mine]), marker, color=color, label=f"tinymeta jit, {dtype} (rows of the left)")
        for i, row in mine:
            ax.annotate(f"[{i}]", (row.program.intensity, row.flops_a_second / 1e9), (5, 4), textcoords="offset points", fontsize=8)
    for (name, points_of_one), marker in zip(sweeps.items(), ("x", "+", "1"), strict=False):
        ax.plot(*coordinates(list(points_of_one.values())), marker, linestyle=":", color="gray", linewidth=1,
                label=f"against {name}: {', '.join(f'{value:,}' for value in points_of_one)}")  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="floating-point operations for each byte of arguments, arena and results", ylabel="GFLOP/s",
           title="How near to the machine's best")  # fmt: skip
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    below(ax)


def below(ax: Any) -> None:
    """The legend, where it hides nothing."""
    ax.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def coordinates(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [row.program.intensity for row in rows], [row.flops_a_second / 1e9 for row in rows]
