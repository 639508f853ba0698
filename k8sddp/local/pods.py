"""The rendered Job -> one value per pod that says what to start here, and how. Pure: nothing is read or written.

The same container command, environment and files as on a cluster, each pod with an address of its own,
127.0.0.(2 + index), and folders of its own. What cannot be had here is refused with its name, before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k8sddp import errors
from k8sddp.local import devices, environment, mounts
from k8sddp.local import machine as machines
from k8sddp.manifest import Manifest
from k8sddp.render import container_env
from k8sddp.worker import node_env

MAX_PODS: Final = 253  # 127.0.0.2 to 127.0.0.254


@dataclass(frozen=True)
class Places:
    """Where a run writes: `scratch` and `memory` are removed at its end, `volumes` is the user's."""

    scratch: Path
    memory: Path
    volumes: Path

    def of_pod(self, index: int, name: str) -> mounts.Folders:
        """Return the folders of one pod."""
        return mounts.Folders(
            claims=self.volumes / "volumes",
            kept=self.volumes / name / "volumes",
            scratch=self.scratch / str(index),
            memory=self.memory / str(index),
        )


@dataclass(frozen=True)
class LocalPod:
    """One pod of the Job as this machine starts it."""

    index: int
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    folders: mounts.Folders
    mounts: tuple[mounts.Mount, ...]
    termination_log: Path
    grace_period: float  # seconds from SIGTERM to SIGKILL


def only_job(manifests: Sequence[Manifest]) -> Manifest:
    """Return the Job among the rendered manifests; raises LocalError unless there is exactly one."""
    jobs = [manifest for manifest in manifests if manifest["kind"] == "Job"]
    if len(jobs) != 1:
        raise errors.LocalError(f"{len(jobs)} Jobs among the manifests; a run needs exactly one")
    return jobs[0]


def layout(
    manifests: Sequence[Manifest], *, machine: machines.Machine, places: Places, job_uid: str
) -> tuple[LocalPod, ...]:
    """Return the pods of the Job, by index.

    Raises LocalError naming the volume, the variable, the GPUs or the number of pods that this machine cannot give.
    """
    job = only_job(manifests)
    name, count = job["metadata"]["name"], int(job["spec"].get("completions") or 1)
    if count > MAX_PODS:
        raise errors.LocalError(
            f"{name}: {count} pods need an address each, and 127.0.0.x has {MAX_PODS}; lower spec.nnodes to run it here"
        )
    configs = tuple(manifest for manifest in manifests if manifest["kind"] == "ConfigMap")
    return tuple(
        _pod(job, index, machine=machine, configs=configs, share=share, places=places, job_uid=job_uid)
        for index, share in enumerate(devices.shares(job, devices=machine.devices))
    )


def _pod(
    job: Manifest,
    index: int,
    *,
    machine: machines.Machine,
    configs: Sequence[Manifest],
    share: Sequence[str],
    places: Places,
    job_uid: str,
) -> LocalPod:
    pod_spec = job["spec"]["template"]["spec"]
    container = pod_spec["containers"][0]
    name = f"{job['metadata']['name']}-{index}"
    folders = places.of_pod(index, name)
    asked = environment.of_container(job, index=index, hostname=machine.hostname, job_uid=job_uid)
    own = [asked[path] for path in node_env.PATHS if asked.get(path)]
    mounted = mounts.of_pod(pod_spec, folders=folders, own=own, configs=configs)
    env = environment.of_pod(asked, job=job, index=index, mounted=mounted, scratch=folders.scratch)
    # The program may lie in a volume of the user's; a path in our own empty scratch can only mean this machine's.
    users = [mount for mount in mounted if mount.kept]
    program, *words = [
        container_env.expand(word, asked) for word in (*container["command"], *(container.get("args") or ()))
    ]
    directory = mounts.relocate(container.get("workingDir") or asked.get(node_env.WORK_DIR) or "", mounted)
    temporary = env.get(node_env.SCRATCH_DIR, "")
    return LocalPod(
        index=index,
        name=name,
        argv=(mounts.relocate(program, users), *(mounts.relocate(word, mounted) for word in words)),
        env=environment.of_machine(machine, devices=share, temporary=temporary) | env,
        cwd=Path(directory) if directory else machine.directory,
        folders=folders,
        mounts=mounted,
        termination_log=Path(env.get(node_env.TERMINATION_LOG) or folders.scratch / "termination-log"),
        grace_period=float(pod_spec.get("terminationGracePeriodSeconds", 30)),
    )
