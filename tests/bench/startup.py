"""What `--help` and `render` cost beside the bare imports that they cannot do without, and renders per second.

Bytecode is cached for both sides, as it is for users: without it our own modules would be compiled at every start.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

from tests.bench import measuring

SAMPLE = Path(__file__).parents[2] / "manifests/samples/digits/job.yaml"
K8SDDP = str(Path(sys.executable).with_name("k8sddp"))
LIBRARIES = "click, jinja2, yaml, pydantic"
# `import pydantic` alone loads next to nothing: what it costs is paid when the first model is made.
ONE_MODEL = "Model = type('Model', (pydantic.BaseModel,), {})"


def compare(name: str, command: tuple[str, ...], bare: str, *, limit: float) -> dict[str, object]:
    """Return the ratio of a command's time to that of its bare imports, n = 30, in turn."""
    ways = [partial(measuring.seconds_of, argv) for argv in (command, (sys.executable, "-c", bare))]
    ours, bare = measuring.in_turn(ways, rounds=30)
    ratio = measuring.median(ours) / measuring.median(bare)
    return {
        "figure": name,
        "ratio": round(ratio, 2),
        "limit": limit,
        "seconds": measuring.median(ours),
        "bare": measuring.median(bare),
        "n": 30,
    }


def renders_per_second() -> dict[str, object]:
    """Return how many times a second the sample is loaded and rendered, parse-back included."""
    from k8sddp import render, spec
    from k8sddp.cli import code_folder
    from k8sddp.render import bundle

    text = SAMPLE.read_text()
    code = bundle.pack(code_folder.read(SAMPLE.parent))
    job = spec.load(text)
    render.render(job, code=code)
    started = time.perf_counter()
    for _ in range(500):
        render.render(job, code=code)
    rendered = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(500):
        spec.load(text)
    loaded = time.perf_counter() - started
    return {"figure": "renders/s", "value": round(500 / rendered), "limit": 300, "loads/s": round(500 / loaded)}


def figures() -> list[dict[str, object]]:
    """Return the start-up and rendering figures."""
    return [
        compare("--help", (K8SDDP, "--help"), "import click", limit=1.8),
        compare("render", (K8SDDP, "render", str(SAMPLE)), f"import {LIBRARIES}", limit=1.6),
        compare(
            "render, pydantic in use", (K8SDDP, "render", str(SAMPLE)), f"import {LIBRARIES}; {ONE_MODEL}", limit=1.6
        ),
        renders_per_second(),
    ]
