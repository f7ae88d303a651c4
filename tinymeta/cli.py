"""The commands. `python -m tinymeta`, the main job: prove the meta-gradients, train MAML on sinusoids, evaluate, draw.

`python -m tinymeta compare`: every estimator on the same problems, side by side. `train`, `evaluate` and `reproduce` are in `commands`,
`course` in `course`, `check` in `facts`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

DESCRIPTION = """\
Computes the three meta-gradients of tinymeta (MAML through the unrolled steps, the implicit function theorem, a learned
optimizer) and checks each against finite differences, the complex step, and a closed form; then trains MAML on few-shot
sinusoids, evaluates it on 600 unseen tasks beside a network pretrained on all tasks at once, and draws the result. All of it
takes about a minute; the very first run also compiles the machine, once. Other commands: tinymeta compare, train, evaluate,
reproduce, check, course (each with --help).
"""

EPILOG = """\
Ctrl-C during a training ends that training; what there is by then is evaluated. The exit status is 0 if all checks pass, 1 if
one fails, 2 if the results can't be written, 130 after Ctrl-C outside of a training.
"""

COMMANDS = ("compare", "train", "evaluate", "reproduce", "check", "course")

COMPARE = """\
Runs every estimator of a meta-gradient on the same problems, and prints for each its value, the norm of its gradient, the angle and the
relative error to the truth (the complex step, or differences, of the very algorithm that was run) and to the closed form, and what it
costs: Hessian products, graph nodes kept, milliseconds. Draws it, for each problem, as compare-quadratic.png, compare-ridge.png,
compare-sinusoid.png; and, with the quadratic, as imaml.png the error against Hessian products for an inner Hessian of condition number 71.
"""

COMPARE_EPILOG = """\
The exit status is 0 if all is as it should be, 1 if an estimator fails, or misses the truth or its closed form, 2 if the results can't be
written, 130 after Ctrl-C.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser("tinymeta", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--iterations", type=count, default=40000, metavar="N",
                        help="updates of MAML, and of the pretrained network (default %(default)s; the paper made 70000)")  # fmt: skip
    add_common(parser, "the checks, the configuration and the evaluation")
    parser.add_argument("--quiet", action="store_true", help="no progress and no tables, only the figure and the exit status")
    return parser


def build_compare_parser() -> argparse.ArgumentParser:
    """The arguments of `tinymeta compare`."""
    from .side_by_side import PROBLEMS

    parser = argparse.ArgumentParser("tinymeta compare", description=COMPARE, epilog=COMPARE_EPILOG)
    parser.add_argument("--problem", choices=(*PROBLEMS, "all"), default="all", help="which (default %(default)s)")
    add_common(parser, "the tables")
    return parser


def add_common(parser: argparse.ArgumentParser, report: str, seed: bool = True) -> None:
    """The arguments that commands share."""
    if seed:
        parser.add_argument("--seed", type=count, default=0, metavar="N", help="of all random numbers (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("tinymeta-results"), metavar="FOLDER",
                        help="where the results go (default %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"also write {report} as JSON")


def count(text: str) -> int:
    """A whole number, 0 or more, or argparse's error."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job, or the command that comes first; the exit status is 0, or 1 if a check fails."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser, run = _command(arguments[0] if arguments else "")
    options = parser.parse_args(arguments if run is _run else arguments[1:])
    try:
        _prepare(options)
        return run(options)
    except KeyboardInterrupt as error:
        kept = f"; {error}" if error.args else ""
        print(f"\ntinymeta: interrupted{kept}", file=sys.stderr)
        return 130
    except ValueError as error:  # options that make no sense together, or a file that isn't what it should be
        print(f"tinymeta: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:  # what diverged; the message says how to go on
        print(f"tinymeta: {error}", file=sys.stderr)
        return 1
    except (FileExistsError, NotADirectoryError) as error:
        print(f"tinymeta: can't write {error.filename}: there is a file where a folder should be", file=sys.stderr)
        return 2
    except OSError as error:
        told = f"can't write {error.filename or 'the output'}: {error.strerror}" if error.strerror else error
        print(f"tinymeta: {told}", file=sys.stderr)
        return 2


def _command(name: str) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], int]]:
    """What a command line that begins with this word asks for: a parser of the rest, and what to do."""
    if name == "compare":
        return build_compare_parser(), _compare
    if name in ("train", "evaluate", "reproduce"):
        from . import commands

        return getattr(commands, f"build_{name}_parser")(), getattr(commands, name)
    if name == "course":
        from . import course

        return course.build_parser(), course.course
    if name == "check":
        from . import facts

        return facts.build_parser(), facts.run
    parser = build_parser()
    if name and not name.startswith("-"):
        parser.error(f"there is no command {name!r}: choose one of {', '.join(COMMANDS)}, or none for the main job")
    return parser, _run


def _prepare(options: argparse.Namespace) -> None:
    """Find out now, not after the work, whether the results can be written."""
    folder = getattr(options, "out", None)
    for path in filter(None, (getattr(options, "json", None), getattr(options, "junit", None), folder and folder / ".writable")):
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("a").close()
        if not existed:
            path.unlink()


def _run(options: argparse.Namespace) -> int:
    from . import plots, proofs
    from .experiments import few_shot, sinusoid

    def say(*text: str) -> None:
        if not options.quiet:
            print(*text, sep="\n", flush=True)

    begun = time.monotonic()
    say("The meta-gradients against three references that know none of their rules", "")
    checks = list(proofs.prove(options.seed))
    say(proofs.table(checks), "",
        "Differences and complex step: on a small network and a sinusoid task. Closed form: on a quadratic (of the learned",
        "optimizer, for one of its weights). First-order MAML is not the gradient, so no difference can confirm it.", "")  # fmt: skip

    trained = {"MAML": sinusoid.train_maml(options.seed, options.iterations, options.quiet)}
    trained["pretrained"] = sinusoid.pretrain(options.seed, len(trained["MAML"].losses), options.quiet)
    evaluations = {name: sinusoid.evaluate(training.theta, options.seed) for name, training in trained.items()}
    ended = {name: len(training.losses) for name, training in trained.items() if training.interrupted}
    say("", *(f"{name} was interrupted after {made} iterations." for name, made in ended.items()))
    points = sinusoid.CONFIGURATION["evaluation_support_points"]
    say(f"Mean squared error on 600 unseen tasks, after steps on {points} points each (mean and 95 % confidence).",
        "MAML was trained for one step; the pretrained network on all tasks at once, without steps.", "",
        few_shot.table(evaluations), "")  # fmt: skip

    figure = plots.sinusoids(trained["MAML"], evaluations, *sinusoid.example_task(options.seed))
    plots.save(figure, "sinusoids", options.out, announce=not options.quiet)
    if options.json:
        write_json(options.json, _report(options, checks, trained, evaluations))
        say(f"wrote {options.json}")
    say(f"done in {time.monotonic() - begun:.0f} s")
    failed = [f"{check.estimator} against {check.oracle}" for check in checks if not check.passed]
    if failed:
        print(f"tinymeta: {len(failed)} of {len(checks)} checks FAILED: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _report(options: argparse.Namespace, checks: list[Any], trained: dict[str, Any], evaluations: dict[str, Any]) -> dict[str, Any]:
    from . import __version__
    from .experiments import sinusoid

    evaluation = {name: {"error": e.mean.tolist(), "confidence": e.confidence.tolist()} for name, e in evaluations.items()}
    return {
        "checks": [{"name": f"{c.estimator} against {c.oracle}", "error": c.error, "pass": c.passed} for c in checks],
        "configuration": {"version": __version__, "seed": options.seed, "iterations": options.iterations,
                          "iterations_made": {name: len(training.losses) for name, training in trained.items()},
                          "interrupted": [name for name, training in trained.items() if training.interrupted], **sinusoid.CONFIGURATION},
        "evaluation": evaluation,
    }  # fmt: skip


def _compare(options: argparse.Namespace) -> int:
    from . import __version__, plots, side_by_side

    begun, tables, complaints = time.monotonic(), {}, []
    for name in side_by_side.PROBLEMS if options.problem == "all" else [options.problem]:
        shown = {}
        for section in side_by_side.PROBLEMS[name](options.seed):
            comparison = shown[section.title] = section.compare()
            complaints += section.complaints(comparison)
            tables[section.title] = [_finite(row._asdict()) for row in comparison.rows]
            print(section.title, "", comparison, "", sep="\n", flush=True)
        plots.save(plots.comparisons(shown), f"compare-{name}", options.out)
    report = {"version": __version__, "seed": options.seed, "complaints": complaints, "comparisons": tables}
    if options.problem in ("quadratic", "all"):
        curves = side_by_side.accuracy_against_cost(options.seed)
        plots.save(plots.accuracy_against_cost(curves), "imaml", options.out)
        report["imaml"] = {name: [point._asdict() for point in points] for name, points in curves.items()}
    if options.json:
        write_json(options.json, report)
        print(f"wrote {options.json}")
    print(f"done in {time.monotonic() - begun:.0f} s")
    if complaints:
        print(f"tinymeta: {'; '.join(complaints)}", file=sys.stderr)
    return 1 if complaints else 0


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for NaN: the angle to a gradient that is 0."""
    return {name: None if isinstance(x, float) and not np.isfinite(x) else x for name, x in record.items()}


def write_json(path: Path, report: dict[str, Any]) -> None:
    """All of it or nothing: a reader never sees half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(report, indent=2, default=_plain) + "\n", encoding="utf8")
    os.replace(temporary, path)


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else str(x)
