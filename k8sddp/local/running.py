"""The run itself: start the pods, pass their lines on, judge their ends, replace what is lost, end what is left.

One thread and one selector. A pod that the Job replaces is replaced here too, after a back-off, and never before every
process of the old one has ended. However the run ends (the Job's own end, its deadline, a signal, an error of the
caller's functions), every process of every pod has ended and the scratch folders are gone before `run` returns.
"""

from __future__ import annotations

import selectors
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Final

from k8sddp.local import checks, faults, judge, keeper, pods, processes, results, scratch, signals
from k8sddp.local import machine as machines
from k8sddp.local.results import Result
from k8sddp.manifest import Manifest
from k8sddp.worker.contract import exit_codes, node_env
from k8sddp.worker.contract import verdict as verdicts

PATIENCE: Final = keeper.SWEEP_LIMIT + 5.0  # seconds beyond the grace period in which a keeper must have ended


def run(
    manifests: Sequence[Manifest],
    *,
    work_dir: Path,
    out: Callable[[bytes], None],
    report: Callable[[str], None],
    machine: machines.Machine | None = None,
    asked: Sequence[faults.Fault] = (),
) -> Result:
    """Run the rendered Job here and return how it ended; `asked` are the faults that its ranks bring about.

    `out` gets whole lines of the pods, as they come; `report` gets remarks on the run itself, one sentence each. The
    user's volumes are made in `work_dir`/NAME and kept. SIGINT, SIGTERM and SIGHUP stop the pods within their grace
    period, a second one at once. Raises LocalError, before anything is started, where this machine cannot run the job.
    """
    machine = machine or machines.observe()
    checks.system(machine)
    job = pods.only_job(manifests)
    name = job["metadata"]["name"]
    with signals.watching() as watch, scratch.places(machine=machine, work_dir=work_dir, job=name) as places:
        extra = {node_env.FAULTS: faults.text(asked)} if asked else {}
        template = pods.template(manifests, machine=machine, places=places, job_uid=str(uuid.uuid4()), extra=extra)
        layout = checks.programs(template.first(), machine=machine)
        checks.ports(layout)
        scratch.prepare(layout)
        with processes.subreaper(), _Run(template, watch=watch, out=out, report=report, asked=asked) as running:
            running.start(layout)
            running.wait()
        for fault in asked:
            if fault not in running.happened:
                report(fault.never_happened())
        return results.of_run(
            name,
            volumes=scratch.kept(layout),
            written=running.verdicts,
            decision=running.decision,
            interrupted=running.interrupted,
            seconds=time.monotonic() - running.started,
        )


class _Run:
    """The pods of one run, and what is known of them."""

    def __init__(
        self,
        template: pods.Template,
        *,
        watch: signals.Watch,
        out: Callable[[bytes], None],
        report: Callable[[str], None],
        asked: Sequence[faults.Fault],
    ) -> None:
        self.verdicts: dict[str, verdicts.Verdict] = {}  # by pod, in the order of their ends
        self.happened: set[faults.Fault] = set()
        self.decision: judge.Decision | None = None
        self.interrupted: Signals | None = None
        self.started = time.monotonic()
        self._template = template
        self._job_spec = template.job["spec"]
        self._asked = asked
        self._ends: list[judge.End] = []  # of the pods that ended on their own
        self._due: list[tuple[float, judge.Replacement]] = []  # and when they start
        self._watch = watch
        self._out = out
        self._report = report
        self._alive: dict[int, processes.PodProcess] = {}  # by keeper pid
        self._children = processes.children()
        self._selector = selectors.DefaultSelector()
        self._selector.register(watch, selectors.EVENT_READ, self._on_signal)
        limit = self._job_spec.get("activeDeadlineSeconds")
        self._deadline = None if limit is None else self.started + float(limit)
        self._killing: float | None = None  # when keepers that do not obey are killed

    def __enter__(self) -> _Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process that is left, which is none unless something was raised."""
        self._out = _nowhere  # it may be what raised
        self._due.clear()
        self._send(keeper.KILL)
        self._killing = time.monotonic() + PATIENCE
        self.wait()
        processes.sweep(spared=self._children)
        self._selector.close()

    def start(self, layout: Sequence[pods.LocalPod]) -> None:
        """Start these pods."""
        for pod in layout:
            process = processes.PodProcess(pod)
            self._alive[process.pid] = process
            self._selector.register(process.output, selectors.EVENT_READ, lambda p=process: self._out(p.read()))
            self._selector.register(process.control, selectors.EVENT_READ, lambda p=process: self._on_end(p))

    def wait(self) -> None:
        """Return when all pods have ended and none is to follow."""
        while self._alive or self._due:
            for key, _ in self._selector.select(self._wait_seconds()):
                if key.fileobj in self._selector.get_map():  # an earlier event of this round may have closed it
                    key.data()
            self._on_time(time.monotonic())

    def _on_end(self, process: processes.PodProcess) -> None:
        self._selector.unregister(process.output)
        self._selector.unregister(process.control)
        del self._alive[process.pid]
        printed, code = process.finish()
        processes.sweep(spared=[*self._children, *self._alive])
        pod, over = process.pod, self._is_over()
        self._note(pod, code)
        if not over:
            self._decide(judge.decide(self._job_spec, self._ends))
        self._out(printed)
        if not self._is_over():
            self._follow(pod)

    def _note(self, pod: pods.LocalPod, code: int) -> None:
        """Keep what is known of a pod that has ended; of one that was told to end, its code says nothing."""
        verdict = results.read(pod.termination_log)
        if verdict is not None:
            self.verdicts[pod.name] = verdict
        happened = faults.happened(Path(pod.env.get(node_env.SCRATCH_DIR) or pod.folders.scratch), self._asked)
        self.happened.update(happened)
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
            self._report(f"{results.ending(self._ends[-1])}; {name} replaces it in {following.delay:g} s")

    def _replace(self, following: judge.Replacement) -> None:
        pod = self._template.pod(
            following.index, ordinal=following.ordinal, failures=following.failures, ignored=following.ignored
        )
        layout = checks.programs([pod], machine=self._template.machine)
        scratch.prepare(layout)
        self.start(layout)

    def _is_over(self) -> bool:
        return self.decision is not None or self.interrupted is not None

    def _decide(self, decision: judge.Decision | None) -> None:
        self.decision = decision
        if decision is not None:
            self._stop()

    def _on_signal(self) -> None:
        for number in self._watch.read():
            if self.interrupted is not None:
                self._send(keeper.KILL)
                continue
            self.interrupted = number
            count = f"{len(self._alive)} pod{'' if len(self._alive) == 1 else 's'}"
            if self._alive:
                self._report(f"{number.name}: stopping {count} within {self._grace():g} s; once more kills")
            self._stop()

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

    def _stop(self) -> None:
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


def _nowhere(_data: bytes) -> None:
    """Take the last lines of a run that is given up."""
