"""A local run's node 0 is asked how far it is: about once a second, shortly, and never at the run's cost."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from k8sddp.local import looking
from k8sddp.plan.progress import Progress

STATUS = b'{"state": "training", "attempt": 0, "ranks": [{"rank": 0, "step": 7}]}'


@contextmanager
def worker(answer: bytes = STATUS) -> Iterator[tuple[int, list[str]]]:
    """Serve an answer; give the port and the paths that were asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


def test_it_is_told_at_once_and_the_last_answer_again_between_two_questions() -> None:
    """What moves on the screen moves more often than node 0 is asked."""
    told: list[Progress | None] = []
    enough = threading.Event()

    def tell(progress: Progress | None) -> float:
        told.append(progress)
        if len(told) == 5:
            enough.set()
        return 0.01

    with worker() as (port, asked):
        with looking.at("127.0.0.1", port, tell):
            assert enough.wait(20)
        count = len(told)
        assert {7} == {one.pace.step for one in told if one is not None}
        assert {"/status"} == set(asked)
        assert len(asked) < count
        assert count == len(told)  # nobody is told after the end


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]"])
def test_another_programs_answer_is_none(answer: bytes) -> None:
    """Nothing is raised in the thread."""
    with worker(answer) as (port, _):
        assert looking.ask("127.0.0.1", port) is None
    assert looking.ask("127.0.0.1", port) is None  # and neither where nobody listens


def test_nobody_is_asked_for_nobody() -> None:
    """A run whose caller shows nothing, or whose pods are not ours, starts no thread."""
    before = threading.active_count()
    with looking.at("127.0.0.1", 1, None), looking.at("127.0.0.1", None, lambda _: 1.0):
        assert before == threading.active_count()
