"""The page of a rank: written by the rank's own code, read by the worker's."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from k8sddp.worker import main
from k8sddp.worker.instrument import k8sddp_words
from k8sddp.worker.ranks import rank_page

SCRIPT = """
import os, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import k8sddp_page
k8sddp_page.counter.start(sys.argv[3])
from torch.nn.parallel.distributed import DistributedDataParallel
from torch.optim import optimizer
"""
OPTIMIZER = """
hooks = []
register_optimizer_step_post_hook = hooks.append
def step():
    for hook in hooks:
        hook(step, (), {})
"""
DDP = """
class DistributedDataParallel:
    def forward(self, action):
        return action()
"""

GROUP = """
def init_process_group(action):
    action()
def destroy_process_group():
    pass
def get_backend():
    return "fake"
"""


def progress(folder: Path, script: str) -> rank_page.Progress:
    """Return what the worker reads after a rank with a torch of this test's own has run `script`."""
    for name, text in (
        ("optim/optimizer", OPTIMIZER),
        ("nn/parallel/distributed", DDP),
        ("distributed/distributed_c10d", GROUP),
    ):
        path = folder / "torch" / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        for package in path.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
    fd = rank_page.create(str(folder / "page"))
    command = [sys.executable, "-c", SCRIPT + script, main.instrument_dir(), str(folder), str(folder / "page")]
    subprocess.run(command, check=True, timeout=60)
    found = rank_page.read(fd, 0, now=0.0)
    os.close(fd)
    return found


def test_nobody_counts_before_the_rank_begins(tmp_path: Path) -> None:
    """Then all is unknown; from then on no step is a number, as it is for a script without optimizer."""
    fd = rank_page.create(str(tmp_path / "empty"))
    empty = rank_page.read(fd, 3, now=5.0)
    os.close(fd)
    assert (rank_page.Progress(3), "starting") == (empty, empty.phase)
    begun = progress(tmp_path, "")
    assert (0, 0, 0, None, "starting") == (
        begun.step,
        begun.forward_entered,
        begun.forward_left,
        begun.mean_step,
        begun.phase,
    )
    assert begun.pid


def test_the_time_of_a_step_leaves_the_start_up_out(tmp_path: Path) -> None:
    """Steps of 10 ms after a start of 1 s: the mean is far nearer to the one than the start would make it."""
    found = progress(tmp_path, "time.sleep(1)\nfor _ in range(11):\n    time.sleep(0.01)\n    optimizer.step()")
    assert found.step == 11
    assert found.mean_step is not None
    assert 0.01 <= found.mean_step < 0.1 + 0.01


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("model.forward(int)\nmodel.forward(int)", (2, 2, "between"), id="twice"),
        pytest.param("try:\n    model.forward(fail)\nexcept OSError:\n    pass", (1, 1, "between"), id="caught"),
        pytest.param("model.forward(lambda: os._exit(0))", (1, 0, "forward"), id="inside"),
        pytest.param("if os.fork() == 0:\n    model.forward(int)", (0, 0, "starting"), id="a forked child"),
    ],
)
def test_forward_is_entered_and_left(tmp_path: Path, script: str, expected: tuple[int, int, str]) -> None:
    """As often as each other, but for the one that has not come back; by an exception, too, that the script catches."""
    found = progress(tmp_path, f"def fail():\n    raise OSError\nmodel = DistributedDataParallel()\n{script}")
    assert expected == (found.forward_entered, found.forward_left, found.phase)


@pytest.mark.parametrize(
    ("action", "expected"),
    [("lambda: os._exit(0)", "joining"), ("int", "joined"), ("exec, 'raise OSError'", "starting")],
    ids=["inside", "formed", "failed"],
)
def test_a_rank_says_whether_it_is_in_init_process_group(tmp_path: Path, action: str, expected: str) -> None:
    """The longest silence of a start is there, when a peer does not come, or before it, in the imports."""
    call = "try:\n    c10d.init_process_group(functools.partial(" + action + "))\nexcept OSError:\n    pass"
    script = "import functools, k8sddp_hooks\nk8sddp_hooks.watch_group()\n"
    imports = "from torch.distributed import distributed_c10d as c10d\n"
    assert expected == progress(tmp_path, script + imports + call).phase


def test_a_page_has_its_place_on_the_disk_before_the_rank_writes(tmp_path: Path) -> None:
    """Where the disk fills up later a sparse one would kill the rank by SIGBUS."""
    fd = rank_page.create(str(tmp_path / "page"))
    assert os.fstat(fd).st_blocks > 0
    os.close(fd)


def test_a_page_that_cannot_be_had_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rank finds none and goes on uncounted, instead of mapping one that has no place."""

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        rank_page.create(str(tmp_path / "page"))
    assert [] == list(tmp_path.iterdir())


def test_a_page_of_another_version_says_nothing(tmp_path: Path) -> None:
    """Its words mean something else: nobody counts, which is never a wrong count."""
    progress(tmp_path, "optimizer.step()")
    page = bytearray((tmp_path / "page").read_bytes())
    for version, expected in ((k8sddp_words.VERSION, 1), (k8sddp_words.VERSION + 1, None)):
        struct.pack_into("=Q", page, 8 * k8sddp_words.LAYOUT, version)
        (tmp_path / "page").write_bytes(page)
        with (tmp_path / "page").open("rb") as file:
            assert expected == rank_page.read(file.fileno(), 0, now=0.0).step


def test_a_page_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """Closed, or cut by somebody: telling must not end the worker."""
    (tmp_path / "page").write_bytes(b"short")
    with (tmp_path / "page").open("rb") as file:
        assert rank_page.Progress(1) == rank_page.read(file.fileno(), 1, now=0.0)
    assert rank_page.Progress(1) == rank_page.read(-1, 1, now=0.0)
