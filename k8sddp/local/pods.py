"""The rendered Job -> one value per pod that says what to start here, and how. Pure: nothing is read or written.

The same container command, environment and files as on a cluster, each pod with an address of its own,
127.0.BLOCK.(2 + index), and folders of its own. The first pod of an index is NAME-INDEX, the next ones NAME-INDEX-2,
NAME-INDEX-3 and so on, where a cluster has random letters. What cannot be had here is refused with its name, before
anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k8sddp import errors
from k8sddp.local import addresses, devices, environment, mounts
from k8sddp.local import machine as machines
from k8sddp.manifest import Manifest
from k8sddp.render import container_env
from k8sddp.worker.contract import node_env


@dataclass(frozen=True)
class Places:
    """Where a run writes: `scratch` and `memory` are removed at its end, `volumes` and `files` are the user's.

    `link` is a shorter path of `scratch`, if there is one.
    """

    scratch: Path
    memory: Path
    volumes: Path
    files: Path
    link: Path | None = None

    def of_pod(self, first_name: str, name: str, own: str) -> mounts.Folders:
        """Return the folders of one pod: volumes are found under the index's first name, all else is its own."""
        return mounts.Folders(
            claims=self.volumes / "volumes",
            kept=self.volumes / first_name / "volumes",
            work=self.files / name,
            scratch=self.scratch / "pods" / own,
            temporary=(self.link or self.scratch) / own,
            memory=self.memory / own,
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


def name_of(job: Manifest, index: int, *, ordinal: int = 1) -> str:
    """Return the name of the `ordinal`-th pod of an index."""
    first = f"{job['metadata']['name']}-{index}"
    return f"{first}-{ordinal}" if ordinal > 1 else first


@dataclass(frozen=True)
class Template:
    """What every pod of a run is made from, the first ones and those that replace them."""

    job: Manifest
    configs: tuple[Manifest, ...]
    shares: tuple[tuple[str, ...], ...]  # of the GPUs, by index
    machine: machines.Machine
    places: Places
    job_uid: str
    extra: Mapping[str, str]  # environment that the run itself adds
    block: int = 0  # of the pods' addresses

    def first(self) -> tuple[LocalPod, ...]:
        """Return the first pod of every index."""
        return tuple(self.pod(index) for index in range(len(self.shares)))

    def pod(self, index: int, *, ordinal: int = 1, failures: int = 0, ignored: int = 0) -> LocalPod:
        """Return the `ordinal`-th pod of an index, of whose earlier ones the Job counted `failures` and `ignored`.

        Raises LocalError naming the volume or the variable that this machine cannot give.
        """
        job, pod_spec = self.job, self.job["spec"]["template"]["spec"]
        container = pod_spec["containers"][0]
        who = environment.Identity(name_of(job, index, ordinal=ordinal), index, failures, ignored, self.block)
        own_name = f"{index}-{ordinal}" if ordinal > 1 else str(index)
        folders = self.places.of_pod(name_of(job, index), who.name, own_name)
        asked = environment.of_container(job, who, hostname=self.machine.hostname, job_uid=self.job_uid)
        own = {asked[path]: _own_folder(path, asked[path], folders) for path in node_env.PATHS if asked.get(path)}
        mounted = mounts.of_pod(pod_spec, folders=folders, own=own, configs=self.configs)
        env = environment.of_pod(asked, job=job, who=who, mounted=mounted, scratch=folders.scratch)
        # The program may lie in a volume of the user's; a path in our own empty scratch can only mean this machine's.
        users = [mount for mount in mounted if mount.kept]
        program, *words = [
            container_env.expand(word, asked) for word in (*container["command"], *(container.get("args") or ()))
        ]
        directory = mounts.relocate(container.get("workingDir") or asked.get(node_env.WORK_DIR) or "", mounted)
        around = environment.of_machine(
            self.machine, devices=self.shares[index], temporary=env.get(node_env.SCRATCH_DIR, "")
        )
        return LocalPod(
            index=index,
            name=who.name,
            argv=(mounts.relocate(program, users), *(mounts.relocate(word, mounted) for word in words)),
            env={**around, **env, **self.extra},
            cwd=Path(directory) if directory else self.machine.directory,
            folders=folders,
            mounts=mounted,
            termination_log=Path(env.get(node_env.TERMINATION_LOG) or folders.scratch / "termination-log"),
            grace_period=float(pod_spec.get("terminationGracePeriodSeconds", 30)),
        )


def template(
    manifests: Sequence[Manifest],
    *,
    machine: machines.Machine,
    places: Places,
    job_uid: str,
    extra: Mapping[str, str] | None = None,
) -> Template:
    """Return what the pods of the Job are made from.

    Raises LocalError naming the GPUs or the number of pods that this machine cannot give.
    """
    job = only_job(manifests)
    name, count = job["metadata"]["name"], int(job["spec"].get("completions") or 1)
    if count > addresses.MAX_PODS:
        raise errors.LocalError(
            f"{name}: {count} pods need an address each, and 127.0.0.x has {addresses.MAX_PODS}; "
            "lower spec.nnodes to run it here"
        )
    return Template(
        job=job,
        configs=tuple(manifest for manifest in manifests if manifest["kind"] == "ConfigMap"),
        shares=devices.shares(job, devices=machine.devices),
        machine=machine,
        places=places,
        job_uid=job_uid,
        extra=extra or {},
    )


def keeps_volumes(job: Manifest) -> bool:
    """Return whether the pods have volumes of the user's, which two runs cannot write at once."""
    pod_spec = job["spec"]["template"]["spec"]
    container = pod_spec["containers"][0]
    own = {entry.get("value") for entry in container.get("env") or () if entry["name"] in node_env.PATHS}
    paths = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts") or ()}
    return any("configMap" not in one and paths.get(one["name"]) not in own for one in pod_spec.get("volumes") or ())


def _own_folder(variable: str, path: str, folders: mounts.Folders) -> Path:
    """Return which folder here stands for a path of the worker's contract."""
    if variable == node_env.WORK_DIR:
        return folders.work
    if variable == node_env.SCRATCH_DIR:
        return folders.temporary
    return (folders.memory if variable == node_env.SHM_DIR else folders.scratch) / Path(path).name
