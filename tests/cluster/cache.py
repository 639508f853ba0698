"""Where built programs, images, logs and the state of running clusters live on disk, and how two builders share it.

Everything sits under one folder, `$K8SDDP_CACHE` or `$XDG_CACHE_HOME/k8sddp` or `~/.cache/k8sddp`, so removing that
folder (with no cluster running) removes every trace. An entry is made in a temporary folder beside its final name and
renamed when complete: a killed builder leaves no half-made entry, and the name carries a digest of all that went in.
Entries are never changed; old ones are not collected here.
"""

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


def root(environ: Mapping[str, str]) -> Path:
    """Return the cache folder that the environment names; it may not exist yet."""
    if named := environ.get("K8SDDP_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "k8sddp"


def digest(*parts: bytes | str) -> str:
    """Return 16 hex digits over the parts, unambiguous about where each ends."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file; the kernel releases it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(path: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `path`, calling `make(temporary folder)` first where no complete one exists."""
    if path.is_dir():
        return path
    with locked(path.with_name(path.name + ".lock")):
        if path.is_dir():
            return path
        for stale in path.parent.glob(path.name + ".tmp-*"):  # a builder that was killed: we hold its lock now
            shutil.rmtree(stale)
        temporary = Path(tempfile.mkdtemp(prefix=path.name + ".tmp-", dir=path.parent))
        make(temporary)
        temporary.chmod(0o755)
        temporary.rename(path)
    return path
