import catalogue
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def same_numbers_whatever_ran_before(monkeypatch):
    monkeypatch.setattr(catalogue, "random", np.random.default_rng(2017))
