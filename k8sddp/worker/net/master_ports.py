"""Which ports MASTER_PORT may be: free on every address, and promised to no other gang on this machine.

Between the choice of a port and the moment when torch's store listens on it seconds pass, in which another gang here
(a second `run --local`, a pod with the host's network) would find it free too. So each gang holds the name of its port,
an abstract Unix socket, until it chooses the next one; the kernel drops it with the process. Where there are no such
sockets, being free has to do.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Optional

from . import server


class MasterPorts:
    """Answers for one gang; the port it last allowed is promised to it."""

    def __init__(self) -> None:
        self._promise: Optional[int] = None  # a descriptor, closed with the process

    def usable(self, port: int) -> bool:
        """Return whether MASTER_PORT may be `port`, and if so promise it; torch's store listens on every address."""
        try:
            server.listen("", port).close()
            promise = socket.socket(socket.AF_UNIX)
        except OSError:
            return False
        with promise:
            try:
                promise.bind("\0k8sddp-master-port-%d" % port)
            except OSError as error:
                return error.errno != errno.EADDRINUSE
            if self._promise is not None:
                os.close(self._promise)
            self._promise = promise.detach()
        return True
