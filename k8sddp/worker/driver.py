"""Carries out what the gang's state machines decide on this node: connections, ranks, verdict, exit.

The only place where member, coordinator (on node 0), launcher and loop meet. It holds no rules of its own but the
order of leaving: followers first, node 0 last, because its exit code ends the Job and the pods that still run then are
deleted together with what they had to say. Every wait for what may be broken has a limit: a connection that says
nothing, ranks that do not end, followers that do not leave. The wait for nodes to come has none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Optional, Union

from . import leftovers, readiness, root_cause, status, storage
from .contract import exit_codes, node_env
from .contract import verdict as verdicts
from .gang import coordinator, effects, member, messages, plan, retrying, roster
from .net import dialer, loop, loopback, master_ports, names, server
from .ranks import attempt, process_tree, rank_output, reports, shm
from .ranks.launcher import rank_env

LEAVE_LIMIT = process_tree.LIMIT + 5.0  # seconds that node 0 waits for followers to leave
FLUSH_LIMIT = 0.5  # seconds for the last messages when nobody is waited for
KUBELET_LIMIT = 1.5  # seconds until kubelets, which look once a second, have told that the followers have ended
REMIND, LAST_REMIND = 30.0, 300.0  # seconds between two lines about why node 0 is not reached, then doubled

SEPARATE = "no rank joined a process group (init_process_group was never called): the %d ranks trained separately"

# State of the member -> what /readyz says while no ranks run
READINESS = {
    member.SEEKING: "looking for node 0",
    member.WAITING: "waiting for the other nodes",
    member.RUNNING: "starting",
    member.ENDING: "ending an attempt",
    member.LEAVING: "ending",
}

STATES = {  # and in /status
    member.SEEKING: "joining",
    member.WAITING: "waiting",
    member.RUNNING: "training",
    member.ENDING: "restarting",
    member.LEAVING: "ending",
}


class Driver:
    """One node's life from joining to its exit code, which `loop.run` returns."""

    def __init__(
        self,
        events: loop.Loop,
        sink: rank_output.Sink,
        node: node_env.NodeEnv,
        words: tuple[str, ...],
        *,
        own: messages.Join,
        place: rank_env.Place,
        listener: Optional[socket.socket],
    ) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._words = words
        self._place = place
        self._timer: Optional[loop.Timer] = None
        self._due: Optional[float] = None  # when it rings
        self._ranks: Optional[attempt.NodeAttempt] = None
        self._memory = shm.SharedMemory(node.shm_dir)
        self.readiness = readiness.Readiness(
            events, state=lambda: READINESS[self._member.state], leaving=lambda: self._member.ending
        )
        self._code = exit_codes.FAILED
        self._stay_until = 0.0  # a pod that was asked to stop does not leave before
        self._leaving = False
        self._host = names.qualify(node.coordinator, node.namespace, names.read_resolv_conf())
        now = events.now()
        self._looked, self._next_line, self._pause = now, now + 1.0, REMIND
        self._member = member.Member(
            node.job, own, max_attempts=node.max_attempts, join_timeout=node.join_timeout, now=now
        )
        self._gang: Optional[coordinator.Coordinator] = None
        self._server: Optional[server.Server] = None
        self._node_0: Union[dialer.Dialer, loopback.Loopback]
        events.on_sleep(self._slept)
        if node.node_rank == 0:
            self._gang = coordinator.Coordinator(self._plan(), own, now=now)
            self._node_0 = self._itself()
            if listener is not None:
                self._server = self._serve(listener)
        else:
            self._node_0 = self._find()

    def start(self) -> None:
        """Begin to join."""
        self._act(self._member.start())

    def asked_to_stop(self, signum: int) -> None:
        """Answer SIGTERM and the like."""
        name = root_cause.signal_name(signum)
        if self._member.ending or not names.has_kubelet(self._node.pod_ip):
            self._sink.say("%s: stopping" % name)
            self._act(self._member.asked_to_stop(name))
            return
        node = self._node
        leave = storage.look(node.volumes, self._sink.written, grace=node.grace_period, limit=node.ephemeral_limit)
        fault = None
        if leave.why:
            fault = root_cause.Failure("evicted", node.node_rank, node.pod_name, node.kube_node, detail=leave.why)
        self._sink.say("%s: stopping%s" % (name, ": " + leave.why if fault else ""))
        self._stay_until = self._events.now() + leave.linger
        self._act(self._member.asked_to_stop(name, fault=fault))
        if fault:
            self._events.after(storage.SAVING, lambda: self._act(self._member.asked_to_stop(name)))

    def facts(self) -> status.Facts:
        """Return what /status and /metrics tell."""
        node, known = self._node, self._member.memory
        ledger = self._gang.ledger if self._gang else None
        training = self.readiness.ready
        return status.Facts(
            job=node.job,
            namespace=node.namespace,
            node_rank=node.node_rank,
            nnodes=node.nnodes,
            nproc_per_node=node.nproc_per_node,
            pod=node.pod_name,
            kube_node=node.kube_node,
            state="training" if training else STATES[self._member.state],
            attempt=known.attempt if known.attempt >= 0 else None,
            max_attempts=node.max_attempts,
            spent=ledger.spent if ledger else known.spent,
            history=ledger.history if ledger else known.history,
            nodes=self._gang.states() if self._gang else {},
            ranks=self._ranks.progress() if self._ranks and training else (),
            rss=process_tree.resident_bytes(),
        )

    def _plan(self) -> plan.Plan:
        node = self._node
        return plan.Plan(
            job=node.job,
            master_addr=names.master_addr(self._host, node.pod_ip),
            first_port=node.first_master_port,
            token=os.urandom(4).hex(),
            max_attempts=node.max_attempts,
            rules=retrying.Rules(node.fail_on, node.retry_on),
            grace_period=node.grace_period,
            usable=master_ports.MasterPorts().usable,
        )

    def _serve(self, listener: socket.socket) -> server.Server:
        return server.Server(
            self._events,
            listener,
            self._node.job_uid,
            nnodes=self._node.nnodes,
            say=self._sink.say,
            on_message=self._from_member,
            on_lost=self._member_lost,
        )

    def _itself(self) -> loopback.Loopback:
        return loopback.Loopback(
            self._events,
            to_coordinator=lambda message: self._from_member(roster.LOCAL, message),
            on_up=lambda: self._act(self._member.connection_up()),
            on_message=lambda message: self._act(self._member.received(message, self._events.now())),
        )

    def _find(self) -> dialer.Dialer:
        def lost(problem: str) -> None:
            self._say_problem(problem)
            self._act(self._member.connection_lost(problem, self._events.now()))

        return dialer.Dialer(
            self._events,
            self._host,
            self._node.port,
            key=self._node.job_uid,
            nnodes=self._node.nnodes,
            on_up=lambda: self._act(self._member.connection_up()),
            on_message=lambda message: self._act(self._member.received(message, self._events.now())),
            on_lost=lost,
        )

    # Effects ------------------------------------------------------------------------------------------------------

    def _act(self, todo: Sequence[effects.Effect]) -> None:
        for effect in todo:
            if isinstance(effect, effects.Tell):
                self._node_0.send(effect.message)
            elif isinstance(effect, effects.Dial):
                self._node_0.dial()
            elif isinstance(effect, effects.Launch):
                self._launch(effect.attempt)
            elif isinstance(effect, effects.EndRanks):
                self._end_ranks(grace=effect.grace)
            elif isinstance(effect, effects.Exit):
                self._exit(effect.verdict, effect.code)
            elif isinstance(effect, effects.Send):
                self._send(effect.peer, effect.message)
            elif isinstance(effect, effects.Close):
                if self._server:
                    self._server.close(effect.peer)
            else:
                self._sink.say(effect.text)
        self._set_timer()

    def _send(self, peer: roster.Peer, message: messages.Message) -> None:
        if isinstance(self._node_0, loopback.Loopback) and peer == roster.LOCAL:
            self._node_0.deliver(message)
        elif self._server:
            self._server.send(peer, message)

    def _from_member(self, peer: roster.Peer, message: messages.Message) -> None:
        if self._gang:
            self._act(self._gang.received(peer, message, self._events.now()))

    def _member_lost(self, peer: roster.Peer, how: str) -> None:
        if self._gang:
            self._act(self._gang.lost(peer, self._events.now(), how))

    def _slept(self, seconds: float) -> None:
        self._sink.say("this worker did not run for %.0f s: it, its pod or its machine was stopped" % seconds)
        if self._gang:
            self._gang.slept(seconds, self._events.now())

    def _say_problem(self, problem: str) -> None:
        now, since = self._events.now(), self._member.since
        if since != self._looked:
            self._looked, self._next_line, self._pause = since, since + 1.0, REMIND
        if not self._member.ending and now >= self._next_line:
            self._next_line, self._pause = now + self._pause, min(LAST_REMIND, 2 * self._pause)
            text = "node %d looks for node 0, %s so far: %s"
            self._sink.say(text % (self._node.node_rank, member.duration(now - since), problem))

    # The attempt --------------------------------------------------------------------------------------------------

    def _launch(self, terms: messages.Attempt) -> None:
        node = self._node
        first = node.node_rank * node.nproc_per_node
        last = first + node.nproc_per_node - 1
        self._sink.say(
            "attempt %d starts: node %d of %d, %s by %s, master %s port %d"
            % (
                terms.number,
                node.node_rank,
                node.nnodes,
                "rank %d" % first if first == last else "ranks %d-%d" % (first, last),
                node.launcher,
                terms.master_addr,
                terms.master_port,
            )
        )
        listener = reports.Listener(
            failed=self._rank_failed,
            left=lambda rank: self._act(self._member.rank_left(rank)),
            back=lambda: self._act(self._member.ranks_back()),
            complete=lambda: self._act(self._member.ranks_complete()),
            over=lambda: self._act(self._member.ranks_over()),
        )
        folder = os.path.join(node.scratch_dir, "k8sddp-%s-%s" % (node.pod_name, os.urandom(4).hex()))
        self._ranks = attempt.NodeAttempt(
            self._events, self._sink, node, folder=folder, memory=self._memory, listener=listener
        )
        try:
            self._ranks.start(terms, self._words, place=self._place._replace(rank_dir=folder))
        except OSError as error:
            detail = "the launcher cannot be started: %s" % error
            self._rank_failed(  # short of memory, processes or descriptors: hardly ever the job file
                root_cause.Failure("infrastructure", node.node_rank, node.pod_name, node.kube_node, detail=detail)
            )
            self._act(self._member.ranks_over())
            return
        self.readiness.change(ready=True)

    def _rank_failed(self, failure: root_cause.Failure) -> None:
        if self._member.state == member.RUNNING:  # else it is we who end the ranks
            self._sink.say(root_cause.sentence(failure))
        self._act(self._member.rank_failed(failure))

    def _end_ranks(self, *, grace: bool) -> None:
        self.readiness.change(ready=False)

        def ended(left: tuple[int, ...]) -> None:
            if not self._leaving:
                self._act(self._member.ranks_ended(left, self._events.now()))

        if self._ranks:
            self._ranks.end(ended, grace=grace)
        else:
            ended(())

    # The end ------------------------------------------------------------------------------------------------------

    def _exit(self, verdict: verdicts.Verdict, code: int) -> None:
        self._leaving = True
        self._code = code
        if verdict.outcome == verdicts.COMPLETE:
            verdict = verdict._replace(remarks=tuple(filter(None, (self._separate(), self._lost_files()))))
        for remark in verdict.remarks:
            self._sink.say(remark)
        record(self._node.termination_log, verdict, self._sink)
        self._sink.say("%s (exit %d)" % (root_cause.summary(verdict), code))
        if self._gang is None:
            self._node_0.close()
            self._stop(0.0)
        else:
            waits = verdict.outcome != verdicts.STOPPED
            seen = KUBELET_LIMIT if waits and names.has_kubelet(self._node.pod_ip) else 0.0
            self._leave_last(self._events.now() + (LEAVE_LIMIT if waits else FLUSH_LIMIT), seen)

    def _separate(self) -> str:
        """Return what is to be said if no group formed; of one that forms all ranks are members, node 0's too."""
        ranks = self._node.nnodes * self._node.nproc_per_node
        return SEPARATE % ranks if self._gang and ranks > 1 and self._ranks and self._ranks.separate else ""

    def _lost_files(self) -> str:
        """Return what is to be said of files that end with this pod; `run --local` keeps them."""
        node = self._node
        if not (node.work_dir and node.code_zip and names.has_kubelet(node.pod_ip)):
            return ""
        try:
            return leftovers.sentence(node.work_dir, node.code_zip)
        except Exception:  # whatever a script has made there is no reason not to end
            return ""

    def _leave_last(self, deadline: float, seen: float) -> None:
        """End when the followers have gone, and `seen` later; the Job deletes the pods that still run then."""
        if self._server is None or self._events.now() >= deadline:
            self._stop(0.0)
        elif self._server.idle:
            self._stop(seen)
        else:
            self._events.after(0.005, lambda: self._leave_last(deadline, seen))

    def _stop(self, pause: float) -> None:
        if self._code == exit_codes.STOPPED:
            pause = max(pause, self._stay_until - self._events.now())
        self._events.after(pause, lambda: self._events.stop(self._code))

    def _set_timer(self) -> None:
        due = self._gang.deadline() if self._gang else None
        if due == self._due:
            return  # as after most messages
        self._due = due
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._events.after(max(0.0, due - self._events.now()), self._tick)

    def _tick(self) -> None:
        self._due = None
        if self._gang:
            self._act(self._gang.tick(self._events.now()))


def record(path: str, verdict: verdicts.Verdict, sink: rank_output.Sink) -> None:
    """Write the termination log; a log that cannot be written must not change the exit code."""
    try:
        with open(path, "wb") as file:
            file.write(verdicts.encode(verdict))
    except OSError as error:
        sink.say("the termination log %s cannot be written: %s" % (path, error.strerror))
