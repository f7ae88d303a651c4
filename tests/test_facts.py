"""What a sceptic can check: that it holds, and that it can fail."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from tinymeta import cli, facts
from tinymeta.autodiff.tensor import NAMED


@pytest.mark.parametrize("group, function, tolerance", facts.FACTS, ids=[function.__name__ for _, function, _ in facts.FACTS])
def test_it_holds_and_says_what(group, function, tolerance):
    assert max(facts.error_of(ours, truth) for ours, truth in function()) <= tolerance
    assert len(function.__doc__) > 30 and tolerance < 1e-3


def failing():
    return [result.name for result in facts.check() if not result.holds]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of solvers that notice
def test_a_rule_that_is_wrong_in_the_sixth_digit_shows(monkeypatch):
    for name, broken in (("exp", ["euler numbers", "bell numbers"]), ("matmul", ["unrolled", "meta sgd"]), ("sum", ["transpose"])):
        right = NAMED[name].vjp
        with monkeypatch.context() as patch:
            patch.setattr(NAMED[name], "vjp", lambda c_bar, *rest, right=right, **params: right(c_bar * (1 + 1e-6), *rest, **params))
            assert set(broken) <= set(failing())


def test_the_command(tmp_path, capsys):
    assert cli.main(["check", "--json", str(tmp_path / "a" / "x.json"), "--junit", str(tmp_path / "x.xml")]) == 0
    out = capsys.readouterr().out
    count = len(facts.FACTS)
    assert out.count("  holds ") == count and f"{count} of {count} facts hold" in out
    written = json.loads((tmp_path / "a" / "x.json").read_text())["facts"]
    assert [fact["name"] for fact in written] == [function.__name__.replace("_", " ") for _, function, _ in facts.FACTS]
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    assert suite.attrib["failures"] == "0" and len(suite.findall("testcase")) == count


def test_a_fact_that_fails_is_told(monkeypatch, tmp_path, capsys):
    def no_fact():
        """One is two."""
        yield 1.0, 2.0

    monkeypatch.setattr(facts, "FACTS", [("lies", no_fact, 1e-12)])
    assert cli.main(["check", "--junit", str(tmp_path / "x.xml")]) == 1
    assert "FAILS  5.0e-01  One is two." in (out := capsys.readouterr().out) and "0 of 1 facts hold; not: no fact" in out
    assert "One is two." in ElementTree.parse(tmp_path / "x.xml").find("testcase/failure").attrib["message"]


def test_nan_and_other_shapes_are_errors():
    assert facts.error_of(np.nan, 1.0) == facts.error_of(1.0, np.nan) == facts.error_of([1.0], 1.0) == np.inf
