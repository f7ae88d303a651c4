"""The proof of the three meta-gradients: it holds, it says so, and it fails where a rule is wrong."""

import numpy as np
import pytest

from tinymeta import proofs
from tinymeta.autodiff.operations import special

NETWORK = {"MAML, 5 steps, by graph", "MAML, 5 steps, by recursion", "implicit, proximal, cholesky", "implicit, proximal, lu",
           "learned optimizer, 5 steps"}  # fmt: skip


@pytest.fixture(scope="module")
def checks():
    return list(proofs.prove())


def test_every_estimator_meets_every_oracle(checks):
    oracles = {"differences", "complex step", "closed form"}
    wanted = {(estimator, oracle) for estimator in NETWORK for oracle in oracles} | {("first-order MAML, 5 steps", "closed form")}
    assert {(check.estimator, check.oracle) for check in checks} == wanted and len(checks) == len(wanted)


def test_all_pass(checks):
    assert [check for check in checks if not check.passed] == []


def test_the_tolerances_are_tight(checks):
    assert proofs.TOLERANCE == {"differences": 1e-8, "complex step": 1e-12, "closed form": 1e-12}
    # Two oracles that share no code agree with each other: none of them is at zero by construction.
    for check in checks:
        if check.oracle == "differences":
            assert check.error > 1e-15


def test_a_rule_that_is_off_by_a_millionth_fails_where_it_is_used(monkeypatch):
    """The sigmoid is in the learned optimizer's LSTM, and nowhere else. (The hyperbolic tangent's rule breaks in test_cli.py.)"""
    right = special.sigmoid.vjp
    monkeypatch.setattr(special.sigmoid, "vjp", lambda c_bar, c, a: (right(c_bar, c, a)[0] * (1 + 1e-6),))
    failed = {(check.estimator, check.oracle) for check in proofs.prove() if not check.passed}
    assert failed == {("learned optimizer, 5 steps", oracle) for oracle in ("differences", "complex step")}


# ## What is said
def test_a_check_passes_up_to_its_oracles_tolerance():
    assert proofs.Check("MAML", "differences", 1e-8).passed and not proofs.Check("MAML", "differences", 1.1e-8).passed
    assert proofs.Check("MAML", "complex step", 1e-12).passed and not proofs.Check("MAML", "complex step", 1e-11).passed
    assert not proofs.Check("MAML", "closed form", np.nan).passed


def test_the_relative_error_is_of_the_whole_gradient():
    truth = {"a": np.array([3.0, 0.0]), "b": np.array(4.0)}
    assert proofs.relative_error({"a": np.array([3.0, 1.0]), "b": np.array(4.0)}, truth) == 0.2


def test_the_table():
    checks = [("MAML", "differences", 3e-12), ("MAML", "closed form", 2e-3), ("first order", "closed form", 0.0)]
    assert proofs.table([proofs.Check(*check) for check in checks]).splitlines() == [
        "relative error against          differences   complex step    closed form",
        "MAML                           3.0e-12 PASS                  2.0e-03 FAIL",
        "first order                                                  0.0e+00 PASS",
        "tolerance                             1e-08          1e-12          1e-12",
    ]


def test_the_table_of_all_checks(checks):
    lines = proofs.table(checks).splitlines()
    assert len(lines) == 1 + 6 + 1 and "".join(lines).count("PASS") == 16 and "FAIL" not in "".join(lines)
