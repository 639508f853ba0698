"""Which files of the running environment pods may see: torch, numpy and what they require, and nothing else.

Pods get each of them as a read-only bind mount, so nothing is copied or downloaded. The rest of the environment stays
out of sight on purpose, above all k8sddp's own editable install: a test where a pod imports k8sddp by accident would
prove nothing.
"""

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.cluster.errors import ClusterUnavailableError

ROOTS = ("torch", "numpy")


def closure(roots: Iterable[str]) -> tuple[importlib.metadata.Distribution, ...]:
    """Return what the roots need at run time, without extras; PackageNotFoundError for a missing root."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [(root, True) for root in roots]
    while wanted:
        name, required = wanted.pop()
        if canonicalize_name(name) in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if required:
                raise
            continue  # a CPU-only torch is installed without some of what its metadata names
        found[canonicalize_name(name)] = distribution
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append((requirement.name, False))
    return tuple(found.values())


def entries() -> tuple[Path, ...]:
    """Return the top-level files and folders of torch's closure; ClusterUnavailableError without torch."""
    try:
        distributions = closure(ROOTS)
    except importlib.metadata.PackageNotFoundError as error:
        raise ClusterUnavailableError(
            f"pods of the test bed use this environment's torch, and {error.name} is not installed: "
            "pip install 'k8sddp[torch]'"
        ) from error
    paths = {
        Path(str(distribution.locate_file(file.parts[0])))
        for distribution in distributions
        for file in distribution.files or ()
        if file.parts[0] not in ("..", "__pycache__")
    }
    return tuple(sorted(path for path in paths if path.exists()))
