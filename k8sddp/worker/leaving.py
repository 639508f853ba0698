"""The last part of a worker's life: what is said and recorded at the end, and when the process may go.

Followers go first, node 0 last, because its exit code ends the Job and the pods that still run then are deleted
together with what they had to say. Every wait has a limit: followers that do not leave, a kubelet that does not look.
A pod that is asked to stop finds out here whether that is for what it has written itself.
"""

from __future__ import annotations

from typing import Optional

from . import leftovers, root_cause, storage
from .contract import exit_codes, node_env
from .contract import verdict as verdicts
from .net import loop, names, server
from .ranks import process_tree, rank_output

LEAVE_LIMIT = process_tree.LIMIT + 5.0  # seconds that node 0 waits for followers to leave
FLUSH_LIMIT = 0.5  # seconds for the last messages when nobody is waited for
KUBELET_LIMIT = 1.5  # seconds until kubelets, which look once a second, have told that the followers have ended

SEPARATE = "no rank joined a process group (init_process_group was never called): the %d ranks trained separately"


class Leaving:
    """The end of one node's worker; it stops the loop with the exit code."""

    def __init__(self, events: loop.Loop, sink: rank_output.Sink, node: node_env.NodeEnv) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._code = exit_codes.FAILED
        self._stay_until = 0.0  # a pod that was asked to stop does not leave before
        self.begun = False

    def fault(self) -> Optional[root_cause.Failure]:
        """Return why this pod is asked to stop, where that is its own doing; find out how long it has to stay."""
        node = self._node
        if not names.has_kubelet(node.pod_ip):
            return None
        leave = storage.look(node.volumes, self._sink.written, grace=node.grace_period, limit=node.ephemeral_limit)
        self._stay_until = self._events.now() + leave.linger
        if not leave.why:
            return None
        return root_cause.Failure("evicted", node.node_rank, node.pod_name, node.kube_node, detail=leave.why)

    def last_word(self, verdict: verdicts.Verdict, code: int, *, separate: bool) -> None:
        """Say and record how the job, or this node's part in it, ended; `separate`: no ranks formed a group."""
        self.begun = True
        self._code = code
        if verdict.outcome == verdicts.COMPLETE:
            alone = SEPARATE % (self._node.nnodes * self._node.nproc_per_node) if separate else ""
            verdict = verdict._replace(remarks=tuple(filter(None, (alone, self._lost_files()))))
        for remark in verdict.remarks:
            self._sink.say(remark)
        record(self._node.termination_log, verdict, self._sink)
        self._sink.say("%s (exit %d)" % (root_cause.summary(verdict), code))

    def leave(self) -> None:
        """Leave, as a follower does."""
        self._stop(0.0)

    def leave_last(self, followers: Optional[server.Server], outcome: str) -> None:
        """Leave when the followers have gone, and their kubelets told; the Job deletes the pods that still run then."""
        waits = outcome != verdicts.STOPPED
        seen = KUBELET_LIMIT if waits and names.has_kubelet(self._node.pod_ip) else 0.0
        self._wait(followers, self._events.now() + (LEAVE_LIMIT if waits else FLUSH_LIMIT), seen)

    def _wait(self, followers: Optional[server.Server], deadline: float, seen: float) -> None:
        if followers is None or self._events.now() >= deadline:
            self._stop(0.0)
        elif followers.idle:
            self._stop(seen)
        else:
            self._events.after(0.005, lambda: self._wait(followers, deadline, seen))

    def _stop(self, pause: float) -> None:
        if self._code == exit_codes.STOPPED:
            pause = max(pause, self._stay_until - self._events.now())
        self._events.after(pause, lambda: self._events.stop(self._code))

    def _lost_files(self) -> str:
        """Return what is to be said of files that end with this pod; `run --local` keeps them."""
        node = self._node
        if not (node.work_dir and node.code_zip and names.has_kubelet(node.pod_ip)):
            return ""
        try:
            return leftovers.sentence(node.work_dir, node.code_zip)
        except Exception:  # whatever a script has made there is no reason not to end
            return ""


def record(path: str, verdict: verdicts.Verdict, sink: rank_output.Sink) -> None:
    """Write the termination log; a log that cannot be written must not change the exit code."""
    try:
        with open(path, "wb") as file:
            file.write(verdicts.encode(verdict))
    except OSError as error:
        sink.say("the termination log %s cannot be written: %s" % (path, error.strerror))
