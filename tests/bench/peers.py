"""Manifests of the peers that k8sddp's restarts are compared with, and how each says that it has ended.

All run the same script under torchrun with static rendezvous and no restarts of its own, at pod 0's name in a headless
Service: who restarts is Kubernetes or JobSet. Pods ask for what k8sddp's pods ask for and meet the restricted profile.
JobSet runs without its webhooks, so what they would set by default is written out (pkg/webhooks/jobset_webhook.go).
"""

from __future__ import annotations

from typing import Any

NAME = "peer"
PORT = 29400
MANY = (
    1000  # failures that a raw Job forgives: its default of 6 ends before the fifth fault, with two pods lost at each
)

Manifest = dict[str, Any]


def script(text: str) -> Manifest:
    """Return the ConfigMap with train.py."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {"train.py": text}}


def raw_job(image: str, restart_policy: str, words: list[str]) -> list[Manifest]:
    """Return an Indexed Job and its headless Service."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": NAME},
            "ports": [{"name": "gang", "port": PORT}],
        },
    }
    spec = {**_gang(image, restart_policy, f"{NAME}-0.{NAME}", words), "backoffLimit": MANY}
    spec["template"]["spec"]["subdomain"] = NAME
    return [service, {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME}, "spec": spec}]


def jobset(image: str, words: list[str], *, max_restarts: int) -> list[Manifest]:
    """Return a JobSet of one Job; its pods are recreated together."""
    job = {**_gang(image, "Never", f"{NAME}-gang-0-0.{NAME}", words), "backoffLimit": 0}
    spec = {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "successPolicy": {"operator": "All"},
        "startupPolicy": {"startupPolicyOrder": "AnyOrder"},
        "failurePolicy": {"maxRestarts": max_restarts},
        "replicatedJobs": [{"name": "gang", "replicas": 1, "template": {"spec": job}}],
    }
    return [{"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": NAME}, "spec": spec}]


def _gang(image: str, restart_policy: str, master: str, words: list[str]) -> Manifest:
    torchrun = ["python3", "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=0"]
    torchrun += [f"--master-addr={master}", f"--master-port={PORT}", "--node-rank=$(JOB_COMPLETION_INDEX)"]
    room = {"cpu": "1", "memory": "2Gi"}
    container = {
        "name": "worker",
        "image": image,
        "command": [*torchrun, "/code/train.py", *words],
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "resources": {"requests": room, "limits": room},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "code", "mountPath": "/code"}],
    }
    pod = {
        "restartPolicy": restart_policy,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": NAME}}],
    }
    return {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "template": {"spec": pod}}
