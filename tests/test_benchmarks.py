"""The benchmarked engines compute the same, and what is measured of them makes well-formed tables: on small workloads."""

import functools

import numpy as np
import pytest

import tinymeta as tm
from benchmarks import __main__ as command
from benchmarks import figure, measure, tables, workloads
from benchmarks.measure import TOLERANCE, Timing, compare, disagreement, fastest_of_jax, share_of_jax

SMALL = [
    workloads.maml(2, np.float64, tasks=2, width=5),
    workloads.maml(2, np.float32, tasks=2, width=5),
    workloads.omniglot(np.float64, tasks=2, sizes=(9, 6, 4, 5)),
    workloads.omniglot(np.float32, tasks=2, sizes=(9, 6, 4, 5)),
    workloads.learned_optimizer(np.float64, steps=2, problems=2),
    workloads.hessian(np.float64, width=5),
]
CASES = [pytest.param(w, engine, id=f"{w.title}, {engine}") for w in SMALL for engine in list(w.engines)[1:]]


@pytest.mark.parametrize("workload, engine", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_engines_agree(workload, engine):
    try:
        function = workload.engines[engine]()
    except ImportError as error:
        pytest.skip(f"{engine}: {error.name} is not installed")
    first = workload.engines["tinymeta jit"]()
    result = function(*workloads.as_kept_by(engine, workload.arguments))
    assert disagreement(result, first(*workload.arguments)) < TOLERANCE[workload.dtype.itemsize]


def test_a_disagreement_is_seen():
    assert disagreement((np.ones(2), [np.array([1.0, 2.0])]), (np.ones(2), [np.array([1.0, 2.1])])) == pytest.approx(0.1 / np.hypot(1, 2.1))


@pytest.mark.parametrize("checked_on", [None, (np.full(2, 5.0),)])
def test_an_engine_that_computes_something_else_is_not_timed(checked_on):
    engines = {"right": lambda: np.square, "wrong": lambda: lambda x: np.square(x) + 1e-6 * (x[0] == 5)}
    arguments = (np.full(2, 5.0),) if checked_on is None else (np.ones(2),)
    workload = workloads.Workload("square", np.dtype(float), engines, arguments, checked_on)
    with pytest.raises(ValueError, match=r"square, float64: wrong is off by 4\.0e-0?8"):
        compare(workload, lambda line: None)


def test_a_share_of_jax_is_of_its_faster_form():
    of_jax = {"JAX unrolled": Timing(0.0, [9.0, 9.0, 9.0]), "JAX scan": Timing(0.0, [2.0, 4.0, 4.0])}
    timings = {"tinymeta jit": Timing(0.0, [1.0, 4.0, 3.0]), **of_jax}
    assert fastest_of_jax(timings) == "JAX scan" and share_of_jax(timings, "tinymeta jit") == 0.75
    assert share_of_jax({"tinymeta jit": Timing(0.0, [1.0])}, "tinymeta jit") is None


# ## What is measured of programs and processes
def test_a_program_is_measured():
    workload = workloads.maml(1, np.float64, tasks=2, width=3)
    made = measure.programs(workload)
    theta, tasks = (sum(x.nbytes for x in tm.tree.flatten(part)[0]) for part in workload.arguments)
    size = theta + tasks + 8 + theta  # the results are a number, and gradients like theta
    assert made.trace > 0 and made.layout > 0 and made.outer_bytes == size
    assert made.intensity == made.flops / (made.arena_bytes + size) > 0


def test_memory_is_that_of_the_call():
    """In a process of its own: 400 MB there (to what the system's accounts are exact to), whatever there is here."""
    here = np.ones(10**8)
    peak = measure.peak_memory(a_large_workload, "NumPy")
    assert 395e6 < peak < 420e6 < here.nbytes
    assert measure._growth(a_large_workload, "missing") is None


def missing():
    raise ImportError(name="missing")


def a_large_workload():
    engines = {"NumPy": lambda: lambda x: np.ones(50 * x.size), "missing": missing}
    return workloads.Workload("large", np.dtype(float), engines, (np.ones(10**6),))


# ## Tables and the figure
@pytest.fixture(autouse=True)
def a_machine(monkeypatch):
    for module in (tables, figure):
        monkeypatch.setattr(module, "ceiling", lambda dtype: 1e11)
        monkeypatch.setattr(module, "bandwidth", lambda: 1e10)


def columns(text):
    """The numbers of columns of the lines of each table in a text."""
    blocks = [[line for line in block.splitlines() if line.startswith("|")] for block in text.split("\n\n")]
    return [{line.count("|") for line in block} for block in blocks if block]


def a_row(**times):
    timings = {engine: None if time is None else Timing(1.0, [time, 2 * time, 3 * time]) for engine, time in times.items()}
    made = measure.Made(0.01, 0.002, flops=4_000_000, arena_bytes=300_000, outer_bytes=100_000)
    return measure.Row("a workload, float64", np.dtype(float), timings, dict.fromkeys(times, 12_300_000), made)


ROW = a_row(**{"tinymeta jit": 0.001, "tinymeta vmap": 0.04, "autograd": None, "JAX scan": 0.004, "JAX unrolled": 0.002, "torch.func": 0.2})
ALONE = a_row(**{"tinymeta jit": 0.001, "JAX scan": None})


def test_the_table_of_engines():
    text = tables.engines([ROW])
    assert columns(text) == [{8}]
    assert "| a workload, float64 | tinymeta jit | 2.00 | 1.00 - 3.00 | 0.50 | 1.00 | 12 |" in text
    assert "| a workload, float64 | autograd | not installed |  |  |  |  |" in text


def test_the_table_of_programs():
    text = tables.programs([ROW])
    assert columns(text) == [{10}]
    assert "| a workload, float64 | 10.00 | 2.00 | 300 | 4.0 | 10.0 | 2.0 | 100 | 2 % |" in text  # 4 MFLOP in 2 ms are 2 GFLOP/s


def test_the_table_of_a_sweep():
    text = tables.sweep("the number of tasks", {1: ROW, 1000: ALONE})
    assert columns(text) == [{11}]
    assert "| 1 | 10.00 | 2.00 | 300 | 2.00 | 12 | unrolled 4.00 | 1.00 | 12 | 0.50 |" in text
    assert "| 1,000 | 10.00 | 2.00 | 300 | 2.00 | 12 | not installed |  |  |  |" in text


def test_the_figure_shows_every_family_of_engines():
    assert figure.shares(ROW) == {"tinymeta jit": 0.5, "tinymeta eager": 20, "JAX, slower form": 2, "torch.func": 100}
    assert figure.shares(ALONE) == {}
    assert {figure.family(engine) for workload in SMALL for engine in workload.engines} == set(figure.FAMILIES)


@pytest.mark.parametrize("row", [ROW, ALONE])
def test_the_figure_is_drawn(row, tmp_path):
    figure.draw([row, row], {"the number of tasks": {1: row, 5: row}}, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


# ## The command
def without_peers(steps):
    """A small row whose peers are not installed, whatever is."""
    workload = workloads.maml(steps, np.float64, tasks=2, width=3)
    engines = {name: engine if name.startswith("tinymeta") else missing for name, engine in workload.engines.items()}
    return workload._replace(engines=engines)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(measure, "peak_memory", lambda make, engine: 12_300_000)
    monkeypatch.setattr(command, "ROWS", [functools.partial(without_peers, steps) for steps in (1, 2)])
    monkeypatch.setattr(command, "SWEEPS", {"the number of tasks": {2: functools.partial(without_peers, 1)}})
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "cold_processes", lambda: dict.fromkeys(measure.PROGRAMS, 0.1) | {"import numpy": 0.2})
    return tmp_path


def test_the_command_writes_tables_and_figure(tiny):
    command.main([])
    text = (tiny / "RESULTS.md").read_text()
    assert all(len(widths) == 1 for widths in columns(text)) and len(columns(text)) == 4
    assert "MAML, 2 steps, float64" in text and "results.png" in text and (tiny / "results.png").exists()


def test_only_a_part_is_printed_and_not_written(tiny, capsys):
    command.main(["--only", "2 steps"])
    printed = capsys.readouterr().out
    assert "| MAML, 2 steps, float64 | tinymeta jit |" in printed and "MAML, 1 step" not in printed and "Against" not in printed
    assert list(tiny.iterdir()) == []


def test_a_name_that_nothing_has_is_an_error_that_lists_the_names(tiny, capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "no such name"])
    assert "MAML, 1 step, float64; MAML, 2 steps, float64; the number of tasks; new process" in capsys.readouterr().err
