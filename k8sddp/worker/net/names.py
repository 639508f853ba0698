"""Where node rank 0 is: its DNS name, completed from the pod's resolv.conf, and its addresses.

The name is fully qualified and lower case, one spelling everywhere (torch compares MASTER_ADDR as text), without a
final dot, because /etc/hosts does not match it and pod 0 must find itself. `getaddrinfo` blocks for seconds when DNS is
down, so it runs in a thread of its own while the loop goes on; nothing is cached, a recreated pod has a new address.
"""

from __future__ import annotations

import _thread
import socket
from collections.abc import Callable
from typing import TypeVar

from . import loop

RESOLV_CONF = "/etc/resolv.conf"
DEFAULT_DOMAIN = "cluster.local"  # of Kubernetes, where resolv.conf does not tell
POLL_MIN, POLL_MAX = 0.001, 0.03  # seconds between two looks at the thread's answer

Addresses = tuple[tuple[int, tuple[object, ...]], ...]  # (family, sockaddr)
T = TypeVar("T")
Resolve = Callable[[loop.Loop, str, int, Callable[[Addresses, str], None]], None]  # as `resolve` below


def is_address(host: str) -> bool:
    """Return whether `host` is an IPv4 or IPv6 address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def qualify(host: str, namespace: str, resolv_conf: str) -> str:
    """Return NAME-0.NAME as NAME-0.NAME.<namespace>.svc.<domain>, an address as it is."""
    if is_address(host):
        return host
    prefix = "%s.svc." % namespace
    suffix = prefix + DEFAULT_DOMAIN
    for line in resolv_conf.splitlines():
        words = line.split()
        if words and words[0] == "search":  # the last search line counts, as for the resolver
            suffix = next((word.rstrip(".") for word in words[1:] if word.startswith(prefix)), suffix)
    return ("%s.%s" % (host.rstrip("."), suffix)).lower()


def read_resolv_conf(path: str = RESOLV_CONF) -> str:
    """Return the resolver's configuration, the empty string where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def has_kubelet(pod_ip: str) -> bool:
    """Return whether it is a pod's address: the pods of `run --local` are processes, on loopback addresses."""
    return not pod_ip.startswith("127.")


def master_addr(host: str, pod_ip: str) -> str:
    """Return what all ranks call node 0 in one attempt: the address of its pod, or the name where it has no IPv4.

    While a pod is ended on a dead Kubernetes Node its name has two addresses, and torch's store tries the first one
    until its time is up; with the address the ranks of a restart need no DNS either. `tcp://ADDRESS:PORT`, which
    scripts put together, cannot hold an IPv6 address without brackets. (docs/decisions/0006-master-addr.md)
    """
    return pod_ip if pod_ip and ":" not in pod_ip else host


def resolve(events: loop.Loop, host: str, port: int, done: Callable[[Addresses, str], None]) -> None:
    """Look `host` up without blocking the loop; call `done` with its addresses and, if there are none, the problem."""

    def look_up() -> tuple[Addresses, str]:
        try:
            # as bytes: for a str Python loads 1 MB of tables for names that are not ASCII, which no Service has
            found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
            return tuple((int(family), address) for family, _, _, _, address in found), ""
        except Exception as error:  # an answer must come, whatever it is
            return (), "%s does not resolve (%s)" % (host, getattr(error, "strerror", None) or error)

    if is_address(host):
        done(*look_up())
    else:
        in_thread(events, look_up, lambda answer: done(*answer), otherwise=lambda why: ((), _no_thread(host, why)))


def in_thread(
    events: loop.Loop, ask: Callable[[], T], done: Callable[[T], None], *, otherwise: Callable[[Exception], T]
) -> None:
    """Call `ask`, which must not raise, in a thread of its own, and `done` in the loop with what it returns.

    Where no thread can be started the answer is `otherwise`.
    """
    answer: list[T] = []

    def poll(pause: float) -> None:
        if answer:
            done(answer[0])
        else:
            events.after(pause, lambda: poll(min(POLL_MAX, pause * 1.5)))

    try:
        _thread.start_new_thread(lambda: answer.append(ask()), ())
    except (RuntimeError, MemoryError) as error:  # the pod has as many processes and threads as it may
        answer.append(otherwise(error))
    poll(POLL_MIN)


def _no_thread(host: str, error: Exception) -> str:
    return "%s cannot be looked up (%s)" % (host, error)
