"""DDPJob -> the Kubernetes objects that run it. Pure and byte-stable: no clock, no random, no facts of a cluster.

`render(job, code=...)` is all that the shells need; `bundle.pack` makes the code, `manifest.to_yaml` prints the result.
No object holds a namespace, an ownerReference or `suspend`, so the output goes into any namespace with
`kubectl apply --server-side`; who creates the objects adds those.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator

from k8sddp import spec
from k8sddp.manifest import Manifest
from k8sddp.render import bundle, container_env, context, templating

__all__ = ["render"]


def render(job: spec.DDPJob, *, code: bundle.Code | None, only_preflight: bool = False) -> tuple[Manifest, ...]:
    """Return the objects of `job` in the order in which they can be created.

    Service, ConfigMap NAME-worker, ConfigMap NAME-code (with spec.code.path), NetworkPolicy (unless open), Job.
    `code` is the packed folder, None unless spec.code.path is set; with `only_preflight` the workers end after their
    checks. Raises RenderError for what cannot be sent.
    """
    return tuple(_objects(job, context.values(job, code=code, only_preflight=only_preflight), code))


def _objects(job: spec.DDPJob, values: context.Values, code: bundle.Code | None) -> Iterator[Manifest]:
    yield templating.render("service.yaml.j2", values)
    yield _config_map(values, context.worker_config_map(job), container_env.WORKER_KEY, payload=_worker_payload())
    code_config_map = context.code_config_map(job)
    if code is not None and code_config_map is not None:
        yield _config_map(values, code_config_map, container_env.CODE_KEY, payload=_base64(code.zip))
    if job.spec.network.policy == "isolated":
        yield templating.render("networkpolicy.yaml.j2", values)
    yield templating.render("job.yaml.j2", values)


def _config_map(values: context.Values, name: str, key: str, *, payload: str) -> Manifest:
    # A megabyte of base64 is spliced in after the parse: nothing in its alphabet needs one.
    manifest = templating.render("configmap.yaml.j2", {**values, "config_map": name})
    return {**manifest, "binaryData": {key: payload}}


@functools.cache
def _worker_payload() -> str:
    return _base64(bundle.worker_zip())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
