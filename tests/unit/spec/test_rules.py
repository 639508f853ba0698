"""Rules between fields, also while other fields are wrong."""

import pytest

from .jobs import make_text, problems

EMPTY_DIR = {"emptyDir": {}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"backend": "nccl"},
            "spec.backend: nccl needs GPUs and resources.gpu is 0 (write resources: {gpu: 1}, or backend: gloo)",
        ),
        (
            {"resources": {"gpu": 1}, "nprocPerNode": 2},
            "spec.nprocPerNode: 2 ranks per node share 1 GPU, which nccl refuses (write 1, or ask for 2 GPUs)",
        ),
        (
            {"resources": {"memory": "1Gi", "sharedMemory": "2G"}},
            "spec.resources.sharedMemory: sharedMemory 2G is part of memory, which is only 1Gi (raise memory)",
        ),
        (
            {"restart": {"failOn": [3, 137], "retryOn": [75, 137]}},
            "spec.restart.retryOn[1]: `137` is in failOn too (remove it from one list)",
        ),
        (
            {"restart": {"failOn": [True], "retryOn": [1]}},
            "spec.restart.failOn[0]: `true` is true or false; a whole number is needed",
        ),
        (
            {"code": {}},
            "spec.code: exactly one of path and configMap is needed, not none (write code: {path: .}, or remove it)",
        ),
        (
            {"code": {"path": ".", "configMap": "c"}},
            "spec.code: exactly one of path and configMap is needed, not both (keep one)",
        ),
        (
            {"env": {"PATH": "/x:$PATH"}},
            "spec.env.PATH: `$PATH` stays as it is: no shell reads the values (write the text that $PATH stands for, "
            "or set PATH in the script with os.environ)",
        ),
        (
            {"env": {"A": "1", "B": "x/$(A)"}},
            "spec.env.B: `$(A)` stays as it is: no shell reads the values (write the text that $(A) stands for, "
            "or set B in the script with os.environ)",
        ),
        (
            {"env": {"CACHE": "${HOME}/.cache"}},
            "spec.env.CACHE: `${HOME}` stays as it is: no shell reads the values (write the text that ${HOME} stands "
            "for, or set CACHE in the script with os.environ)",
        ),
        ({"command": [""]}, "spec.command[0]: the first word is empty (write [train.py, ...])"),
        ({"command": ["-m"]}, "spec.command[0]: `-m` needs a module (write [-m, package.module, ...])"),
        (
            {"command": ["-u", "a.py"]},
            "spec.command[0]: `-u` is neither a script nor -m (write [a.py])",
        ),
        (
            {"command": ["python3.11", "-u", "train.py", "--lr", "1"]},
            "spec.command[0]: `python3.11` is no Python script: k8sddp starts torchrun itself (write [train.py, "
            '--lr, "1"])',
        ),
        (
            {"command": ["/usr/bin/torchrun", "--nproc_per_node", "8", "train.py"]},
            "spec.command[0]: `/usr/bin/torchrun` starts ranks, which k8sddp does itself (write [train.py] and "
            "nprocPerNode: 8)",
        ),
        (
            {"command": ["python", "-m", "pkg.train"]},
            "spec.command[0]: `python` is no Python script: k8sddp starts torchrun itself (write [-m, pkg.train])",
        ),
        (
            {"command": ["python", "train.py"], "launcher": "spawn"},
            "spec.command[0]: `python` is no Python script: k8sddp starts Python itself (write [train.py])",
        ),
        (
            {"command": ["train.py --epochs 10"]},
            "spec.command[0]: `train.py --epochs 10` is one word, and so the name of one file "
            '(write [train.py, --epochs, "10"])',
        ),
        (
            {"command": ["torchrun train.py", "--lr"]},
            "spec.command[0]: `torchrun train.py` is one word, and so the name of one file (write [train.py, --lr])",
        ),
        (
            {"command": ["bash", "run.sh"]},
            "spec.command[0]: `bash` is a shell: k8sddp starts torchrun with a Python script "
            "(write [train.py, ...] or [-m, package.module, ...], and do in it what the shell script does)",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/a"}]},
            "spec.volumes[0]: needs exactly one volume source, not none (add one of persistentVolumeClaim, emptyDir, "
            "configMap, secret, hostPath, nfs, csi, ephemeral, projected, downwardAPI, image)",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/a", **EMPTY_DIR, "secret": {"secretName": "s"}}]},
            "spec.volumes[0]: needs exactly one volume source, not emptyDir and secret (keep one)",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/a", "persistentVolumeclaim": {}}]},
            "spec.volumes[0]: unknown field `persistentVolumeclaim` (did you mean `persistentVolumeClaim`?)",
        ),
        (
            {"volumes": [{"name": n, "mountPath": f"/{m}", **EMPTY_DIR} for n, m in ("ab", "ac")]},
            "spec.volumes[1].name: `a` is taken by volumes[0] (choose another name)",
        ),
        (
            {"volumes": [{"name": n, "mountPath": m, **EMPTY_DIR} for n, m in (("a", "/x"), ("b", "/x/"))]},
            "spec.volumes[1].mountPath: `/x` is taken by volumes[0] (choose another mountPath)",
        ),
        (
            {"volumes": [{"name": "k8sddp-tmp", "mountPath": "/a", **EMPTY_DIR}]},
            "spec.volumes[0].name: names that begin with k8sddp- are k8sddp's own (choose another name)",
        ),
        *(
            (
                {"volumes": [{"name": "a", "mountPath": path, **EMPTY_DIR}]},
                f"spec.volumes[0].mountPath: `{path}` would hide {hidden} (mount it elsewhere)",
            )
            for path, hidden in [
                ("/tmp", "/tmp"),
                ("/tmp/x", "/tmp"),
                ("/dev/shm", "/dev/shm"),
                ("/dev", "what the container needs"),
                ("/", "what the container needs"),
                ("/k8sddp/work", "/k8sddp"),
            ]
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "data", **EMPTY_DIR}]},
            "spec.volumes[0].mountPath: `data` must be an absolute path without `:`",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/a", "subPath": "../b", **EMPTY_DIR}]},
            "spec.volumes[0].subPath: `../b` must be a relative path without `..`",
        ),
        ({"imagePullSecrets": ["a", "a"]}, "spec.imagePullSecrets[1]: has the same name as entry 0 (remove one)"),
        (
            {"securityContext": {"profile": "platform", "fsGroup": 5}},
            "spec.securityContext.fsGroup: profile platform leaves user and groups to the cluster "
            "(remove it, or write profile: restricted)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_broken_rule_blames_one_field_and_names_the_remedy(fields, expected):
    """Path, rule and remedy, exactly as shown."""
    assert [expected] == problems(make_text(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"resources": {"gpu": 2}, "nprocPerNode": 1},
        {"resources": {"gpu": 1}, "nprocPerNode": 4, "backend": "gloo"},
        {"resources": {"memory": "2Gi", "sharedMemory": "2Gi"}},
        {"rendezvous": {"port": 62326}},
        {"restart": {"failOn": [1, 255], "retryOn": [2, 254]}},
        {"rendezvous": {"port": 1024}},
        {"command": ["-m", "pkg.train"]},
        {"env": {"A": "x", "PASSWORD": "a$b$A(c)$1$$", "PATTERN": "end$", "PRICE": "$5 of $HOME"}},
        {"command": ["/app/train.py"]},
        {"command": ["train"]},
        {"command": ["my train.py"]},
        {"volumes": [{"name": "a", "mountPath": "/tmpfiles", **EMPTY_DIR}]},
        {
            "volumes": [
                {"name": "a", "mountPath": "/data", **EMPTY_DIR},
                {"name": "b", "mountPath": "/data/x", **EMPTY_DIR},
            ]
        },
        {"securityContext": {"profile": "platform"}},
    ],
    ids=str,
)
def test_the_edge_of_a_rule_is_inside(fields):
    """What just fits is taken."""
    assert [] == problems(make_text(**fields))


@pytest.mark.parametrize(
    ("length", "nnodes", "expected"),
    [
        (56, 1, []),
        (
            57,
            1,
            [
                "metadata.name: the longest generated name, NAME-worker, would have 64 characters (shorten the name "
                "to 56 characters)"
            ],
        ),
        (56, 4096, []),
    ],
    ids=["fits", "worker config map", "many nodes"],
)
def test_the_longest_generated_name_fits_63_characters(length, nnodes, expected):
    """ConfigMap and host names are made of the name; they are labels and DNS labels."""
    assert expected == problems(make_text(metadata={"name": "a" * length}, nnodes=nnodes))


@pytest.mark.parametrize(
    ("field", "key", "owner"),
    [
        ("labels", "k8sddp.dev/job", "k8sddp"),
        ("labels", "x.k8sddp.dev/a", "k8sddp"),
        ("labels", "app.kubernetes.io/name", "k8sddp"),
        ("labels", "batch.kubernetes.io/job-name", "Kubernetes"),
        ("labels", "job-name", "Kubernetes"),
        ("annotations", "k8sddp.dev/spec", "k8sddp"),
        ("annotations", "batch.kubernetes.io/job-index-failure-count", "Kubernetes"),
    ],
    ids=str,
)
def test_labels_and_annotations_of_others_are_refused(field, key, owner):
    """Selectors and our own bookkeeping rely on them."""
    expected = [f"metadata.{field}.{key}: `{key}` is set by {owner} (choose another key)"]
    assert expected == problems(make_text(metadata={field: {key: "x"}}))


def test_other_labels_are_the_users():
    """Queues, teams and standard labels that we do not set are free."""
    labels = {"kueue.x-k8s.io/queue-name": "q", "team": "nlp", "app.kubernetes.io/part-of": "x", "empty": ""}
    assert [] == problems(make_text(metadata={"labels": labels, "annotations": {"note": "any text at all"}}))


def test_a_rule_is_silent_about_what_it_cannot_know():
    """With a wrong gpu nobody can say whether nccl fits; the wrong gpu alone is reported."""
    assert ["spec.resources.gpu: `8` is a text; a whole number is needed (write 8 without quotes)"] == problems(
        make_text(backend="nccl", nprocPerNode=16, resources={"gpu": "8"})
    )


def test_a_rule_speaks_while_unrelated_fields_are_wrong():
    """Nobody mends one problem only to meet the next."""
    found = problems(make_text(backend="nccl", nnodes=0, image=5, command=["python", 5]))
    assert [
        'spec.image: `5` is a number in YAML; a text is needed (write "5")',
        "spec.command[0]: `python` is no Python script: k8sddp starts torchrun itself "
        "(write [train.py, ...] or [-m, package.module, ...])",
        'spec.command[1]: `5` is a number in YAML; a text is needed (write "5")',
        "spec.backend: nccl needs GPUs and resources.gpu is 0 (write resources: {gpu: 1}, or backend: gloo)",
        "spec.nnodes: `0` is too small: the least is 1 (write 1 or more)",
    ] == found
