"""What pydantic and the rules found -> `Problem`s: where, the value, the rule, the remedy.

The texts are the product here: a field is named as the user wrote it, a value as it stands in the file, and the remedy
can be pasted. A value that was refused as YAML already is not reported again as a field.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

from k8sddp import constants
from k8sddp.errors import Problem
from k8sddp.spec import commands, loading, rules, schema, unsupported
from k8sddp.spec.fields import LABEL_PATTERN, NAME_PATTERN, PATTERN_RULES, SUBDOMAIN_PATTERN
from k8sddp.spec.loading import Document, Path
from k8sddp.worker.contract import node_env

_MAX_SHOWN = 60
_TYPE_WORDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
# pydantic's error type -> what is wanted
_WANTED: Final[Mapping[str, str]] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "mapping_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "model_attributes_type": "a mapping of names to values",
}
_LISTS: Final = frozenset({"tuple_type", "list_type"})
# Kinds that people bring along -> whose they are
_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("Job", "Pod", "Deployment", "StatefulSet", "Service", "ConfigMap"), "Kubernetes' own"),
    **dict.fromkeys(("PyTorchJob", "TrainJob", "MPIJob", "TFJob"), "Kubeflow's"),
    "JobSet": "JobSet's",
    "RayJob": "KubeRay's",
    "VCJob": "Volcano's",
}


def is_foreign(value: Mapping[str, Any]) -> bool:
    """Return whether this is another tool's object, whose other fields need no judgement."""
    ours = str(value.get("apiVersion", "")).startswith(constants.API_GROUP)
    return not ours and value.get("kind") in _KINDS


def wrong_paths(errors: Iterable[ErrorDetails], document: Document) -> set[Path]:
    """Return the paths of all values that are wrong by themselves."""
    return {_path(error) for error in errors if error["type"] != "missing"} | document.refused


def of_errors(errors: Sequence[ErrorDetails], document: Document) -> Iterator[Problem]:
    """Yield a problem for each of pydantic's errors."""
    for error in errors:
        path = _path(error)
        # a default that needs a wrong field; a value that YAML itself made unclear
        if error["type"] == "default_factory_not_called" or path in document.refused:
            continue
        if error["type"] == "too_short" and error["input"]:  # pydantic counts the entries that are right
            continue
        if error["type"] == "extra_forbidden":
            yield _unknown_field(path, document)
        elif error["type"] == "missing":
            yield _missing(path, document)
        else:
            yield _bad_value(error, path, document)


def of_faults(faults: Iterable[rules.Fault], document: Document) -> Iterator[Problem]:
    """Yield a problem for each broken rule."""
    for fault in faults:
        place = document.key_place(fault.path) if fault.at_key else document.value_place(fault.path)
        yield document.problem(place, fault.rule, path=loading.format_path(fault.path), hint=fault.hint)


def _path(error: ErrorDetails) -> Path:
    path = error["loc"]
    return path[:-1] if path and path[-1] == "[key]" else path


def _unknown_field(path: Path, document: Document) -> Problem:
    place = document.key_place(path)
    shown = loading.format_path(path)
    if shown in unsupported.FIELDS:
        return document.problem(place, "is not supported yet", path=shown, hint=unsupported.FIELDS[shown])
    known = schema.field_names(path[:-1])
    close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    if not close and len(str(path[-1])) > 3:
        close = [name for name in known if str(path[-1]).lower() in name.lower()][:1]
    elsewhere = difflib.get_close_matches(str(path[-1]), _ELSEWHERE, n=1, cutoff=0.8)
    if close:
        hint = f"did you mean `{close[0]}`?"
    elif elsewhere:
        hint = _ELSEWHERE[elsewhere[0]]
    else:
        hint = f"known here: {', '.join(known)}" if known else "remove it"
    parent = loading.format_path(path[:-1])
    return document.problem(place, f"unknown field `{path[-1]}`", path=parent, hint=hint)


# Names that people bring from elsewhere
_ELSEWHERE: Final[Mapping[str, str]] = {
    "args": 'write the arguments into command: [train.py, --epochs, "10"]',
    "replicas": "write nnodes for the number of pods",
    "numNodes": "write nnodes",
    "numProcPerNode": "write nprocPerNode",
    "workers": "write nnodes for pods, nprocPerNode for ranks in each",
    "parallelism": "write nnodes",
    "completions": "write nnodes",
    "template": "write image, command, resources, ... directly under spec",
    "containers": "write image, command, resources, ... directly under spec",
    "limits": "write gpu, cpu, memory directly under resources",
    "requests": "write gpu, cpu, memory directly under resources",
    "gpus": "write gpu",
    "nvidia.com/gpu": "write gpu",
    "tolerations": "write it under spec.scheduling",
    "nodeSelector": "write it under spec.scheduling",
    "affinity": "write it under spec.scheduling",
    "priorityClassName": "write it under spec.scheduling",
    "schedulerName": "write it under spec.scheduling",
    "queue": "write the label kueue.x-k8s.io/queue-name in metadata.labels",
    "backoffLimit": "write restart: {maxAttempts: 4}, the attempts of the whole gang",
    "maxRestarts": "write restart: {maxAttempts: 4}, the attempts of the whole gang",
    "restartPolicy": "write restart: {maxAttempts: 4}, the attempts of the whole gang",
    "workingDir": "name the script by its full path, or use code",
    "hostNetwork": "it is not supported yet",
}


def _missing(path: Path, document: Document) -> Problem:
    hint = _EXAMPLES.get(loading.format_path(path), f"add {path[-1]}")
    return document.problem(document.key_place(path[:-1]), "is missing", path=loading.format_path(path), hint=hint)


_EXAMPLES: Final[Mapping[str, str]] = {
    "apiVersion": f"add apiVersion: {constants.API_VERSION}",
    "kind": f"add kind: {constants.KIND}",
    "metadata": "add metadata: {name: my-job}",
    "metadata.name": "add name: my-job",
    "spec": "add spec: {image: ..., command: [train.py]}",
    "spec.image": "add image: a container image with Python and torch",
    "spec.command": "add command: [train.py]",
    "spec.restart.failOn": "write [3], or remove it",
    "spec.restart.retryOn": "write [3], or remove it",
}


def _bad_value(error: ErrorDetails, path: Path, document: Document) -> Problem:
    is_key = error["loc"] != path
    place = document.key_place(path) if is_key else document.value_place(path)
    message, hint = _words(error, path, written(document, path, error["input"]))
    return document.problem(place, message, path=loading.format_path(path), hint=hint)


def _words(error: ErrorDetails, path: Path, value: str) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "k8sddp":
        return str(context["rule"]), str(context["hint"])
    if path == ("apiVersion",):
        return f"`{value}` is not an API version of k8sddp", f"write {constants.API_VERSION}"
    if path == ("kind",):
        if value in _KINDS:
            return (
                f"`{value}` is {_KINDS[value]} kind; k8sddp reads a {constants.KIND}",
                f"write apiVersion: {constants.API_VERSION}, kind: {constants.KIND} and the fields of that",
            )
        return f"`{value}` is not a kind of k8sddp", f"write {constants.KIND}"
    if kind in _WANTED:
        return _wrong_type(error, path, value)
    if kind == "literal_error":
        return _not_a_choice(error, value)
    if kind == "greater_than_equal":
        return f"`{value}` is too small: the least is {context['ge']}", f"write {context['ge']} or more"
    if kind == "less_than_equal":
        return f"`{value}` is too large: the most is {context['le']}", f"write {context['le']} or less"
    if kind == "string_pattern_mismatch":
        return f"`{value}` {PATTERN_RULES[context['pattern']]}", _pattern_hint(str(error["input"]), context["pattern"])
    if kind == "string_too_long":
        return f"has {len(error['input'])} characters, at most {context['max_length']} are allowed", "shorten it"
    if kind in ("string_too_short", "too_short"):
        return "is empty", _EXAMPLES.get(loading.format_path(path), "give it a value").replace("add ", "write ")
    return error["msg"].lower(), ""


def _wrong_type(error: ErrorDetails, path: Path, value: str) -> tuple[str, str]:
    wanted, given = _WANTED[error["type"]], error["input"]
    if wanted == "a text" and isinstance(given, (bool, int, float)):
        is_env = path[:2] == ("spec", "env")
        what = "environment values are texts" if is_env else "a text is needed"
        return f"`{value}` is {_TYPE_WORDS[type(given)]} in YAML; {what}", f'write "{value}"'
    if wanted == "a whole number" and isinstance(given, str) and given.strip().lstrip("+-").isdigit():
        return f"`{value}` is a text; a whole number is needed", f"write {given.strip()} without quotes"
    hint = ""
    if error["type"] in _LISTS and isinstance(given, str):
        hint = commands.remedy_of_text(given) if path == ("spec", "command") else f"write [{_shorten(given)}]"
    elif path == ("spec", "nprocPerNode") and given in _PER_DEVICE:
        hint = "remove it: with resources.gpu there is one rank per GPU, else one per node; or write a number"
    elif path[:2] == ("spec", "env"):
        hint = _env_hint(path, given)
    elif isinstance(given, dict) and set(given) == {"name"} and wanted == "a text":
        hint = f"write {given['name']}"
    shown = f"`{value}` is {_TYPE_WORDS.get(type(given), 'this')}" if value else f"is {_TYPE_WORDS.get(type(given))}"
    return f"{shown}; {wanted} is needed", hint


_PER_DEVICE: Final = ("auto", "gpu", "cpu")  # torchrun's --nproc-per-node counts these itself
# Kubernetes' source of one variable -> the field of envFrom that brings all names of the same object
_SOURCES: Final[Mapping[str, str]] = {"secretKeyRef": "secretRef", "configMapKeyRef": "configMapRef"}
# Kubernetes' fields of a pod -> the variables in which every rank finds them
_POD_FIELDS: Final[Mapping[str, str]] = {
    "metadata.name": node_env.POD_NAME,
    "metadata.namespace": node_env.NAMESPACE,
    "status.podIP": node_env.POD_IP,
    "spec.nodeName": node_env.KUBE_NODE,
}


def _env_hint(path: Path, given: Any) -> str:
    """Return the remedy for Kubernetes' own way of writing the environment."""
    entries = given if isinstance(given, list) else [given]
    sources = [entry["valueFrom"] for entry in entries if isinstance(entry, dict) and "valueFrom" in entry]
    for source in sources:
        for kind, whole in _SOURCES.items():
            if isinstance(source, dict) and isinstance(source.get(kind), dict):
                name = source[kind].get("name", "...")
                return f"write envFrom: [{{{whole}: {{name: {name}}}}}] under spec; its keys become the names"
    for source in sources:
        field = source.get("fieldRef", {}).get("fieldPath") if isinstance(source, dict) else None
        ours = _POD_FIELDS.get(str(field), "")
        return f"remove it: the script finds it as {ours}" if ours else "write the value itself"
    if len(path) == 2:
        return 'write env: {NAME: "value"}'
    value = given.get("value") if isinstance(given, dict) else None
    return f"write {path[-1]}: {json.dumps(str(value))}" if value is not None else ""


def _not_a_choice(error: ErrorDetails, value: str) -> tuple[str, str]:
    listed = str(error.get("ctx", {})["expected"]).replace("'", "").replace(" or ", ", ")
    choices = [choice for choice in listed.split(", ") if choice]
    given = str(error["input"])
    close = [choice for choice in choices if choice.lower() == given.lower()]
    close = close or difflib.get_close_matches(given, choices, n=1, cutoff=0.6)
    return f"`{value}` is not one of {', '.join(choices)}", f"did you mean {close[0]}?" if close else ""


def _pattern_hint(given: str, pattern: str) -> str:
    if pattern not in (NAME_PATTERN, LABEL_PATTERN, SUBDOMAIN_PATTERN):
        return ""
    guess = re.sub(r"[^a-z0-9.]+", "-", given.lower()).strip("-")
    return f"write {_shorten(guess)}" if guess and re.search(pattern, guess) else ""


def written(document: Document, path: Path, value: Any) -> str:
    """Return a value as it stands in the file, short and on one line; the empty string for mappings and lists."""
    if isinstance(value, (dict, list)):
        return ""
    place = document.value_place(path)
    if isinstance(value, (bool, int, float)) and place is not None and place.text:
        return _shorten(place.text.strip("\"'"))
    return _shorten(json.dumps(str(value), ensure_ascii=False)[1:-1])


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
