"""Carries out what the gang's state machines decide on this node: connections, ranks, verdict, exit.

The only place where member, coordinator (on node 0), connections, launcher and loop meet. It holds no rules of its own:
those of the gang are in gang/, how the worker leaves is in leaving.py. Every wait for what may be broken has a limit: a
connection that says nothing, ranks that do not end, followers that do not leave. The wait for nodes to come has none.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Optional

from . import connections, leaving, overview, readiness, root_cause, status, storage
from .contract import finding, node_env
from .contract import verdict as verdicts
from .contract.stacks import RankStack
from .gang import coordinator, effects, member, messages, plan, reminders, retrying, roster
from .net import loop, master_ports, names
from .preflight import peers
from .ranks import attempt, process_tree, rank_output, reports, shm
from .ranks.launcher import rank_env


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
        visits: peers.Peers,
    ) -> None:
        self._events = events
        self._sink = sink
        self._node = node
        self._words = words
        self._place = place
        self._peers = visits
        self._timer: Optional[loop.Timer] = None
        self._due: Optional[float] = None  # when it rings
        self._ranks: Optional[attempt.NodeAttempt] = None
        self._memory = shm.SharedMemory(node.shm_dir)
        self._leaving = leaving.Leaving(events, sink, node)
        self.readiness = readiness.Readiness(
            events, state=lambda: readiness.STATES[self._member.state], leaving=lambda: self._member.ending
        )
        self._host = names.qualify(node.coordinator, node.namespace, names.read_resolv_conf())
        now = events.now()
        self._search = reminders.Reminder(now)  # for node 0
        self._member = member.Member(
            node.job, own, max_attempts=node.max_attempts, join_timeout=node.join_timeout, now=now
        )
        self._gang: Optional[coordinator.Coordinator] = None
        events.on_sleep(self._slept)
        if node.node_rank == 0:
            self._gang = coordinator.Coordinator(self._plan(), own, now=now)
        self._connections = connections.Connections(
            events, node, self._host, socket_=listener, listener=self._listener(), say=sink.say
        )
        self._overview = overview.Overview(
            events,
            node,
            gang=self._gang.watch.ranks if self._gang else None,
            clear=lambda: self._connections.clear,
            tell=self._connections.tell,
            say=sink.say,
        )

    def start(self) -> None:
        """Begin to join."""
        self._act(self._member.start())

    def asked_to_stop(self, signum: int) -> None:
        """Answer SIGTERM and the like."""
        name = root_cause.signal_name(signum)
        fault = None if self._member.ending else self._leaving.fault()
        self._sink.say("%s: stopping%s" % (name, ": " + fault.detail if fault else ""))
        self._act(self._member.asked_to_stop(name, fault=fault))
        if fault:
            self._events.after(storage.SAVING, lambda: self._act(self._member.asked_to_stop(name)))

    def look(
        self, done: Callable[[tuple[RankStack, ...]], None], ranks: Optional[Collection[int]] = None
    ) -> Optional[Callable[[], None]]:
        """Call `done` once with what these ranks of this node (None: all) do, with none where none run or save."""
        if self._ranks and not self._ranks.over:
            return self._ranks.look(done, ranks)
        done(())
        return None

    def facts(self, chosen: Optional[range]) -> status.Facts:
        """Return what /status and /metrics tell, with the ranks that are chosen or, if none are, a fit number."""
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
            state="training" if training else status.STATES[self._member.state],
            attempt=known.attempt if known.attempt >= 0 else None,
            max_attempts=node.max_attempts,
            spent=ledger.spent if ledger else known.spent,
            history=ledger.history if ledger else known.history,
            nodes=self._gang.states() if self._gang else {},
            progress=self._overview.summary(),
            stragglers=self._overview.stragglers,
            hang=self._gang.watch.told if self._gang and training else None,
            ranks=self._overview.ranks(chosen),
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
            rules=retrying.Rules(node.fail_on, node.retry_on, node.on_hang),
            grace_period=node.grace_period,
            usable=master_ports.MasterPorts().usable,
            preflight=node.preflight,
            only_preflight=node.only_preflight,
            hang_timeout=node.hang_timeout,
            blocking=node.backend == "gloo",
        )

    def _listener(self) -> connections.Listener:
        def lost(problem: str) -> None:
            self._say_problem(problem)
            self._act(self._member.connection_lost(problem, self._events.now()))

        return connections.Listener(
            up=lambda: self._act(self._member.connection_up()),
            told=lambda message: self._act(self._member.received(message, self._events.now())),
            lost=lost,
            heard=self._from_member,
            member_lost=self._member_lost,
        )

    # Effects ------------------------------------------------------------------------------------------------------

    def _act(self, todo: Sequence[effects.Effect]) -> None:
        for effect in todo:
            if isinstance(effect, effects.Tell):
                self._connections.tell(effect.message)
            elif isinstance(effect, effects.Dial):
                self._connections.dial()
            elif isinstance(effect, effects.Visit):
                self._visit(effect.check)
            elif isinstance(effect, effects.Launch):
                self._launch(effect.attempt)
            elif isinstance(effect, effects.LookAtRanks):
                self._look(effect.message)
            elif isinstance(effect, effects.EndRanks):
                self._end_ranks(grace=effect.grace)
            elif isinstance(effect, effects.Exit):
                self._exit(effect.verdict, effect.code)
            elif isinstance(effect, effects.Send):
                self._connections.send(effect.peer, effect.message)
            elif isinstance(effect, effects.Close):
                self._connections.close(effect.peer)
            else:
                self._sink.say(effect.text)
        self._set_timer()

    def _visit(self, check: messages.Check) -> None:
        def done(found: Sequence[finding.Finding]) -> None:
            self._act(self._member.checked(messages.Checked(check.round, finding.to_records(found))))

        self._peers.look(check, done)

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
        if since != self._search.since:
            self._search.begin(since)
        if not self._member.ending and self._search.rings(now):
            text = "node %d looks for node 0, %s so far: %s"
            self._sink.say(text % (self._node.node_rank, member.duration(now - since), problem))

    # The attempt --------------------------------------------------------------------------------------------------

    def _launch(self, terms: messages.Attempt) -> None:
        node = self._node
        first, last = node.ranks[0], node.ranks[-1]
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
        self._overview.begin(terms.number, self._ranks.progress)

    def _look(self, asked: messages.Look) -> None:
        told = self._overview.first(lambda rows: self._act(self._member.seen(asked, rows)))
        if self._ranks:
            self._ranks.looking.take(asked, told)

    def _rank_failed(self, failure: root_cause.Failure) -> None:
        if self._member.state == member.RUNNING:  # else it is we who end the ranks
            self._sink.say(root_cause.sentence(failure))
        self._act(self._member.rank_failed(failure))

    def _end_ranks(self, *, grace: bool) -> None:
        self.readiness.change(ready=False)
        self._overview.end()

        def ended(left: tuple[int, ...]) -> None:
            if not self._leaving.begun:
                self._act(self._member.ranks_ended(left, self._events.now()))

        if self._ranks:
            self._ranks.end(ended, grace=grace)
        else:
            ended(())

    # The end ------------------------------------------------------------------------------------------------------

    def _exit(self, verdict: verdicts.Verdict, code: int) -> None:
        alone = self._node.nnodes * self._node.nproc_per_node == 1
        # of a group that forms all ranks are members, node 0's too
        separate = self._gang is not None and not alone and self._ranks is not None and self._ranks.separate
        self._leaving.last_word(verdict, code, separate=separate)
        if self._gang is None:
            self._connections.leave()
            self._leaving.leave()
        else:
            self._leaving.leave_last(self._connections.followers, verdict.outcome)

    # Time -------------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        due = self._gang.deadline() if self._gang else None
        if due == self._due:
            return  # as after most messages
        self._due = due
        if self._timer:
            self._timer.cancel()
        wait = max(0.0, (due or 0.0) - self._events.now())
        self._timer = self._events.after(wait, self._tick) if due is not None else None

    def _tick(self) -> None:
        self._due = None
        if self._gang:
            self._act(self._gang.tick(self._events.now()))
