"""An error names the file that the user wrote, and a path that means another file stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from k8sddp.local import users_paths

FILES = "/home/ada/p/.k8sddp/digits/files"
PATHS = users_paths.UsersPaths(Path(FILES), ["train.py", "lib/net.py", "data.json"], folder=Path("/home/ada/p"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            f'[rank 0]   File "{FILES}/digits-0/lib/net.py", line 3, in f\n',
            '[rank 0]   File "/home/ada/p/lib/net.py", line 3, in f\n',
            id="traceback",
        ),
        pytest.param(
            f"[rank 1] {FILES}/digits-1-2/train.py:7: UserWarning: slow\n",
            "[rank 1] /home/ada/p/train.py:7: UserWarning: slow\n",
            id="warning of a pod that replaced another",
        ),
        pytest.param(
            f"[rank 0] saved {FILES}/digits-0/model.pt\n", f"[rank 0] saved {FILES}/digits-0/model.pt\n", id="new file"
        ),
        pytest.param(
            f"[rank 0] wrote {FILES}/digits-0/data.json\n",
            f"[rank 0] wrote {FILES}/digits-0/data.json\n",
            id="a data file of the code, which the rank may have changed",
        ),
        pytest.param(f"[rank 0] {FILES}/digits-0\n", f"[rank 0] {FILES}/digits-0\n", id="where a rank says it is"),
        pytest.param(
            f"[k8sddp] the script t.py is not in {FILES}/digits-0: mend it\n",
            "[k8sddp] the script t.py is not in /home/ada/p: mend it\n",
            id="our own sentence",
        ),
        pytest.param("[rank 0] /home/ada/p/train.py\n", "[rank 0] /home/ada/p/train.py\n", id="nothing to change"),
    ],
)
def test_lines_name_the_users_files(line: str, expected: str) -> None:
    """Each kind of line on its own, and between others."""
    assert expected == PATHS.in_lines(line.encode()).decode()
    assert f"a\r{expected}b" == PATHS.in_lines(f"a\r{line}b".encode()).decode()


def test_sentences_name_the_users_files() -> None:
    """The first failure at the end of the run."""
    text = f"rank 0 raised SyntaxError: bad (train.py, in {FILES}/digits-0/train.py) é"
    assert "rank 0 raised SyntaxError: bad (train.py, in /home/ada/p/train.py) é" == PATHS.in_sentence(text)


def test_without_code_nothing_is_changed() -> None:
    """The scripts are the image's own."""
    nothing = users_paths.UsersPaths(Path(FILES), [], folder=None)
    line = f"[k8sddp] {FILES}/digits-0\n"
    assert line.encode() == nothing.in_lines(line.encode())
    assert line == nothing.in_sentence(line)
