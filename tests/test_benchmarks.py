"""The benchmarked engines compute the same: small workloads, every engine that is installed."""

import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.measure import TOLERANCE, Timing, disagreement, share_of_jax

SMALL = [
    workloads.maml(1, np.float64, tasks=2, width=5),
    workloads.maml(2, np.float64, tasks=2, width=5),
    workloads.maml(2, np.float32, tasks=2, width=5),
    workloads.learned_optimizer(np.float64, steps=3, problems=2),
    workloads.hessian(np.float64, width=5),
]
CASES = [pytest.param(w, engine, id=f"{w.name}, {w.dtype}, {engine}") for w in SMALL for engine in list(w.engines)[1:]]


@pytest.mark.parametrize("workload, engine", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_engines_agree(workload, engine):
    try:
        function = workload.engines[engine]()
    except ImportError as error:
        pytest.skip(f"{engine}: {error.name} is not installed")
    first = next(iter(workload.engines.values()))()
    result = function(*workload.arguments_of(engine))
    assert disagreement(result, first(*workload.arguments)) < TOLERANCE[workload.dtype.itemsize]


def test_a_disagreement_is_seen():
    assert disagreement((np.ones(2), [np.array([1.0, 2.0])]), (np.ones(2), [np.array([1.0, 2.1])])) == pytest.approx(0.1 / np.hypot(1, 2.1))


def test_a_share_of_jax_is_of_its_faster_form():
    of_jax = {"JAX unrolled": Timing(0.0, [9.0, 9.0, 9.0]), "JAX scan": Timing(0.0, [2.0, 4.0, 4.0])}
    timings = {"tinymeta jit": Timing(0.0, [1.0, 4.0, 3.0]), **of_jax}
    assert share_of_jax(timings, "tinymeta jit") == 0.75
