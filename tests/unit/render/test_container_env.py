"""The kubelet's `$` rule, and an environment that the worker can read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8sddp.render import container_env
from k8sddp.worker.contract import node_env
from tests.unit.render import jobs

KNOWN = {"A": "a", "B": "$(A) $$", "": "empty", "A.b-c d": "odd"}

# From the tests of k8s.io/kubernetes/third_party/forked/golang/expansion
EXPANSIONS = {
    "known": ("$(A)", "a"),
    "twice": ("$(A)$(A)", "aa"),
    "inside": ("foo$(A)bar", "fooabar"),
    "unknown": ("$(X)", "$(X)"),
    "escaped": ("$$(A)", "$(A)"),
    "escaped and known": ("$$$(A)", "$a"),
    "two escaped": ("$$$$(A)", "$$(A)"),
    "value is not expanded again": ("$(B)", "$(A) $$"),
    "empty name": ("$()", "empty"),
    "any characters in the name": ("$(A.b-c d)", "odd"),
    "unclosed": ("$(A", "$(A"),
    "unclosed after a known one": ("$(A)$(A", "a$(A"),
    "nested": ("$($(A))", "$($(A))"),
    "dollar alone": ("$", "$"),
    "dollar at the end": ("x$", "x$"),
    "dollar before a letter": ("$A", "$A"),
    "dollar before a brace": ("${A}", "${A}"),
    "only doubled": ("$$", "$"),
    "three": ("$$$", "$$"),
    "closer alone": (")$(A)", ")a"),
    "newline in the name": ("$(A\n)", "$(A\n)"),
}


@pytest.mark.parametrize(("text", "expected"), EXPANSIONS.values(), ids=EXPANSIONS.keys())
def test_expand_follows_the_kubelet(text, expected):
    """Known names are replaced once, unknown stay, a doubled `$` is one, everything else is literal."""
    assert expected == container_env.expand(text, KNOWN)


@given(st.text(), st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_escaped_text_is_expanded_to_itself(text, mapping):
    """Whatever variables exist, what was escaped arrives as it was."""
    assert text == container_env.expand(container_env.escape(text), mapping)


def test_manifest_sets_only_our_names():
    """A job without env sets K8SDDP_ names and nothing else: torch's are the worker's business."""
    names = [variable["name"] for variable in jobs.make_container()["env"]]
    assert [] == [name for name in names if not name.startswith("K8SDDP_")]
    assert len(set(names)) == len(names)


def test_users_env_stands_after_ours():
    """The order in the manifest is ours, then the user's as written."""
    names = [variable["name"] for variable in jobs.make_container(env={"Z": "1", "A": "2"})["env"]]
    assert ["Z", "A"] == names[-2:]
    assert names[0].startswith("K8SDDP_")


def test_worker_reads_the_environment_that_is_rendered():
    """node_env.parse accepts the rendered values with the downward API's filled in."""
    fields = {
        "metadata.namespace": "ml",
        "metadata.name": "digits-1-x7k2p",
        "status.podIP": "10.0.0.7",
        "spec.nodeName": "node-b",
        "metadata.labels['batch.kubernetes.io/job-completion-index']": "1",
        "metadata.labels['batch.kubernetes.io/controller-uid']": "5b0c",
        "metadata.annotations['batch.kubernetes.io/job-index-failure-count']": "2",
        "metadata.annotations['batch.kubernetes.io/job-index-ignored-failure-count']": "5",
        "limits.ephemeral-storage": "8388608",
    }
    container = jobs.make_container(
        nnodes=3,
        nprocPerNode=4,
        code={"path": "."},
        resources={"cpu": "2500m"},
        rendezvous={"port": 2000, "timeout": "2m"},
        restart={"maxAttempts": 7, "failOn": [3, 137], "retryOn": [64], "hangTimeout": "5m", "onHang": "fail"},
        launcher="direct",
        preflight="warn",
        volumes=[{"name": "ckpt", "mountPath": "/ckpt", "persistentVolumeClaim": {"claimName": "a"}}],
    )
    environ = {
        variable["name"]: variable["value"]
        if "value" in variable
        else fields[variable["valueFrom"].get("fieldRef", {}).get("fieldPath", "limits.ephemeral-storage")]
        for variable in container["env"]
    }
    expected = node_env.NodeEnv(
        job="digits", nnodes=3, nproc_per_node=4, backend="gloo", launcher="direct", port=2000, join_timeout=120.0,
        max_attempts=7, fail_on=(3, 137), retry_on=(64,), hang_timeout=300.0, on_hang="fail",
        preflight="warn", only_preflight=False, writable=(("ckpt", "/ckpt"),),
        volumes=(("k8sddp-tmp", "/tmp", 0), ("k8sddp-work", "/k8sddp/work", 0)),
        ephemeral_limit=8 << 20,
        grace_period=30.0, gpus=0, cpus=2.5, code_digest=jobs.CODE.digest, code_config_map="digits-code",
        namespace="ml",
        pod_name="digits-1-x7k2p", pod_ip="10.0.0.7", kube_node="node-b", node_rank=1, job_uid="5b0c", failure_count=2,
        ignored_count=5,
        code_zip="/k8sddp/code/code.zip", work_dir="/k8sddp/work", scratch_dir="/tmp", shm_dir="/dev/shm",
        termination_log="/dev/termination-log", bind_host="", coordinator="digits-0.digits",
    )  # fmt: skip
    assert expected == node_env.parse(environ)


@pytest.mark.parametrize(
    ("volume", "writable"),
    [
        pytest.param({"persistentVolumeClaim": {"claimName": "a"}}, True, id="claim"),
        pytest.param({"persistentVolumeClaim": {"claimName": "a"}, "readOnly": True}, False, id="read-only mount"),
        pytest.param({"persistentVolumeClaim": {"claimName": "a", "readOnly": True}}, False, id="read-only claim"),
        pytest.param({"emptyDir": {}}, True, id="emptyDir"),
        pytest.param({"configMap": {"name": "a"}}, False, id="ConfigMap"),
        pytest.param({"image": {"reference": "a"}}, False, id="image"),
    ],
)
def test_volumes_that_can_be_written_are_told_to_the_worker(volume, writable):
    """Those that Kubernetes mounts read-only, or the user does, are not looked at."""
    container = jobs.make_container(volumes=[{"name": "data", "mountPath": "/data", **volume}])
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert ('[["data","/data"]]' if writable else "[]") == env[node_env.WRITABLE]


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        (None, ""),
        (1, "1"),
        ("32", "32"),
        ("500m", "0.5"),
        ("2.5", "2.5"),
        ("1234567m", "1234.567"),
        (1500000, "1500000"),
    ],
)
def test_cpus_are_a_plain_decimal_number(cpu, expected):
    """The worker gets cores as a number without exponent, nothing where the job names none."""
    resources = {} if cpu is None else {"cpu": cpu}
    values = {variable["name"]: variable.get("value") for variable in jobs.make_container(resources=resources)["env"]}
    assert expected == values[node_env.CPUS]


def test_the_worker_knows_which_folders_its_pod_can_be_evicted_for():
    """emptyDirs on disk with what they may hold in bytes: the kernel itself bounds those in memory."""
    volumes = [
        {"name": "scratch", "mountPath": "/scratch", "emptyDir": {"sizeLimit": "1.5Gi"}},
        {"name": "free", "mountPath": "/free", "emptyDir": {}},
        {"name": "fast", "mountPath": "/fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    job = jobs.make_job(volumes=volumes)
    assert [("k8sddp-tmp", "/tmp", 0), ("scratch", "/scratch", 1610612736), ("free", "/free", 0)] == (
        container_env.disk_volumes(job.spec)
    )
