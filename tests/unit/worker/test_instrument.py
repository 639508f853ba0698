"""What our sitecustomize does to the processes below the launcher, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from k8sddp.worker import main
from k8sddp.worker.instrument import k8sddp_words
from tests.unit.worker import workers

PRINT = "import sys; print(sys.excepthook.__module__, [p for p in sys.path if 'instrument' in p])"


class Ranks:
    """The pipes that the worker makes for rank 3, with what has been written into them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._fds = {name: self._pipe(name) for name in ("events", "rank-3.out")}

    def _pipe(self, name: str) -> int:
        os.mkfifo(self.folder / name)
        return os.open(self.folder / name, os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)

    @property
    def env(self) -> dict[str, str]:
        return {"K8SDDP_RANK_DIR": str(self.folder), "RANK": "3", "LOCAL_RANK": "1"}

    @property
    def spawn_env(self) -> dict[str, str]:
        """Return the environment of node 1 of 2 with two ranks each, whose script starts them itself."""
        return {
            "K8SDDP_RANK_DIR": str(self.folder),
            "K8SDDP_LAUNCHER": "spawn",
            "K8SDDP_NNODES": "2",
            "K8SDDP_NPROC_PER_NODE": "2",
            "K8SDDP_NODE_RANK": "1",
            "RANK": "1",
        }

    def output(self) -> str:
        return self._read("rank-3.out").decode()

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._read("events").splitlines()]

    def _read(self, name: str) -> bytes:
        try:
            return os.read(self._fds[name], 1 << 20)
        except BlockingIOError:
            return b""


def run(words: str, env: dict[str, str], *, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code with our folder first on PYTHONPATH."""
    everything = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, [main.instrument_dir(), path])),
        **env,
    }
    return subprocess.run(
        [workers.PYTHON, "-c", words], env=everything, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_rank_reports_and_writes_to_its_own_pipe(tmp_path: Path) -> None:
    """Python's and C's output go to the rank's pipe, its start and its exception to the event pipe."""
    with Ranks(tmp_path / "ranks") as ranks:
        done = run("import os; print('py', flush=True); os.system('echo c'); raise ValueError('bad')", ranks.env)
        output, events = ranks.output(), ranks.events()
    assert ("", "", 1) == (done.stdout, done.stderr, done.returncode)
    assert output.startswith("py\nc\nTraceback")
    assert [("start", 3), ("exception", 3)] == [(event["event"], event["rank"]) for event in events]
    assert "ValueError: bad" == events[1]["exception"]


GONE = """
import ctypes, os, sys
def wait():
    text = b"[/src/gloo/transport/tcp/pair.cc:561] Connection closed by peer"
    ctypes.pythonapi.PyErr_SetString(ctypes.py_object(RuntimeError), text)
try:
    wait()
except RuntimeError as error:
    print("caught", flush=True)
    %s
"""


@pytest.mark.parametrize(
    ("ending", "code", "event"),
    [
        ("raise", 1, "exception"),
        ("raise ValueError('step failed') from error", 1, "exception"),
        ("sys.exit(3)", 3, "last"),
        ("sys.exit('text')", 1, "last"),
        ("os._exit(1)", 1, "last"),
    ],
)
def test_a_consequence_is_told_as_one_however_the_process_ends(
    tmp_path: Path, ending: str, code: int, event: str
) -> None:
    """Raised, wrapped, or caught by a script that then ends itself; the exit code belongs to it."""
    with Ranks(tmp_path / "ranks") as ranks:
        done = run(GONE % ending, ranks.env)
        told = ranks.events()[-1]
    assert (code, event, "peer") == (done.returncode, told["event"], told["origin"])
    assert code == told.get("exit_code", 1)


def test_a_consequence_that_our_own_frame_calls_is_one_too(tmp_path: Path) -> None:
    """Work.wait is C++: the innermost Python frame is then the one that watches it."""
    words = """
import ctypes, functools, sys
gone = b"[/src/gloo/transport/tcp/pair.cc:561] Connection closed by peer"
native = functools.partial(ctypes.pythonapi.PyErr_SetString, ctypes.py_object(RuntimeError), gone)
watched = sys.modules["k8sddp_calls"]._function(sys.modules["k8sddp_page"].counter, native, 1)
watched()
"""
    with Ranks(tmp_path / "ranks") as ranks:
        (ranks.folder / "rank-3.page").write_bytes(bytes(k8sddp_words.SIZE))
        run(words, ranks.env)
        told = ranks.events()[-1]
    assert ("exception", "peer") == (told["event"], told["origin"])
    assert "k8sddp_calls" in str(told["traceback"])


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit()", 0),
        ("pass", 0),
        ("os.fork() or os._exit(7)", 0),
        ("wait = 1\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    sys.exit(4)", 4),
        ("pass\nsys.exit(5)", 5),
    ],
    ids=["zero", "none", "goes on", "a child", "its own", "outside"],
)
def test_an_exit_without_a_consequence_tells_nothing(tmp_path: Path, ending: str, code: int) -> None:
    """A good end, a child's end, and an exit for a reason of its own: its last line says more."""
    with Ranks(tmp_path / "ranks") as ranks:
        done = run(GONE % ending, ranks.env)
        assert (code, ["start"]) == (done.returncode, [event["event"] for event in ranks.events()])


def test_the_failure_behind_a_consequence_is_told(tmp_path: Path) -> None:
    """A barrier in `finally` waits until the others have gone: the ValueError before it is what there is to tell."""
    words = GONE.replace(
        "try:\n    wait()", "try:\n    try:\n        raise ValueError('bad')\n    finally:\n        wait()"
    )
    with Ranks(tmp_path / "ranks") as ranks:
        run(words % "raise", ranks.env)
        told = ranks.events()[-1]
    assert ("ValueError: bad", "doubtful") == (told["exception"], told["origin"])
    assert "gloo" in str(told["traceback"])


def test_the_origin_survives_the_longest_traceback(tmp_path: Path) -> None:
    """A chain whose text is cut to its end, where only the wrapper can be seen."""
    deep = "f = lambda n: f(n - 1) if n else wait()\nsys.setrecursionlimit(5000)\ntry:\n    f(900)"
    words = GONE.replace("try:\n    wait()", deep) % "raise ValueError('x' * 9000) from error"
    with Ranks(tmp_path / "ranks") as ranks:
        run(words, ranks.env)
        told = ranks.events()[-1]
    assert ("exception", "peer", False) == (told["event"], told["origin"], "gloo" in str(told["traceback"]))


def test_torchs_error_file_is_written_when_nobody_else_did(tmp_path: Path) -> None:
    """In torch's own format; a file that @record has written stays."""
    with Ranks(tmp_path / "ranks") as ranks:
        env = {**ranks.env, "TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")}
        run("1/0", env)
        written = json.loads((tmp_path / "error.json").read_text())
        (tmp_path / "error.json").write_text("mine")
        run("1/0", env)
    assert "ZeroDivisionError: division by zero" == written["message"]["message"]
    assert written["message"]["extraInfo"]["py_callstack"].startswith("Traceback")
    assert "mine" == (tmp_path / "error.json").read_text()


def test_a_huge_exception_fits_one_atomic_write(tmp_path: Path) -> None:
    """The event is cut, not torn: JSON of at most PIPE_BUF bytes."""
    with Ranks(tmp_path / "ranks") as ranks:
        run("raise ValueError('\\u00fc' * 10_000)", ranks.env)
        event = ranks.events()[1]
    assert len(json.dumps(event)) < 4096
    assert str(event["exception"]).startswith("ValueError: \u00fc\u00fc")


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({}, id="outside of a job"),
        pytest.param(
            {"K8SDDP_RANK_DIR": "/nowhere", "RANK": "3", "LOCAL_RANK": "1", "K8SDDP_RANK_PID": "1"}, id="below a rank"
        ),
    ],
)
def test_other_processes_are_left_alone(env: dict[str, str]) -> None:
    """No hook, nothing on sys.path, no output touched."""
    assert "sys []\n" == run(PRINT, env).stdout


def test_a_process_without_its_pipes_runs_on() -> None:
    """Whatever is wrong with our folder, the user's program does not notice."""
    done = run(PRINT, {"K8SDDP_RANK_DIR": "/nowhere", "RANK": "3", "LOCAL_RANK": "1"})
    assert ("k8sddp_ends []\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_the_images_own_sitecustomize_runs_too(tmp_path: Path) -> None:
    """It is loaded after ours, and is what `import sitecustomize` then gives."""
    (tmp_path / "sitecustomize.py").write_text("print('the image')\nMARK = 7\n")
    done = run("import sitecustomize; print(sitecustomize.MARK)", {}, path=str(tmp_path))
    assert ("the image\n7\n", "") == (done.stdout, done.stderr)


def test_a_child_of_the_launcher_becomes_a_rank_when_it_joins(tmp_path: Path) -> None:
    """Long after the start, when our folder is off sys.path: output, hook and events are those of the rank."""
    words = "import sys; sys.modules['k8sddp_rank'].become_rank(3); print('joined', flush=True); raise KeyError('x')"
    with Ranks(tmp_path / "ranks") as ranks:
        done = run(words, {"K8SDDP_RANK_DIR": str(ranks.folder), "K8SDDP_LAUNCHER_PID": "1"})
        assert ranks.output().startswith("joined\n")
        assert ["start", "exception"] == [event["event"] for event in ranks.events()]
    assert ("", "") == (done.stdout, done.stderr)


def test_a_ranks_next_process_counts_anew(tmp_path: Path) -> None:
    """A second pool of ranks has the pages of the first: what that one counted is not the next one's."""
    words = (
        "import sys; rank = sys.modules['k8sddp_rank']; rank.become_rank(3);"
        "words = rank.load('k8sddp_words'); page = rank.load('k8sddp_page').counter.page;"
        "counted = set(range(words.WORDS)) - {words.LAYOUT, words.PID, words.STARTED, words.LAST_STEP};"
        "print([page[word] for word in counted if page[word]], flush=True);"
        "[page.__setitem__(word, 7) for word in counted]"
    )
    with Ranks(tmp_path / "ranks") as ranks:
        (ranks.folder / "rank-3.page").write_bytes(bytes(k8sddp_words.SIZE))
        for _ in range(2):
            assert "" == run(words, {**ranks.spawn_env, "K8SDDP_LAUNCHER_PID": "1"}).stderr
        assert "[]\n" * 2 == ranks.output()


def test_a_spawned_rank_is_watched_where_a_name_was_copied_before_it_joined(tmp_path: Path) -> None:
    """torch.distributed copies the names of distributed_c10d when it is imported, long before there is a rank."""
    package = tmp_path / "torch" / "distributed"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("__version__ = '2.15.0'")
    (package / "__init__.py").write_text("from .distributed_c10d import *")
    names = ("init_process_group", "destroy_process_group", "all_reduce")
    (package / "distributed_c10d.py").write_text(
        "\n".join(f"def {name}(): return '{name}'" for name in names)
        + "\ndef get_rank(): return 3\ndef get_world_size(): return 4\ndef get_backend(): return 'gloo'\n"
    )
    words = (
        "import os, sys; from torch.distributed import all_reduce, init_process_group; all_reduce();"
        "init_process_group(); all_reduce(); words = sys.modules['k8sddp_words'];"
        "page = sys.modules['k8sddp_page'].counter.page; print(page[words.COLLECTIVES], page[words.GROUP], flush=True);"
        "os._exit(0)"
    )
    with Ranks(tmp_path / "ranks") as ranks:
        (ranks.folder / "rank-3.page").write_bytes(bytes(k8sddp_words.SIZE))
        assert "" == run(words, {**ranks.spawn_env, "K8SDDP_LAUNCHER_PID": "1"}, path=str(tmp_path)).stderr
        assert f"1 {k8sddp_words.JOINED}\n" == ranks.output()


@pytest.mark.parametrize("name", ["error_pid", "pid"])
def test_the_child_that_mp_spawn_names_is_reported(tmp_path: Path, name: str) -> None:
    """torch's exception holds the child's pid as error_pid, that of torch 2.4 as pid."""
    words = f"class Raised(Exception): error_index, {name} = 1, 42\nraise Raised('KeyError: early')"
    with Ranks(tmp_path / "ranks") as ranks:
        run(words, ranks.spawn_env)
        (event,) = ranks.events()
        run(words, ranks.env)
        assert [("start", 3), ("exception", 3)] == [
            (one["event"], one["rank"]) for one in ranks.events()
        ]  # a rank's own
    assert ("child", 1, 42, "KeyError: early") == tuple(
        event[name] for name in ("event", "index", "child_pid", "exception")
    )


BUSY = """
import os, sys, threading, time
import torch
import torch.distributed as dist
sys.modules["k8sddp_teardown"].LIMIT = 20
done = threading.Event()
def let_go():
    if torch.__version__ != "2.10.0":
        with open("/proc/self/task/%d/comm" % threading.get_native_id(), "w") as name:
            name.write("pt_gloo_runloop")
    named.set()
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        pass
    done.set()
named = threading.Event()
threading.Thread(target=let_go).start()
named.wait()
dist.init_process_group()
print(dist.destroy_process_group(), done.is_set(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("version", ["2.10.0", "2.11.0a0+gitabc"])
@pytest.mark.parametrize("rank", [True, False], ids=["torchrun's rank", "a child of the script"])
def test_a_group_goes_after_gloo_has_let_go(tmp_path: Path, rank: bool, version: str) -> None:
    """Torch 2.4 frees it with the GIL held and joins a thread that wants the GIL; only torch 2.11 names that thread."""
    package = tmp_path / "torch" / "distributed"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text(f"__version__ = {version!r}")
    (package / "__init__.py").write_text("from .distributed_c10d import *")
    names = ("init_process_group", "destroy_process_group")
    (package / "distributed_c10d.py").write_text(
        "\n".join(f"def {name}(): return '{name}'" for name in names)
        + "\ndef get_rank(): return 3\ndef get_world_size(): return 4\ndef get_backend(): return 'gloo'\n"
    )
    with Ranks(tmp_path / "ranks") as ranks:
        env = ranks.env if rank else ranks.spawn_env
        run(BUSY, env, path=str(tmp_path))
        assert "destroy_process_group True\n" == ranks.output()


def test_a_scripts_own_import_of_k8sddp_is_not_touched(tmp_path: Path) -> None:
    """Our modules come by their bare names: no package k8sddp is in sys.modules before the script asks for one."""
    words = "import sys; print([name for name in sys.modules if name.partition('.')[0] == 'k8sddp'])"
    with Ranks(tmp_path / "ranks") as ranks:
        run(words, ranks.env)
        assert "[]\n" == ranks.output()
