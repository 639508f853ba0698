"""Builders of job files: scripts of a few lines that need no torch and start in a moment, and the samples.

`launcher: spawn` starts a script without torchrun, so a gang of such scripts runs within three seconds of its apply.
"""

import json
import re
import shutil
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"

DONE = "print('done')\n"
HOLD = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"

# With this in its namespace a job's other pods do not come until it is gone
ONE_POD = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "one"},
    "spec": {"hard": {"pods": "1"}},
}


def write(folder: Path, name: str, script: str, *, image: str, **spec: object) -> Path:
    """Write FOLDER/NAME/job.yaml with its script and return the path of job.yaml."""
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "main.py").write_text(script)
    small = {"cpu": "100m", "memory": "256Mi"}
    job = {
        "apiVersion": "k8sddp.dev/v1alpha1",
        "kind": "DDPJob",
        "metadata": {"name": name},
        "spec": {
            "image": image,
            "command": ["main.py"],
            "code": {"path": "."},
            "launcher": "spawn",
            "terminationGracePeriodSeconds": 5,
            "resources": small,
            **spec,
        },
    }
    (place / "job.yaml").write_text(json.dumps(job, indent=2))
    return place / "job.yaml"


def sample(folder: Path, name: str, *, image: str) -> Path:
    """Copy the folder of manifests/samples/NAME, put the image into its job file, and return the copy's path."""
    source = SAMPLES / name
    shutil.copytree(source.parent, folder / source.parent.name)
    copy = folder / source.parent.name / source.name
    text, count = re.subn(r"(?m)^  image: .*$", f"  image: {image}", copy.read_text())
    assert 1 == count
    copy.write_text(text)
    return copy
