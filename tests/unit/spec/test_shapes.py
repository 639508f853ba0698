"""Kubernetes' own shapes: what the API server accepts is taken as it is, what it refuses is named here already."""

import pytest

from . import shape_cases
from .jobs import make_job, make_text, problems
from .shape_cases import SPREAD, node_affinity, scheduling, volume


@pytest.mark.parametrize(
    "fields",
    shape_cases.TAKEN,
    ids=lambda value: str(value)[:60],
)
def test_a_shape_that_kubernetes_takes_passes_unchanged(fields):
    """The mapping that reaches the manifest is the one in the file."""
    assert [] == problems(make_text(**fields))
    job = make_job(**fields)
    if "volumes" in fields:
        assert {**fields["volumes"][0]} == {"name": "a", "mountPath": "/a", **job.spec.volumes[0].source}
    if "envFrom" in fields:
        assert tuple(fields["envFrom"]) == job.spec.env_from


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            volume(persistentVolumeClaim={}),
            "spec.volumes[0].persistentVolumeClaim.claimName: is missing (add claimName)",
        ),
        (
            volume(persistentVolumeClaim="ckpt"),
            "spec.volumes[0].persistentVolumeClaim: `ckpt` is a text; a mapping of names to values is needed",
        ),
        (
            volume(persistentVolumeClaim={"claimname": "a", "claimName": "a"}),
            "spec.volumes[0].persistentVolumeClaim: unknown field `claimname` (did you mean `claimName`?)",
        ),
        (
            volume(emptyDir={"medium": "memory"}),
            "spec.volumes[0].emptyDir.medium: `memory` is not one of Memory, HugePages (did you mean Memory?)",
        ),
        (
            volume(emptyDir={"sizeLimit": "1GB"}),
            "spec.volumes[0].emptyDir.sizeLimit: `1GB` is not a Kubernetes quantity (write 1Gi)",
        ),
        (
            volume(configMap={"name": "c", "items": [{"key": "k", "path": "/a"}]}),
            "spec.volumes[0].configMap.items[0].path: `/a` must be a relative path without `..`",
        ),
        (
            volume(secret={"name": "s", "secretName": "s"}),
            "spec.volumes[0].secret: unknown field `name` (did you mean `secretName`?)",
        ),
        (
            volume(projected={"sources": [{}]}),
            "spec.volumes[0].projected.sources[0]: exactly one of configMap, secret, downwardAPI or "
            "serviceAccountToken is "
            "needed, not none",
        ),
        (
            scheduling(tolerations=[{"effect": "NoExecute"}]),
            "spec.scheduling.tolerations[0]: a toleration without key tolerates everything (write operator: "
            "Exists, or a key)",
        ),
        (
            scheduling(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
            "spec.scheduling.tolerations[0]: operator Exists takes no value (remove value, or write operator: Equal)",
        ),
        (
            scheduling(tolerations=[{"key": "a", "tolerationSeconds": 5}]),
            "spec.scheduling.tolerations[0]: tolerationSeconds needs effect NoExecute (write effect: NoExecute, "
            "or remove it)",
        ),
        (
            scheduling(affinity={"nodeAffinty": {}}),
            "spec.scheduling.affinity: unknown field `nodeAffinty` (did you mean `nodeAffinity`?)",
        ),
        (
            scheduling(nodeSelector={"gpu": True}),
            'spec.scheduling.nodeSelector.gpu: `true` is true or false in YAML; a text is needed (write "true")',
        ),
        (
            scheduling(topologySpread=[{"maxSkew": 1, "topologyKey": "zone"}]),
            "spec.scheduling.topologySpread[0].whenUnsatisfiable: is missing (add whenUnsatisfiable)",
        ),
        (
            scheduling(topologySpread=[SPREAD, SPREAD]),
            "spec.scheduling.topologySpread[1]: has the same topologyKey and whenUnsatisfiable as entry 0 (remove one)",
        ),
        (
            {"envFrom": [{"prefix": "a"}]},
            "spec.envFrom[0]: exactly one of configMapRef or secretRef is needed, not none",
        ),
        (
            {"envFrom": [{"prefix": "PET_", "secretRef": {"name": "s"}}]},
            "spec.envFrom[0].prefix: `PET_` cannot be a prefix: names that begin with PET_ are set by torchrun "
            "or the worker",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_shape_that_kubernetes_refuses_is_named(fields, expected):
    """Unknown fields, missing fields and Kubernetes' own rules, at their paths."""
    assert [expected] == problems(make_text(**fields))


@pytest.mark.parametrize(
    ("requirement", "rule"),
    [
        ({"operator": "In"}, "operator In needs values (write values: [...])"),
        (
            {"operator": "Exists", "values": ["a"]},
            "operator Exists takes no values (remove values, or write operator: In)",
        ),
        (
            {"operator": "Gt", "values": ["a"]},
            'operator Gt needs one value, a whole number as a text (write values: ["4"])',
        ),
    ],
    ids=str,
)
def test_a_requirement_and_its_operator_must_fit(requirement, rule):
    """The API server's rules for matchExpressions."""
    path = (
        "spec.scheduling.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0]"
    )
    assert [f"{path}: {rule}"] == problems(make_text(**node_affinity(**requirement)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    shape_cases.REFUSED,
    ids=lambda value: str(value)[:60],
)
def test_what_the_schema_cannot_say_is_named_too(fields, expected):
    """Rules of the API server's own validation."""
    assert [expected] == problems(make_text(**fields))
