"""Jobs: made again from their configuration, trained a little, and reported on."""

import json
import re

import numpy as np
import pytest

import tinymeta as tm
from tinymeta.experiments import jobs, reproduce, sinusoid
from tinymeta.tasks import characters, few_shot, omniglot


@pytest.fixture
def little(monkeypatch):
    """Jobs that are judged quickly."""
    from tinymeta.experiments import classification

    monkeypatch.setitem(sinusoid.CONFIGURATION, "evaluation_tasks", 20)
    experiment = classification.experiment
    monkeypatch.setattr(classification, "experiment", lambda *given, **options: experiment(*given, **options)._replace(evaluation_tasks=20))
    monkeypatch.setattr(jobs, "SCRATCH", 2)
    monkeypatch.setattr(jobs, "RATES", np.logspace(-3, -1, 5))


def trained(job, iterations):
    numbers = {"iterations": iterations, "meta_batch": job.meta_batch, "seed": (0, 1)}
    return tm.fit(job.objective, job.theta, job.tasks, job.optimizer, **numbers, quiet=True)


@pytest.mark.parametrize("name, options", [("sinusoid", {"method": "meta-sgd"}), ("characters", {"ways": 3}), ("quadratics", {}),
                                           ("hyperparameters", {})])  # fmt: skip
@pytest.mark.filterwarnings("ignore:the best learning rate")
def test_a_job_trains_reports_and_is_made_again(name, options, little):
    job = jobs.make(name, **options)
    training = trained(job, 3)
    assert len(training.losses) == 3 and np.all(np.isfinite(training.losses))
    again = jobs.make(**json.loads(json.dumps(job.configuration)))
    assert again.configuration == job.configuration
    assert trained(again, 3).losses.tolist() == training.losses.tolist()
    report = job.report(training.theta)
    assert report.text == again.report(training.theta).text
    json.dumps(report.numbers)
    figure = report.draw()
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in figure.axes)


def test_the_strengths_that_are_learned_halve_the_validation_loss():
    job = jobs.make("hyperparameters")
    numbers = job.report(trained(job, 400).theta).numbers
    assert numbers["after"] < 0.5 * numbers["before"]
    strengths = np.array(numbers["strengths"])  # the first five features matter
    assert strengths[:5].max() < 0.1 and np.median(strengths[5:]) > np.median(strengths[:5])


@pytest.mark.parametrize("name, options, message", [
    ("sinusoids", {}, "experiment='sinusoids': choose one of sinusoid, omniglot"),
    ("quadratics", {"ways": 5, "shots": 1}, "quadratics has no ways or shots: it has seed"),
    ("characters", {"method": "pretrain"}, "choose one of 'maml'"),
    ("characters", {"ways": 201}, "201 ways need as many classes, and there are 200"),
    ("sinusoid", {"method": "mamal"}, "method='mamal'"),
])  # fmt: skip
def test_what_makes_no_sense(name, options, message):
    with pytest.raises(ValueError, match=message):
        jobs.make(name, **options)


def test_where_the_learned_optimizer_is_ahead():
    curves = {"LSTM": np.r_[9, np.full(100, 1.0)], "SGD": np.r_[9, np.full(100, 2.0)], "Adam": np.r_[9, 0.5, np.full(99, 3.0)]}
    text = jobs._race(curves, {"SGD": 0.1, "Adam": 0.01})
    assert text.endswith("ahead of all of them at 19 of the 20 steps it was trained for: 2 to 20.")
    curves["LSTM"] = np.full(101, 10.0)
    assert jobs._race(curves, {"SGD": 0.1, "Adam": 0.01}).endswith("at 0 of the 20 steps it was trained for: none.")


# ## Tables
def test_a_table_as_markdown_and_csv():
    table = reproduce.Table("Title", ("", "1 step"), [("MAML, ours", 0.67123), ("none", None)], "Notes.", lambda: None)
    assert table.markdown() == "## Title\n\n|  | 1 step |\n| --- | ---: |\n| MAML, ours | 0.671 |\n| none |  |\n\nNotes.\n"
    assert table.csv() == ',1 step\n"MAML, ours",0.67123\nnone,\n'


def test_the_interval_of_a_mean():
    from scipy import stats

    values = np.array([0.62, 0.8, 0.7])
    mean, half = reproduce.mean_and_confidence(values)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high])


def test_the_memory_of_imaml_is_flat_and_that_of_unrolling_grows(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "INNER_STEPS", (1, 10, 300))
    table = reproduce.imaml_figure(reproduce.Settings(1, None, tmp_path, None))
    nodes = {name: [int(row[3]) for row in table.rows if row[0] == name] for name, *_ in table.rows}
    for name, kept in nodes.items():
        assert kept[0] < kept[1] < kept[2] if name.startswith("unrolled") else len(set(kept)) == 1
        assert next(float(error) for title, steps, error, _ in table.rows if (title, steps) == (name, "300")) < 1e-3
    assert len(nodes) == 4


def test_chaos(tmp_path):
    table = reproduce.chaos(reproduce.Settings(1, None, tmp_path, None))
    losses, slopes = (np.array([float(row[k]) for row in table.rows]) for k in (1, 2))
    assert losses.max() < 10 and slopes[:5].max() < 1 and slopes.max() > 1e6


def test_the_table_of_maml_takes_what_is_trained(little, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "NAMES", {"maml": "MAML", "reptile": "Reptile"})
    settings = reproduce.Settings(2, 3, tmp_path, None, quiet=True)
    table = reproduce.maml_table2(settings)
    assert [row[0] for row in table.rows] == ["MAML, published", "pretrained, published", "MAML", "Reptile"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"sinusoid-{m}-{seed}.npz" for m in ("maml", "reptile") for seed in (0, 1)]
    monkeypatch.setattr(reproduce, "fit", lambda *given, **options: tm.fit(*given, **options | {"callbacks": [lambda record: 1 / 0]}))
    assert reproduce.maml_table2(settings).rows == table.rows  # nothing is trained again


def test_a_training_that_diverges_is_a_row_that_says_so(little, monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "NAMES", {"maml": "MAML", "pretrain": "pretrained"})
    monkeypatch.setitem(sinusoid.CONFIGURATION, "alpha", 1e150)  # the pretrained network has no inner steps until it is judged
    table = reproduce.maml_table2(reproduce.Settings(1, 3, tmp_path, None, quiet=True))
    assert table.rows[2] == ("MAML", "diverges", "diverges", "diverges") and table.rows[3][1:] == ("diverges",) * 3
    assert table.draw().axes


def test_omniglot_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"--data images_background_small1\.zip"):
        reproduce.omniglot_mlp(reproduce.Settings(1, None, tmp_path, None))


def test_the_table_of_omniglot_trains_on_each_set_and_tests_on_the_other(little, monkeypatch, tmp_path):
    loaded = []

    def load(path):
        loaded.append(path)
        drawn = characters.draw_characters(np.random.default_rng(len(path)), 6)
        return few_shot.Characters(drawn.images, [f"{path}/{k}" for k in range(6)])

    monkeypatch.setattr(omniglot, "load", load)
    settings = reproduce.Settings(1, 2, tmp_path, ["one", "another"], quiet=True)
    table = reproduce.omniglot_mlp(settings)
    assert loaded == ["one", "another"] * 2 + ["another", "one"] * 2
    ours = [f"{name}, small set {way}" for way in ("1 to 2", "2 to 1") for name in ("MAML", "nearest neighbour", "from scratch, 2 steps")]
    assert [row[0] for row in table.rows[1:]] == ours
    assert all(re.fullmatch(r"\d+\.\d ± \d+\.\d %", cell) and 10 < float(cell.split()[0]) < 100 for row in table.rows for cell in row[1:])
    assert "2 (1-shot) and 2 (5-shot) iterations" in table.notes and len(table.draw().axes[0].lines) == 12
    monkeypatch.setattr(reproduce, "fit", lambda *given, **options: tm.fit(*given, **options | {"callbacks": [lambda record: 1 / 0]}))
    assert reproduce.omniglot_mlp(settings).rows == table.rows  # nothing is trained again
