"""The pure parts of the test bed: what is built, what is written, and what is found."""

import fcntl
import json
import signal
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import pytest

from tests.cluster import cache
from tests.cluster.errors import ClusterUnavailableError
from tests.cluster.testbed import builds, cgroups, components, configs, images, layout, pki, processes, requirements

V1_AND_V2 = """25 22 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu
27 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def make_layout(base: Path) -> layout.Layout:
    """Build a layout over a folder with one empty file per program."""
    programs = base / "bin"
    programs.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl"):
        (programs / name).touch()
    for name in ("coredns", "containerd", "ctr", "kubelet", "ptp", "runc"):
        (programs / name).touch()
    options = layout.Options(node_monitor_grace_seconds=7)
    return layout.Layout("t", "run", base, (programs,), base / "images", options)


def test_a_layout_survives_its_file(tmp_path: Path) -> None:
    """Another process reads the same value."""
    lay = make_layout(tmp_path)
    lay.state.mkdir(parents=True)
    layout.save(lay)
    assert lay == layout.load(tmp_path, "t")


def test_two_kubelets_share_neither_cgroup_nor_port(tmp_path: Path) -> None:
    """Each has a cgroup root and ports of its own."""
    lay = make_layout(tmp_path)
    first, second = (json.loads(configs.kubelet(lay, node)) for node in layout.NODE_ADDRESSES)
    own = ("address", "port", "healthzPort", "cgroupRoot", "containerRuntimeEndpoint", "podLogsDir", "tlsCertFile")
    assert [] == [key for key in own if first[key] == second[key]]


def test_no_answer_about_a_cluster_name_is_cached(tmp_path: Path) -> None:
    """As in kubeadm's Corefile: an early look-up does not hide a new Service."""
    corefile = configs.corefile(make_layout(tmp_path))
    assert "cache 30 {\n        disable success cluster.local\n        disable denial cluster.local\n    }" in corefile


def test_the_grace_period_reaches_the_controller_manager(tmp_path: Path) -> None:
    """The option is a flag of the component that uses it."""
    assert "--node-monitor-grace-period=7s" in components.controller_manager(make_layout(tmp_path)).argv


def test_containers_see_the_packages_read_only() -> None:
    """The base spec binds the site-packages where Debian's python3 looks."""
    mounts = json.loads(configs.base_spec('{"mounts": []}', (3, 11)))["mounts"]
    bound = [(mount["destination"], mount["options"]) for mount in mounts]
    assert [("/usr/local/lib/python3.11/dist-packages", ["rbind", "ro"])] == bound


def test_the_api_servers_certificate_names_its_service() -> None:
    """Pods may call it by any of the Service's names and by its address."""
    text = pki.leaf_config(pki.CERTIFICATES["apiserver"])
    wanted = ("DNS:kubernetes.default,", "DNS:kubernetes.default.svc.cluster.local", "IP:10.96.0.1", "serverAuth")
    assert [] == [name for name in wanted if name not in text]


def test_hierarchies_are_read_from_mountinfo() -> None:
    """Both generations of cgroups are told apart, whatever optional fields a line has."""
    found = {str(hierarchy.path): hierarchy.unified for hierarchy in cgroups.mounted(V1_AND_V2)}
    assert {"/sys/fs/cgroup/cpu": False, "/sys/fs/cgroup/unified": True} == found


def test_a_build_is_named_after_all_that_decides_it() -> None:
    """Another Go, other sums or other flags make another cache entry."""
    module = builds.MODULES[0]
    names = {
        builds.entry_name(module, "go1.26.8"),
        builds.entry_name(module, "go1.26.9"),
        builds.entry_name(builds.Module(module.name, tags="x", renames=module.renames), "go1.26.8"),
    }
    assert 3 == len(names)


def test_no_committed_module_names_a_registry() -> None:
    """go.mod pins by module path and version alone."""
    for module in builds.MODULES:
        assert "://" not in (module.folder / "go.mod").read_text()


def test_a_python_without_a_debian_is_refused_in_one_sentence() -> None:
    """The image's python3 must match."""
    with pytest.raises(ClusterUnavailableError, match=r"not 3\.12: make the virtual environment"):
        images.suite((3, 12))


def test_a_cache_that_the_cluster_covers_is_refused() -> None:
    """Inside, /run is another folder."""
    with pytest.raises(ClusterUnavailableError, match="K8SDDP_CACHE"):
        requirements.check_cache(Path("/run/cache"))


def test_two_builders_build_once(tmp_path: Path) -> None:
    """The second waits for the first, which holds a lock meanwhile, and takes its result."""
    made: list[Path] = []
    both = threading.Barrier(2)

    def make(out: Path) -> None:
        made.append(out)
        with (tmp_path / "entry.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (out / "result").touch()

    def build() -> Path:
        both.wait(10)
        return cache.entry(tmp_path / "entry", make)

    with futures.ThreadPoolExecutor(2) as pool:
        entries = [job.result() for job in [pool.submit(build), pool.submit(build)]]
    assert [tmp_path / "entry"] * 2 == entries
    assert (1, True) == (len(made), (tmp_path / "entry" / "result").exists())


def test_a_failed_build_leaves_no_entry(tmp_path: Path) -> None:
    """What a builder left half made is neither used nor kept."""

    def fail(out: Path) -> None:
        (out / "half").touch()
        raise OSError

    with pytest.raises(OSError):
        cache.entry(tmp_path / "entry", fail)
    assert not (tmp_path / "entry").exists()
    cache.entry(tmp_path / "entry", lambda out: (out / "whole").touch())
    assert ["entry", "entry.lock"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="pidfd is Linux's")
def test_a_reused_pid_is_not_signalled() -> None:
    """A process with the same pid and another start time gets nothing."""
    with subprocess.Popen((sys.executable, "-c", "import time; time.sleep(60)")) as child:
        found = processes.find(child.pid)
        assert found is not None
        stale = processes.Process(found.pid, found.started - 1, found.state, found.argv)
        assert not processes.send(stale, signal.SIGKILL)
        assert child.poll() is None
        assert processes.send(found, signal.SIGKILL)
    assert -signal.SIGKILL == child.returncode


def test_the_cache_is_where_the_environment_says() -> None:
    """Our variable wins over XDG's, and both over the default."""
    home = Path("~/.cache/k8sddp").expanduser()
    both = {"K8SDDP_CACHE": "/a", "XDG_CACHE_HOME": "/b"}
    roots = [cache.root(both), cache.root({"XDG_CACHE_HOME": "/b"}), cache.root({})]
    assert [Path("/a"), Path("/b/k8sddp"), home] == roots
