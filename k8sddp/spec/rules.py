"""Rules between fields of job.yaml.

They read the plain values, not the model, so that they also speak while other fields are wrong: `Facts` withholds what
is wrong already, and a rule that needs such a value stays silent instead of blaming an innocent field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from k8sddp import constants
from k8sddp.spec.fields import quantity_value
from k8sddp.spec.loading import Path
from k8sddp.spec.volumes import SOURCES

_OUR_PATHS: Final = ("/k8sddp", "/tmp", "/dev/shm")  # noqa: S108 - mount points in the container
_OUR_VOLUME_PREFIX: Final = "k8sddp-"
# Commands that start ranks, or a Python, themselves
_STARTERS: Final = frozenset({"torchrun", "torch.distributed.run", "torch.distributed.launch", "bash", "sh", "env"})
_PYTHON = re.compile(r"python[0-9.]*")


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
    path = ("spec", "command", 0)
    facts.read(*path, default="")
    first = command[0]
    words = first.split()
    base = PurePosixPath(words[0] if words else "").name
    starter = base in _STARTERS or _PYTHON.fullmatch(base)
    if not words:
        yield Fault(path, "the first word is empty", "write [train.py, ...]")
    elif first == "-m" and len(command) == 1:
        yield Fault(path, "`-m` needs a module", "write [-m, package.module, ...]")
    elif first.startswith("-") and first != "-m":
        yield Fault(path, f"`{first}` is neither a script nor -m", "write [train.py, ...] or [-m, package.module, ...]")
    elif len(words) > 1 and (starter or base.endswith(".py")):  # [train.py --epochs 10], the commas forgotten
        yield Fault(path, f"`{first}` is one word, and so the name of one file", script_hint([*words, *command[1:]]))
    elif starter:
        launcher = facts.read("spec", "launcher", default="torchrun")
        starts = "torchrun" if launcher == "torchrun" else "Python"
        yield Fault(path, f"`{first}` is no Python script: k8sddp starts {starts} itself", script_hint(command))


def script_hint(words: Sequence[str]) -> str:
    """Return the remedy for a command: the list that begins with its script."""
    for index, word in enumerate(words):
        if word.endswith(".py") or (word == "-m" and index + 1 < len(words)):
            rest = ", ".join(json.dumps(part) if part[0:1].isdigit() else part for part in words[index : index + 4])
            return f"write [{rest}{', ...' if len(words) > index + 4 else ''}]"
    return "write [train.py, ...] or [-m, package.module, ...]"


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
    _one_place_of_code,
    _gpus_fit_backend,
    _shared_memory_fits,
    _exit_codes_are_in_one_list,
    _volumes_have_one_source,
    _volumes_do_not_collide,
    _entries_are_distinct,
    _platform_chooses_the_user,
)
