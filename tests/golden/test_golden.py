"""Golden files: what typical jobs become, accepted by Kubernetes' own schemas, equal on every machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest

from k8sddp import constants, manifest
from tests.golden import goldens

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")

# 25 renders of all specs in one process; one digest if they are all the same
RENDERS = """
import hashlib
from k8sddp import manifest
from tests.golden import goldens
texts = {manifest.to_yaml(goldens.objects("everything")) for _ in range(25)}
print(*(hashlib.sha256(text.encode()).hexdigest() for text in texts))
"""


@pytest.mark.parametrize("name", goldens.SPECS)
def test_rendered_objects_equal_the_golden_file(name):
    """Every change of what is rendered shows in a reviewed file; `make golden-update` writes it anew."""
    assert goldens.expected_path(name).read_text() == goldens.text(name)


def test_every_golden_file_has_a_spec():
    """A golden file that nothing is compared with is removed."""
    assert set(goldens.SPECS) == {path.stem for path in (goldens.HERE / "expected").iterdir()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", goldens.SPECS)
def test_kubernetes_schemas_accept_every_object(name, version):
    """Kubernetes' published schemas, strict: no unknown field, no wrong type, from the minimum version on."""
    for item in goldens.objects(name):
        assert version in kubernetes_validate.validate(dict(item), version, strict=True)


def test_the_minimum_version_is_among_those_validated():
    """The schemas that are asked begin with the oldest Kubernetes that k8sddp supports."""
    assert "{}.{}".format(*constants.MIN_KUBERNETES) == VERSIONS[0]


@pytest.mark.parametrize("seed", ["0", "1", "4242", "random"])
def test_renders_are_byte_identical_in_every_process(seed):
    """100 renders, 25 under each of four hash seeds, give one text."""
    here = hashlib.sha256(manifest.to_yaml(goldens.objects("everything")).encode()).hexdigest()
    run = subprocess.run(
        [sys.executable, "-c", RENDERS],
        check=False,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
    )
    assert f"{here}\n" == run.stdout, run.stderr


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: https://kubernetes.io/docs/tasks/tools"
)
@pytest.mark.parametrize("name", goldens.SPECS)
def test_kubectl_reads_the_objects_that_were_written(name):
    """The real kubectl, offline, gives back every object of the YAML unchanged."""
    objects = goldens.objects(name)
    run = subprocess.run(
        ["kubectl", "patch", "--local", "--type=merge", "-p", "{}", "-o", "json", "-f", "-"],
        check=False,
        input=manifest.to_yaml(objects).encode(),
        env={**os.environ, "KUBECONFIG": os.devnull},
        capture_output=True,
    )
    assert list(objects) == _documents(run.stdout.decode()), run.stderr


def _documents(text):
    documents, decoder, text = [], json.JSONDecoder(), text.lstrip()
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents
