"""The worker's entry: `python worker.pyz train.py --epochs 10`, PID 1 of a pod or a process group of `run --local`.

Order: environment, code, ports, preflight, then the gang until its end. A problem before the gang is one sentence, a
termination log and exit 77 (preflight) or 78 (configuration); nothing is left behind. No traceback for anything that is
the user's or the cluster's to mend.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Optional

from . import code_zip, driver, leaving, root_cause, routes
from .contract import finding, node_env
from .contract import verdict as verdicts
from .contract.stacks import RankStack
from .gang import messages
from .net import http_server, loop
from .preflight import checks, peers
from .ranks import descriptors, looking, process_tree, rank_output, stacks
from .ranks.launcher import rank_env

DRAIN_LIMIT = 5.0  # seconds for a slow reader of our stdout at the end
STDOUT = 1


def run() -> NoReturn:
    """Run `main` and end this process with its exit code, whatever the container's environment wants of Python.

    With PYTHONINSPECT sys.exit does not exit, and the process ends with 1; a stdout that cannot be flushed makes 120
    of any code. So Python's own end is left out: `main` has left nothing for it to do. Warnings that PYTHONWARNINGS
    makes errors of are meant for the ranks, which inherit it.
    """
    if sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(argv: Optional[Sequence[str]] = None, environ: Optional[Mapping[str, str]] = None) -> int:
    """Run one node of the job and return the worker's exit code; `argv` is the user's command."""
    words = tuple(sys.argv[1:] if argv is None else argv)
    env = os.environ if environ is None else environ
    descriptors.raise_limit()
    stacks.ignore_signals()
    events = loop.Loop()
    sink = rank_output.Sink(events, STDOUT, live=env.get(node_env.LIVE) == "1")
    events.handle_signals(lambda signum: None)  # it is kept until the driver is there
    process_tree.become_subreaper()
    try:
        node = _node(env, words)
    except node_env.NodeEnvError as error:
        return _refuse(env, sink, None, kind="configuration", detail=str(error))
    try:
        node_driver = _prepare(events, sink, node, words=words, environ=env)
        events.handle_signals(_answer(node_driver, sink))
        node_driver.start()
        code = events.run()
    except code_zip.CodeZipError as error:
        return _refuse(env, sink, node, kind="configuration", detail=str(error))
    except checks.PreflightError as error:
        kind, detail = _weighed(node, str(error))
        return _refuse(env, sink, node, kind=kind, detail=detail)
    except Exception as error:  # ours to mend, but no rank may outlive it and no rank's exit code may be imitated
        sys.__excepthook__(type(error), error, error.__traceback__)  # `traceback` costs every worker 1 MB
        code = _refuse(env, sink, node, kind="infrastructure", detail="the worker itself failed: %r" % error)
    _leave_nothing()
    sink.drain(DRAIN_LIMIT)
    return code


def instrument_dir() -> str:
    """Return the folder with our sitecustomize, inside the zip or in the source tree."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "instrument")


def _node(environ: Mapping[str, str], words: tuple[str, ...]) -> node_env.NodeEnv:
    node = node_env.parse(environ)
    if not words:
        raise node_env.NodeEnvError("there is no command: spec.command names what torchrun runs")
    return node


def _prepare(
    events: loop.Loop,
    sink: rank_output.Sink,
    node: node_env.NodeEnv,
    *,
    words: tuple[str, ...],
    environ: Mapping[str, str],
) -> driver.Driver:
    code_digest = _unpack(node)
    if node.work_dir:
        _enter(node.work_dir)
    listener: Optional[socket.socket] = None
    if node.node_rank == 0 and node.nnodes > 1:
        listener = checks.listen(node.bind_host, node.port, "the gang")
    http = checks.listen(node.bind_host, node.http_port, "/healthz and /readyz")
    report = checks.look(node, words, environ)
    _tell(sink, node, report)
    visits = peers.Peers(events, node, checks.listen(node.bind_host, 0, "its peers"), say=sink.say)
    own = messages.Join(
        node_rank=node.node_rank,
        pod=node.pod_name,
        kube_node=node.kube_node,
        nnodes=node.nnodes,
        nproc_per_node=node.nproc_per_node,
        code_digest=code_digest,
        torch_version=report.torch,
        failure_count=node.failure_count,
        ignored_count=node.ignored_count,
        memory={},
        python="%d.%d" % sys.version_info[:2],
        address=visits.address,
        probe_port=visits.port,
        findings=finding.to_records(report.findings) if node.only_preflight else (),
        seconds=report.seconds,
    )
    place = rank_env.Place(sys.executable or "python3", "", instrument_dir(), environ)
    node_driver = driver.Driver(events, sink, node, words, own=own, place=place, listener=listener, visits=visits)
    pages = routes.table(node_driver.readiness, node_driver.facts, node_driver.look, own=node.ranks)
    http_server.HttpServer(events, http, pages, say=sink.say)
    return node_driver


def _tell(sink: rank_output.Sink, node: node_env.NodeEnv, report: checks.Report) -> None:
    """Say who this is and what the checks have found; raises PreflightError where the job ends with it."""
    who, told = finding.node_name(node.node_rank, node.pod_name), list(report.findings)
    ends = node.preflight == node_env.FAIL and not node.only_preflight and finding.problems(told)
    if ends:
        told.remove(ends[0])  # it is the verdict's own line
    else:
        sink.say("node %d of %d, pod %s, torch %s" % (node.node_rank, node.nnodes, node.pod_name, report.torch))
    for line in finding.lines(who, told, seconds=report.seconds, all_told=not ends):
        sink.say(line)
    if ends:
        raise checks.PreflightError(finding.summary(report.findings))


def _answer(node_driver: driver.Driver, sink: rank_output.Sink) -> Callable[[int], None]:
    """Return what answers a signal: SIGQUIT prints what the ranks of this node do, all others end it."""

    def shown(seen: Sequence[RankStack]) -> None:
        sink.say("SIGQUIT: %s" % ("what the ranks of this node do" if seen else "no ranks run on this node"))
        for line in looking.shown(seen):
            sink.say(line)

    def answer(number: int) -> None:
        if number == signal.SIGQUIT:
            sink.teller.guarded("looking at the ranks", node_driver.look)(sink.teller.guarded("their stacks", shown))
        else:
            node_driver.asked_to_stop(number)

    return answer


def _weighed(node: node_env.NodeEnv, problem: str) -> tuple[str, str]:
    """Return kind and detail of a problem that ends this pod: only that of a node's first pod ends the job for good.

    An earlier pod had the same image and spec, so it is this Kubernetes Node's GPU or disk; and the job may have
    trained for days.
    """
    if node.failure_count + node.ignored_count == 0:
        return "preflight", problem
    return "infrastructure", problem + "; this pod replaces an earlier one, so that counts and is tried again"


def _unpack(node: node_env.NodeEnv) -> str:
    """Unpack the code, where there is some; return the digest of what was unpacked."""
    if not node.code_zip or not node.work_dir:
        return node.code_digest
    digest = code_zip.unpack(node.code_zip, node.work_dir, node.code_config_map)
    if node.code_digest not in ("", digest):
        raise code_zip.CodeZipError(
            "ConfigMap %s holds other code (digest %s) than the job was made with (%s): "
            "`k8sddp apply FILE --replace` starts anew with the folder as it is"
            % (node.code_config_map, digest[:12], node.code_digest[:12])
        )
    return digest


def _enter(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
    except OSError as error:
        raise checks.PreflightError("the working directory %s cannot be used: %s" % (folder, error.strerror)) from None


def _leave_nothing() -> None:
    try:
        events = loop.Loop()
        process_tree.end_last(events, lambda _: events.stop(0))
        events.run()
    except Exception:
        pass  # the exit code stands, and the pod or the keeper of `run --local` ends what is left


def _refuse(
    environ: Mapping[str, str],
    sink: rank_output.Sink,
    node: Optional[node_env.NodeEnv],
    *,
    kind: str,
    detail: str,
) -> int:
    """Give up: one sentence in the log and in the termination log; return the exit code."""
    rank, pod, kube_node = (node.node_rank, node.pod_name, node.kube_node) if node else (0, "", "")
    pod = pod or environ.get(node_env.POD_NAME, "") or "unknown"
    failure = root_cause.Failure(kind, rank, pod, kube_node, detail=detail)
    code = root_cause.exit_code(failure)
    job = environ.get(node_env.JOB, "")
    verdict = root_cause.verdict(job, verdicts.FAILED, attempt=0, code=code, failures=(failure,))
    sink.say("%s (exit %d)" % (root_cause.summary(verdict), code))
    path = environ.get(node_env.TERMINATION_LOG, "")
    if path:
        leaving.record(path, verdict, sink)
    sink.drain(DRAIN_LIMIT)
    return code
