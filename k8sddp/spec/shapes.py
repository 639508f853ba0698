"""Kubernetes' own shapes that job.yaml embeds, as far as they decide whether the API server accepts them.

Field names and required fields follow core/v1 (https://kubernetes.io/docs/reference/kubernetes-api); unknown fields are
refused, as strict field validation does. Values that only the cluster can judge (does the claim exist?) are not judged.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from typing_extensions import Required, TypedDict

from k8sddp.spec.fields import DnsSubdomain, Flag, Int

_STRICT = ConfigDict(extra="forbid")
Mode = Annotated[Int, Field(ge=0, le=0o777)]
Weight = Annotated[Int, Field(ge=1, le=100)]


class Reference(TypedDict, total=False):
    """A ConfigMap or Secret by name."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    name: Required[DnsSubdomain]
    optional: Flag
