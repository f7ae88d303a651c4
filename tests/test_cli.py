"""The main job from outside: its exit status, its files, what it prints and what it says when something is wrong."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from functools import partial

import matplotlib
import numpy as np
import pytest

from tinymeta import cli, comparison, maml, proofs, side_by_side
from tinymeta.autodiff.operations import elementwise
from tinymeta.bilevel import Bilevel
from tinymeta.experiments import sinusoid

matplotlib.use("Agg")
COMMAND = [sys.executable, "-m", "tinymeta"]
ENVIRONMENT = os.environ | {"MPLBACKEND": "Agg"}


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, **options)


# ## A short run
@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    done = run("--iterations", 5, "--seed", 1, "--out", folder / "figures", "--json", folder / "json" / "x.json")
    return done, folder


def test_a_short_run_succeeds_and_leaves_a_figure_and_a_report_and_nothing_else(short):
    done, folder = short
    assert done.returncode == 0, done.stderr
    assert (folder / "figures" / "sinusoids.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == ["figures/sinusoids.png", "json/x.json"]


def test_what_a_run_prints(short):
    done, folder = short
    assert done.stdout.count("PASS") == 16 and "FAIL" not in done.stdout
    assert f"wrote {folder / 'figures' / 'sinusoids.png'}\n" in done.stdout and f"wrote {folder / 'json' / 'x.json'}\n" in done.stdout
    assert re.search(r"^MAML +\d\.\d{3} ± \d\.\d{3}", done.stdout, re.M) and re.search(r"^done in \d+ s$", done.stdout, re.M)
    lines = [line.split(" in ")[0] for line in done.stderr.splitlines() if "compiles its machine" not in line]
    assert lines == ["MAML: 5 iterations", "pretraining: 5 iterations"]


def test_the_report(short):
    report = json.loads((short[1] / "json" / "x.json").read_text())
    assert set(report) == {"checks", "configuration", "evaluation"}
    assert len(report["checks"]) == 16
    for check in report["checks"]:
        assert set(check) == {"name", "error", "pass"} and check["pass"] is True and 0 <= check["error"] < 1e-8
    assert "MAML, 5 steps, by graph against complex step" in [check["name"] for check in report["checks"]]
    configuration = report["configuration"]
    assert (configuration["seed"], configuration["iterations"], configuration["iterations_made"]) == (1, 5, {"MAML": 5, "pretrained": 5})
    assert sinusoid.CONFIGURATION.items() <= configuration.items()
    assert set(report["evaluation"]) == {"MAML", "pretrained"}
    for evaluation in report["evaluation"].values():
        assert len(evaluation["error"]) == len(evaluation["confidence"]) == 11 and min(evaluation["confidence"]) > 0


def test_the_report_is_what_the_modules_compute(short):
    report = json.loads((short[1] / "json" / "x.json").read_text())
    theta = sinusoid.train_maml(1, 5, quiet=True).theta
    np.testing.assert_allclose(report["evaluation"]["MAML"]["error"], sinusoid.evaluate(theta, 1).mean, rtol=1e-10)


# ## In this process, with the proofs made short
@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(proofs, "prove", lambda seed: iter([proofs.Check("MAML", "closed form", 1e-15)]))


def test_quiet_prints_nothing_and_an_older_report_is_replaced(quick, tmp_path, capsys):
    (tmp_path / "x.json").write_text("an older one")
    assert cli.main(["--quiet", "--iterations", "1", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sinusoids.png", "x.json"]
    assert "checks" in json.loads((tmp_path / "x.json").read_text())


def test_no_iterations_at_all(quick, tmp_path, capsys):
    assert cli.main(["--iterations", "0", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 0
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["configuration"]["iterations_made"] == {"MAML": 0, "pretrained": 0}
    assert report["evaluation"]["MAML"] == report["evaluation"]["pretrained"]  # both are the initial network


def test_a_wrong_rule_fails_the_run_and_is_named(monkeypatch, tmp_path, capsys):
    right = elementwise.tanh.vjp
    monkeypatch.setattr(elementwise.tanh, "vjp", lambda c_bar, c, a: (right(c_bar, c, a)[0] * (1 + 1e-6),))
    status = cli.main(["--quiet", "--iterations", "0", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")])
    out, err = capsys.readouterr()
    assert status == 1 and out == ""
    assert err.startswith("tinymeta: 10 of 16 checks FAILED: ") and "MAML, 5 steps, by graph against complex step" in err
    failed = [check["name"] for check in json.loads((tmp_path / "x.json").read_text())["checks"] if not check["pass"]]
    assert len(failed) == 10 and all(name in err for name in failed) and not any("closed form" in name for name in failed)


def test_ctrl_c_before_the_training(monkeypatch, tmp_path, capsys):
    def interrupted(seed):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(proofs, "prove", interrupted)
    assert cli.main(["--out", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 130
    assert "tinymeta: interrupted\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ## Ctrl-C during the training
HEAR = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
sys.modules["tqdm"] = None  # the plain line, not a bar
from tinymeta.cli import main
sys.exit(main())
"""
HEARING = [sys.executable, "-c", HEAR]


def test_ctrl_c_during_the_training_evaluates_what_there_is(tmp_path):
    """On a terminal the progress shows; then comes the signal."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals")
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # lines and columns
    arguments = ["--iterations", "1000000", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")]
    process = subprocess.Popen([*HEARING, *arguments], stdout=subprocess.PIPE, stderr=theirs, text=True, env=ENVIRONMENT)
    try:
        os.close(theirs)
        shown, deadline = "", time.monotonic() + 200  # the machine may have to be compiled
        while "loss" not in shown and time.monotonic() < deadline:
            shown += os.read(ours, 1000).decode(errors="replace")
        assert re.search(r"MAML: .*\d+/1000000\D.*loss \d\.\d{3}", shown)  # by tqdm, where it is installed
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0 and "done in" in out
    configuration = json.loads((tmp_path / "x.json").read_text())["configuration"]
    made = configuration["iterations_made"]
    assert configuration["interrupted"] == ["MAML"] and f"MAML was interrupted after {made['MAML']} iterations" in out
    assert 0 < made["MAML"] == made["pretrained"] < 1_000_000 and (tmp_path / "sinusoids.png").exists()


# ## Arguments
def test_help_mentions_every_option():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    for option in ("--iterations N", "--seed N", "--out FOLDER", "--json FILE", "--quiet", "Ctrl-C", "default 40000", "exit status"):
        assert option in " ".join(done.stdout.split())
    declared = {name for action in cli.build_parser()._actions for name in action.option_strings if name.startswith("--")}
    assert declared == {"--help", "--iterations", "--seed", "--out", "--json", "--quiet"}


@pytest.mark.parametrize("arguments, message", [
    (["--iterations", "many"], "argument --iterations: 'many' is not a whole number"),
    (["--iterations", "1.5"], "argument --iterations: '1.5' is not a whole number"),
    (["--iterations", "-3"], "argument --iterations: -3 is negative"),
    (["--seed", "-1"], "argument --seed: -1 is negative"),
    (["--seed"], "argument --seed: expected one argument"),
    (["--learning-rate", "1"], "unrecognized arguments: --learning-rate 1"),
    (["trian"], "there is no command 'trian': choose one of compare, train, evaluate, reproduce, check, course, or none"),
])  # fmt: skip
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--json"])
def test_what_cannot_be_written_is_said_before_anything_is_computed(monkeypatch, tmp_path, capsys, option):
    monkeypatch.setattr(proofs, "prove", lambda seed: pytest.fail("this comes too late"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    assert cli.main([option, str(tmp_path / "file" / "below")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinymeta: can't write ") and str(tmp_path / "file") in err and len(err.splitlines()) == 1


def test_a_folder_is_not_a_report(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(proofs, "prove", lambda seed: pytest.fail("this comes too late"))
    assert cli.main(["--out", str(tmp_path), "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"tinymeta: can't write {tmp_path}: Is a directory\n"


def test_a_file_is_not_a_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(proofs, "prove", lambda seed: pytest.fail("this comes too late"))
    (tmp_path / "file").write_text("not a folder")
    assert cli.main(["--out", str(tmp_path / "file")]) == 2
    assert f"can't write {tmp_path / 'file'}: there is a file where a folder should be\n" in capsys.readouterr().err


def test_the_script_that_is_installed_is_the_same_job():
    from importlib.metadata import entry_points

    [script] = [entry for entry in entry_points(group="console_scripts") if entry.name == "tinymeta"]
    assert script.load() is cli.main


# ## The other command: compare
def test_compare_prints_tables_and_leaves_figures_and_a_report_of_the_same_numbers(tmp_path):
    done = run("compare", "--problem", "ridge", "--seed", 1, "--out", tmp_path / "figures", "--json", tmp_path / "x.json")
    assert done.returncode == 0, done.stderr
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["figures/compare-ridge.png", "x.json"]
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["seed"] == 1 and report["complaints"] == [] and set(report) == {"version", "seed", "complaints", "comparisons"}
    for title, rows in report["comparisons"].items():
        assert f"{title}\n\n{comparison.table(comparison.Row(**row) for row in rows)}\n" in done.stdout
    assert len(report["comparisons"]) == 5 and rows[0]["name"] == "second derivatives kept"
    assert re.search(r"^done in \d+ s$", done.stdout, re.M)


@pytest.fixture
def few(monkeypatch):
    """One small problem, and two points of each curve."""
    problem = Bilevel(lambda phi, theta, task: phi**2, lambda phi, theta, task: (phi - 1) ** 2)
    section = side_by_side.Section("small", problem, 3.0, None, {"MAML": partial(maml.meta_gradient, steps=1, lr=0.25)}, {}, {})
    monkeypatch.setattr(side_by_side, "PROBLEMS", {"quadratic": lambda seed: [section], "ridge": lambda seed: [section]})
    monkeypatch.setattr(side_by_side, "COUNTS", (1, 2))
    return section


def test_the_quadratic_comes_with_imamls_figure(few, tmp_path, capsys):
    for problem, files in (("ridge", ["compare-ridge.png"]), ("quadratic", ["compare-quadratic.png", "imaml.png"])):
        folder = tmp_path / problem
        assert cli.main(["compare", "--problem", problem, "--out", str(folder), "--json", str(tmp_path / "x.json")]) == 0
        assert sorted(path.name for path in folder.iterdir()) == files
    curves = json.loads((tmp_path / "x.json").read_text())["imaml"]
    assert [point["hessian_products"] for point in curves["unrolled"]] == [1, 2]
    assert all(set(point) == {"hessian_products", "nodes", "error"} for points in curves.values() for point in points)
    capsys.readouterr()


def test_a_wrong_and_a_failing_estimator_fail_the_comparison_and_are_named(few, tmp_path, capsys):
    def wrong(problem, theta, task):
        result = few.gradients["MAML"](problem, theta, task)
        return result._replace(grad=(1 + 1e-6) * result.grad)

    few.gradients["wrong"] = wrong
    few.gradients["typing"] = partial(maml.meta_gradient, steps=1, lr=0.25, by="grpah")
    few.gradients["zero"] = lambda *given: wrong(*given)._replace(grad=0.0)
    assert cli.main(["compare", "--problem", "ridge", "--out", str(tmp_path), "--json", str(tmp_path / "x.json")]) == 1
    out, err = capsys.readouterr()
    complaints = ["wrong is 1.0e-06 away from the truth", "typing failed", "zero is 1.0e+00 away from the truth"]
    assert err == f"tinymeta: {'; '.join(complaints)}\n" and "typing     failed: ValueError: by='grpah'" in out
    report = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["complaints"] == complaints
    rows = {row["name"]: row for row in report["comparisons"]["small"]}
    assert rows["typing"]["failure"].startswith("ValueError") and rows["typing"]["value"] is None and rows["zero"]["angle"] is None


def test_help_of_compare():
    done = run("compare", "--help")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("--problem {quadratic,ridge,sinusoid,all}", "--seed N", "--out FOLDER", "--json FILE", "Hessian products", "exit status"):
        assert word in " ".join(done.stdout.split())
    assert "tinymeta compare" in " ".join(run("--help").stdout.split())


@pytest.mark.parametrize("arguments, message", [
    (["compare", "--problem", "cubic"], "argument --problem: invalid choice: 'cubic' (choose from"),
    (["compare", "--seed", "-1"], "argument --seed: -1 is negative"),
    (["compare", "--iterations", "3"], "unrecognized arguments: --iterations 3"),
    (["compare", "ridge"], "unrecognized arguments: ridge"),
    (["--seed", "1", "compare"], "unrecognized arguments: compare"),
])  # fmt: skip
def test_bad_arguments_of_compare(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_compare_says_what_cannot_be_written_before_anything_is_computed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(side_by_side, "PROBLEMS", {"ridge": lambda seed: pytest.fail("this comes too late")})
    (tmp_path / "file").write_text("not a folder")
    assert cli.main(["compare", "--problem", "ridge", "--out", str(tmp_path / "file" / "below")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tinymeta: can't write ") and len(err.splitlines()) == 1


def test_ctrl_c_during_the_comparison(monkeypatch, tmp_path, capsys):
    def interrupted(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "PROBLEMS", {"ridge": interrupted})
    assert cli.main(["compare", "--problem", "ridge", "--out", str(tmp_path)]) == 130
    assert "tinymeta: interrupted\n" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
