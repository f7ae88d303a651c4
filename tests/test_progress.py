"""The progress line: on a terminal, in a file, and tqdm's bar."""

import io
import sys
import types

import pytest

from tinymeta import progress as progress_
from tinymeta.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)


def at(monkeypatch, *times, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress_.time, "monotonic", iter(times).__next__)


def test_on_a_terminal_there_is_one_line_that_is_written_over_and_over(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 0.1, 2.0, 2.1, 4.0, stderr=stderr)
    progress = Progress("MAML", 1000, quiet=False)
    for done in (1, 40, 41):  # after 0.1 s and at 2.1 s it is too early to write
        progress.show(done, [3.0, 5.0])
    progress.finish("80 iterations")
    assert stderr.getvalue() == ("\r\x1b[KMAML: 40/1000, 20 iterations a second, 0:48 left, loss 4.000"
                                 "\r\x1b[KMAML: 80 iterations in 4.0 s\n")  # fmt: skip


def test_in_a_file_there_is_a_line_every_ten_seconds(monkeypatch):
    stderr = io.StringIO()
    at(monkeypatch, 0.0, 2.0, 10.0, 19.0, 20.0, 30.0, stderr=stderr)
    progress = Progress("MAML", 1000, quiet=False)
    for done in (2, 10, 19, 20):
        progress.show(done, [4.0])
    progress.finish("interrupted after 25 of 1000 iterations", "; bye")
    assert stderr.getvalue().splitlines() == [
        "MAML: 10/1000, 1 iterations a second, 16:30 left, loss 4.000",
        "MAML: 20/1000, 1 iterations a second, 16:20 left, loss 4.000",
        "MAML: interrupted after 25 of 1000 iterations in 30.0 s; bye",
    ]


def test_what_is_left_never_has_sixty_seconds(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 1.0, stderr=stderr)
    Progress("MAML", 1207, quiet=False).show(10, [1.0])  # 119.7 seconds
    assert "2:00 left" in stderr.getvalue()


def test_what_was_done_earlier_does_not_count_for_the_speed(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 1.0, stderr=stderr)
    Progress("MAML", 1000, quiet=False, earlier=900).show(910, [1.0])
    assert "910/1000, 10 iterations a second, 0:09 left" in stderr.getvalue()


def test_the_loss_shown_is_the_mean_of_the_last_hundred(monkeypatch):
    stderr = Terminal()
    at(monkeypatch, 0.0, 1.0, stderr=stderr)
    Progress("MAML", 1000, quiet=False).show(200, [100.0] * 100 + [7.0] * 100)
    assert stderr.getvalue().endswith("loss 7.000")


# ## tqdm
class Bar:
    """What we use of tqdm."""

    def __init__(self, **options):
        self.options, self.n, self.said, self.closed = options, options["initial"], [], False
        made.append(self)

    def set_postfix_str(self, text, refresh):
        self.said.append(text)

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = True


made: list[Bar] = []


@pytest.fixture
def with_tqdm(monkeypatch):
    made.clear()
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    auto = types.ModuleType("tqdm.auto")
    auto.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)


@pytest.mark.parametrize("stderr, notebook", [(Terminal(), False), (io.StringIO(), True)])
def test_where_tqdm_is_installed_the_bar_is_its(monkeypatch, with_tqdm, stderr, notebook):
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    at(monkeypatch, 0.0, 0.1, 1.0, 1.1, 2.0, 4.0, stderr=stderr)
    progress = Progress("MAML", 1000, quiet=False, earlier=5)
    for done in (6, 40, 41, 80):
        progress.show(done, [4.0])
    progress.finish("80 iterations")
    [bar] = made
    assert bar.options == {"desc": "MAML", "total": 1000, "initial": 5, "leave": False}
    assert bar.n == 80 and bar.said == ["loss 4.000"] * 2 and bar.closed
    assert stderr.getvalue().endswith("MAML: 80 iterations in 4.0 s\n") and "left" not in stderr.getvalue()


def test_there_is_no_bar_in_a_file_nor_where_it_is_quiet(monkeypatch, with_tqdm):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    Progress("MAML", 1000, quiet=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    Progress("MAML", 1000, quiet=True)
    assert made == []


def test_the_real_tqdm(monkeypatch):
    monkeypatch.undo()
    pytest.importorskip("tqdm", reason="tqdm isn't installed")
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = Progress("MAML", 1000, quiet=False)
    progress.shown -= 1.0
    progress.show(250, [4.0])
    progress.bar.refresh()
    progress.finish("250 iterations")
    assert "MAML:  25%" in stderr.getvalue() and "250/1000" in stderr.getvalue() and "loss 4.000" in stderr.getvalue()
