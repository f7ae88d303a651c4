"""The main job, `python -m tinymeta`: prove the meta-gradients, train MAML on sinusoids, evaluate, draw."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DESCRIPTION = """\
Derives the three meta-gradients of tinymeta (MAML through the unrolled steps, the implicit function theorem, a learned
optimizer) and proves each against finite differences, the complex step, and a closed form; then trains MAML on few-shot
sinusoids, evaluates it on 600 unseen tasks beside a network pretrained on all tasks, and draws the result.
"""

EPILOG = """\
Ctrl-C during the training ends it; what there is by then is evaluated. The exit status is 1 if a check fails.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser("tinymeta", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--iterations", type=_count, default=2000, metavar="N",
                        help="updates of MAML, and of the pretrained network (default %(default)s; the paper made 70000)")  # fmt: skip
    parser.add_argument("--seed", type=_count, default=0, metavar="N", help="of all random numbers (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("tinymeta-results"), metavar="FOLDER",
                        help="where the figure goes (default %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the checks, the configuration and the evaluation as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress and no tables, only the figure and the exit status")
    return parser


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job; the exit status is 0, or 1 if a check fails."""
    options = build_parser().parse_args(arguments)
    try:
        _prepare(options)
        return _run(options)
    except KeyboardInterrupt:
        print("\ntinymeta: interrupted; nothing was written", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"tinymeta: can't write {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
        return 2


def _prepare(options: argparse.Namespace) -> None:
    """Find out now, not after the training, whether the results can be written."""
    options.out.mkdir(parents=True, exist_ok=True)
    for path in filter(None, (options.json, options.out / ".writable")):
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("a").close()
        if not existed:
            path.unlink()


def _run(options: argparse.Namespace) -> int:
    from . import experiments, plots, proofs

    def say(*text: str) -> None:
        if not options.quiet:
            print(*text, sep="\n", flush=True)

    begun = time.monotonic()
    say("Three meta-gradients, each against what knows none of its rules", "")
    checks = list(proofs.prove(options.seed))
    say(proofs.table(checks), "")

    trained = experiments.train_maml(options.seed, options.iterations, options.quiet)
    made = len(trained.losses)
    pretrained = experiments.pretrain(options.seed, made, options.quiet)
    evaluations = {"MAML": experiments.evaluate(trained.theta, options.seed),
                   "pretrained": experiments.evaluate(pretrained.theta, options.seed)}  # fmt: skip
    points = experiments.CONFIGURATION["evaluation_support_points"]
    say("", f"Mean squared error on 600 unseen tasks, after steps on {points} points each (95 % confidence)", "",
        experiments.table(evaluations), "")  # fmt: skip

    figure = plots.sinusoids(trained, evaluations, *experiments.example_task(options.seed))
    plots.save(figure, "sinusoids", options.out, announce=not options.quiet)
    if options.json:
        _write_json(options.json, _report(options, checks, made, evaluations))
        say(f"wrote {options.json}")
    say(f"done in {time.monotonic() - begun:.0f} s")
    failed = [f"{check.estimator} against {check.oracle}" for check in checks if not check.passed]
    if failed:
        print(f"tinymeta: {len(failed)} of {len(checks)} checks FAILED: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _report(options: argparse.Namespace, checks: list[Any], made: int, evaluations: dict[str, Any]) -> dict[str, Any]:
    from . import __version__, experiments

    evaluation = {name: {"error": e.mean.tolist(), "confidence": e.confidence.tolist()} for name, e in evaluations.items()}
    return {
        "checks": [{"name": f"{c.estimator} against {c.oracle}", "error": c.error, "pass": c.passed} for c in checks],
        "configuration": {"version": __version__, "seed": options.seed, "iterations": options.iterations, "iterations_made": made,
                          **experiments.CONFIGURATION},
        "evaluation": evaluation,
    }  # fmt: skip


def _write_json(path: Path, report: dict[str, Any]) -> None:
    """All of it or nothing: a reader never sees half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(report, indent=2, default=_plain) + "\n", encoding="utf8")
    os.replace(temporary, path)


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else str(x)
