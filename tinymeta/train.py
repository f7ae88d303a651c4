r"""
# Training

The meta-objective is a mean over tasks, and each iteration takes a fresh batch of them:

$$ \theta \leftarrow \mathrm{update}\Big(\theta,\; \nabla_\theta \frac1B \sum_{i=1}^B F(\theta; \mathcal T_i)\Big). $$

Value and gradient of the mean are traced once; the program is run from then on, here or by an executor (`distribution`).

All randomness comes from one generator. So what the next iteration makes depends on $\theta$, the optimizer's state and the
generator's alone, and a training that was stopped goes on, from a file that holds them (`checkpoints`), as if it had not been.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .arguments import check_count, check_flag, check_function, check_type, wanted
from .autodiff import tree
from .bilevel import check_batch, is_finite
from .checkpoints import Checkpoint, CheckpointError, Keeper, PathLike, settled, stored
from .distribution import PARTS, ExecutorError, mean_over_tasks
from .minima import as_arrays
from .optim import Optimizer
from .progress import Progress

Tasks = Callable[["np.random.Generator", int], Any]  # (rng, count) -> a batch of tasks, stacked along the first axis


class Training(NamedTuple):
    """What `fit` returns."""

    theta: Any
    losses: np.ndarray
    """the mean loss over the batch, one for each iteration made"""
    evaluations: list[tuple[int, Any]]
    """(iteration, what `evaluate` returned)"""
    interrupted: bool
    """whether Ctrl-C ended it"""


class Record(NamedTuple):
    """What a callback is told after an iteration."""

    iteration: int
    """how many have been made"""
    loss: float
    """the mean loss over the batch, before the update"""
    theta: Any
    """after the update"""
    evaluation: Any
    """what `evaluate` returned, if this was its turn, else None"""


class Diverged(FloatingPointError):
    """What should be finite isn't; the last good parameters are `theta`, made by `iteration` updates."""

    good: Checkpoint
    theta = property(lambda self: self.good.theta)
    iteration = property(lambda self: self.good.iteration)


def fit(
    objective: Callable[[Any, Any], Any],
    theta: Any,
    tasks: Tasks,
    optimizer: Optimizer,
    *,
    iterations: int,
    meta_batch: int,
    seed: int | Sequence[int],
    label: str = "training",
    quiet: bool = False,
    callbacks: Sequence[Callable[[Record], Any]] = (),
    evaluate: Callable[[Any], Any] | None = None,
    evaluate_every: int | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    configuration: dict[str, Any] | None = None,
    executor: Any = None,
    parts: int = PARTS,
) -> Training:
    """Minimise the mean of `objective(theta, task)` over random tasks.

    Parameters
    ----------
    objective : traceable scalar function of theta and one task
    theta : where to start
    tasks : function (rng, count) that returns a batch of tasks, stacked along the first axis
    optimizer : from `tinymeta.optim`
    iterations, meta_batch : how many updates in all, and how many tasks for each
    seed : of all randomness: the same seed gives the same result, to the bit, for any number of threads
    label, quiet : what the progress line says (tqdm's, where it is installed), and whether there is one
    callbacks : each is called with a `Record` after each iteration: those that are after evaluations alone see by it when there was one
    evaluate, evaluate_every : after every so many iterations, call evaluate(theta), and keep what it returns
    checkpoint : the file (.npz) that the training is kept in, written at the start, at the end, and every `checkpoint_every` iterations
    resume : go on from that file, if it exists, bit-identically to a training that wasn't stopped
    configuration : a dict of numbers and text, to be kept in the file; whoever resumes must give the same, as well as the same seed,
        meta_batch, and theta and optimizer of the same structure
    executor : computes the batches in parts, instead of this process: anything with the interface of `concurrent.futures`, such as a
        ProcessPoolExecutor or dask.distributed's `Client.get_executor()`. It pays where a part takes much longer than the way there
    parts : how many parts. The result depends on them by rounding errors, and not on the executor

    Ctrl-C ends it cleanly: the result is what there is by then, and it is in the file too. With a checkpoint, so does SIGTERM. A crash, or
    kill -9, costs the iterations since the file was last written.

    Raises
    ------
    Diverged (a FloatingPointError) if a loss, gradient or update isn't finite. CheckpointError (a ValueError) if the file exists and
    `resume` isn't set, or it can't be resumed from; it is never overwritten then. ExecutorError if the executor fails, OSError if the file
    can't be written. Whatever is raised during an iteration, those before it are in the file.

    Example
    -------
    >>> import tinymeta as tm
    >>> result = tm.fit(lambda theta, task: (theta - task) ** 2, np.zeros(()), lambda rng, count: rng.uniform(1, 3, count),
    ...                 tm.optim.sgd(0.1), iterations=100, meta_batch=100, seed=0, quiet=True)
    >>> round(float(result.theta), 1)
    2.0
    """
    _check_counts(iterations=iterations, meta_batch=meta_batch, checkpoint_every=checkpoint_every, parts=parts)
    _check_functions(objective, tasks, optimizer, callbacks, evaluate, evaluate_every, executor)
    _check_file(checkpoint, resume, configuration)
    seeds, theta = _checked(seed, theta)
    rng, keeper = np.random.default_rng(seeds), Keeper(checkpoint, checkpoint_every)
    start = Checkpoint(theta, optimizer.init(theta), rng.bit_generator.state, 0, [], (),
                       seeds, meta_batch, configuration or {})  # fmt: skip
    run = keeper.begin(start, resume)
    if run.iteration > iterations:
        raise CheckpointError(f"{checkpoint} has made {run.iteration} iterations already: iterations={iterations} is how many in all")
    rng.bit_generator.state = run.random
    example = tasks(np.random.default_rng(0), meta_batch)
    check_batch(example, "tasks(rng, count)")
    with np.errstate(all="ignore"):  # here and below: what isn't finite is found, and told by Diverged
        mean = mean_over_tasks(objective, theta, example, executor, parts)

    def measured(theta: Any) -> tuple[Any, Any]:
        batch = tasks(rng, meta_batch)
        with np.errstate(all="ignore"):
            return mean(theta, batch)

    def evaluated(theta: Any, iteration: int) -> tuple[tuple[int, Any], ...]:
        if evaluate is None or evaluate_every is None or iteration % evaluate_every:
            return ()
        result = evaluate(theta)
        if checkpoint is not None:
            stored(result, "what evaluate returns", {})  # if that can't be done, it had better be known now
        return ((iteration, result),)

    following = _following(run, measured, optimizer, rng, evaluated)
    run, interrupted = _run(run, following, iterations, keeper, callbacks, Progress(label, iterations, quiet, run.iteration))
    return Training(run.theta, settled(run).losses, list(run.evaluations), interrupted)


# ## What makes no sense
def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        check_count(name, count, least=0 if name == "iterations" else 1)


def _check_functions(objective: Any, tasks: Any, optimizer: Any, callbacks: Any, evaluate: Any, evaluate_every: Any, executor: Any) -> None:
    check_function("objective", objective, "a function of theta and one task", 2)
    check_function("tasks", tasks, "a function of (rng, count) that returns a batch of tasks", 2)
    check_type("optimizer", optimizer, Optimizer, "an Optimizer, such as tm.optim.adam(0.001)")
    check_type("callbacks", callbacks, (list, tuple), "a list of functions of a Record")
    for i, callback in enumerate(callbacks):
        check_function(f"callbacks[{i}]", callback, "a function of a Record", 1)
    if (evaluate is None) != (evaluate_every is None):
        raise ValueError("evaluate and evaluate_every go together: what to call, and after how many iterations each time")
    if evaluate is not None:
        check_function("evaluate", evaluate, "a function of theta", 1)
        check_count("evaluate_every", evaluate_every, least=1)
    if executor is not None and not hasattr(executor, "submit"):
        raise wanted("executor", executor, "with the interface of concurrent.futures: submit(f, *args)", TypeError)


def _check_file(checkpoint: Any, resume: Any, configuration: Any) -> None:
    if checkpoint is not None:
        check_type("checkpoint", checkpoint, (str, os.PathLike), "the name of a file")
    check_flag("resume", resume)
    if resume and checkpoint is None:
        raise ValueError("resume=True goes on from a file: say from which by checkpoint=")
    if configuration is not None:
        check_type("configuration", configuration, dict, "a dict of numbers and text")


def _checked(seed: Any, theta: Any) -> tuple[list[int], Any]:
    """The seed as a list, and theta as arrays of the training's own."""
    check_type("seed", seed, (int, np.integer, list, tuple, np.ndarray), "an integer, 0 or more, or several")
    seeds = list(seed) if isinstance(seed, (list, tuple)) else np.atleast_1d(seed).tolist()
    if not seeds:
        raise wanted("seed", seed, "an integer, 0 or more, or several")
    for each in seeds:
        check_count("seed", each)
    theta = tree.map(lambda x: np.array(x, order="C"), as_arrays(theta, "theta"))
    if not is_finite(theta):
        raise FloatingPointError("theta isn't finite where the training starts")
    return seeds, theta


# Whenever a training is stopped, it is in one of these states, never between two of them: a state is made, and then takes the place of the
# one before.
def _following(
    run: Checkpoint,
    measured: Callable[[Any], tuple[Any, Any]],
    optimizer: Optimizer,
    rng: np.random.Generator,
    evaluated: Callable[[Any, int], tuple[tuple[int, Any], ...]],
) -> Iterator[Checkpoint]:
    """The states after this one, iteration by iteration. Raises Diverged, with the last state from which all was finite."""
    good = run
    while True:
        loss, gradient = measured(run.theta)
        if not is_finite(loss):
            raise _diverged(f"the loss is {loss}", INNER, run, good)
        if not is_finite(gradient):
            raise _diverged("the gradient isn't finite", INNER, run, good)
        good = run
        with np.errstate(all="ignore"):
            theta, state = optimizer.update(run.theta, gradient, run.state)
        if not is_finite(theta):
            raise _diverged("the update isn't finite", OUTER, run, good)
        run.losses.append(float(loss))
        iteration = run.iteration + 1
        evaluations = (*run.evaluations, *evaluated(theta, iteration))
        run = run._replace(theta=theta, state=state, random=rng.bit_generator.state, iteration=iteration, evaluations=evaluations)
        yield run


INNER, OUTER = "the inner learning rate is probably too large, or else the outer one", "the outer learning rate is probably too large"


def _diverged(what: str, cause: str, run: Checkpoint, good: Checkpoint) -> Diverged:
    error = Diverged(f"{what} in iteration {run.iteration}: {cause}. The last good parameters, after {good.iteration} updates, are in "
                     "this error's .theta")  # fmt: skip
    error.good = settled(good)
    return error


def _run(
    run: Checkpoint,
    following: Iterator[Checkpoint],
    iterations: int,
    keeper: Keeper,
    callbacks: Sequence[Callable[[Record], Any]],
    progress: Progress,
) -> tuple[Checkpoint, bool]:
    """Go from state to state, keep some and the last; whether that was interrupted."""
    before = run.iteration
    try:
        with terminated_as_interrupted(keeper.path is not None):
            for run in itertools.islice(following, iterations - before):
                keeper.keep_now_and_then(run)
                for callback in callbacks:
                    callback(_record(run))
                progress.show(run.iteration, run.losses)
            keeper.keep(run)
    except KeyboardInterrupt:
        keeper.keep(run)
        progress.finish(f"interrupted after {run.iteration} of {iterations} iterations", keeper.hint)
        return run, True
    except Diverged as error:
        keeper.keep(error.good)
        progress.finish(f"diverged after {run.iteration} of {iterations} iterations")
        if keeper.path:
            error.args = (f"{error}, and in {keeper.path}, for tm.load_checkpoint",)
        raise
    except Exception as error:
        keeper.keep(run)
        progress.finish(f"stopped after {run.iteration} of {iterations} iterations", keeper.hint)
        if isinstance(error, ExecutorError):
            error.args = (f"{error}; {run.iteration} iterations were made{keeper.hint}",)
        raise
    progress.finish(f"{run.iteration} iterations{f', {before} of them earlier,' if before else ''}")
    return run, False


def _record(run: Checkpoint) -> Record:
    evaluation = next((result for iteration, result in run.evaluations[-1:] if iteration == run.iteration), None)
    return Record(run.iteration, run.losses[-1], run.theta, evaluation)


@contextlib.contextmanager
def terminated_as_interrupted(wanted: bool) -> Iterator[None]:
    """While this lasts, SIGTERM is like Ctrl-C, if that is wanted and possible, and nobody else has a use for it.

    >>> import os, signal
    >>> with terminated_as_interrupted(True):
    ...     try:
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...     except KeyboardInterrupt:
    ...         print("interrupted")
    interrupted
    """
    import signal

    if not wanted or threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def interrupt(*_: Any) -> None:
        if os.getpid() != process:  # a worker that was forked: its pool ends it by this signal
            os._exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
