"""What a golden file is: the objects of `specs/NAME.yaml` as YAML, without what changes with every build.

Payloads of ConfigMaps and the version are elided; everything else is there to be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from k8sddp import constants, manifest, render, spec
from k8sddp.manifest import Manifest
from k8sddp.render import bundle

HERE = Path(__file__).parent
SPECS = tuple(sorted(path.stem for path in (HERE / "specs").glob("*.yaml")))
CODE = bundle.pack([bundle.CodeFile("train.py", b"print('hello')\n"), bundle.CodeFile("tools/run.sh", b"", True)])


def expected_path(name: str) -> Path:
    """Return the golden file of a spec."""
    return HERE / "expected" / f"{name}.yaml"


def objects(name: str) -> tuple[Manifest, ...]:
    """Return the whole objects of a spec."""
    job = spec.load((HERE / "specs" / f"{name}.yaml").read_text(), source=f"{name}.yaml")
    return render.render(job, code=CODE if job.spec.code and job.spec.code.path else None)


def text(name: str) -> str:
    """Return what the golden file of a spec must hold."""
    return manifest.to_yaml(_elided(item) for item in objects(name))


def _elided(item: Manifest) -> Manifest:
    changed: dict[str, Any] = dict(item)
    if "binaryData" in item:
        changed["binaryData"] = dict.fromkeys(item["binaryData"], "<elided>")
    annotations = item["metadata"].get("annotations", {})
    if constants.ANNOTATION_VERSION in annotations:
        elided = {**annotations, constants.ANNOTATION_VERSION: "<elided>"}
        changed["metadata"] = {**item["metadata"], "annotations": elided}
    return changed
