"""The model: defaults resolved, values frozen, the canonical form stable."""

import pytest
from pydantic import ValidationError

from k8sddp import spec
from k8sddp.worker.contract import node_env
from k8sddp.worker.gang import ports

from .jobs import make_job, problems, yaml_with


def test_the_shortest_job_has_every_default_resolved():
    """Nothing is None where a default exists."""
    job = make_job()
    got = job.spec
    assert ("digits", None, {}, {}) == (job.name, job.namespace, dict(job.labels), dict(job.annotations))
    assert ("img", ("train.py",), "python3", None) == (got.image, got.command, got.python, got.code)
    assert (1, 1, "gloo", "torchrun", 1) == (got.nnodes, got.nproc_per_node, got.backend, got.launcher, got.world_size)
    assert (0, None, None, None, "nvidia.com/gpu") == tuple(getattr(got.resources, name) for name in _RESOURCES)
    assert (29400, 600, "isolated", 4, (), (), 600, "restart", 30) == (
        got.rendezvous.port,
        got.rendezvous.timeout,
        got.network.policy,
        got.restart.max_attempts,
        got.restart.fail_on,
        got.restart.retry_on,
        got.restart.hang_timeout,
        got.restart.on_hang,
        got.termination_grace_period_seconds,
    )
    assert ("restricted", 65532, 65532, 65532) == tuple(getattr(got.security_context, name) for name in _SECURITY)
    assert ((), (), (), ()) == (got.env_from, got.volumes, got.image_pull_secrets, got.scheduling.tolerations)


_RESOURCES = ("gpu", "cpu", "memory", "shared_memory", "gpu_resource")
_SECURITY = ("profile", "run_as_user", "run_as_group", "fs_group")


@pytest.mark.parametrize(
    ("fields", "nproc", "backend"),
    [
        ({"resources": {"gpu": 8}}, 8, "nccl"),
        ({"resources": {"gpu": 8}, "nprocPerNode": 4}, 4, "nccl"),
        ({"resources": {"gpu": 2}, "backend": "gloo"}, 2, "gloo"),
        ({"nprocPerNode": 3}, 3, "gloo"),
    ],
    ids=["gpus", "fewer ranks", "gloo on gpus", "cpu"],
)
def test_ranks_and_backend_follow_the_gpus_unless_named(fields, nproc, backend):
    """One rank per GPU with nccl, one with gloo without GPUs; what the user names wins."""
    got = make_job(nnodes=3, **fields).spec
    assert (nproc, backend, 3 * nproc) == (got.nproc_per_node, got.backend, got.world_size)


@pytest.mark.parametrize(
    ("written", "seconds"), [(90, 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h1s", 3601)], ids=str
)
def test_durations_are_seconds(written, seconds):
    """A duration is text with units or whole seconds."""
    assert seconds == make_job(rendezvous={"timeout": written}).spec.rendezvous.timeout


@pytest.mark.parametrize(
    ("written", "meant"),
    [(None, "fail"), ("fail", "fail"), ("warn", "warn"), ("skip", "skip"), ("off", "skip")],
    ids=str,
)
def test_preflight_is_a_word_that_every_reader_of_yaml_takes_for_one(written, meant):
    """`off` in quotes is `skip`, and the same job: it is no change to write it so."""
    job = make_job(**({} if written is None else {"preflight": written}))
    assert meant == job.spec.preflight
    assert (None if meant == "fail" else meant) == spec.canonical(job)["spec"].get("preflight")


def test_preflight_off_without_quotes_is_answered_with_the_quoted_form():
    """To kubectl it is false, so nobody may be left to find out."""
    rule = "`off` is false to kubectl and a text to others"
    assert [f'spec.preflight: {rule} (write "off" for the text, or false)'] == problems(yaml_with("  preflight: off\n"))
    assert [] == problems(yaml_with('  preflight: "off"\n'))


@pytest.mark.parametrize(
    ("written", "text", "count"),
    [
        (32, "32", 32.0),
        (0.5, "0.5", 0.5),
        ("500m", "500m", 0.5),
        ("2", "2", 2.0),
        ("1e1", "1e1", 10.0),
        (None, None, 0.0),
    ],
    ids=str,
)
def test_cpu_is_kubernetes_text_and_our_number(written, text, count):
    """The quantity travels as text; cpu_count is what OMP_NUM_THREADS is computed from."""
    resources = make_job(resources={} if written is None else {"cpu": written}).spec.resources
    assert (text, count) == (resources.cpu, spec.cpu_count(resources))


def test_a_volume_knows_its_source_as_kubernetes_writes_it():
    """Name and mount on one side, the one source with Kubernetes' key on the other."""
    claim = {"claimName": "ckpt", "readOnly": True}
    (volume,) = make_job(volumes=[{"name": "a", "mountPath": "/a", "persistentVolumeClaim": claim}]).spec.volumes
    assert ("a", "/a", False, None, {"persistentVolumeClaim": claim}) == (
        volume.name,
        volume.mount_path,
        volume.read_only,
        volume.sub_path,
        volume.source,
    )
    (volume,) = make_job(volumes=[{"name": "a", "mountPath": "/a", "downwardAPI": {"items": []}}]).spec.volumes
    assert {"downwardAPI": {"items": []}} == volume.source


def test_the_highest_port_leaves_room_for_every_attempts():
    """The worker's whole range of MASTER_PORT lies above the port of the gang."""
    port = make_job(rendezvous={"port": 62326}).spec.rendezvous.port
    assert 65535 == port + node_env.MASTER_PORT_OFFSET + ports.PORTS - 1


def test_a_job_is_frozen():
    """Nothing downstream can change what the user wrote."""
    with pytest.raises(ValidationError, match="frozen"):
        make_job().spec.nnodes = 2


def test_the_canonical_form_leaves_out_what_equals_its_default():
    """The same job written with and without its defaults is the same job, in every namespace and version."""
    short = make_job(resources={"gpu": 2})
    long = make_job(
        metadata={"namespace": "research"},
        resources={"gpu": 2, "gpuResource": "nvidia.com/gpu"},
        nnodes=1,
        nprocPerNode=2,
        backend="nccl",
        launcher="torchrun",
        env={},
        rendezvous={"timeout": "10m"},
        restart={"maxAttempts": 4},
    )
    assert {
        "apiVersion": "k8sddp.dev/v1alpha1",
        "kind": "DDPJob",
        "metadata": {"name": "digits"},
        "spec": {"image": "img", "command": ["train.py"], "resources": {"gpu": 2}},
    } == spec.canonical(short)
    assert spec.canonical(short) == spec.canonical(long)


def test_the_canonical_form_holds_what_the_user_chose():
    """Every field that differs from its default is there, in camelCase."""
    volumes = [{"name": "a", "mountPath": "/a", "emptyDir": {"sizeLimit": "1Gi"}}]
    plain = spec.canonical(
        make_job(
            nprocPerNode=2,
            code={"configMap": "c"},
            envFrom=[{"prefix": "A_", "secretRef": {"name": "s"}}],
            volumes=volumes,
        )
    )
    assert {
        "image": "img",
        "command": ["train.py"],
        "code": {"configMap": "c"},
        "nprocPerNode": 2,
        "envFrom": [{"prefix": "A_", "secretRef": {"name": "s"}}],
        "volumes": volumes,
    } == plain["spec"]


def test_every_field_says_what_it_means():
    """Descriptions become docs, editor help and the CRD."""
    for model in (spec.DDPJob, spec.JobSpec, *spec.JobSpec.__subclasses__(), spec.Resources, spec.Volume):
        assert [] == [name for name, field in model.model_fields.items() if not field.description]


def test_a_job_with_every_supported_field_is_taken():
    """The whole of the supported spec in one file."""
    text = yaml_with(
        "  python: /opt/conda/bin/python\n  code: {path: .}\n  nnodes: 2\n  nprocPerNode: 8\n  backend: nccl\n"
        "  launcher: spawn\n"
        "  resources: {gpu: 8, cpu: 32, memory: 256Gi, sharedMemory: 64Gi, gpuResource: amd.com/gpu}\n"
        '  env: {LR: "1e-3", A.B: x}\n  envFrom: [{secretRef: {name: s, optional: true}}]\n'
        "  volumes: [{name: ckpt, mountPath: /checkpoints, persistentVolumeClaim: {claimName: ckpt}}]\n"
        "  rendezvous: {port: 20000, timeout: 5m}\n  network: {policy: open}\n"
        "  scheduling:\n    nodeSelector: {gpu: a100}\n    tolerations: [{operator: Exists}]\n"
        "    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        "[{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}}}\n"
        "    topologySpread: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]\n"
        "    priorityClassName: high\n    schedulerName: volcano\n"
        "  restart: {maxAttempts: 100, failOn: [3, 137], retryOn: [75], hangTimeout: 1h30m, onHang: fail}\n"
        "  activeDeadlineSeconds: 3600\n  ttlSecondsAfterFinished: 0\n"
        "  terminationGracePeriodSeconds: 60\n  serviceAccountName: trainer\n  imagePullSecrets: [registry]\n"
        "  imagePullPolicy: Always\n  securityContext: {profile: restricted, runAsUser: 1000, runAsGroup: 0, "
        "fsGroup: 0}\n"
    )
    assert [] == problems(text)
