"""What faulthandler writes is read whatever the Python, and a frame's file tells whose code it is."""

from __future__ import annotations

import pytest

from k8sddp.worker.contract.stacks import Frame
from k8sddp.worker.ranks import dumps

HEAD = "Stack (most recent call first):\n"
SITE = "/opt/conda/lib/python3.11/site-packages"
TRAIN = Frame("/k8sddp/work/train.py", 62, "main")
MODULE = Frame("/k8sddp/work/train.py", 80, "<module>")


def torch(file: str, function: str = "f") -> Frame:
    """Return a frame of torch's."""
    return Frame(f"{SITE}/torch/{file}", 7, function)


@pytest.mark.parametrize(
    ("text", "frames", "cut"),
    [
        pytest.param(
            HEAD + '  File "/app/train.py", line 12 in load\n  File "/app/train.py", line 40 in <module>\n',
            (Frame("/app/train.py", 12, "load"), Frame("/app/train.py", 40, "<module>")),
            False,
            id="3.9 to 3.15",
        ),
        pytest.param(
            HEAD + '  File "/tmp/a "b" \\xf1.py", line 3 in \\xfcn\\xef\n',
            (Frame('/tmp/a "b" ñ.py', 3, "ünï"),),
            False,
            id="quotes and characters that are not ASCII",
        ),
        pytest.param(
            HEAD + '  File "/tmp/\\x1b[31m\\x9b.py", line 3 in \\ud83d\\n',
            (Frame("/tmp/\\x1b[31m\\x9b.py", 3, "\\ud83d\\n"),),
            False,
            id="what a terminal would obey, and half a character, stay escaped",
        ),
        pytest.param(HEAD + '  File "a.py", line 3 in f\n  ...\n', (Frame("a.py", 3, "f"),), True, id="too deep"),
        pytest.param(
            HEAD + '  File "a.py", line 3 in f\nplus 101 frames\n', (Frame("a.py", 3, "f"),), True, id="too deep, 3.14"
        ),
        pytest.param(HEAD + "  <no Python frame>\n", (), False, id="no Python"),
        pytest.param(
            HEAD + '  File "a.py", line ??? in f\n  <invalid frame>\n', (Frame("a.py", 0, "f"),), False, id="invalid"
        ),
        pytest.param(HEAD + "  File ???, line 4 in ???\n", (Frame("???", 4, "???"),), False, id="unknown"),
        pytest.param(
            HEAD + '  File "old.py", line 1 in f\n' + HEAD + '  File "new.py", line 2 in g\n',
            (Frame("new.py", 2, "g"),),
            False,
            id="the last of two",
        ),
    ],
)
def test_a_dump_is_read(text: str, frames: tuple[Frame, ...], cut: bool) -> None:
    """The innermost frame first; the form is CPython's, of all versions that a worker meets."""
    assert dumps.Dump(frames, cut) == dumps.parse(text)


def test_what_is_no_dump_is_none() -> None:
    """A file into which nothing has been dumped yet holds the rank's own line."""
    assert dumps.parse("4711 answers to dump ask\n") is None


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param((torch("autograd/graph.py"), torch("_tensor.py", "backward"), TRAIN, MODULE), TRAIN, id="torch"),
        pytest.param((Frame("/usr/lib/python3.11/selectors.py", 4, "select"), TRAIN), TRAIN, id="Python's own"),
        pytest.param((Frame("<frozen importlib._bootstrap>", 4, "_load"), TRAIN), TRAIN, id="frozen"),
        pytest.param((Frame(f"{SITE}/numpy/core.py", 4, "dot"), TRAIN, MODULE), TRAIN, id="installed by others"),
        pytest.param(
            (Frame("/opt/pytorch/torch/nn/modules/module.py", 1, "_call_impl"), TRAIN), TRAIN, id="from source"
        ),
        pytest.param((Frame("/tmp/torchinductor_root/ab/cab.py", 9, "call"), TRAIN), TRAIN, id="compiled"),
        pytest.param(
            (Frame("/k8sddp/worker.pyz/k8sddp/worker/instrument/k8sddp_page.py", 9, "forward"), TRAIN), TRAIN, id="ours"
        ),
        pytest.param(
            (
                torch("nn/modules/module.py"),
                Frame(f"{SITE}/mine/net.py", 5, "forward"),
                Frame(f"{SITE}/mine/train.py", 9, "go"),
                Frame("<frozen runpy>", 88, "_run_code"),
            ),
            Frame(f"{SITE}/mine/net.py", 5, "forward"),
            id="-m of an installed package",
        ),
        pytest.param((Frame("<string>", 1, "<module>"),), Frame("<string>", 1, "<module>"), id="python -c"),
        pytest.param((torch("multiprocessing/spawn.py"),), torch("multiprocessing/spawn.py"), id="nobody's"),
        pytest.param((), None, id="no frames"),
    ],
)
def test_the_users_frame_is_the_innermost_that_is_neither_torchs_nor_pythons(
    frames: tuple[Frame, ...], expected: Frame | None
) -> None:
    """That is where a person looks first; a program that is installed as a whole has one too."""
    assert expected == dumps.user_frame(frames)


def test_a_stack_is_shown_without_our_hooks() -> None:
    """A call goes through them on its way from the script to torch, and back by way of them into Python's finder."""
    ours = "/k8sddp/worker.pyz/k8sddp/worker/instrument"
    stack = (
        torch("distributed/distributed_c10d.py", "barrier"),
        Frame(f"{ours}/k8sddp_calls.py", 99, "call"),
        TRAIN,
        Frame(f"{ours}/sitecustomize.py", 3, "<module>"),
        MODULE,
    )
    assert (stack[0], TRAIN, MODULE) == dumps.without_ours(stack)


@pytest.mark.parametrize(
    ("innermost", "expected"),
    [
        pytest.param(
            [torch("autograd/graph.py", "_engine_run_backward"), torch("autograd/__init__.py")], True, id="backward"
        ),
        pytest.param([torch("distributed/distributed_c10d.py", "barrier")], True, id="barrier"),
        pytest.param([torch("distributed/c10d_logger.py", "wrapper")], True, id="c10d's wrapper"),
        pytest.param([torch("nn/parallel/distributed.py", "_sync_buffers")], True, id="DDP's buffers"),
        pytest.param(
            [torch("_ops.py", "__call__"), torch("distributed/_functional_collectives.py")], True, id="functional"
        ),
        pytest.param([torch("distributed/rendezvous.py", "_create_c10d_store")], True, id="joining"),
        pytest.param([torch("distributed/checkpoint/filesystem.py", "_write_item")], False, id="a save"),
        pytest.param([torch("nn/modules/linear.py", "forward")], False, id="computing"),
        pytest.param([torch("_tensor.py", "__iter__")], False, id="another use of a tensor"),
        pytest.param([torch("autograd/graph.py", "pack_hook")], False, id="a hook of autograd's"),
        pytest.param([Frame("/k8sddp/work/torch_like/distributed.py", 3, "barrier")], False, id="the user's"),
        pytest.param([], False, id="the script itself"),
    ],
)
def test_a_rank_waits_where_its_innermost_frames_are_those_of_a_collective(
    innermost: list[Frame], expected: bool
) -> None:
    """torch.distributed, DDP's reducer, and autograd's engine, in which DDP's reductions run."""
    assert expected is dumps.waits([*innermost, TRAIN, MODULE])


def test_equal_stacks_have_one_signature() -> None:
    """A line further on is another stack; no stack has none."""
    moved = TRAIN._replace(line=63)
    assert dumps.signature([TRAIN, MODULE]) == dumps.signature([TRAIN, MODULE]) != dumps.signature([moved, MODULE])
    assert "" == dumps.signature([])
