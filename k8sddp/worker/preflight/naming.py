"""Does DNS know this pod, forward and back: the one name that a pod may be asked for by its peers, and by torch.

Nothing here can end a job: a name that does not resolve yet may do so in a second, and no training needs a reverse
record. But without one torch's sockets wait for DNS before each of their log lines, and warn.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

from k8sddp.worker.contract.finding import WARNING, Finding

SLOW = 0.5  # seconds; an answer takes a millisecond, a name server that is silent the resolver's timeout


def own_name(host: str, address: str) -> Iterator[Finding]:
    """Find a name of this pod that does not lead to its address, or an address that does not lead back."""
    try:
        # as bytes: for a str Python loads 1 MB of tables for names that are not ASCII
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        text = "%s does not resolve (%s): see the pod's /etc/hosts and the Service of the job" % (host, _why(error))
        yield Finding("own name", WARNING, text)
        return
    if address not in {str(one[4][0]) for one in found}:
        text = "%s is %s, but this pod's address is %s: another object may have the name of the job's Service"
        yield Finding("own name", WARNING, text % (host, found[0][4][0], address))
    yield from reverse(address, of="this pod")


def reverse(address: str, *, of: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Finding]:
    """Find an address without a name, or one whose name is long in coming."""
    begun = clock()
    try:
        socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
        problem = ""
    except OSError as error:
        problem = _why(error)
    seconds = clock() - begun
    if seconds > SLOW:
        text = "the name of %s's address %s took %.1f s, and torch asks for such names when it connects: see whether "
        text += "the cluster's DNS answers reverse queries"
        yield Finding("reverse DNS", WARNING, text % (of, address, seconds))
    elif problem:
        text = "%s's address %s has no name (%s): torch warns that a host name cannot be retrieved, which harms nothing"
        yield Finding("reverse DNS", WARNING, text % (of, address, problem))


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
