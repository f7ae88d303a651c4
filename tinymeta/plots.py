"""Figures: where people would rather look than read.

Matplotlib is loaded by the first call. Every figure can be written as PNG or SVG.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write a figure into a folder, print where, and close it, unless a notebook is there to show it.

    Parameters
    ----------
    figure : the matplotlib Figure
    name : file name; without a suffix it is a PNG
    folder : where; the environment variable TINYMETA_FIGURES if None, and without it `tinymeta-results`

    Returns
    -------
    The path of the file.

    Example
    -------
    >>> import matplotlib.pyplot as plt, tempfile
    >>> figure, ax = plt.subplots()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(figure, "empty", folder).name
    wrote ...empty.png
    'empty.png'
    """
    import matplotlib.pyplot as plt

    target = Path(folder or os.environ.get("TINYMETA_FIGURES", "tinymeta-results"))
    target.mkdir(parents=True, exist_ok=True)
    path = target / (name if Path(name).suffix else f"{name}.png")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    print(f"wrote {path}")
    if "inline" not in plt.get_backend():
        plt.close(figure)
    return path
