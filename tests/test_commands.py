"""`tinymeta train`, `evaluate` and `reproduce`, as a user calls them."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import tinymeta as tm
from tinymeta import cli, commands
from tinymeta.experiments import classification, sinusoid


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setitem(sinusoid.CONFIGURATION, "evaluation_tasks", 20)
    experiment = classification.experiment
    monkeypatch.setattr(classification, "experiment", lambda *given, **options: experiment(*given, **options)._replace(evaluation_tasks=20))


def call(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_train_stop_resume_evaluate(tmp_path, capsys):
    train = ("train", "sinusoid", "--method", "fomaml", "--shots", 10, "--seed", 3, "--out", tmp_path)
    assert call(*train, "--iterations", 4) == 0
    out, err = capsys.readouterr()
    assert "sinusoid-fomaml: 4 iterations" in err and re.search(r"^fomaml +\d\.\d{3} ± ", out, re.M)
    assert f"kept in {tmp_path / 'sinusoid-fomaml.npz'}; done" in out and (tmp_path / "sinusoid-fomaml.png").exists()
    assert call(*train, "--iterations", 7) == 2  # it isn't overwritten
    assert "exists: --resume goes on from there" in capsys.readouterr().err
    assert call(*train, "--iterations", 7, "--resume", "--json", tmp_path / "x.json") == 0
    resumed = json.loads((tmp_path / "x.json").read_text())
    assert resumed["iterations"] == 7 and resumed["configuration"]["shots"] == 10
    capsys.readouterr()
    assert call("evaluate", tmp_path / "sinusoid-fomaml.npz", "--out", tmp_path / "again", "--json", tmp_path / "y.json") == 0
    assert "7 iterations of experiment sinusoid, method fomaml, seed 3, shots 10" in capsys.readouterr().out
    assert json.loads((tmp_path / "y.json").read_text()) == resumed
    assert call(*train[:-1], tmp_path / "whole", "--iterations", 7) == 0
    whole, parts = (tm.load_checkpoint(folder / "sinusoid-fomaml.npz") for folder in (tmp_path / "whole", tmp_path))
    assert tm.ravel(whole.theta)[0].tobytes() == tm.ravel(parts.theta)[0].tobytes() and np.array_equal(whole.losses, parts.losses)


@pytest.mark.parametrize("arguments, message", [
    (["train", "quadratics", "--ways", "3"], "quadratics has no ways: it has seed"),
    (["train", "hyperparameters", "--method", "maml"], "hyperparameters has no method: it has seed"),
    (["train", "sinusoid", "--ways", "3"], "sinusoid has no ways"),
    (["train", "omniglot"], "omniglot needs --data"),
    (["train", "omniglot", "--data", "nowhere", "neither"], "https://github.com/brendenlake/omniglot"),
    (["train", "characters", "--method", "pretrain"], "method='pretrain': choose one of"),
    (["train", "characters", "--ways", "300"], "300 ways need as many classes, and there are 200"),  # to test on
    (["train", "characters", "--shots", "6"], "need 21 drawings of each class, and there are 20"),
    (["reproduce", "omniglot-mlp"], "omniglot-mlp needs Omniglot: --data"),
    (["reproduce", "chaos", "--seeds", "2", "--iterations", "5"], "chaos has no --iterations and --seeds"),
    (["evaluate", "nothing.npz"], "there is no file nothing.npz"),
    (["evaluate", __file__], "is not a checkpoint"),
])  # fmt: skip
def test_wrong_combinations_are_told_in_one_line(tmp_path, capsys, arguments, message):
    assert call(*arguments, "--out", tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.startswith("tinymeta: ") and "Traceback" not in err
    assert [path for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("arguments", [["train", "sinusoid", "--iterations", "0"], ["train", "cubic"], ["reproduce", "table3"],
                                       ["reproduce", "chaos", "--seed", "1"], ["train", "sinusoid", "--shots", "-1"]])  # fmt: skip
def test_bad_arguments(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as end:
        call(*arguments, "--out", tmp_path)
    assert end.value.code == 2 and "usage: tinymeta" in capsys.readouterr().err


def test_a_checkpoint_of_something_else(tmp_path, capsys):
    tm.fit(lambda theta, task: (theta - task) ** 2, np.zeros(()), lambda rng, count: rng.random(count), tm.optim.sgd(0.1), iterations=1,
           meta_batch=2, seed=0, quiet=True, checkpoint=tmp_path / "mine.npz")  # fmt: skip
    assert call("evaluate", tmp_path / "mine.npz", "--out", tmp_path / "out") == 2
    assert "wasn't made by `tinymeta train`" in capsys.readouterr().err


def test_data_that_has_moved(tmp_path, capsys):
    tm.fit(lambda theta, task: (theta - task) ** 2, np.zeros(()), lambda rng, count: rng.random(count), tm.optim.sgd(0.1), iterations=1,
           meta_batch=2, seed=0, quiet=True, checkpoint=tmp_path / "x.npz",
           configuration={"experiment": "omniglot", "data": ["/gone/1.zip", "/gone/2.zip"]})  # fmt: skip
    assert call("evaluate", tmp_path / "x.npz", "--out", tmp_path / "out") == 2
    assert capsys.readouterr() == ("", "tinymeta: there is no /gone/1.zip: --data TRAIN TEST says where the images are now\n")


def test_ctrl_c_after_the_training_says_what_is_kept(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_report", interrupted)
    assert call("train", "sinusoid", "--iterations", 2, "--out", tmp_path) == 130
    path = tmp_path / "sinusoid-maml.npz"
    assert f"tinymeta: interrupted; the training is kept in {path}, and `tinymeta evaluate {path}`" in capsys.readouterr().err
    assert tm.load_checkpoint(path).iteration == 2
    monkeypatch.setitem(commands.TABLES, "chaos", interrupted)
    assert call("reproduce", "chaos", "--out", tmp_path) == 130
    assert f"interrupted; what has been trained is kept in {tmp_path}, and the same command goes on" in capsys.readouterr().err


def test_reproduce_writes_the_table_in_every_form(tmp_path, capsys):
    assert call("reproduce", "imaml-figure", "--out", tmp_path, "--json", tmp_path / "also.json") == 0
    names = [f"imaml-figure.{suffix}" for suffix in ("csv", "json", "md", "png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["also.json", *names]
    table, told = (tmp_path / "imaml-figure.md").read_text(), capsys.readouterr().out
    assert table in told and all(f"wrote {tmp_path / name}" in told for name in ("also.json", *names))
    assert (tmp_path / "also.json").read_text() == (tmp_path / "imaml-figure.json").read_text()
    rows = json.loads((tmp_path / "imaml-figure.json").read_text())["rows"]
    assert len(rows) == len((tmp_path / "imaml-figure.csv").read_text().splitlines()) - 1 and all(row[3] in table for row in rows)


def test_help_names_experiments_methods_and_papers():
    done = subprocess.run([sys.executable, "-m", "tinymeta", "train", "--help"], capture_output=True, text=True, check=True)
    told = " ".join(done.stdout.split())
    for word in ("omniglot", "meta-sgd", "Finn et al. (2017), section 5.1", "--resume", "Raghu et al. 2020", "sinusoid 70000", "status"):
        assert word in told
    assert ".;" not in told
