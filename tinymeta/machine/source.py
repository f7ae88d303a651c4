r"""
# Lines of source: where an instruction comes from

While a function is traced, Python's stack tells of each node that is made who wants it. From the newest call outwards there are first
calls of the engine and of NumPy; the first one that is in neither is at the line: of a model, or of a meta-gradient.

Unless a step of the sweep comes before it. Then the node belongs to the derivative of the node that is being reversed, and so to the
line of that one, which may itself belong to a derivative:

    model.py:12                             the forward computation
    gradient of model.py:12                 its rule
    gradient of gradient of model.py:12     the rule of what the rule has computed: a second derivative

An instruction into which others were fused has the lines of all: `gradient of model.py:12, optim.py:97` is a step of gradient descent.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import FrameType

import numpy as np

from ..autodiff import reverse
from ..autodiff.tensor import Tensor

INNER = {Path(file).parent for file in (np.__file__, reverse.__file__, __file__)}
STEP_OF_SWEEP = reverse._apply_rule.__code__


def note_line(lines: dict[int, str], node: Tensor) -> None:
    """Add the line of a node that has just been made to those of the others, by their indices."""
    frame: FrameType | None = sys._getframe(2)  # of the one who made it
    while frame is not None:
        code = frame.f_code
        if (name := _short_name(code.co_filename)) is not None:
            lines[node.index] = f"{name}:{frame.f_lineno}"
            return
        if code is STEP_OF_SWEEP and (line := lines.get(frame.f_locals["node"].index)) is not None:
            lines[node.index] = f"gradient of {line}"
            return
        frame = frame.f_back


@functools.cache
def _short_name(file: str) -> str | None:
    """How a listing calls a file; None for those of the engine and of NumPy."""
    return Path(file).name if INNER.isdisjoint(Path(file).parents) else None
