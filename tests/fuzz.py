"""Bad input at every public function: `python -m tests.fuzz` replaces one argument of a right call at a time by what makes no sense.

What may happen: the call returns (some replacements do make sense); raises a TypeError, a ValueError or an error of the library whose
message names the argument or says what was given; or passes on an error of a function that it was given, the caller's. What may not:
any other error, from the inside, a crash, or no end.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np
from matplotlib.image import imsave

import tinymeta as tm
from tinymeta import autodiff, baselines, evolution, implicit, learned_optimizer, maml, nn, optim
from tinymeta.arguments import shown
from tinymeta.tasks import characters, few_shot, hyperparameters, omniglot, quadratics, sinusoids


class Empty:
    """A class that takes no arguments, and whose name Python tells."""


BAD: dict[str, Any] = {
    "None": None, "text": "abc", "bytes": b"abc", "an empty dict": {}, "an empty list": [], "a list of text": ["a", "b"], "a set": {1.0},
    "ragged": [[1.0], [1.0, 2.0]], "objects": np.array([object(), None]), "text in an array": np.array(["a"]),
    "dates": np.array(["2020"], "M8[Y]"),
    "no elements": np.zeros(0), "an axis of 0": np.zeros((0, 3)), "other axes": np.zeros((7, 5, 3, 2)), "integers": np.arange(6),
    "NaN": np.nan, "infinity": np.inf, "an array of NaN": np.full(6, np.nan), "huge": 1e300, "a huge integer": 10**30, "zero": 0, "-1": -1,
    "-0.5": -0.5, "0.5": 0.5, "1.5": 1.5, "complex": 1j, "True": True, "a function": len, "a class": Empty, "a module": np,
    "a Tensor": tm.tensor(np.ones((2, 5))), "a masked array": np.ma.masked_array([1.0, 2.0], [True, False]), "a generator": (x for x in ()),
}  # fmt: skip
OWN = (TypeError, ValueError, FloatingPointError, np.linalg.LinAlgError, OSError)  # CheckpointError is a ValueError
SECONDS = 10
COUNTS = {"steps", "iterations", "order", "truncate", "pairs", "count", "n", "d", "relevant", "classes", "drawings", "ways", "shots",
          "queries", "support", "query", "sizes", "inputs", "hidden", "layers", "embedding_size", "meta_batch", "parts"}  # fmt: skip
"""Arguments that may be as large as time and memory allow: a huge integer makes sense, and has no end."""


# ## What the caller writes
CALLERS: set[CodeType] = set()


def callers(f: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: a function that the library is given, and whose errors are the caller's."""
    CALLERS.add(f.__code__)
    return f


@callers
def loss(x: Any) -> Any:
    return np.sum(np.tanh(x) ** 2)


@callers
def curve(x: Any) -> Any:
    return np.tanh(x)


@callers
def circle(y: Any, x: Any) -> Any:
    return x**2 + y**2 - 25


@callers
def inner(phi: Any, theta: Any, task: Any) -> Any:
    return 0.5 * phi @ task.A @ phi - task.b @ phi


@callers
def outer(phi: Any, theta: Any, task: Any) -> Any:
    return 0.5 * (phi - task.d) @ task.C @ (phi - task.d)


@callers
def distance(phi: Any, theta: Any, task: Any) -> Any:
    return np.sum((task.W @ phi - task.y) ** 2)


# ## Right calls, of everything that is public
class Call(NamedTuple):
    """A right call."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


ALSO_CALLED = {"primals": "x", "arguments": "x", "alpha": "learning rate", "lr": "learning rate", "rates": "PerStep|learning rate"}
"""What a message may call an argument besides its name."""


rng = np.random.default_rng(0)
X, V = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
TASK, THETA = quadratics.draw(rng, 6), rng.normal(size=6)
PROBLEM = tm.Bilevel(inner, outer)
LEARNED = tm.Bilevel(inner, outer, init=callers(lambda theta, task: THETA))
WEIGHTS = learned_optimizer.initialize(rng, hidden=2)
NETWORK = nn.initialize_mlp(rng, (3, 4, 2))
NORMALISED = nn.initialize_normalised_mlp(rng, (3, 4, 2))
LSTM = nn.initialize_lstm(rng, 3, 2)
DRAWINGS = characters.draw_characters(rng, 4, drawings=4, size=14)
REGRESSION = hyperparameters.draw_linear(rng, 10, 6, 2)
DISTANCES = quadratics.draw_distances(rng, 2, 3, distribution="uniform")


FILES = tempfile.TemporaryDirectory()
CHECKPOINT, OMNIGLOT = Path(FILES.name, "run.npz"), Path(FILES.name, "omniglot")


def fitted(**arguments: Any) -> Any:
    """A training, without its files."""
    return tm.fit(**arguments, quiet=True)


def applied(transform: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The derivative is made and called, so that bad options and bad arguments meet in one place."""
    return lambda f, x, **more: transform(f, **options, **more)(x)


CALLS: dict[str, Call] = {
    "tensor": Call(tm.tensor, {"value": X}),
    "grad": Call(applied(tm.grad), {"f": loss, "x": X, "argnums": 0, "has_aux": False}),
    "value_and_grad": Call(applied(tm.value_and_grad), {"f": loss, "x": X, "argnums": 0, "has_aux": False}),
    "gradients": Call(lambda output, inputs: tm.gradients(output, inputs),
                      (lambda x: {"output": loss(x), "inputs": [x]})(tm.tensor(X))),
    "vjp": Call(lambda f, x, cotangent: tm.vjp(f, x)[1](cotangent), {"f": loss, "x": X, "cotangent": 1.0}),
    "jvp": Call(tm.jvp, {"f": curve, "primals": (X,), "tangents": (V,)}),
    "hvp": Call(tm.hvp, {"f": loss, "x": X, "v": V}),
    "jacobian": Call(applied(tm.jacobian), {"f": curve, "x": X, "argnums": 0}),
    "hessian": Call(applied(tm.hessian), {"f": loss, "x": X, "argnums": 0}),
    "check_grad": Call(tm.check_grad, {"f": loss, "x": X, "order": 1, "method": "complex"}),
    "checkpoint": Call(applied(tm.checkpoint), {"f": loss, "x": X}),
    "vmap": Call(applied(tm.vmap), {"f": loss, "x": X, "in_axes": 0, "out_axes": 0}),
    "custom_vjp": Call(lambda forward, rule, x: tm.grad(tm.custom_vjp(forward, rule))(x),
                       {"forward": loss, "rule": callers(lambda c_bar, c, x: (c_bar * x,)), "x": X}),
    "jit": Call(applied(tm.jit), {"f": loss, "x": X, "static_argnames": ()}),
    "trace": Call(tm.trace, {"f": loss, "x": X, "static_argnames": ()}),
    "a program": Call(lambda arguments: tm.trace(loss, X)(arguments), {"arguments": X}),
    "ravel": Call(tm.ravel, {"tree": [X, V]}),
    "unravel": Call(lambda vector: tm.ravel([X, V])[1](vector), {"vector": np.arange(12.0)}),
    "set_at": Call(tm.set_at, {"x": tm.tensor(X), "index": (0, 1), "value": 2.0}),
    "stop_gradient": Call(tm.stop_gradient, {"x": tm.tensor(X)}),
    **{f.__name__: Call(f, {"x": tm.tensor(X)}) for f in (tm.relu, tm.sigmoid, tm.softplus)},
    **{f.__name__: Call(f, {"x": tm.tensor(X), "axis": -1}) for f in (tm.softmax, tm.log_softmax, tm.logsumexp)},
    "tree.map": Call(tm.tree.map, {"f": curve, "tree": [X, V]}),
    "tree.unflatten": Call(tm.tree.unflatten, {"structure": tm.tree.flatten([X, V])[1], "leaves": [X, V]}),
    "view.sweep_table": Call(lambda output, inputs, **options: tm.view.sweep_table(output, inputs, **options),
                             (lambda x: {"output": loss(x), "inputs": [x], "names": None})(tm.tensor(X))),
    "view.dot": Call(tm.view.dot, {"output": loss(tm.tensor(X)), "inputs": (), "names": None}),
    "tree.flatten": Call(tm.tree.flatten, {"tree": [X, V]}),
    "Bilevel": Call(lambda **parts: maml.meta_gradient(tm.Bilevel(**parts), THETA, TASK, steps=1, lr=0.1),
                    {"inner": inner, "outer": outer, "init": callers(lambda theta, task: theta)}),
    "Bilevel.adapting": Call(lambda adapted: maml.adapt(PROBLEM.adapting(adapted), THETA, TASK, steps=1, lr=0.1), {"adapted": True}),
    "maml.reptile_objective": Call(lambda theta, **options: tm.grad(maml.reptile_objective(**options))(theta, TASK), {
        "theta": THETA, "problem": PROBLEM, "steps": 2, "lr": 0.1, "update": optim.sgd}),
    "maml.meta_gradient": Call(maml.meta_gradient, {
        "problem": PROBLEM, "theta": THETA, "task": TASK, "steps": 2, "lr": 0.1, "update": optim.sgd, "order": 2, "truncate": 2,
        "by": "graph", "checkpoint": False, "weights": None}),
    "maml.objective": Call(lambda theta, **options: tm.grad(maml.objective(**options))(theta, TASK), {
        "theta": THETA, "problem": PROBLEM, "steps": 2, "lr": 0.1, "update": optim.sgd, "order": 2}),
    "maml.adapt": Call(maml.adapt, {"problem": PROBLEM, "theta": THETA, "task": TASK, "steps": 2, "lr": 0.1}),
    "maml.inner_steps": Call(maml.inner_steps, {"problem": PROBLEM, "theta": THETA, "task": TASK, "steps": 2, "lr": 0.1, "order": 1}),
    "maml.reptile": Call(maml.reptile, {"problem": PROBLEM, "theta": THETA, "task": TASK, "steps": 2, "lr": 0.1}),
    "implicit.meta_gradient": Call(partial(implicit.meta_gradient, problem=implicit.proximal(PROBLEM, 1.0)), {
        "theta": THETA, "task": TASK, "phi": None, "solver": "cg", "damping": 0.1, "iterations": 3, "tolerance": 1e-6}),
    "implicit.meta_gradient, neumann": Call(
        partial(implicit.meta_gradient, implicit.proximal(PROBLEM, 1.0), THETA, TASK, solver="neumann"), {"alpha": 0.1, "iterations": 3}),
    "implicit.solve_inner": Call(implicit.solve_inner, {
        "problem": implicit.proximal(PROBLEM, 1.0), "theta": THETA, "task": TASK, "method": "gradient descent", "lr": 0.1,
        "iterations": 2}),
    "implicit.stationarity": Call(implicit.stationarity, {"problem": PROBLEM, "phi": THETA, "theta": THETA, "task": TASK}),
    "implicit.fixed_point": Call(lambda T: implicit.root_jacobian(implicit.fixed_point(T), 0.7390851332, 1.0), {
        "T": callers(lambda x, u: np.cos(u * x))}),
    "implicit.proximal": Call(lambda **arguments: maml.adapt(implicit.proximal(**arguments), THETA, TASK, steps=1, lr=0.1), {
        "problem": PROBLEM, "strength": 1.0}),
    "implicit.objective": Call(lambda theta, **options: tm.grad(implicit.objective(**options))(theta, TASK), {
        "theta": THETA, "problem": implicit.proximal(PROBLEM, 1.0), "steps": 2, "lr": 0.1, "iterations": 2}),
    "implicit.solve": Call(implicit.solve, {"H": TASK.A, "b": TASK.b, "solver": "cholesky", "damping": 0.0, "tolerance": None}),
    "implicit.inner_hessian": Call(implicit.inner_hessian, {"problem": PROBLEM, "phi": THETA, "theta": THETA, "task": TASK}),
    "implicit.root_jacobian": Call(implicit.root_jacobian, {"g": circle, "phi": 4.0, "theta": 3.0}),
    "implicit.root_vjp": Call(implicit.root_vjp, {"g": circle, "phi": 4.0, "theta": 3.0, "phi_bar": 1.0, "solver": "lu"}),
    "implicit.root_jvp": Call(implicit.root_jvp, {"g": circle, "phi": 4.0, "theta": 3.0, "theta_dot": 1.0, "solver": "lu"}),
    "implicit.solution": Call(lambda g, solve, x: tm.grad(implicit.solution(g, solve))(x), {
        "g": circle, "solve": callers(lambda x: np.sqrt(25 - x**2)), "x": 3.0}),
    "learned_optimizer.initialize": Call(learned_optimizer.initialize, {"rng": rng, "hidden": 2, "layers": 1, "inputs": 3}),
    "learned_optimizer.lstm": Call(lambda **options: _of_rule(learned_optimizer.lstm(**options), WEIGHTS), {
        "preprocess": False, "embedding": None, "embedding_size": 0, "output_scale": 0.1}),
    "learned_optimizer.meta_lstm": Call(lambda alpha, forget: _of_rule(
        rule := learned_optimizer.meta_lstm(), rule.initialize(rng, alpha=alpha, forget=forget)), {"alpha": 0.1, "forget": 0.9}),
    "learned_optimizer.classical": Call(lambda optimizer: _of_rule(learned_optimizer.classical(optimizer), 0.1), {"optimizer": optim.adam}),
    "learned_optimizer.unroll": Call(learned_optimizer.unroll, {
        "theta": WEIGHTS, "loss": loss, "phi": THETA, "steps": 2, "second_derivatives": True, "rule": learned_optimizer.LSTM,
        "state": learned_optimizer.initial_state(WEIGHTS, THETA)}),
    "learned_optimizer.meta_gradient": Call(learned_optimizer.meta_gradient, {
        "problem": LEARNED, "theta": WEIGHTS, "task": TASK, "steps": 2, "second_derivatives": True, "losses": "sum", "truncate": 1}),
    "learned_optimizer.objective": Call(lambda theta, **options: learned_optimizer.objective(**options)(theta, TASK), {
        "theta": WEIGHTS, "problem": LEARNED, "steps": 2, "second_derivatives": True, "losses": "sum", "truncate": 1}),
    "evolution_strategies": Call(evolution.evolution_strategies, {
        "F": callers(lambda theta, task: inner(theta, None, task)), "theta": THETA, "task": TASK, "rng": rng, "sigma": 0.1, "pairs": 2,
        "directions": callers(lambda rng, shape: rng.normal(size=shape))}),
    "baselines.tune": Call(baselines.tune, {
        "optimizer": optim.sgd, "problem": tm.Bilevel(distance, distance, callers(lambda theta, task: task.phi_0)), "tasks": DISTANCES,
        "rates": np.array([0.001, 0.01]), "steps": 2, "losses": "sum"}),
    "baselines.learning_curves": Call(baselines.learning_curves, {
        "problem": tm.Bilevel(distance, distance, callers(lambda theta, task: task.phi_0)),
        "rules": {"SGD": (learned_optimizer.classical(optim.sgd), 0.01)}, "tasks": DISTANCES, "steps": 2}),
    "compare": Call(tm.compare, {"problem": PROBLEM, "theta": THETA, "task": TASK,
                                 "estimators": {"MAML": partial(maml.meta_gradient, steps=1, lr=0.1)}, "exact": None}),
    "fit": Call(fitted, {
        "objective": callers(lambda theta, task: np.sum((theta - task) ** 2)), "theta": THETA,
        "tasks": callers(lambda rng, count: rng.normal(size=(count, 6))),
        "optimizer": optim.sgd(0.1), "iterations": 2, "meta_batch": 2, "seed": 0, "callbacks": (), "evaluate": loss, "evaluate_every": 1,
        "checkpoint": None, "checkpoint_every": 10, "resume": False, "configuration": None, "executor": None, "parts": 2}),
    "load_checkpoint": Call(tm.load_checkpoint, {"path": CHECKPOINT}),
    **{f"optim.{make.__name__}": Call(lambda alpha, make=make, **options: _of_optimizer(make(alpha, **options)), {"alpha": 0.1, **options})
       for make, options in ((optim.sgd, {}), (optim.momentum, {"mu": 0.9}), (optim.rmsprop, {"rho": 0.9, "epsilon": 1e-8}),
                             (optim.adam, {"beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8}))},
    "optim.PerStep": Call(lambda rates: maml.adapt(PROBLEM, THETA, TASK, steps=2, lr=optim.PerStep(rates)), {
        "rates": np.array([0.1, 0.2])}),
    "nn.truncated_normal": Call(nn.truncated_normal, {"rng": rng, "shape": (3, 2), "sigma": 0.1}),
    "nn.glorot_uniform": Call(nn.glorot_uniform, {"rng": rng, "shape": (3, 2)}),
    "nn.initialize_mlp": Call(nn.initialize_mlp, {"rng": rng, "sizes": (3, 4, 2), "weights": nn.glorot_uniform}),
    "nn.mlp": Call(nn.mlp, {"theta": NETWORK, "x": X, "activation": curve}),
    "nn.normalised_mlp": Call(nn.normalised_mlp, {"theta": NORMALISED, "x": X, "activation": curve}),
    "nn.batch_norm": Call(nn.batch_norm, {"theta": {"scale": np.ones(3), "shift": np.zeros(3)}, "x": X, "epsilon": 1e-5}),
    "nn.initialize_lstm": Call(nn.initialize_lstm, {"rng": rng, "inputs": 3, "hidden": 2}),
    "nn.lstm_cell": Call(nn.lstm_cell, {"theta": LSTM, "x": X, "state": (np.zeros((2, 2)), np.zeros((2, 2)))}),
    "nn.mean_squared_error": Call(nn.mean_squared_error, {"prediction": X, "y": V}),
    "nn.cross_entropy": Call(nn.cross_entropy, {"logits": X, "labels": np.array([0, 2])}),
    "nn.accuracy": Call(nn.accuracy, {"logits": X, "labels": np.array([0, 2])}),
    "sinusoids.draw": Call(sinusoids.draw, {"rng": rng, "count": 2, "support": 5, "query": 5, "variant": "finn"}),
    "quadratics.draw": Call(quadratics.draw, {"rng": rng, "n": 3, "condition": 10.0}),
    "quadratics.draw_distances": Call(quadratics.draw_distances, {"rng": rng, "count": 2, "n": 3, "distribution": "normal"}),
    "hyperparameters.draw_linear": Call(hyperparameters.draw_linear, {"rng": rng, "n": 10, "d": 4, "relevant": 2}),
    "hyperparameters.draw_logistic": Call(hyperparameters.draw_logistic, {"rng": rng, "n": 10, "d": 4, "relevant": 2}),
    "characters.draw_characters": Call(characters.draw_characters, {"rng": rng, "classes": 2, "drawings": 2, "size": 14}),
    "few_shot.draw": Call(few_shot.draw, {"rng": rng, "count": 2, "characters": DRAWINGS, "ways": 2, "shots": 1, "queries": 2}),
    "few_shot.Characters.of": Call(DRAWINGS.of, {"alphabets": ["invented"]}),
    "few_shot.split": Call(few_shot.split, {
        "first": DRAWINGS, "second": few_shot.Characters(DRAWINGS.images, ["Latin/a", "Latin/b", "Latin/c", "Latin/d"])}),
    "few_shot.nearest_neighbour": Call(few_shot.nearest_neighbour, {"tasks": few_shot.draw(rng, 2, DRAWINGS, 2, 1, 2)}),
    "omniglot.load": Call(omniglot.load, {"path": OMNIGLOT, "size": 14}),
}  # fmt: skip


def _of_rule(rule: Any, theta: Any) -> Any:
    return learned_optimizer.unroll(theta, loss, THETA, steps=1, second_derivatives=False, rule=rule)


def _of_optimizer(optimizer: Any) -> Any:
    return optimizer.update(THETA, THETA, optimizer.init(THETA))


CALLS["fit"].function(**CALLS["fit"].arguments | {"checkpoint": CHECKPOINT})
(OMNIGLOT / "Greek" / "character01").mkdir(parents=True)
imsave(OMNIGLOT / "Greek" / "character01" / "0001_01.png", np.eye(omniglot.SIDE))


# ## What happens
OUTCOMES = ("returned", "told", "caller's", "unnamed", "inside")


class Case(NamedTuple):
    """One bad call."""

    name: str
    argument: str
    bad: str
    outcome: str
    """returned, told, caller's, unnamed (the message doesn't say which argument), inside (an error of another kind, or no end)"""
    message: str = ""

    def __str__(self) -> str:
        return f"{self.name}({self.argument}={self.bad}): {self.outcome}: {self.message}"


def cases(names: Collection[str] = tuple(CALLS)) -> Iterator[Case]:
    """Every argument of every call, replaced by everything that is bad."""
    for name in names:
        function, arguments = CALLS[name]
        called(function, arguments)  # which compiles what has to be compiled
        for argument in arguments:
            for bad, value in BAD.items():
                if not (bad == "a huge integer" and argument in COUNTS):
                    yield Case(name, argument, bad, *outcome_of(function, arguments | {argument: value}, argument, value))


def called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """The call."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return function(*_positional(function, arguments), **_keywords(function, arguments))


def outcome_of(function: Callable[..., Any], arguments: dict[str, Any], argument: str, value: Any) -> tuple[str, str]:
    """What a call does, and the message."""
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(SECONDS)
    try:
        called(function, arguments)
    except (Exception, NoEnd) as error:
        message = f"{type(error).__name__}: {error}"
        if is_the_callers(error):
            return "caller's", message
        own = isinstance(error, OWN) or (function is tm.set_at and isinstance(error, IndexError))  # as NumPy's indexing raises it
        return ("inside" if not own else "told" if says(str(error), argument, value) else "unnamed"), message
    finally:
        signal.alarm(0)
    return "returned", ""


class NoEnd(BaseException):
    """The time is over."""


def _out_of_time(*_: Any) -> None:
    raise NoEnd(f"after {SECONDS} seconds")


FOLDERS = [os.path.dirname(module.__file__) for module in (np, autodiff.operations)] + [sys.modules["tinymeta.autodiff.tensor"].__file__]


def is_the_callers(error: BaseException | None) -> bool:
    """Whether a function that the library was given raised it, or NumPy or an operation that this function called."""
    frames: list[CodeType] = []
    while error is not None:  # operations catch an error, and raise one that says what they were given
        frames += [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        error = error.__context__
    outside = [code for code in frames if not code.co_filename.startswith(tuple(FOLDERS))]
    return outside[-1] in CALLERS


def says(message: str, argument: str, value: Any) -> bool:
    """Whether a message names an argument, or its value: as it is written in errors, by its name, or by the shape that doesn't fit."""
    shape = getattr(value, "shape", None)
    shapes = [str(shape), str(list(shape))] if isinstance(shape, tuple) else []
    given = [value if isinstance(value, str) else shown(value), getattr(value, "__name__", ""), *shapes]
    named = any(re.search(rf"\b{name}\b", message) for name in (argument, ALSO_CALLED.get(argument, argument)))
    packed = message.replace(" ", "")
    return named or any(len(text) > 2 and text.replace(" ", "") in packed for text in given)


def _positional(function: Callable[..., Any], arguments: dict[str, Any]) -> list[Any]:
    """What must be given by its place: the examples of `trace` and `check_grad` have no names."""
    return [arguments["f"], arguments["x"]] if function in (tm.trace, tm.check_grad) else []


def _keywords(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    if function in (tm.trace, tm.check_grad):
        return {name: x for name, x in arguments.items() if name not in ("f", "x")}
    return arguments


def main() -> int:
    """The command: what happened, by call; and every case that must not happen."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CALL", help=f"of: {', '.join(CALLS)} (default: all)")
    parser.add_argument("--unnamed", action="store_true", help="show also where the message doesn't name the argument")
    parser.add_argument("--returned", action="store_true", help="show also what was accepted")
    options = parser.parse_args()
    shown_too = {"inside"} | ({"unnamed"} if options.unnamed else set()) | ({"returned"} if options.returned else set())
    counts: dict[str, collections.Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # some calls write files
        for case in cases(options.names or tuple(CALLS)):
            counts.setdefault(case.name, collections.Counter())[case.outcome] += 1
            if case.outcome in shown_too:
                print(str(case).replace("\n", " ")[:300])
        os.chdir("/")
    total = sum(counts.values(), collections.Counter())
    for name, count in [*counts.items(), ("all", total)]:
        print(f"{name:<36}" + "".join(f"{count[outcome]:>6} {outcome}" for outcome in OUTCOMES))
    return 1 if total["inside"] else 0


if __name__ == "__main__":
    sys.exit(main())
