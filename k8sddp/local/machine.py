"""What `run --local` must know about the machine it runs on, read once and passed on as a value.

`observe` is the only reader; the rest of the package decides from the value, so that every refusal can be tested on any
machine. Container variables come from the rendered Job; of the user's shell only those pass that describe this machine
or the user's session (`INHERITED`), never what describes the job: that belongs in `spec.env`, where a cluster sees it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from k8sddp.local import devices
from k8sddp.worker.contract import node_env

# name or prefix* -> why a local pod needs it although a container would not see it
INHERITED: Final[Mapping[str, str]] = {
    "HOME": "caches and ~/.local packages",
    "USER": "getpass.getuser, which torch's cache folder is named after",
    "LOGNAME": "as USER",
    "PATH": "programs of this machine; the folder of this Python comes first",
    "LD_LIBRARY_PATH": "where this machine has CUDA, MKL or its own libstdc++",
    "CUDA_VISIBLE_DEVICES": "the GPUs that the user may use here",
    "CUDA_DEVICE_ORDER": "what the numbers in CUDA_VISIBLE_DEVICES mean",
    "CUDA_HOME": "compilers of extensions",
    "CUDA_PATH": "as CUDA_HOME",
    "CONDA_PREFIX": "the environment that this Python belongs to",
    "VIRTUAL_ENV": "as CONDA_PREFIX",
    "NIX_LD*": "as LD_LIBRARY_PATH, on NixOS",
    "XDG_*": "cache and runtime folders",
    "TORCH_HOME": "torch's download cache",
    "HF_HOME": "Hugging Face's download cache",
    "LANG": "text encoding of what the ranks print",
    "LC_*": "as LANG",
    "TZ": "times in the log as the user reads them",
    "TERM": "some progress bars ask for it",
    "http_proxy": "downloads behind a proxy; also https_proxy, no_proxy, all_proxy, and in capitals",
    "https_proxy": "as http_proxy",
    "no_proxy": "as http_proxy",
    "all_proxy": "as http_proxy",
    "HTTP_PROXY": "as http_proxy",
    "HTTPS_PROXY": "as http_proxy",
    "NO_PROXY": "as http_proxy",
    "ALL_PROXY": "as http_proxy",
    "SSL_CERT_FILE": "the certificates of such a proxy",
    "SSL_CERT_DIR": "as SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE": "as SSL_CERT_FILE",
    "CURL_CA_BUNDLE": "as SSL_CERT_FILE",
}

_GPU_FILE = re.compile(r"nvidia[0-9]+")  # nvidiactl, nvidia-uvm and the like are not GPUs


@dataclass(frozen=True)
class Machine:
    """The machine, its user's shell, and where things may be written.

    `devices` are the GPUs that the user may use, as CUDA_VISIBLE_DEVICES names them.
    """

    platform: str
    hostname: str
    executable: Path
    directory: Path
    temporary: Path
    shared_memory: Path | None
    short_temporary: Path | None = None  # for the beginning of paths that must be short
    devices: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


def observe() -> Machine:
    """Return this machine."""
    return Machine(
        platform=sys.platform,
        hostname=os.uname().nodename,
        executable=Path(sys.executable),
        directory=Path.cwd(),
        temporary=Path(os.environ.get("TMPDIR") or "/tmp"),  # noqa: S108  mkdtemp makes our folder in it
        shared_memory=_writable(Path("/dev/shm")),  # noqa: S108  as above
        short_temporary=_writable(Path("/tmp")),  # noqa: S108  as above
        devices=devices.visible(
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            count=sum(bool(_GPU_FILE.fullmatch(path.name)) for path in Path("/dev").glob("nvidia*")),
        ),
        environ=inherited(os.environ),
    )


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the user's shell that a local pod sees."""
    prefixes = tuple(name[:-1] for name in INHERITED if name.endswith("*"))
    return {
        name: value
        for name, value in environ.items()
        if (name in INHERITED or name.startswith(prefixes)) and not node_env.reserved_reason(name)
    }


def _writable(folder: Path) -> Path | None:
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
