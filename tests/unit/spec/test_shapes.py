"""Kubernetes' own shapes: what the API server accepts is taken as it is, what it refuses is named here already."""

import pytest

from .jobs import make_job, make_text, problems

TERM = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


def volume(**source):
    """Return spec fields with one volume of `source`."""
    return {"volumes": [{"name": "a", "mountPath": "/a", **source}]}


def scheduling(**fields):
    """Return spec fields with `scheduling`."""
    return {"scheduling": fields}


def node_affinity(**requirement):
    """Return spec fields that require Kubernetes Nodes to fulfil `requirement`."""
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", **requirement}]}]}
    return scheduling(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})


@pytest.mark.parametrize(
    "fields",
    [
        volume(persistentVolumeClaim={"claimName": "c", "readOnly": True}),
        volume(emptyDir={"medium": "Memory", "sizeLimit": "1Gi"}),
        volume(configMap={"name": "c", "items": [{"key": "k", "path": "a/b", "mode": 292}], "optional": True}),
        volume(secret={"secretName": "s", "defaultMode": 256}),
        volume(hostPath={"path": "/x", "type": "Directory"}),
        volume(nfs={"server": "10.0.0.1", "path": "/export"}),
        volume(csi={"driver": "secrets.csi.k8s.io", "readOnly": True, "volumeAttributes": {"a": "b"}}),
        volume(
            ephemeral={
                "volumeClaimTemplate": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "storageClassName": "fast",
                        "resources": {"requests": {"storage": "1Ti"}},
                    },
                }
            }
        ),
        volume(projected={"sources": [{"configMap": {"name": "c"}}, {"serviceAccountToken": {"path": "token"}}]}),
        volume(downwardAPI={"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}),
        volume(image={"reference": "registry/data:v1", "pullPolicy": "Always"}),
        scheduling(tolerations=[{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]),
        scheduling(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]),
        node_affinity(operator="In", values=["a", "b"]),
        node_affinity(operator="Exists"),
        node_affinity(operator="Gt", values=["4"]),
        scheduling(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}}),
        scheduling(
            affinity={
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": TERM}]
                }
            }
        ),
        scheduling(topologySpread=[{**SPREAD, "minDomains": 2, "nodeTaintsPolicy": "Honor"}]),
        {"envFrom": [{"configMapRef": {"name": "c"}}, {"prefix": "S_", "secretRef": {"name": "s", "optional": True}}]},
    ],
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


def claim(**fields):
    """Return spec fields with a volume whose claim comes and goes with the pod."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Ti"}}, **fields}
    return volume(ephemeral={"volumeClaimTemplate": {"spec": spec}})


def pod_file(**source):
    """Return spec fields with a volume that holds one fact about the pod."""
    return volume(downwardAPI={"items": [{"path": "fact", **source}]})


def resource(name, **fields):
    """Return spec fields with a volume that holds a request or limit."""
    return pod_file(resourceFieldRef={"containerName": "worker", "resource": name, **fields})


def node_name(**requirement):
    """Return spec fields that require Kubernetes Nodes by name."""
    terms = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", **requirement}]}]}
    return scheduling(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})


CLAIM = "spec.volumes[0].ephemeral.volumeClaimTemplate.spec"
FACT = "spec.volumes[0].downwardAPI.items[0]"
TERMS = "spec.scheduling.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            claim(resources={"requests": {}}),
            f"{CLAIM}.resources: requests has no storage (write requests: {{storage: 100Gi}})",
        ),
        (
            claim(accessModes=["ReadWriteOncePod", "ReadWriteOnce"]),
            f"{CLAIM}: ReadWriteOncePod goes with no other access mode (write accessModes: [ReadWriteOncePod])",
        ),
        (
            claim(storageClassName="Fast SSD"),
            f"{CLAIM}.storageClassName: `Fast SSD` must be lower-case letters, digits, `-` and `.`, and begin and end "
            "with a letter or digit",
        ),
        (
            volume(hostPath={"path": "/data/../etc"}),
            "spec.volumes[0].hostPath.path: `/data/../etc` must not contain `..`",
        ),
        (
            volume(secret={"secretName": "s", "items": [{"key": "k", "path": "..data"}]}),
            "spec.volumes[0].secret.items[0].path: `..data` must not begin with `..`",
        ),
        (
            pod_file(fieldRef={"fieldPath": "spec.nodeName"}),
            f"{FACT}.fieldRef.fieldPath: `spec.nodeName` is not one of metadata.name, metadata.namespace, "
            "metadata.uid, metadata.labels, metadata.annotations (or one label: metadata.labels['team'])",
        ),
        (
            resource("limits.gpu"),
            f"{FACT}.resourceFieldRef: `limits.gpu` is not one of limits.cpu, limits.memory, requests.cpu, "
            "requests.memory, ...",
        ),
        (
            resource("limits.memory", divisor="2Mi"),
            f"{FACT}.resourceFieldRef: divisor `2Mi` does not fit limits.memory (write 1Mi)",
        ),
        (
            resource("limits.cpu", divisor="1Mi"),
            f"{FACT}.resourceFieldRef: divisor `1Mi` does not fit limits.cpu (write 1m)",
        ),
        (
            scheduling(
                affinity={
                    "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "zone", "matchLabelKeys": ["team"]}
                        ]
                    }
                }
            ),
            "spec.scheduling.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]: matchLabelKeys "
            "needs a labelSelector (add labelSelector, or remove matchLabelKeys)",
        ),
        (
            node_name(operator="Gt", values=["a"]),
            f"{TERMS}.matchFields[0].operator: `Gt` is not one of In, NotIn",
        ),
        (node_name(operator="In"), f"{TERMS}.matchFields[0].values: is missing (add values)"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_the_schema_cannot_say_is_named_too(fields, expected):
    """Rules of the API server's own validation."""
    assert [expected] == problems(make_text(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        claim(storageClassName=""),
        claim(storageClassName="fast.ssd", accessModes=["ReadWriteOncePod"]),
        pod_file(fieldRef={"fieldPath": "metadata.labels['team']"}),
        pod_file(fieldRef={"apiVersion": "v1", "fieldPath": "metadata.uid"}),
        resource("limits.cpu", divisor="1m"),
        resource("limits.memory", divisor=1),
        resource("requests.hugepages-2Mi", divisor="1Ki"),
        volume(hostPath={"path": "/data/..hidden"}),
        node_name(operator="NotIn", values=["node-a"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_rules_leave_what_the_api_server_takes(fields):
    """The other side of each."""
    assert [] == problems(make_text(**fields))
