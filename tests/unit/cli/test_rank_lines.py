"""One rank's lines in the log of its node."""

from __future__ import annotations

import pytest

from k8sddp.cli import rank_lines


@pytest.mark.parametrize(
    ("line", "shown", "remarks"),
    [
        pytest.param(b"[rank 1] epoch 1", [b"epoch 1"], [], id="own"),
        pytest.param(b"[rank 1] ", [b""], [], id="own-empty-line"),
        pytest.param(b"[rank 1]   indented", [b"  indented"], [], id="own-indented"),
        pytest.param(b"[rank 1] [rank 0] quoted", [b"[rank 0] quoted"], [], id="own-that-looks-like-another"),
        pytest.param(b"[rank 1] \xff\x00", [b"\xff\x00"], [], id="own-bytes"),
        pytest.param(b"[rank 0] epoch 1", [], [], id="another"),
        pytest.param(b"[rank 11] epoch 1", [], [], id="another-with-the-same-beginning"),
        pytest.param(b"[k8sddp] all 2 nodes have joined", [], ["[k8sddp] all 2 nodes have joined"], id="worker"),
        pytest.param(b"python3: not found", [b"python3: not found"], [], id="unmarked"),
        pytest.param(b"", [b""], [], id="empty"),
    ],
)
def test_line_goes_where_it_belongs(line: bytes, shown: list[bytes], remarks: list[str]) -> None:
    """Own lines come bare, the worker's apart, other ranks' not at all, unmarked ones as they are."""
    out: list[bytes] = []
    said: list[str] = []
    rank_lines.of_rank(1, out=out.append, remark=said.append)(line)
    assert (shown, remarks) == (out, said)
