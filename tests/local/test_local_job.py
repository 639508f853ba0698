"""The rendered Job with the real worker through `local.run`: environment, verdict, deadline, faults from outside."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from k8sddp import errors, local, render, spec
from k8sddp.render import bundle
from tests import ports

needs_torch = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'k8sddp[torch]'"
    ),
]
JOIN_AND_WAIT = """
import os, signal, sys
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
sys.stdout.write(f"ready {os.getpid()} {os.getppid()}\\n")
sys.stdout.flush()
signal.pause()
"""


def run(
    folder: Path,
    script: str,
    *,
    lines: str = "",
    port: int | None = None,
    on_line: Callable[[bytes], None] = lambda _: None,
) -> tuple[local.Result, str]:
    """Render a job of two nodes with `script` as its code, run it, return its result and what it printed."""
    text = f"""
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {{name: digits}}
spec:
  image: none
  command: [train.py, --out=/model/x, "a $(HOME) b"]
  code: {{path: .}}
  nnodes: 2
  rendezvous: {{port: {port or ports.free_for_a_job()}}}
  restart: {{maxAttempts: 1}}
  terminationGracePeriodSeconds: 5
  env: {{WHERE: /model, TEXT: "$(HOME) $$x é"}}
  volumes: [{{name: model, mountPath: /model, persistentVolumeClaim: {{claimName: shared}}}}]
  {lines}
"""
    printed = bytearray()

    def out(data: bytes) -> None:
        printed.extend(data)
        for line in data.splitlines():
            on_line(line)

    code = bundle.pack([bundle.CodeFile("train.py", script.encode())])
    manifests = render.render(spec.load(text), code=code)
    with local.Output(out, lambda _: None) as output:
        result = local.run(manifests, work_dir=folder / "wd", output=output)
        output.finish()
    return result, printed.decode()


def test_an_interpreter_without_torch_is_named(tmp_path: Path) -> None:
    """The worker's own sentence reaches the result, with its exit code."""
    bare = tmp_path / "bin/python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {os.path.realpath("/proc/self/exe")} -I -S "$@"\n')
    bare.chmod(0o755)

    result, _ = run(tmp_path, "", lines=f"python: {bare}")

    assert ("failed", 77) == (result.state, result.exit_code)
    assert "torch is not installed" in result.message


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """The real manifest's ports are checked."""
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(errors.LocalError, match=rf"port {port} on 127.0.\d+.2 \(HTTP\) cannot be used: it is"):
            run(tmp_path, "", port=port - 1)


class TestWithTorch:
    """What needs ranks that run."""

    pytestmark = needs_torch

    def test_a_rank_sees_what_a_cluster_would_give_it(self, tmp_path: Path) -> None:
        """Arguments and environment arrive exactly, paths of volumes are folders here, and files written there stay."""
        script = """
import os, pathlib, sys
pathlib.Path(os.environ["WHERE"], os.environ["RANK"]).write_text("model")
print(sys.argv[2], "|", os.environ["TEXT"], "|", sys.argv[1] == "--out=" + os.environ["WHERE"] + "/x")
print(os.environ["WORLD_SIZE"], os.environ["MASTER_ADDR"], os.getcwd() == os.environ["K8SDDP_WORK_DIR"])
"""
        result, printed = run(tmp_path, script)

        assert ("complete", 0) == (result.state, result.exit_code), printed
        for rank in (0, 1):
            assert f"[rank {rank}] a $(HOME) b | $(HOME) $$x é | True" in printed
            assert f"[rank {rank}] 2 127.0.0.2 True" in printed
        assert {"model": tmp_path / "wd/digits/volumes/shared"} == result.volumes
        assert {"0", "1"} == {path.name for path in result.volumes["model"].iterdir()}

    def test_a_script_that_raises_at_import_is_the_first_failure(self, tmp_path: Path) -> None:
        """The rank, its pod and the exception are in the sentence, and the Job's code is the rank's."""
        result, _ = run(tmp_path, "import os\nif os.environ['RANK'] == '1': import nothing_of_this_name\n")

        assert ("failed", 1) == (result.state, result.exit_code)
        assert "rank 1 (pod digits-1, node " in result.message
        assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in result.message
        assert result.verdict is not None

    def test_the_deadline_ends_the_ranks(self, tmp_path: Path) -> None:
        """activeDeadlineSeconds is the Job's, and no rank is blamed."""
        result, _ = run(tmp_path, "import time; time.sleep(60)", lines="activeDeadlineSeconds: 1")

        assert ("failed", "DeadlineExceeded") == (result.state, result.reason)

    def test_a_killed_rank_is_named(self, tmp_path: Path) -> None:
        """SIGKILL of one rank from outside fails the job in its name."""

        def kill(line: bytes) -> None:
            if b"[rank 1] ready" in line:
                os.kill(int(line.split()[3]), signal.SIGKILL)

        result, _ = run(tmp_path, JOIN_AND_WAIT, on_line=kill)

        assert ("failed", 64) == (result.state, result.exit_code)
        assert "rank 1 (pod digits-1, node " in result.message
        assert "SIGKILL" in result.message

    def test_control_c_ends_every_rank(self, tmp_path: Path) -> None:
        """After the run no rank and no launcher is left."""
        pids: list[int] = []

        def interrupt(line: bytes) -> None:
            if b"] ready" in line:
                pids.extend(int(word) for word in line.split()[3:])
                if len(pids) == 4:
                    os.kill(os.getpid(), signal.SIGINT)

        result, _ = run(tmp_path, JOIN_AND_WAIT, on_line=interrupt)

        assert ("interrupted", 130) == (result.state, result.exit_code)
        assert 4 == len(pids)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 0)
                pytest.fail(f"process {pid} is left")
