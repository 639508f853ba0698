"""The PID, network and mount namespaces that hold a whole test bed.

The first process is our `pause` program, started with the state folder and the run id as arguments: that is how any
later process finds it, even when the starter was killed before it could write anything down. Killing it ends
everything. Inside, the folders that Kubernetes insists on (/run, /var/lib, /var/log) are covered by tmpfs, and the
kernel settings that a kubelet writes by plain files, so the machine's own stay as they are. Node addresses sit on the
loopback device: there is no bridge and no default route, so a packet to anywhere else fails at once instead of
leaving. Tests and their programs enter the network namespace only and so outlive the first process; their environment
says whose users they are, and they end with the rest.
"""

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cluster.errors import ClusterError
from tests.cluster.testbed import cgroups, layout, processes

# Kernel settings that a kubelet changes for the whole machine (setupKernelTunables in its container manager).
SHADOWED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

# Environment variable of every process that the test bed starts; the shims of containers inherit it.
MARK = "K8SDDP_TESTBED_COMPONENT"

# Environment variable of every process that uses the test bed from outside: its state folder. Children inherit it.
USER_MARK = "K8SDDP_TESTBED_USER"

# $1: resolv.conf of the cluster; $2: folder for the bound site-packages; then what to bind there.
_MOUNTS = """
resolv=$1; packages=$2; shift 2
mount --make-rshared /
mount -t tmpfs -o mode=755 k8sddp-run /run
mount -t tmpfs -o mode=755 k8sddp-lib /var/lib
mount -t tmpfs -o mode=755 k8sddp-log /var/log
mkdir -p "$packages"
for path; do
  target=$packages/${path##*/}
  if [ -d "$path" ]; then mkdir "$target"; else : > "$target"; fi
  mount -o bind,ro "$path" "$target"
done
target=$(readlink -m /etc/resolv.conf); mkdir -p "${target%/*}"; [ -e "$target" ] || : > "$target"
mount --bind "$resolv" "$target"
"""

# Arguments: settings below /proc/sys.
_SHADOWS = """
for setting; do
  [ -e "/proc/sys/$setting" ] || continue
  copy=/run/k8sddp/sys/$setting; mkdir -p "${copy%/*}"
  cat "/proc/sys/$setting" > "$copy"; mount --bind "$copy" "/proc/sys/$setting"
done
"""

# $1: the Services' network, which processes beside the pods reach too; then addresses.
_NETWORK = """
services=$1; shift
ip link set lo up
for address; do ip address add "$address/32" dev lo; done
ip route add "$services" dev lo src "$1"
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


@dataclass(frozen=True)
class Namespaces:
    """The namespaces of a running test bed, by their first process."""

    first: processes.Process
    run_id: str

    @property
    def network(self) -> str:
        """Path of the network namespace; valid as long as the test bed runs."""
        return f"/proc/{self.first.pid}/ns/net"

    def argv(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs `argv` in all three namespaces."""
        return ("nsenter", f"--target={self.first.pid}", "--pid", "--net", "--mount", "--", *argv)

    def run(self, argv: Sequence[str], *, stdin: str | None = None) -> str:
        """Run a process in all three namespaces to its end; ClusterError on a non-zero exit."""
        done = subprocess.run(self.argv(argv), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(argv[:3])}: exit {done.returncode}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def start(self, mark: str, argv: Sequence[str], *, env: Mapping[str, str], log: IO[bytes]) -> None:
        """Start a process that stays; the test bed's first process becomes its parent."""
        subprocess.run(
            self.argv(("sh", "-c", '"$@" & exit 0', "sh", *argv)),
            env={**env, MARK: mark},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # out of reach of the starter's terminal and its Ctrl-C
            check=True,
        )


def create(lay: layout.Layout, binds: Iterable[Path]) -> Namespaces:
    """Make the namespaces and furnish them."""
    unshare = (
        "unshare",
        "--fork",
        "--pid",
        "--mount-proc",
        "--mount",
        "--net",
        "--propagation=private",
        "--kill-child=KILL",
    )
    first = subprocess.Popen(
        (*unshare, str(lay.images / "pause"), str(lay.state), lay.run_id),
        cwd="/",
        env=unmarked(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # Reaped whenever it ends; a Popen that nobody holds while it runs is a ResourceWarning, in pytest an error.
    threading.Thread(target=first.wait, daemon=True).start()
    made = _wait_for(lay.state)
    resolv = lay.state / "resolv.conf"
    made.run(("sh", "-eu", "-c", _MOUNTS, "sh", str(resolv), str(layout.SITE_PACKAGES), *map(str, binds)))
    made.run(("sh", "-eu", "-c", _SHADOWS, "sh", *SHADOWED))
    addresses = (*layout.NODE_ADDRESSES.values(), layout.DNS_ADDRESS)
    made.run(("sh", "-eu", "-c", _NETWORK, "sh", layout.SERVICE_CIDR, *addresses))
    return made


def find(state: Path) -> Namespaces | None:
    """Return the running test bed of that state folder, None where there is none."""
    for process in processes.every():
        if process.program == "pause" and len(process.argv) == 3 and process.argv[1] == str(state):
            return Namespaces(process, process.argv[2])
    return None


def unmarked() -> dict[str, str]:
    """Return the environment for what must outlive the use of another test bed in which its starter may be."""
    return {name: value for name, value in os.environ.items() if name != USER_MARK}


def collapse(state: Path, cgroup: str) -> None:
    """End every process of that state folder's test bed and remove its cgroups; nothing to do is no error.

    Users end too, because they hold the network namespace; the caller and its ancestors are spared: they would take
    the rest of this work with them.
    """
    while holders := _holders(state):
        cgroups.thaw(cgroup)  # a frozen process of the old hierarchies does not even die
        if left := processes.kill_all(holders, 30):
            raise _outlived(left[0], 30)
    while users := _users(state):
        if left := processes.kill_all(users):
            raise _outlived(left[0], 10)
    cgroups.remove(cgroup)


def _outlived(process: processes.Process, seconds: int) -> ClusterError:
    stack = f"see /proc/{process.pid}/stack"
    return ClusterError(f"pid {process.pid} ({process.program}): still there {seconds} s after SIGKILL: {stack}")


def _users(state: Path) -> tuple[processes.Process, ...]:
    spared = {process.pid for process in processes.lineage()}
    return tuple(user for user in processes.with_variable(USER_MARK, str(state)) if user.pid not in spared)


def _holders(state: Path) -> tuple[processes.Process, ...]:
    """Return the first process and the unshare that waits for it; the first one is gone only when all others are."""
    return tuple(
        process
        for process in processes.every()
        if process.program in ("pause", "unshare") and len(process.argv) > 2 and process.argv[-2] == str(state)
    )


def _wait_for(state: Path) -> Namespaces:
    own = processes.namespace(processes.this())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = find(state)
        if found and processes.namespace(found.first) != own:
            return found
        time.sleep(0.02)
    raise ClusterError("unshare: no namespaces after 10 s: this kernel, or the sandbox around it, forbids them")
