"""A notebook that ranks in pods write into over TCP: they need no volume, and a pod's end loses nothing.

One notebook serves one run on a port of its own, so a process that outlives its run cannot write into the next one's.
It listens in the cluster's network, at a Node's address; moments are the writer's, of the clock that the test bed's
pods share with the machine.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench import recovery

SCRIPT = (
    """
import json, os, socket, sys, time
host, _, port = sys.argv[1].partition(":")
faults, rank = int(sys.argv[2]), int(os.environ["RANK"])

def note(event):
    at = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        stream.sendall(json.dumps([event, rank, at]).encode() + b"\\n")
        return int(stream.makefile().readline())

"""
    + recovery.TRAINING
)


class Notebook(NamedTuple):
    """Where ranks write to, and what they wrote so far."""

    address: str
    written: list[recovery.Note]


@contextlib.contextmanager
def notebook(host: str) -> Iterator[Notebook]:
    """Serve a notebook at an address of the network that the calling thread is in."""
    written: list[recovery.Note] = []

    class Writer(socketserver.StreamRequestHandler):
        timeout = 30

        def handle(self) -> None:
            event, rank, at = json.loads(self.rfile.readline())
            written.append((event, rank, at))
            self.wfile.write(b"%d\n" % sum(what == "fault" for what, _, _ in written))

    with socketserver.ThreadingTCPServer((host, 0), Writer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Notebook(f"{host}:{server.server_address[1]}", written)
        finally:
            server.shutdown()
            thread.join()
