"""Kubernetes' shapes in job.yaml that the API server takes, and such as it refuses, with our sentence for them.

tests/unit/spec/test_shapes.py asks `validate` about them, tests/e2e/test_shapes.py a real API server.
"""

from __future__ import annotations

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

TAKEN = [
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
    claim(storageClassName=""),
    claim(storageClassName="fast.ssd", accessModes=["ReadWriteOncePod"]),
    pod_file(fieldRef={"fieldPath": "metadata.labels['team']"}),
    pod_file(fieldRef={"apiVersion": "v1", "fieldPath": "metadata.uid"}),
    resource("limits.cpu", divisor="1m"),
    resource("limits.memory", divisor=1),
    resource("requests.hugepages-2Mi", divisor="1Ki"),
    volume(hostPath={"path": "/data/..hidden"}),
    node_name(operator="NotIn", values=["node-a"]),
]

# Fields, and the one problem that `validate` has with them
REFUSED = [
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
]
