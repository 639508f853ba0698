"""The environment that every launcher gives to its processes.

Names that torchrun or a launcher sets are scrubbed first, because an inherited PET_ or TORCHELASTIC_ variable would
overrule the command line. Everything else is a soft default: what the user or the image has set stays. The key of the
join is not handed on.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from typing import NamedTuple, Optional

from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import messages
from k8sddp.worker.ranks import flight_records

SIOCGIFADDR = 0x8915  # linux/sockios.h: an interface's IPv4 address
USER = "k8sddp"  # getpass.getuser() raises for a uid without an entry in /etc/passwd and without USER


class Place(NamedTuple):
    """Where the ranks of this node run: interpreter, folders and the environment they inherit."""

    python: str
    rank_dir: str
    instrument_dir: str
    environ: Mapping[str, str]


class Command(NamedTuple):
    """What to execute; `rank` is None where the process is no rank but starts the ranks of this node."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    rank: Optional[int] = None


def build(node: node_env.NodeEnv, attempt: messages.Attempt, place: Place) -> dict[str, str]:
    """Return the environment of a launcher's processes."""
    env = {name: value for name, value in place.environ.items() if not _scrubbed(name)}
    env[node_env.ATTEMPT] = str(attempt.number)
    env[node_env.RANK_DIR] = place.rank_dir
    env[node_env.MASTER_HOST] = attempt.master_addr
    env[node_env.WORKER_PID] = str(os.getpid())
    env[node_env.RANK_BASE] = str(node.ranks.start)
    inherited = env.get("PYTHONPATH")
    env["PYTHONPATH"] = place.instrument_dir + (os.pathsep + inherited if inherited else "")
    env.setdefault("PYTHONUNBUFFERED", "1")
    env.setdefault("USER", USER)
    env.setdefault("LOGNAME", env["USER"])
    if not env.get("HOME") or not os.access(env["HOME"], os.W_OK):
        env["HOME"] = node.scratch_dir
    if node.cpus:
        env.setdefault("OMP_NUM_THREADS", str(max(1, int(node.cpus) // node.nproc_per_node)))
    if not any(name in env for name in flight_records.NAMES):
        env[flight_records.NAMES[0]] = os.path.join(place.rank_dir, flight_records.PREFIX)
    interface = interface_of(node.pod_ip)
    if interface:
        env.setdefault("GLOO_SOCKET_IFNAME", interface)
        env.setdefault("NCCL_SOCKET_IFNAME", "=" + interface)  # `=`: exactly this one, not a prefix
    return env


def interface_of(address: str) -> str:
    """Return the network interface that owns `address`, the empty string where none does."""
    if address.startswith("127.") or address == "::1":
        return "lo"  # it owns all of 127.0.0.0/8 but lists only 127.0.0.1
    return _ipv6_interface(address) if ":" in address else _ipv4_interface(address)


def _ipv4_interface(address: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, SIOCGIFADDR, name.encode()[:15].ljust(256, b"\0"))
            except OSError:
                continue  # it has no IPv4 address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return ""


def _ipv6_interface(address: str) -> str:
    try:
        wanted = socket.inet_pton(socket.AF_INET6, address).hex()
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return ""
    return next((row[-1] for row in rows if row and row[0] == wanted), "")


def _scrubbed(name: str) -> bool:
    if name in (node_env.JOB_UID, node_env.RANK_PID, node_env.LAUNCHER_PID, node_env.JOINED):
        return True
    return bool(node_env.reserved_reason(name)) and not name.startswith("K8SDDP_")
