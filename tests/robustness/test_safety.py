"""What tinymeta never does: run what is in a file, start programs, or use the network. By its source, and by watching it at work."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = set("pickle cPickle _pickle dill cloudpickle joblib marshal shelve dbm yaml code codeop runpy imp subprocess pty multiprocessing "
              "socket _socket socketserver ssl http urllib urllib3 requests ftplib poplib imaplib smtplib telnetlib xmlrpc asyncio "
              "webbrowser ctypes".split())  # fmt: skip
NAMES = {"eval", "exec", "compile", "__import__", "execfile", "breakpoint"}
ATTRIBUTES = {"system", "popen", "fork", "forkpty", "posix_spawn", "execv", "execve", "execvp", "spawnv", "loads", "import_module",
              "exec_module", "memmap", "fromfile", "extract", "extractall", "unpack_archive", "urlopen", "urlretrieve"}  # fmt: skip
ALLOWED = {
    ("distribution.py", "import pickle"): "programs on their way to the processes of an executor, which pickles whatever it sends",
    ("distribution.py", ".loads"): "the same, as they arrive",
    ("checkpoints.py", ".loads"): "JSON",
    ("course.py", "import subprocess"): "a teacher's command runs the lessons of this repository, to find out whether the solutions pass",
}


def used(source):
    """What a module uses of all that could run what it reads, or reach out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        else:
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        yield from (f"import {name}" for name in modules if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Name) and node.id in NAMES:
            yield node.id
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            yield f".{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("load", "read_array"):
            flags = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if flags.get("allow_pickle", "False") != "False" or (node.func.attr == "read_array" and "allow_pickle" not in flags):
                yield "allow_pickle"


def test_no_source_can_run_what_it_reads_or_reach_out_but_for_what_is_named_here():
    folder = ROOT / "tinymeta"
    found = {(path.relative_to(folder).as_posix(), what) for path in folder.rglob("*.py") for what in used(path.read_text(encoding="utf8"))}
    assert found == set(ALLOWED)


@pytest.mark.parametrize("source, what", [
    ("import pickle", "import pickle"), ("from urllib.request import urlopen", "import urllib.request"),
    ("import os.path, socket", "import socket"), ("def f(text):\n    return [eval(text)]", "eval"), ("run = exec", "exec"),
    ("os.system('ls')", ".system"), ("np.load(path, allow_pickle=True)", "allow_pickle"),
    ("np.lib.format.read_array(file)", "allow_pickle"), ("archive.extractall()", ".extractall"),
])  # fmt: skip
def test_it_is_found(source, what):
    assert list(used(source)) == [what]


# ## At work
# Python tells an audit hook of every socket and every new process, whoever makes it and in whatever way. (Matplotlib looks for fonts once.)
AT_WORK = """
import os, sys

def hook(event, args):
    fonts = event in ("subprocess.Popen", "os.posix_spawn") and str(args[0]).endswith(("fc-list", "system_profiler"))
    if not fonts and event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork")):
        os.write(2, f"{event} {args}".encode())
        os._exit(3)

sys.addaudithook(hook)
import numpy as np
import tinymeta as tm
from tinymeta import cli

assert cli.main(["train", "sinusoid", "--iterations", "3", "--out", "."]) == 0
assert cli.main(["evaluate", "sinusoid-maml.npz", "--out", "."]) == 0
tm.check_grad(np.tanh, 1.0).plot().figure.savefig("check.png")
print(tm.trace(tm.grad(lambda x: np.sum(x**2)), np.ones(3)))
"""


def at_work(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_training_evaluating_and_plotting_use_no_network_and_start_no_program(tmp_path):
    done = at_work(AT_WORK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"sinusoid-maml.npz", "check.png"} < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("act", ["import socket; socket.socket()", "import urllib.request; urllib.request.urlopen('http://localhost:1')",
                                 "import subprocess; subprocess.run(['true'])", "os.system('true')", "os.fork()"])  # fmt: skip
def test_the_hook_would_see_it(act, tmp_path):
    assert at_work(AT_WORK.split("import numpy")[0] + act, tmp_path).returncode == 3
