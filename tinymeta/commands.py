"""The commands that do the papers' experiments: `tinymeta train`, `tinymeta evaluate` and `tinymeta reproduce`."""

from __future__ import annotations

import argparse
import inspect
import time
from pathlib import Path
from typing import Any

from .cli import add_common, count, write_json
from .experiments import jobs
from .experiments.methods import METHODS
from .experiments.reproduce import OMNIGLOT_ITERATIONS, TABLES, Settings

TRAIN = """\
Trains one of the papers' experiments, says what it has achieved, and draws it. The training is kept all along, in
OUT/EXPERIMENT-METHOD.npz, or OUT/EXPERIMENT.npz where there is one method only: after Ctrl-C, or a crash, the same command with
--resume goes on as if nothing had been.
"""

EXIT = "The exit status is 0 if all is as it should be, 1 if a training diverges, 2 if what is asked for can't be done, 130 after Ctrl-C."

TRAIN_EPILOG = "Methods: " + "; ".join(f"{name}: {method.about}" for name, method in METHODS.items()) + f". {EXIT}"

REPRODUCE = """\
Makes all trainings that one of the papers' tables or figures takes, and writes it beside the published numbers: OUT/TABLE.md, .csv, .json
and .png. What an earlier run has trained, in the same folder, is taken from there.
"""


SEEDS = 3
TAKES = {"maml-table2": {"seeds", "iterations"}, "omniglot-mlp": {"iterations", "data"}, "l2l-quadratics": {"iterations"}}


def _described(functions: dict[str, Any]) -> str:
    """What each of them is, from its docstring."""
    return "; ".join(f"{name}: {inspect.getdoc(function)}".rstrip(".") for name, function in functions.items())


def build_train_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta train`."""
    parser = argparse.ArgumentParser("tinymeta train", allow_abbrev=False, description=TRAIN, epilog=TRAIN_EPILOG)
    parser.add_argument("experiment", choices=jobs.JOBS, help=_described(jobs.JOBS))
    parser.add_argument("--method", choices=METHODS, help="of sinusoid, and, but for pretrain, of omniglot and characters (default maml)")
    parser.add_argument("--shots", type=positive, metavar="K",
                        help="examples given, of a wave (default 5) or of each character (default 1, at most 5)")  # fmt: skip
    parser.add_argument("--ways", type=positive, metavar="N", help="characters to tell apart (default 5)")
    _add_data(parser)
    defaults = ", ".join(f"{name} {number}" for name, number in jobs.ITERATIONS.items())
    parser.add_argument("--iterations", type=positive, metavar="N", help=f"how many in all, with those resumed from (default: {defaults})")
    parser.add_argument("--resume", action="store_true", help="go on with the training in OUT, if there is one")
    add_common(parser, "the result")
    return parser


def build_evaluate_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta evaluate`."""
    parser = argparse.ArgumentParser("tinymeta evaluate", allow_abbrev=False, epilog=EXIT,
                                     description="Says what a training that `tinymeta train` has kept has achieved.")  # fmt: skip
    parser.add_argument("checkpoint", type=Path, help="the file that it is kept in, such as tinymeta-results/sinusoid-maml.npz")
    _add_data(parser)
    add_common(parser, "the result", seed=False)
    return parser


def build_reproduce_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta reproduce`."""
    parser = argparse.ArgumentParser("tinymeta reproduce", allow_abbrev=False, description=REPRODUCE, epilog=EXIT)
    parser.add_argument("table", choices=TABLES, help=_described(TABLES))
    parser.add_argument("--seeds", type=positive, metavar="N", help=f"of maml-table2: how many trainings (default {SEEDS})")
    omniglot = " and ".join(f"{number} with {shots} shot{'s' * (shots > 1)}" for shots, number in OMNIGLOT_ITERATIONS.items())
    parser.add_argument("--iterations", type=positive, metavar="N",
                        help=f"of each training (default: of maml-table2 {jobs.ITERATIONS['sinusoid']}, of omniglot-mlp {omniglot}, of "
                        f"l2l-quadratics {jobs.ITERATIONS['quadratics']}; the others train nothing)")  # fmt: skip
    _add_data(parser)
    add_common(parser, "the table", seed=False)
    return parser


def positive(text: str) -> int:
    """A whole number above 0, or argparse's error."""
    if not (number := count(text)):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs=2, metavar=("TRAIN", "TEST"), type=lambda path: str(Path(path).resolve()),
                        help="Omniglot's zips or folders, to train on and to test on: images_background_small1.zip "
                        "images_background_small2.zip, from https://github.com/brendenlake/omniglot, folder python")  # fmt: skip


# ## What they do. A ValueError that they raise is told in one line.
def train(options: argparse.Namespace) -> int:
    """Train, and report."""
    from .train import fit

    begun = time.monotonic()
    chosen = {name: value for name in ("method", "shots", "ways", "data", "seed") if (value := getattr(options, name)) is not None}
    job = _made(options.experiment, chosen)
    name = "-".join([options.experiment, *filter(None, [job.configuration.get("method")])])
    path = options.out / f"{name}.npz"
    if path.exists() and not options.resume:
        raise ValueError(f"{path} exists: --resume goes on from there; to start anew, remove it, or choose another --out")
    training = fit(job.objective, job.theta, job.tasks, job.optimizer, iterations=options.iterations or job.iterations,
                   meta_batch=job.meta_batch, seed=(options.seed, 1), label=name, checkpoint=path, resume=options.resume,
                   configuration=job.configuration)  # fmt: skip
    try:
        _report(job, training.theta, len(training.losses), name, options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the training is kept in {path}, and `tinymeta evaluate {path}` reports on it") from None
    how = "interrupted: the same command with --resume goes on" if training.interrupted else "done"
    print(f"kept in {path}; {how}, after {time.monotonic() - begun:.0f} s")
    return 130 if training.interrupted else 0


def _made(experiment: str, options: dict[str, Any]) -> jobs.Job:
    """The job, or an error that says which option is missing."""
    parameters = inspect.signature(jobs.JOBS[experiment]).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in options]
    if needed:
        raise ValueError(f"{experiment} needs {', '.join(f'--{name}' for name in needed)} (--help says more)")
    return jobs.make(experiment, **options)


def _report(job: jobs.Job, theta: Any, iterations: int, name: str, options: argparse.Namespace) -> None:
    from . import __version__, plots

    report = job.report(theta)
    print(f"\n{report.text}\n", flush=True)
    plots.save(report.draw(), name, options.out)
    if options.json:
        write_json(options.json, {"version": __version__, "configuration": job.configuration, "iterations": iterations, **report.numbers})
        print(f"wrote {options.json}")


def evaluate(options: argparse.Namespace) -> int:
    """Report on a checkpoint."""
    from .checkpoints import CheckpointError, load_checkpoint

    if not options.checkpoint.is_file():
        raise ValueError(f"there is no file {options.checkpoint}")
    kept = load_checkpoint(options.checkpoint)
    configuration = dict(kept.configuration) | ({"data": options.data} if options.data else {})
    if "experiment" not in configuration:
        raise CheckpointError(f"{options.checkpoint} wasn't made by `tinymeta train`: what it was trained for isn't known")
    if missing := [path for path in configuration.get("data", ()) if not Path(path).exists()]:
        raise ValueError(f"there is no {missing[0]}: --data TRAIN TEST says where the images are now")
    job = jobs.make(**configuration)
    print(f"{options.checkpoint}: {kept.iteration} iterations of {', '.join(f'{name} {x}' for name, x in configuration.items())}")
    _report(job, kept.theta, kept.iteration, options.checkpoint.stem, options)
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Make a table, and write it."""
    from . import plots

    begun = time.monotonic()
    given = {name for name in ("seeds", "iterations", "data") if getattr(options, name) is not None}
    if idle := sorted(given - TAKES.get(options.table, set())):
        raise ValueError(f"{options.table} has no {' and '.join(f'--{name}' for name in idle)}")
    try:
        table = TABLES[options.table](Settings(options.seeds or SEEDS, options.iterations, options.out, options.data))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what has been trained is kept in {options.out}, and the same command goes on") from None
    print(table.markdown())
    for suffix, text in (("md", table.markdown()), ("csv", table.csv())):
        path = options.out / f"{options.table}.{suffix}"
        path.write_text(text, encoding="utf8")
        print(f"wrote {path}")
    report = {"title": table.title, "columns": table.columns, "rows": table.rows, "notes": table.notes}
    for path in filter(None, (options.out / f"{options.table}.json", options.json)):
        write_json(path, report)
        print(f"wrote {path}")
    plots.save(table.draw(), options.table, options.out)
    print(f"done in {(time.monotonic() - begun) / 60:.1f} minutes")
    return 0
