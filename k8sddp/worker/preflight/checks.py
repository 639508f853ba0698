"""The table of checks, and the way they are made: side by side, each in a thread of its own, with one limit for all.

A check that hangs (a dead NFS server holds a stat for ever) is left behind and named; it holds up neither the others
nor, beyond the limit, the job. A check that fails itself is a warning: it must not be the reason why a job ends.
"""

from __future__ import annotations

import _thread
import functools
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from k8sddp.worker.contract import finding, node_env
from k8sddp.worker.net import names, server

from . import devices, naming, places, software

LIMIT = 3.0  # seconds for all of them; the checks of a healthy node take 0.03 s

Check = Callable[[], Iterable[finding.Finding]]


class PreflightError(Exception):
    """The job cannot run on this node; the message says why and what to do."""


class Report(NamedTuple):
    """What the checks of a node have found, and the torch that it has."""

    findings: tuple[finding.Finding, ...]
    seconds: float
    torch: str = finding.UNKNOWN


def look(node: node_env.NodeEnv, words: tuple[str, ...], environ: Mapping[str, str], *, limit: float = LIMIT) -> Report:
    """Make the node's own checks, all of them within `limit` seconds; with `preflight: skip` only look at torch."""
    begun = time.monotonic()
    (found,) = together([software.find_torch], limit=limit)
    torch = found if isinstance(found, software.Torch) else None
    version = (torch.version if torch else "") or finding.UNKNOWN
    if node.preflight == node_env.SKIP and not node.only_preflight:
        return Report((), time.monotonic() - begun, version)
    late = isinstance(found, Late)
    table = of_node(node, words, environ, torch=torch, skip_torch=late)
    left = max(0.0, limit - (time.monotonic() - begun))
    findings = run(table, limit=left)
    if late:
        findings = (finding.Finding("torch", finding.WARNING, _late("torch", limit)), *findings)
    return Report(findings, time.monotonic() - begun, version)


def of_node(
    node: node_env.NodeEnv,
    words: tuple[str, ...],
    environ: Mapping[str, str],
    *,
    torch: Optional[software.Torch],
    skip_torch: bool = False,
) -> Mapping[str, Check]:
    """Return the checks of this node by name."""
    kubelet = names.has_kubelet(node.pod_ip)
    write = functools.partial(places.folder, pod=node.pod_name)
    found: dict[str, Check] = {
        "torch": lambda: software.torch(torch),
        "script": lambda: software.script(words),
        "GPUs": lambda: devices.gpus(node, environ=environ),
        "driver": lambda: software.driver(torch, backend=node.backend, environ=environ),
        "shared memory": lambda: places.shared_memory(node.shm_dir, nproc_per_node=node.nproc_per_node),
        "temporary folder": lambda: write(node.scratch_dir, what="temporary folder", own=True, node_disk=kubelet),
    }
    if skip_torch:
        del found["torch"]
    if node.work_dir:
        found["working folder"] = lambda: write(node.work_dir, what="working folder", own=True, node_disk=False)
    if not names.is_address(node.coordinator):  # `run --local` has no names
        host = names.qualify(own_host(node), node.namespace, names.read_resolv_conf())
        found["own name"] = lambda: naming.own_name(host, node.pod_ip)
    for name, path in node.writable:
        what = "volume %s" % name
        found[what] = functools.partial(write, path, what=what, own=False, node_disk=False)
    return found


def own_host(node: node_env.NodeEnv) -> str:
    """Return this pod's name within its Service, as node 0's is given: NAME-INDEX.NAME."""
    service = node.coordinator.partition(".")[2]
    return "%s-%d.%s" % (node.job, node.node_rank, service or node.job)


def run(table: Mapping[str, Check], *, limit: float) -> tuple[finding.Finding, ...]:
    """Make the checks side by side; return at least one finding of each, in their order."""
    answers = together([functools.partial(_make, check) for check in table.values()], limit=limit)
    findings: list[finding.Finding] = []
    for name, answer in zip(table, answers):  # noqa: B905  strict= is newer than Python 3.9
        if isinstance(answer, Late):
            findings.append(finding.Finding(name, finding.WARNING, _late(name, limit)))
        elif isinstance(answer, list):
            findings += answer or [finding.Finding(name, finding.OK)]
        else:
            findings.append(finding.Finding(name, finding.WARNING, "could not be looked at: %s" % answer))
    return tuple(findings)


class Late:
    """There was no answer in time."""


def together(calls: Sequence[Callable[[], object]], *, limit: float) -> list[object]:
    """Return what each call returns or raises, or that it is late, at most `limit` seconds from now."""
    answers: list[object] = [Late()] * len(calls)
    ended = [_thread.allocate_lock() for _ in calls]

    def answer(place: int) -> None:
        try:
            answers[place] = calls[place]()
        except Exception as error:
            answers[place] = error
        ended[place].release()

    deadline = time.monotonic() + limit
    for place, lock in enumerate(ended):
        lock.acquire()
        try:
            _thread.start_new_thread(answer, (place,))
        except (RuntimeError, MemoryError):  # the pod has as many processes and threads as it may
            answer(place)
    for lock in ended:
        lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
    return list(answers)


def listen(host: str, port: int, purpose: str) -> socket.socket:
    """Return a listening socket for one of the worker's ports.

    Raises PreflightError when it cannot be had.
    """
    try:
        return server.listen(host, port)
    except OSError as error:
        raise PreflightError(
            "port %d at %s for %s cannot be used (%s): choose another rendezvous.port"
            % (port, host or "every address", purpose, os.strerror(error.errno or 0).lower())
        ) from None


def _make(check: Check) -> list[finding.Finding]:
    return list(check())


def _late(name: str, limit: float) -> str:
    return "did not answer within %.0f s, and is left to the ranks: see whether its file system or server hangs" % limit
