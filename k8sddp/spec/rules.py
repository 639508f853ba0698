"""Rules between fields of job.yaml.

They read the plain values, not the model, so that they also speak while other fields are wrong: `Facts` withholds what
is wrong already, and a rule that needs such a value stays silent instead of blaming an innocent field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from k8sddp import constants
from k8sddp.spec import commands
from k8sddp.spec.fields import quantity_value
from k8sddp.spec.loading import Path
from k8sddp.spec.volumes import SOURCES

_OUR_PATHS: Final = ("/k8sddp", "/tmp", "/dev/shm")  # noqa: S108 - mount points in the container
_OUR_VOLUME_PREFIX: Final = "k8sddp-"


class Fault(NamedTuple):
    """One broken rule: the field to blame, what is wrong, and the remedy."""

    path: Path
    rule: str
    hint: str = ""
    at_key: bool = False


class _UnknownError(Exception):
    """The value is wrong already, and reported."""


class Facts:
    """The plain values of job.yaml, without those that are wrong."""

    def __init__(self, values: Any, wrong: Collection[Path]) -> None:
        self._values = values
        self._wrong = wrong

    def read(self, *path: str | int, default: Any = None) -> Any:
        """Return the value at `path`, the default where it is absent; leave the rule where it is wrong."""
        value = self._values
        for depth, part in enumerate(path):
            if path[: depth + 1] in self._wrong:
                raise _UnknownError
            if isinstance(value, dict):
                if part not in value:
                    return default
                value = value[part]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                raise _UnknownError
        return value

    def is_wrong(self, *path: str | int) -> bool:
        """Return whether the value at exactly this path is wrong."""
        return path in self._wrong

    def has(self, *path: str | int) -> bool:
        """Return whether the field is given, right or wrong."""
        parent = self.read(*path[:-1], default={})
        return isinstance(parent, dict) and path[-1] in parent


def broken(values: Any, wrong: Collection[Path]) -> Iterator[Fault]:
    """Yield every broken rule that can be told without the values at the paths `wrong`."""
    facts = Facts(values, wrong)
    for rule in _RULES:
        try:
            yield from rule(facts)
        except _UnknownError:
            continue


def _name_fits(facts: Facts) -> Iterator[Fault]:
    name, nnodes = facts.read("metadata", "name", default=""), facts.read("spec", "nnodes", default=1)
    generated = [f"{name}-{nnodes - 1}", f"{name}-worker"]  # host name of the last node; ConfigMap, also a label value
    longest = max(generated, key=len)
    if len(longest) > constants.MAX_NAME:
        room = constants.MAX_NAME - len(longest) + len(name)
        rule = f"the longest generated name, NAME{longest[len(name) :]}, would have {len(longest)} characters"
        yield Fault(("metadata", "name"), rule, f"shorten the name to {room} characters")


# The Job controller's old labels, which it still sets, and the labels of every object that we render
_THEIR_LABELS: Final = ("job-name", "controller-uid")
_OUR_LABELS: Final = (
    constants.LABEL_APP_NAME,
    constants.LABEL_APP_INSTANCE,
    constants.LABEL_APP_MANAGED_BY,
    constants.LABEL_APP_COMPONENT,
)


def _reserved_keys(facts: Facts) -> Iterator[Fault]:
    for field in ("labels", "annotations"):
        for key in facts.read("metadata", field, default={}):
            owner = _owner(key, field)
            if owner:
                yield Fault(("metadata", field, key), f"`{key}` is set by {owner}", "choose another key", at_key=True)


def _owner(key: str, field: str) -> str:
    prefix = key.rpartition("/")[0]
    if prefix == "batch.kubernetes.io" or (field == "labels" and key in _THEIR_LABELS):
        return "Kubernetes"
    ours = prefix == constants.API_GROUP or prefix.endswith("." + constants.API_GROUP)
    return "k8sddp" if ours or (field == "labels" and key in _OUR_LABELS) else ""


def _command_starts_a_script(facts: Facts) -> Iterator[Fault]:
    command = [str(word) for word in facts.read("spec", "command", default=["train.py"])]
    facts.read("spec", "command", 0, default="")
    starts = "torchrun" if facts.read("spec", "launcher", default="torchrun") == "torchrun" else "Python"
    for found in commands.wrong(command, starts=starts):
        yield Fault(("spec", "command", found.place), found.rule, found.hint)


# Variables with paths, as they are used at the start of a value or after a colon
_PATHS: Final = frozenset(
    {"HOME", "PATH", "PWD", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_HOME", "CONDA_PREFIX"}
)
_REFERENCE: Final = re.compile(r"\$(?:\(([^()]+)\)|\{([^{}]+)\}|([A-Za-z_][A-Za-z0-9_]*))")


def _env_is_not_expanded(facts: Facts) -> Iterator[Fault]:
    written: dict[str, Any] = facts.read("spec", "env", default={})
    for name, value in written.items():
        readable = isinstance(value, str) and not facts.is_wrong("spec", "env", name)
        for match in _REFERENCE.finditer(value) if readable else ():
            other = next(group for group in match.groups() if group)
            # `$x` may be meant as it stands, in a password or a pattern; these hardly ever
            before, after = value[: match.start()], value[match.end() :]
            as_path = other in _PATHS and not match[1] and before[-1:] in ("", ":") and after[:1] in (":", "/")
            if other == name or as_path or (other in written and not match[3]):
                hint = f"write the text that {match[0]} stands for, or set {name} in the script with os.environ"
                yield Fault(("spec", "env", name), f"`{match[0]}` stays as it is: no shell reads the values", hint)
                break


def _one_place_of_code(facts: Facts) -> Iterator[Fault]:
    code = facts.read("spec", "code", default={"path": "."})
    given = [name for name in ("path", "configMap") if name in code]
    if len(given) == 2 or (not given and not code):
        amount = "both" if given else "none"
        hint = "keep one" if given else "write code: {path: .}, or remove it"
        yield Fault(("spec", "code"), f"exactly one of path and configMap is needed, not {amount}", hint)


def _gpus_fit_backend(facts: Facts) -> Iterator[Fault]:
    gpu = facts.read("spec", "resources", "gpu", default=0)
    backend = facts.read("spec", "backend", default="nccl" if gpu else "gloo")
    nproc = facts.read("spec", "nprocPerNode", default=gpu or 1)
    if backend == "nccl" and not gpu:
        rule = "nccl needs GPUs and resources.gpu is 0"
        yield Fault(("spec", "backend"), rule, "write resources: {gpu: 1}, or backend: gloo")
    elif backend == "nccl" and nproc > gpu:
        rule = f"{nproc} ranks per node share {gpu} GPU{'' if gpu == 1 else 's'}, which nccl refuses"
        yield Fault(("spec", "nprocPerNode"), rule, f"write {gpu}, or ask for {nproc} GPUs")


def _shared_memory_fits(facts: Facts) -> Iterator[Fault]:
    shared = facts.read("spec", "resources", "sharedMemory")
    memory = facts.read("spec", "resources", "memory")
    if shared is None or memory is None:
        return
    sizes = quantity_value(str(shared)), quantity_value(str(memory))
    if sizes[0] and sizes[1] and sizes[0] > sizes[1]:
        rule = f"sharedMemory {shared} is part of memory, which is only {memory}"
        yield Fault(("spec", "resources", "sharedMemory"), rule, "raise memory")


def _exit_codes_are_in_one_list(facts: Facts) -> Iterator[Fault]:
    def codes(field: str) -> dict[int, int]:
        written = facts.read("spec", "restart", field, default=[])
        return {n: code for n, code in enumerate(written) if not facts.is_wrong("spec", "restart", field, n)}

    final = codes("failOn").values()
    for index, code in codes("retryOn").items():
        if code in final:
            yield Fault(("spec", "restart", "retryOn", index), f"`{code}` is in failOn too", "remove it from one list")


def _volumes_have_one_source(facts: Facts) -> Iterator[Fault]:
    for index, volume in enumerate(facts.read("spec", "volumes", default=[])):
        try:
            facts.read("spec", "volumes", index)
        except _UnknownError:
            continue
        given = [name for name in SOURCES if isinstance(volume, dict) and name in volume]
        strange = isinstance(volume, dict) and any(facts.is_wrong("spec", "volumes", index, name) for name in volume)
        if len(given) > 1 or not (given or strange):
            rule = f"needs exactly one volume source, not {' and '.join(given) or 'none'}"
            hint = "keep one" if given else f"add one of {', '.join(SOURCES)}"
            yield Fault(("spec", "volumes", index), rule, hint)


def _volumes_do_not_collide(facts: Facts) -> Iterator[Fault]:
    names: dict[str, int] = {}
    mounts: dict[str, int] = {}
    for index in range(len(facts.read("spec", "volumes", default=[]))):
        for field, seen in (("name", names), ("mountPath", mounts)):
            path = ("spec", "volumes", index, field)
            try:
                value = facts.read(*path)
            except _UnknownError:
                continue
            if value is None:
                continue
            value = str(PurePosixPath(value)) if field == "mountPath" else value
            if value in seen:
                yield Fault(path, f"`{value}` is taken by volumes[{seen[value]}]", f"choose another {field}")
            seen.setdefault(value, index)
            yield from _taken_by_us(path, field, value)


def _taken_by_us(path: Path, field: str, value: str) -> Iterator[Fault]:
    if field == "name" and value.startswith(_OUR_VOLUME_PREFIX):
        yield Fault(path, f"names that begin with {_OUR_VOLUME_PREFIX} are k8sddp's own", "choose another name")
    if field != "mountPath":
        return
    below = next((ours for ours in _OUR_PATHS if value == ours or value.startswith(ours + "/")), None)
    if value in ("/", "/dev") or below:
        yield Fault(path, f"`{value}` would hide {below or 'what the container needs'}", "mount it elsewhere")


def _entries_are_distinct(facts: Facts) -> Iterator[Fault]:
    # Lists with a key in Kubernetes' schema: two entries with the same one fail the apply with HTTP 500
    for path, keys in (
        (("spec", "imagePullSecrets"), ()),
        (("spec", "scheduling", "topologySpread"), ("topologyKey", "whenUnsatisfiable")),
    ):
        seen: dict[str, int] = {}
        for index, entry in enumerate(facts.read(*path, default=[])):
            if facts.is_wrong(*path, index):
                continue
            identity = repr([entry.get(key) for key in keys] if isinstance(entry, dict) else entry)
            if identity in seen:
                rule = f"has the same {' and '.join(keys) or 'name'} as entry {seen[identity]}"
                yield Fault((*path, index), rule, "remove one")
            seen.setdefault(identity, index)


def _platform_chooses_the_user(facts: Facts) -> Iterator[Fault]:
    if facts.read("spec", "securityContext", "profile", default="restricted") != "platform":
        return
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if facts.has("spec", "securityContext", field):
            rule = "profile platform leaves user and groups to the cluster"
            yield Fault(
                ("spec", "securityContext", field), rule, "remove it, or write profile: restricted", at_key=True
            )


_RULES: Final[tuple[Callable[[Facts], Iterator[Fault]], ...]] = (
    _name_fits,
    _reserved_keys,
    _command_starts_a_script,
    _env_is_not_expanded,
    _one_place_of_code,
    _gpus_fit_backend,
    _shared_memory_fits,
    _exit_codes_are_in_one_list,
    _volumes_have_one_source,
    _volumes_do_not_collide,
    _entries_are_distinct,
    _platform_chooses_the_user,
)
