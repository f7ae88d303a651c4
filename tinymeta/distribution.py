r"""
# Many machines

The meta-gradient is a mean over tasks, so a batch can be cut into parts that are computed anywhere: with $B_p$ of the B tasks in part p,

$$ \frac1B \sum_{i=1}^B \nabla_\theta F(\theta; \mathcal T_i)
   = \sum_p \frac{B_p}{B} \Big( \frac1{B_p} \sum_{i \in p} \nabla_\theta F(\theta; \mathcal T_i) \Big). $$

Anywhere is an *executor*, as `concurrent.futures` has them: submit(f, *args) returns a future, whose result() waits for f(*args). It may be
threads, processes, or a cluster. The traced program has to get there, but once is enough: a call names it by the hash of its content.
A process that doesn't know that hash answers so, and is called again, with the program, which it keeps. Nobody has to know who is there:
a process that takes the place of one that died doesn't know the hash either.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .autodiff import tree, value_and_grad, vmap
from .machine import Program, trace

PARTS = 4
MOST_PROGRAMS = 8  # that one process keeps
PROGRAMS: dict[str, Program] = {}

Mean = Callable[[Any, Any], tuple[Any, Any]]  # (theta, tasks) -> the mean objective, and its gradient


class ExecutorError(RuntimeError):
    """The executor failed; the cause is its own error."""


def mean_over_tasks(objective: Callable[[Any, Any], Any], theta: Any, tasks: Any, executor: Any = None, parts: int = PARTS) -> Mean:
    """The mean of `objective(theta, task)` over a batch and its gradient, traced once for batches like `tasks`.

    With an executor, it is computed there in so many parts (one for each task, if there are fewer tasks).

    >>> mean = mean_over_tasks(lambda theta, task: (theta - task) ** 2, np.zeros(()), np.zeros(3))
    >>> mean(np.array(1.0), np.array([1.0, 2.0, 3.0]))[1]
    array(-2.)
    """

    def mean(theta: Any, tasks: Any) -> Any:
        values = vmap(objective, (None, 0))(theta, tasks)
        if np.ndim(values) != 1:
            raise ValueError(f"objective(theta, task) has shape {np.shape(values)[1:]}, to be a scalar")
        return np.mean(values)

    if executor is None:
        return trace(value_and_grad(mean), theta, tasks)
    return _Distributed(value_and_grad(mean), theta, tasks, executor, parts)


class _Distributed:
    """`mean_over_tasks` by an executor."""

    def __init__(self, f: Mean, theta: Any, tasks: Any, executor: Any, parts: int) -> None:
        import hashlib

        self.executor = executor
        count = len(tree.flatten(tasks)[0][0])
        ends = [count * k // parts for k in range(parts + 1)]
        self.parts = [slice(start, end) for start, end in pairwise(ends) if start < end]
        sizes = [part.stop - part.start for part in self.parts]  # all the same, or one of two
        self.weights = [size / count for size in sizes]
        examples = {size: _cut(tasks, part) for size, part in zip(sizes, self.parts, strict=True)}
        programs = {size: pickle.dumps(trace(f, theta, example)) for size, example in examples.items()}
        self.programs = [programs[size] for size in sizes]
        self.keys = [hashlib.sha256(program).hexdigest() for program in self.programs]

    def __call__(self, theta: Any, tasks: Any) -> tuple[Any, Any]:
        calls = [(key, theta, _cut(tasks, part)) for key, part in zip(self.keys, self.parts, strict=True)]
        try:
            answers = self._submit(calls)
            unknown = [k for k, answer in enumerate(answers) if answer is None]
            for k, answer in zip(unknown, self._submit([(*calls[k], self.programs[k]) for k in unknown]), strict=True):
                answers[k] = answer
        except Exception as error:
            raise ExecutorError(f"the executor failed ({type(error).__name__}: {error})") from error
        return tree.map(lambda *x: sum(w * x for w, x in zip(self.weights, x, strict=True)), *answers)

    def _submit(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        """The answers to all calls: first everything is on its way, then we wait."""
        futures = [self.executor.submit(compute, *call) for call in calls]
        return [future.result() for future in futures]


def _cut(tasks: Any, part: slice) -> Any:
    return tree.map(lambda x: x[part], tasks)


def compute(key: str, theta: Any, tasks: Any, pickled: bytes | None = None) -> Any:
    """What runs in the worker: the program with this hash; None if it isn't known there, and isn't given.

    >>> compute("a hash that nobody has", 1.0, np.ones(2)) is None
    True
    """
    program = PROGRAMS.get(key)
    if program is None and pickled is not None:
        program = PROGRAMS[key] = pickle.loads(pickled)
        if len(PROGRAMS) > MOST_PROGRAMS:
            oldest, *_ = PROGRAMS
            PROGRAMS.pop(oldest, None)  # another thread may have done it already
    return None if program is None else program(theta, tasks)
