"""What the rendered objects promise, beyond what the golden files show."""

import base64
import json

import pytest

from k8sddp import constants, errors, manifest, render
from k8sddp.render import bundle, context
from k8sddp.worker.contract import exit_codes
from tests.unit.render import jobs

PATH = {"path": "."}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["Service/d", "ConfigMap/d-worker", "NetworkPolicy/d", "Job/d"]),
        ({"code": PATH}, ["Service/d", "ConfigMap/d-worker", "ConfigMap/d-code", "NetworkPolicy/d", "Job/d"]),
        ({"code": {"configMap": "mine"}}, ["Service/d", "ConfigMap/d-worker", "NetworkPolicy/d", "Job/d"]),
        ({"network": {"policy": "open"}}, ["Service/d", "ConfigMap/d-worker", "Job/d"]),
    ],
    ids=["image", "code.path", "code.configMap", "open"],
)
def test_objects_come_in_their_order_of_creation(fields, expected):
    """Service before pods, ConfigMaps where something travels, the policy unless it is off, then the Job."""
    objects = jobs.make_objects(metadata={"name": "d"}, **fields)
    assert expected == [f"{item['kind']}/{item['metadata']['name']}" for item in objects]


@pytest.mark.parametrize("key", ["namespace", "ownerReferences", "suspend", "finalizers", "creationTimestamp"])
def test_nothing_that_only_a_cluster_knows_is_rendered(key):
    """The output goes into any namespace, also when the file names one; who creates it adds owners and suspend."""
    text = json.dumps(jobs.make_objects(metadata={"namespace": "team-a"}, code=PATH, nnodes=2))
    assert f'"{key}":' not in text
    assert "team-a" not in text


def test_selectors_select_this_jobs_pods():
    """Service and NetworkPolicy select by a label that the pod template has."""
    service, _, policy, indexed_job = jobs.make_objects()
    pod_labels = indexed_job["spec"]["template"]["metadata"]["labels"]
    selector = {constants.LABEL_JOB: "digits"}
    assert selector == service["spec"]["selector"]
    assert selector == policy["spec"]["podSelector"]["matchLabels"]
    assert selector == policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert selector.items() <= pod_labels.items()


def test_strangers_reach_the_http_port_only():
    """All ports for the job's own pods; for anyone else one port, the one that the container calls http."""
    policy, indexed_job = jobs.make_objects(rendezvous={"port": 23456})[-2:]
    ports = indexed_job["spec"]["template"]["spec"]["containers"][0]["ports"]
    own, others = policy["spec"]["ingress"]
    assert "ports" not in own
    assert {"ports": [{"port": 23457, "protocol": "TCP"}]} == others
    assert [{"name": "gang", "containerPort": 23456}, {"name": "http", "containerPort": 23457}] == ports


@pytest.mark.parametrize(
    ("gpu", "not_started"), [pytest.param(0, [128], id="without GPUs"), pytest.param(1, [], id="with GPUs")]
)
def test_every_exit_code_has_its_place(gpu, not_started):
    """Ignored, final or counted, as the worker's own table has it; a GPU runtime's passing errors are not final."""
    rules = jobs.make_indexed_job(resources={"gpu": gpu})["spec"]["podFailurePolicy"]["rules"]
    disruption, ignored, final = rules
    assert [{"type": "DisruptionTarget", "status": "True"}] == disruption["onPodConditions"]
    assert ["Ignore", "Ignore", "FailJob"] == [rule["action"] for rule in rules]
    assert [79, 143] == ignored["onExitCodes"]["values"]
    assert [*range(1, 65), 76, 77, 78, *not_started] == final["onExitCodes"]["values"]
    assert exit_codes.INFRASTRUCTURE not in ignored["onExitCodes"]["values"] + final["onExitCodes"]["values"]
    assert {"worker"} == {rule["onExitCodes"]["containerName"] for rule in (ignored, final)}


@pytest.mark.parametrize(
    ("nnodes", "attempts", "expected"), [(1, 1, 0), (2, 1, 1), (64, 1, 1), (1, 4, 3), (2, 4, 4), (2, 100, 100)]
)
def test_survivors_have_the_time_to_end_with_the_verdict(nnodes, attempts, expected):
    """The last lost pod of several does not fail the Job by itself; the only pod's does, since nobody is left."""
    indexed_job = jobs.make_indexed_job(nnodes=nnodes, restart={"maxAttempts": attempts})
    assert expected == indexed_job["spec"]["backoffLimitPerIndex"]
    assert 0 == indexed_job["spec"]["maxFailedIndexes"]
    assert "backoffLimit" not in indexed_job["spec"]


def test_payloads_are_what_was_packed_and_cannot_change():
    """ConfigMaps hold the very bytes and are immutable."""
    worker, code = [item for item in jobs.make_objects(code=PATH) if item["kind"] == "ConfigMap"]
    assert bundle.worker_zip() == base64.b64decode(worker["binaryData"]["worker.pyz"])
    assert jobs.CODE.zip == base64.b64decode(code["binaryData"]["code.zip"])
    assert (True, True) == (worker["immutable"], code["immutable"])


@pytest.mark.parametrize("code", [PATH, {"configMap": "mine"}], ids=["path", "configMap"])
def test_code_is_mounted_and_becomes_the_working_directory(code):
    """With code the script starts in a writable folder of its own."""
    pod = jobs.make_pod(code=code)
    container = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert "/k8sddp/work" == container["workingDir"] == mounts["k8sddp-work"]
    assert code.get("configMap", "digits-code") == volumes["k8sddp-code"]["configMap"]["name"]
    assert "/k8sddp/code" == mounts["k8sddp-code"]


def test_without_code_the_images_working_directory_stays():
    """Nothing of the code's is mounted and no working directory is set."""
    pod = jobs.make_pod()
    assert "workingDir" not in pod["containers"][0]
    assert {"k8sddp-worker", "k8sddp-tmp", "k8sddp-shm"} == {volume["name"] for volume in pod["volumes"]}


def test_the_only_annotations_of_pods_are_the_users():
    """Version and digests are on the Job object alone: in the template an upgrade would be refused as a change."""
    metadata = {"annotations": {"example.com/a": "b"}}
    indexed_job = jobs.make_indexed_job(metadata=metadata)
    ours = {constants.ANNOTATION_VERSION, constants.ANNOTATION_SPEC, constants.ANNOTATION_SPEC_DIGEST}
    assert metadata["annotations"] == indexed_job["spec"]["template"]["metadata"]["annotations"]
    assert {"example.com/a", constants.ANNOTATION_CODE_DIGEST, *ours} == set(indexed_job["metadata"]["annotations"])


def test_spec_digest_follows_the_meaning_not_the_writing():
    """Order, defaults written out and the namespace do not change it; another value does."""
    digest = digest_of(nnodes=2, env={"A": "1", "B": "2"})
    assert digest == digest_of(env={"B": "2", "A": "1"}, nnodes=2, backend="gloo", metadata={"namespace": "x"})
    assert digest != digest_of(nnodes=2, env={"A": "1", "B": "3"})


def digest_of(**fields):
    return manifest.annotation(jobs.make_indexed_job(**fields), constants.ANNOTATION_SPEC_DIGEST)


def test_code_digest_is_the_packed_folders():
    """The annotation and the environment carry the digest of the code, nothing without a folder."""
    assert jobs.CODE.digest == manifest.annotation(jobs.make_indexed_job(code=PATH), constants.ANNOTATION_CODE_DIGEST)
    assert "" == manifest.annotation(jobs.make_indexed_job(), constants.ANNOTATION_CODE_DIGEST)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "1Gi"),
        ({"memory": "8Gi"}, "8Gi"),
        ({"sharedMemory": "2Gi"}, "2Gi"),
        ({"memory": "8Gi", "sharedMemory": "2Gi"}, "2Gi"),
    ],
    ids=["nothing", "memory", "sharedMemory", "both"],
)
def test_shared_memory_has_a_size(resources, expected):
    """/dev/shm is as large as asked, else as the pod's memory, else 1Gi."""
    volumes = {volume["name"]: volume for volume in jobs.make_pod(resources=resources)["volumes"]}
    assert {"medium": "Memory", "sizeLimit": expected} == volumes["k8sddp-shm"]["emptyDir"]


def test_requests_equal_limits():
    """CPU, memory and GPUs make a Guaranteed pod; what is not asked is not there."""
    container = jobs.make_container(resources={"gpu": 2, "cpu": 4, "memory": "8Gi", "gpuResource": "amd.com/gpu"})
    amounts = {"cpu": "4", "memory": "8Gi", "amd.com/gpu": "2"}
    assert {"requests": amounts, "limits": amounts} == container["resources"]
    assert "resources" not in jobs.make_container()


def test_users_toleration_of_a_taint_replaces_ours():
    """Who wants to wait longer for a lost Node says so."""
    mine = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "tolerationSeconds": 600,
        "effect": "NoExecute",
    }
    tolerations = jobs.make_pod(scheduling={"tolerations": [mine]})["tolerations"]
    assert [("node.kubernetes.io/unreachable", 600), ("node.kubernetes.io/not-ready", 30)] == [
        (toleration["key"], toleration["tolerationSeconds"]) for toleration in tolerations
    ]


def test_topology_spread_counts_this_jobs_pods():
    """A constraint without labelSelector would match nothing; one of the user's stays."""
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = {**constraint, "topologyKey": "rack", "labelSelector": {"matchLabels": {"a": "b"}}}
    first, second = jobs.make_pod(scheduling={"topologySpread": [constraint, own]})["topologySpreadConstraints"]
    assert {"matchLabels": {constants.LABEL_JOB: "digits"}} == first["labelSelector"]
    assert own == second


def test_restricted_is_the_default_profile():
    """The Pod Security profile of that name, field by field (kubernetes.io/docs/concepts/security)."""
    pod = jobs.make_pod()
    security = pod["containers"][0]["securityContext"]
    assert (True, {"type": "RuntimeDefault"}) == (
        pod["securityContext"]["runAsNonRoot"],
        pod["securityContext"]["seccompProfile"],
    )
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == security


@pytest.mark.parametrize("field", ["runAsUser", "runAsGroup", "fsGroup"])
def test_platform_profile_leaves_ids_to_the_platform(field):
    """OpenShift gives every namespace its own range; a fixed id would be refused."""
    assert 65532 == jobs.make_pod()["securityContext"][field]
    assert field not in jobs.make_pod(securityContext={"profile": "platform"})["securityContext"]


def test_folder_must_be_given_exactly_when_the_spec_has_one():
    """Forgotten or superfluous code is refused instead of rendered."""
    job = jobs.make_job(code=PATH)
    with pytest.raises(errors.RenderError, match="exactly when"):
        render.render(job, code=None)
    with pytest.raises(errors.RenderError, match="exactly when"):
        render.render(jobs.make_job(), code=jobs.CODE)


def test_exit_codes_fit_kubernetes_limit():
    """onExitCodes takes at most 255 values, unique and sorted."""
    codes = context.final_exit_codes(jobs.make_job().spec)
    assert sorted(set(codes)) == codes
    assert 255 >= len(codes)
