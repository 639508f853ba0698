"""The editor's JSON schema agrees with the loader."""

import json

import jsonschema
import pytest

from k8sddp import spec
from k8sddp.spec import schema

from .jobs import make_text

VALIDATOR = jsonschema.Draft202012Validator(spec.json_schema())
VOLUME = {"name": "a", "mountPath": "/a"}


def test_the_schema_is_a_schema():
    """Valid by its own rules, and without null, which the loader refuses."""
    jsonschema.Draft202012Validator.check_schema(spec.json_schema())
    assert '"null"' not in json.dumps(spec.json_schema())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"resources": {"gpu": 8, "cpu": 0.5, "memory": "256Gi"}, "nnodes": 2},
        {"rendezvous": {"timeout": "10m"}, "env": {"A": "b"}},
        {"restart": {"maxAttempts": 100, "failOn": [3], "retryOn": [255]}, "launcher": "direct"},
        {"restart": {"hangTimeout": "90s", "onHang": "report"}},
        {"volumes": [{**VOLUME, "persistentVolumeClaim": {"claimName": "c"}}], "code": {"path": "."}},
    ],
    ids=str,
)
def test_what_the_loader_takes_the_schema_takes(fields):
    """No red underline below a valid job."""
    spec.load(make_text(**fields))
    assert [] == [error.message for error in VALIDATOR.iter_errors(json.loads(make_text(**fields)))]


@pytest.mark.parametrize(
    "fields",
    [
        {"img": "x"},
        {"nnodes": 0},
        {"nnodes": "2"},
        {"backend": "mpi"},
        {"command": []},
        {"env": {"A": 1}},
        {"volumes": [VOLUME]},
        {"volumes": [{**VOLUME, "emptyDir": {}, "nfs": {"server": "a", "path": "/"}}]},
        {"code": {}},
        {"restart": {"maxAttempts": 101}},
        {"restart": {"failOn": []}},
        {"restart": {"retryOn": [0]}},
        {"restart": {"hangTimeout": 0}},
        {"restart": {"onHang": "stop"}},
        {"scheduling": {"tolerations": [{"operator": "exists"}]}},
    ],
    ids=str,
)
def test_what_the_schema_can_tell_it_refuses(fields):
    """Names, types, choices and limits are underlined while typing."""
    assert [] != list(VALIDATOR.iter_errors(json.loads(make_text(**fields))))


def test_field_names_are_found_inside_lists_and_kubernetes_shapes():
    """Unknown fields get their did-you-mean at every depth."""
    assert ("path", "configMap") == schema.field_names(("spec", "code"))
    assert ("effect", "key", "operator", "tolerationSeconds", "value") == schema.field_names(
        ("spec", "scheduling", "tolerations", 3)
    )
    assert () == schema.field_names(("spec", "env"))
    assert () == schema.field_names(("spec", "nowhere", "at", 5, "all"))
