"""What `validate` says about Kubernetes' own shapes, and what a real API server says: both ways the same."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import pytest

from k8sddp import manifest
from tests.e2e.users import LIMIT, User
from tests.unit.render import jobs
from tests.unit.spec import shape_cases

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

# job.yaml's field of scheduling -> the pod's
_NAMES = {"topologySpread": "topologySpreadConstraints"}


def taken(user: User, *found: Mapping[str, Any]) -> tuple[set[str], str]:
    """Return the names of the Jobs that the API server would take, and what it says about the others."""
    words = ("create", "--dry-run=server", "--output=name", "--filename=-")
    argv = user.cluster.kubectl_argv(*words, kubeconfig=user.kubeconfig)
    done = user.cluster.run_inside(argv, stdin=manifest.to_yaml(found), timeout=LIMIT, check=False)
    return set(re.findall(r"^job.batch/(\S+)$", done.stdout, re.M)), done.stderr


def test_the_api_server_takes_what_validate_takes(user: User) -> None:
    """Every shape of the unit tests, rendered."""
    found = {
        f"taken-{number}": jobs.make_indexed_job(metadata={"name": f"taken-{number}"}, **fields)
        for number, fields in enumerate(shape_cases.TAKEN)
    }
    names, said = taken(user, *found.values())
    assert found.keys() == names, said


def test_the_api_server_refuses_what_validate_refuses(user: User) -> None:
    """No rule there is stricter than its own; put into the pod as Kubernetes has them, past our validation."""
    plain = jobs.make_indexed_job(metadata={"name": "plain"})
    found = {f"refused-{number}": put(plain, fields) for number, (fields, _) in enumerate(shape_cases.REFUSED)}
    for name, job in found.items():
        job["metadata"]["name"] = name
    names, said = taken(user, plain, *found.values())
    assert {"plain"} == names, said


def put(job: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Job with fields of job.yaml in its pods."""
    made = copy.deepcopy(dict(job))
    pod = made["spec"]["template"]["spec"]
    for volume in fields.get("volumes", ()):
        pod["volumes"].append({name: value for name, value in volume.items() if name != "mountPath"})
    for name, value in fields.get("scheduling", {}).items():
        pod[_NAMES.get(name, name)] = value
    return made
