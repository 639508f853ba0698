"""The run itself: start the pods, pass their lines on, judge their ends, replace what is lost, end what is left.

One thread and one selector, which never waits for whoever reads the output. A pod that the Job replaces is replaced
here too, after a back-off, and never before every process of the old one has ended. However the run ends (the Job's own
end, its deadline, a signal, a reader that went away), every process of every pod has ended and the scratch folders are
gone before `run` returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import select
import selectors
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Final

from k8sddp.local import (
    addresses,
    checks,
    faults,
    judge,
    keeper,
    leftovers,
    looking,
    pods,
    processes,
    results,
    scratch,
    signals,
    users_paths,
)
from k8sddp.local import machine as machines
from k8sddp.local.output import Output
from k8sddp.local.results import Result
from k8sddp.manifest import Manifest
from k8sddp.worker.contract import exit_codes, node_env
from k8sddp.worker.contract import verdict as verdicts

MAX_LEFT: Final = 8  # folders that are named at the end
PATIENCE: Final = keeper.SWEEP_LIMIT + 5.0  # seconds beyond the grace period in which a keeper must have ended


def run(
    manifests: Sequence[Manifest],
    *,
    work_dir: Path,
    output: Output,
    live: bool = False,
    code_folder: Path | None = None,
    machine: machines.Machine | None = None,
    asked: Sequence[faults.Fault] = (),
    tell: looking.Tell | None = None,
) -> Result:
    """Run the rendered Job here and return how it ended; `asked` are the faults that its ranks bring about.

    `output` gets whole lines of the pods, as they come, and remarks on the run itself, one sentence each; with `live`
    the states of progress bars too, as lines that end with a carriage return and may be overwritten. The user's volumes
    and what the script writes into its working folder are in `work_dir`/NAME and kept; where an error names a file of
    the code, it is the one in `code_folder`. `tell` hears how far the gang is, in another thread. SIGINT, SIGTERM,
    SIGHUP and an error of the output stop the pods within their grace period, a second signal at once; SIGQUIT lets
    every worker print its ranks' stacks. Raises LocalError, before anything is started, where this machine cannot run
    the job, and in the end the error of the output.
    """
    machine = machine or machines.observe()
    checks.system(machine)
    job = pods.only_job(manifests)
    name = job["metadata"]["name"]
    with signals.watching() as watch, contextlib.ExitStack() as stack:
        alone = pods.keeps_volumes(job)
        places = stack.enter_context(scratch.places(machine=machine, work_dir=work_dir, job=name, alone=alone))
        extra = {node_env.FAULTS: faults.text(asked)} if asked else {}
        extra |= {node_env.LIVE: "1"} if live else {}
        template = pods.template(manifests, machine=machine, places=places, job_uid=str(uuid.uuid4()), extra=extra)
        checked = checks.programs(template.first(), machine=machine)
        with addresses.block(checks.ports(checked)) as block, output.hangup() as hangup, processes.subreaper():
            template = dataclasses.replace(template, block=block)
            layout = checks.programs(template.first(), machine=machine)
            scratch.begin(places.volumes)
            scratch.prepare(layout)
            code = leftovers.code_of(layout[0])
            paths = users_paths.UsersPaths(places.files, code, folder=code_folder)
            with _Run(template, watch=watch, output=output, asked=asked, code=code, paths=paths) as running:
                running.look_after(hangup)
                with looking.at(addresses.of_pod(0, block=block), checks.http_port(layout[0]), tell):
                    running.start(layout)
                    running.wait()
        _report_left(running.left, places.files, output)
        if running.lost is not None:
            raise running.lost
        for fault in asked:
            if fault not in running.happened:
                output.report(fault.never_happened())
        result = results.of_run(
            name,
            volumes=scratch.kept(layout),
            written=running.verdicts,
            decision=running.decision,
            interrupted=running.interrupted,
            seconds=time.monotonic() - running.started,
        )
        return dataclasses.replace(result, message=paths.in_sentence(result.message))


def _report_left(left: Sequence[leftovers.Leftovers], place: Path, output: Output) -> None:
    for one in left[:MAX_LEFT]:
        output.report(f"kept: {one}")
    if len(left) > MAX_LEFT:
        output.report(f"kept: {len(left) - MAX_LEFT} more folders in {place}")


class _Run:
    """The pods of one run, and what is known of them."""

    def __init__(
        self,
        template: pods.Template,
        *,
        watch: signals.Watch,
        output: Output,
        asked: Sequence[faults.Fault],
        code: Mapping[str, int],
        paths: users_paths.UsersPaths,
    ) -> None:
        self.verdicts: dict[str, verdicts.Verdict] = {}  # by pod, in the order of their ends
        self.left: list[leftovers.Leftovers] = []  # what the pods' scripts have written
        self.happened: set[faults.Fault] = set()
        self.decision: judge.Decision | None = None
        self.interrupted: Signals | None = None
        self.lost: BaseException | None = None  # why the output cannot be passed on any more
        self.started = time.monotonic()
        self._template = template
        self._job_spec = template.job["spec"]
        self._asked = asked
        self._code = code
        self._paths = paths
        self._ends: list[judge.End] = []  # of the pods that ended on their own
        self._due: list[tuple[float, judge.Replacement]] = []  # and when they start
        self._watch = watch
        self._output = output
        self._reading = True  # else the pods are held back
        self._given_up = False
        self._alive: dict[int, processes.PodProcess] = {}  # by keeper pid
        self._children = processes.children()
        self._selector = selectors.DefaultSelector()
        self._selector.register(watch, selectors.EVENT_READ, self._on_signal)
        self._selector.register(output, selectors.EVENT_READ, self._on_output)
        limit = self._job_spec.get("activeDeadlineSeconds")
        self._deadline = None if limit is None else self.started + float(limit)
        self._killing: float | None = None  # when keepers that do not obey are killed

    def __enter__(self) -> _Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process that is left, which is none unless something was raised."""
        self._given_up = True
        self._due.clear()
        self._send(keeper.KILL)
        self._killing = time.monotonic() + PATIENCE
        self.wait()
        processes.sweep(spared=self._children)
        self._selector.close()

    def look_after(self, hangup: select.epoll | None) -> None:
        """End the run when the reader of its output hangs up, also while nothing is printed."""
        if hangup is not None:

            def gone() -> None:
                self._selector.unregister(hangup)
                self._output.reader_gone()

            self._selector.register(hangup, selectors.EVENT_READ, gone)

    def start(self, layout: Sequence[pods.LocalPod]) -> None:
        """Start these pods."""
        for pod in layout:
            process = processes.PodProcess(pod)
            self._alive[process.pid] = process
            if self._reading:
                self._read(process)
            self._selector.register(process.control, selectors.EVENT_READ, lambda p=process: self._on_end(p))

    def wait(self) -> None:
        """Return when all pods have ended and none is to follow."""
        while self._alive or self._due:
            for key, _ in self._selector.select(self._wait_seconds()):
                if key.fileobj in self._selector.get_map():  # an earlier event of this round may have closed it
                    key.data()
            self._on_time(time.monotonic())

    def _read(self, process: processes.PodProcess) -> None:
        self._selector.register(process.output, selectors.EVENT_READ, lambda: self._pass_on(process.read()))

    def _pass_on(self, data: bytes) -> None:
        self._output.out(self._paths.in_lines(data))
        self._hold_back()

    def _hold_back(self) -> None:
        """Read the pods or let them wait, as the reader of the output allows."""
        if self._reading == self._output.full:
            self._reading = not self._reading
            for process in self._alive.values():
                if self._reading:
                    self._read(process)
                else:
                    self._selector.unregister(process.output)

    def _on_output(self) -> None:
        self._output.seen()
        if self._output.error is not None and self.lost is None:
            self.lost = self._output.error
            if self._alive and self.interrupted is None:
                gone = isinstance(self.lost, BrokenPipeError)
                problem = "nobody reads standard output any more" if gone else "standard output cannot be written"
                self._output.report(f"{problem}: {self._stopping()}")
            self._stop(hurried=True)
        self._hold_back()

    def _on_end(self, process: processes.PodProcess) -> None:
        if self._reading:
            self._selector.unregister(process.output)
        self._selector.unregister(process.control)
        del self._alive[process.pid]
        printed, code = process.finish()
        processes.sweep(spared=[*self._children, *self._alive])
        pod, over = process.pod, self._is_over()
        self._note(pod, code)
        if not over:
            self._decide(judge.decide(self._job_spec, self._ends))
        self._pass_on(printed)
        if not self._is_over():
            self._follow(pod)

    def _note(self, pod: pods.LocalPod, code: int) -> None:
        """Keep what is known of a pod that has ended; of one that was told to end, its code says nothing."""
        verdict = results.read(pod.termination_log)
        if verdict is not None:
            self.verdicts[pod.name] = verdict
        happened = faults.happened(Path(pod.env.get(node_env.SCRATCH_DIR) or pod.folders.scratch), self._asked)
        self.happened.update(happened)
        with contextlib.suppress(OSError):  # a script may have made what nobody can read; it stays where it is
            self.left += leftovers.of_pod(pod, self._code)
        if not self._is_over():
            lost = code != 0 and any(fault.kind == faults.LOSE_NODE for fault in happened)
            self._ends.append(judge.End(pod.name, pod.index, code, disrupted=lost))

    def _follow(self, pod: pods.LocalPod) -> None:
        """Let another pod take the place of one that has ended, where the Job does so."""
        following = judge.replacement(self._job_spec, self._ends)
        if following is None:
            return
        scratch.discard(pod)
        self._due.append((time.monotonic() + following.delay, following))
        if self._ends[-1].code != exit_codes.FOLLOWER_LEAVES:  # then the job is about to end, and nothing follows
            name = pods.name_of(self._template.job, following.index, ordinal=following.ordinal)
            self._output.report(f"{results.ending(self._ends[-1])}; {name} replaces it in {following.delay:g} s")

    def _replace(self, following: judge.Replacement) -> None:
        pod = self._template.pod(
            following.index, ordinal=following.ordinal, failures=following.failures, ignored=following.ignored
        )
        layout = checks.programs([pod], machine=self._template.machine)
        scratch.prepare(layout)
        self.start(layout)

    def _is_over(self) -> bool:
        return self._given_up or any(end is not None for end in (self.decision, self.interrupted, self.lost))

    def _decide(self, decision: judge.Decision | None) -> None:
        self.decision = decision
        if decision is not None:
            self._stop(hurried=decision.reason == judge.DEADLINE)

    def _on_signal(self) -> None:
        for number in self._watch.read():
            if number == signals.ASKS:
                self._send(keeper.SHOW)
                continue
            if self.interrupted is not None or self.lost is not None:
                self._send(keeper.KILL)
                continue
            self.interrupted = number
            if self._alive:
                self._output.report(f"{number.name}: {self._stopping()}")
            self._stop(hurried=True)

    def _stopping(self) -> str:
        pods_left = f"{len(self._alive)} pod{'' if len(self._alive) == 1 else 's'}"
        again = "once more" if self.interrupted else "Ctrl-C"
        return f"stopping {pods_left} within {self._grace():g} s; {again} kills"

    def _on_time(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline and not self._is_over():
            self._decide(judge.Decision(complete=False, reason=judge.DEADLINE))
        for when, following in tuple(self._due):
            if now >= when:
                self._due.remove((when, following))
                self._replace(following)
        if self._killing is not None and now >= self._killing:
            for process in self._alive.values():
                process.kill_keeper()

    def _stop(self, *, hurried: bool) -> None:
        """Ask every pod to end; where it is `hurried` none is held back by a reader any more, so that all can save."""
        self._output.lossy = self._output.lossy or hurried
        self._hold_back()
        self._due.clear()
        self._send(keeper.TERMINATE)
        self._killing = time.monotonic() + self._grace() + PATIENCE

    def _grace(self) -> float:
        return max((process.pod.grace_period for process in self._alive.values()), default=0.0)

    def _send(self, command: bytes) -> None:
        for process in self._alive.values():
            process.send(command)

    def _wait_seconds(self) -> float | None:
        ends = [self._killing, *(when for when, _ in self._due)]
        if not self._is_over():
            ends.append(self._deadline)
        times = [end for end in ends if end is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None
