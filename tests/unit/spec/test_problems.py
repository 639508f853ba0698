"""Wrong fields: the exact sentence a user reads, with the remedy."""

import pytest

from k8sddp import spec
from k8sddp.errors import SpecError

from .jobs import make_text, places, problems, yaml_with


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": None}, "spec.image: is missing (add image: a container image with Python and torch)"),
        ({"image": ""}, "spec.image: is empty (write image: a container image with Python and torch)"),
        ({"image": "a b"}, "spec.image: `a b` must not contain spaces"),
        ({"command": None}, "spec.command: is missing (add command: [train.py])"),
        ({"command": []}, "spec.command: is empty (write command: [train.py])"),
        (
            {"command": "train.py --lr 1"},
            'spec.command: `train.py --lr 1` is a text; a list is needed (write [train.py, --lr, "1"])',
        ),
        (
            {"command": "torchrun --nproc_per_node 8 train.py a"},
            "spec.command: `torchrun --nproc_per_node 8 train.py a` is a text; a list is needed "
            "(write [train.py, a] and nprocPerNode: 8)",
        ),
        (
            {"nprocPerNode": "auto"},
            "spec.nprocPerNode: `auto` is a text; a whole number is needed (remove it: with resources.gpu there is one "
            "rank per GPU, else one per node; or write a number)",
        ),
        (
            {"env": {"TOKEN": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}}},
            "spec.env.TOKEN: is a mapping; a text is needed (write envFrom: [{secretRef: {name: s}}] under spec; its "
            "keys become the names)",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            "spec.env: is a list; a mapping of names to values is needed (write envFrom: [{configMapRef: {name: c}}] "
            "under spec; its keys become the names)",
        ),
        (
            {"env": {"HOST": {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}}},
            "spec.env.HOST: is a mapping; a text is needed (remove it: the script finds it as K8SDDP_KUBE_NODE)",
        ),
        (
            {"env": {"N": {"valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}}},
            "spec.env.N: is a mapping; a text is needed (write the value itself)",
        ),
        ({"env": {"A": {"value": 5}}}, 'spec.env.A: is a mapping; a text is needed (write A: "5")'),
        ({"command": [10]}, 'spec.command[0]: `10` is a number in YAML; a text is needed (write "10")'),
        ({"command": ["train.py", 10]}, 'spec.command[1]: `10` is a number in YAML; a text is needed (write "10")'),
        ({"nnodes": 0}, "spec.nnodes: `0` is too small: the least is 1 (write 1 or more)"),
        ({"nnodes": 5000}, "spec.nnodes: `5000` is too large: the most is 4096 (write 4096 or less)"),
        ({"nnodes": "2"}, "spec.nnodes: `2` is a text; a whole number is needed (write 2 without quotes)"),
        ({"nnodes": 1.5}, "spec.nnodes: `1.5` is a number; a whole number is needed"),
        ({"nnodes": 2.0}, "spec.nnodes: `2.0` is a number; a whole number is needed"),
        ({"nnodes": True}, "spec.nnodes: `true` is true or false; a whole number is needed"),
        ({"nnodes": [2]}, "spec.nnodes: is a list; a whole number is needed"),
        ({"nnodes": "2:4"}, "spec.nnodes: elastic jobs are not supported yet (write one number of nodes)"),
        ({"backend": "NCCL"}, "spec.backend: `NCCL` is not one of nccl, gloo (did you mean nccl?)"),
        ({"backend": "mpi"}, "spec.backend: `mpi` is not one of nccl, gloo"),
        (
            {"launcher": "torchun"},
            "spec.launcher: `torchun` is not one of torchrun, direct, spawn (did you mean torchrun?)",
        ),
        (
            {"imagePullPolicy": "always"},
            "spec.imagePullPolicy: `always` is not one of Always, IfNotPresent, Never (did you mean Always?)",
        ),
        ({"imagePullSecrets": [{"name": "a"}]}, "spec.imagePullSecrets[0]: is a mapping; a text is needed (write a)"),
        (
            {"resources": {"cpu": "32x"}},
            "spec.resources.cpu: `32x` is not a Kubernetes quantity (write 500m, 32, 64Gi, ...)",
        ),
        (
            {"resources": {"cpu": -1}},
            "spec.resources.cpu: `-1` is not a Kubernetes quantity (write 500m, 32, 64Gi, ...)",
        ),
        ({"resources": {"memory": "64GB"}}, "spec.resources.memory: `64GB` is not a Kubernetes quantity (write 64Gi)"),
        (
            {"resources": {"memory": "64 gib"}},
            "spec.resources.memory: `64 gib` is not a Kubernetes quantity (write 64Gi)",
        ),
        ({"resources": {"memory": "512m"}}, "spec.resources.memory: `512m` is less than one byte (write 512Mi)"),
        ({"resources": {"gpu": True}}, "spec.resources.gpu: `true` is true or false; a whole number is needed"),
        (
            {"resources": {"gpuResource": "gpu"}},
            "spec.resources.gpuResource: `gpu` must be a resource's full name such as nvidia.com/gpu",
        ),
        (
            {"resources": {"limits": {}}},
            "spec.resources: unknown field `limits` (write gpu, cpu, memory directly under resources)",
        ),
        (
            {"env": {"LR": 0.001}},
            'spec.env.LR: `0.001` is a number in YAML; environment values are texts (write "0.001")',
        ),
        (
            {"env": {"A": True}},
            'spec.env.A: `true` is true or false in YAML; environment values are texts (write "true")',
        ),
        ({"env": {"A": ["x"]}}, "spec.env.A: is a list; a text is needed"),
        (
            {"env": [{"name": "A", "value": "b"}]},
            'spec.env: is a list; a mapping of names to values is needed (write env: {NAME: "value"})',
        ),
        (
            {"env": {"A=B": "x"}},
            "spec.env.A=B: `A=B` is not an environment name (use printable ASCII characters without `=`)",
        ),
        ({"env": {"": "x"}}, "spec.env.: `` is not an environment name (use printable ASCII characters without `=`)"),
        (
            {"env": {"MASTER_ADDR": "x"}},
            "spec.env.MASTER_ADDR: `MASTER_ADDR` is reserved: names that begin with MASTER_ are set by torchrun "
            "or the worker "
            "(remove it, or choose another name)",
        ),
        (
            {"env": {"K8SDDP_FAULTS": "kill rank=0 step=1"}},
            "spec.env.K8SDDP_FAULTS: `K8SDDP_FAULTS` is reserved: names that begin with K8SDDP_ are set by torchrun "
            "or the worker (remove it, or choose another name)",
        ),
        (
            {"rendezvous": {"port": 80}},
            "spec.rendezvous.port: `80` is too small: the least is 1024 (write 1024 or more)",
        ),
        (
            {"rendezvous": {"port": 62327}},
            "spec.rendezvous.port: `62327` is too large: the most is 62326 (write 62326 or less)",
        ),
        (
            {"rendezvous": {"timeout": "10 minutes"}},
            "spec.rendezvous.timeout: `10 minutes` is not a duration (write 90s, 10m, 1h30m, or a whole number "
            "of seconds)",
        ),
        (
            {"rendezvous": {"timeout": "0s"}},
            "spec.rendezvous.timeout: `0s` is too small: the least is 1 (write 1 or more)",
        ),
        (
            {"restart": {"maxAttempts": 0}},
            "spec.restart.maxAttempts: `0` is too small: the least is 1 (write 1 or more)",
        ),
        (
            {"restart": {"maxAttempts": 101}},
            "spec.restart.maxAttempts: `101` is too large: the most is 100 (write 100 or less)",
        ),
        (
            {"restart": {"failOn": [0]}},
            "spec.restart.failOn[0]: `0` is not an exit code: 1 to 255, a signal n as 128 + n",
        ),
        (
            {"restart": {"retryOn": [3, -9]}},
            "spec.restart.retryOn[1]: `-9` is not an exit code: 1 to 255, a signal n as 128 + n (write 137)",
        ),
        ({"restart": {"failOn": [True]}}, "spec.restart.failOn[0]: `true` is true or false; a whole number is needed"),
        ({"restart": {"failOn": 3}}, "spec.restart.failOn: `3` is a number; a list is needed"),
        (
            {"restart": {"hangTimeout": 0}},
            "spec.restart.hangTimeout: `0` would call every wait a hang (write onHang: report, which ends nothing)",
        ),
        (
            {"restart": {"hangTimeout": "none"}},
            "spec.restart.hangTimeout: `none` would call every wait a hang (write onHang: report, which ends nothing)",
        ),
        (
            {"restart": {"hangTimeout": "ten minutes"}},
            "spec.restart.hangTimeout: `ten minutes` is not a duration (write 90s, 10m, 1h30m, or a whole number "
            "of seconds)",
        ),
        (
            {"restart": {"onHang": "Report"}},
            "spec.restart.onHang: `Report` is not one of restart, fail, report (did you mean report?)",
        ),
        ({"restart": {"retryOn": []}}, "spec.restart.retryOn: is empty (write [3], or remove it)"),
        (
            {"securityContext": {"runAsUser": 0}},
            "spec.securityContext.runAsUser: `0` is too small: the least is 1 (write 1 or more)",
        ),
        (
            {"serviceAccountName": "My_SA"},
            "spec.serviceAccountName: `My_SA` must be lower-case letters, digits, `-` and `.`, and begin and end "
            "with a letter or digit (write my-sa)",
        ),
        ({"volumes": {"a": {}}}, "spec.volumes: is a mapping; a list is needed"),
        ({"volumes": ["a"]}, "spec.volumes[0]: `a` is a text; a mapping of names to values is needed"),
        ({"wrokers": 4}, "spec: unknown field `wrokers` (write nnodes for pods, nprocPerNode for ranks in each)"),
        ({"img": "x"}, "spec: unknown field `img` (did you mean `image`?)"),
        ({"nproc_per_node": 2}, "spec: unknown field `nproc_per_node` (did you mean `nprocPerNode`?)"),
        (
            {"backoffLimit": 3},
            "spec: unknown field `backoffLimit` (write restart: {maxAttempts: 4}, the attempts of the whole gang)",
        ),
        (
            {"restart": {"maxRestarts": 3}},
            "spec.restart: unknown field `maxRestarts` (write restart: {maxAttempts: 4}, the attempts of the whole "
            "gang)",
        ),
        ({"tolerations": []}, "spec: unknown field `tolerations` (write it under spec.scheduling)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_one_sentence_with_its_remedy(fields, expected):
    """Path, value, rule and remedy, exactly as shown."""
    assert [expected] == problems(make_text(**fields))


@pytest.mark.parametrize(
    ("fields", "path", "remedy"),
    [
        ({"code": {"git": {}}}, "spec.code.git", "use code.path, or clone in the image"),
        ({"code": {"volume": "a"}}, "spec.code.volume", "use volumes and name the script by its full path"),
        ({"checkpoint": {"volume": "a"}}, "spec.checkpoint", "use volumes and save from the script"),
        (
            {"network": {"interface": "eth0"}},
            "spec.network.interface",
            "set NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME in env",
        ),
        ({"network": {"hostNetwork": True}}, "spec.network.hostNetwork", "remove it"),
        ({"network": {"rdma": True}}, "spec.network.rdma", "remove it"),
        (
            {"scheduling": {"queue": "a"}},
            "spec.scheduling.queue",
            "use the label kueue.x-k8s.io/queue-name in metadata.labels",
        ),
        ({"scheduling": {"gang": True}}, "spec.scheduling.gang", "remove it"),
        ({"suspend": True}, "spec.suspend", "apply the file when the job may start"),
        ({"podTemplate": {}}, "spec.podTemplate", "render the manifests and patch them"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_planned_field_says_that_it_is_not_supported_yet(fields, path, remedy):
    """Nothing is accepted and ignored, and nothing planned is called a typo."""
    assert [f"{path}: is not supported yet ({remedy})"] == problems(make_text(**fields))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (
            {"name": "Digits_1"},
            "metadata.name: `Digits_1` must be lower-case letters, digits and `-`, begin with a letter and not "
            "end with `-` (write digits-1)",
        ),
        (
            {"name": "1a"},
            "metadata.name: `1a` must be lower-case letters, digits and `-`, begin with a letter and not end with `-`",
        ),
        ({"name": ""}, "metadata.name: is empty (write name: my-job)"),
        ({"name": 12}, 'metadata.name: `12` is a number in YAML; a text is needed (write "12")'),
        (
            {"namespace": "a.b"},
            "metadata.namespace: `a.b` must be lower-case letters, digits and `-`, and not begin or end with `-`",
        ),
        (
            {"labels": {"a": "b c"}},
            "metadata.labels.a: `b c` must be letters, digits, `-`, `_` and `.`, at most 63, and begin and end "
            "with a letter or digit",
        ),
        (
            {"labels": {"a/b/c": "x"}},
            "metadata.labels.a/b/c: `a/b/c` must be letters, digits, `-`, `_` and `.`, at most 63, with at most "
            "one lower-case `prefix/`",
        ),
        ({"uid": "x"}, "metadata: unknown field `uid` (known here: name, namespace, labels, annotations)"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_metadata_is_one_sentence_with_its_remedy(metadata, expected):
    """Kubernetes' rules for names and labels in words."""
    assert [expected] == problems(make_text(metadata=metadata))


def test_another_version_is_named():
    """The version that this k8sddp reads is the remedy."""
    text = make_text().replace("v1alpha1", "v1")
    assert ["apiVersion: `k8sddp.dev/v1` is not an API version of k8sddp (write k8sddp.dev/v1alpha1)"] == problems(text)


def test_another_tools_object_is_named_and_its_fields_left_alone():
    """Somebody who gives a PyTorchJob learns that, and not that every field of it is unknown."""
    assert [
        "apiVersion: `kubeflow.org/v1` is not an API version of k8sddp (write k8sddp.dev/v1alpha1)",
        "kind: `PyTorchJob` is Kubeflow's kind; k8sddp reads a DDPJob "
        "(write apiVersion: k8sddp.dev/v1alpha1, kind: DDPJob and the fields of that)",
    ] == problems(
        "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {name: A_B}\nspec: {pytorchReplicaSpecs: {}}\n"
    )


def test_an_empty_mapping_lacks_the_four_top_level_fields():
    """Each missing field comes with a line to paste."""
    assert [
        "apiVersion: is missing (add apiVersion: k8sddp.dev/v1alpha1)",
        "kind: is missing (add kind: DDPJob)",
        "metadata: is missing (add metadata: {name: my-job})",
        "spec: is missing (add spec: {image: ..., command: [train.py]})",
    ] == problems("{}")


def test_the_whole_error_is_a_screen_with_carets():
    """Source, count, then for each problem its place, the line, the caret and the remedy."""
    with pytest.raises(SpecError) as caught:
        spec.load(yaml_with("  nnodes: 0\n  env:\n    LR: 1e-3\n    SEED: 42\n"), source="bert.yaml")
    assert (
        "bert.yaml has 3 problems\n"
        "  bert.yaml:7:11  spec.nnodes: `0` is too small: the least is 1\n"
        "     7 |   nnodes: 0\n"
        "       |           ^ write 1 or more\n"
        "  bert.yaml:9:9  spec.env.LR: `1e-3` is a number to kubectl and a text to others\n"
        "     9 |     LR: 1e-3\n"
        '       |         ^^^^ write "1e-3", or the number in plain decimal digits\n'
        "  bert.yaml:10:11  spec.env.SEED: `42` is a number in YAML; environment values are texts\n"
        "    10 |     SEED: 42\n"
        '       |           ^^ write "42"'
    ) == str(caught.value)


def test_the_remedy_quotes_a_number_as_it_is_written():
    """0.10 must not become 0.1 on its way into quotes."""
    assert ['spec.env.A: `0.10` is a number in YAML; environment values are texts (write "0.10")'] == problems(
        yaml_with("  env: {A: 0.10}\n")
    )


def test_an_unknown_field_is_marked_at_its_name_and_a_value_at_the_value():
    """The caret stands under what has to change."""
    assert [(7, 3, 5)] == places(yaml_with("  imagf: x\n"))
    assert [(7, 12, 4)] == places(yaml_with("  backend: NCCL\n"))
    assert [(7, 3, 9)] == places(yaml_with("  resources: [1]\n"))


def test_a_spec_too_big_for_its_annotation_is_refused():
    """The spec travels in an annotation of the Job, which has a limit."""
    (problem,) = problems(make_text(env={"A": "x" * 140_000}))
    assert problem.startswith("spec: is 136 KiB as JSON; at most 128 KiB fit the annotation")


def test_thousands_of_problems_are_counted_and_the_first_hundred_shown():
    """A generated file with one mistake everywhere does not flood the terminal."""
    with pytest.raises(SpecError) as caught:
        spec.load(make_text(env={f"A{number}": number for number in range(1000)}))
    shown = str(caught.value).splitlines()
    assert ("job.yaml has 1000 problems", "  and 900 more") == (shown[0], shown[-1])
    assert 1000 == len(caught.value.problems)
