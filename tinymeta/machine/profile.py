"""Where the time goes: each instruction of a program alone, many times over."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .code import Code, Instruction, types_of
from .execute import Executable, InNumPy, Map, Table, interpreter_of, prepare
from .flops import flops_of
from .lower import WIDTH, Lowered

REPETITIONS, ROUNDS = 20, 5


class Cost(NamedTuple):
    """What the instructions of a kind take in one run."""

    count: int
    seconds: float
    flops: int
