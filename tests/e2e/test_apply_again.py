"""Applying a running job again: unchanged, refused, or replaced; and the names that its pods find each other by."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import k8sddp
from tests.e2e import jobs
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PACKAGE = Path(k8sddp.__file__).parent
CHILDREN = ("service/held", "configmap/held-worker", "configmap/held-code", "networkpolicy.networking.k8s.io/held")
UNCHANGED = {f"{ref} unchanged" for ref in (*CHILDREN, "job.batch/held")}
NEWER = "import sys; sys.path.insert(0, {!r}); from k8sddp.cli.app import main; raise SystemExit(main())"
ASK = "import urllib.request as u; print(u.urlopen('http://{}:29401/readyz', timeout=5).status)"
LOOK_UP = "import socket; print(socket.getaddrinfo('{}', 1)[0][4][0])"


@pytest.fixture(scope="module")
def held(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Apply a gang of two that runs until the end of the module; return its job.yaml."""
    folder = tmp_path_factory.mktemp("held")
    file = jobs.write(folder, "held", jobs.HOLD, image=user.cluster.image, nnodes=2)
    done = user.k8sddp("apply", str(file))
    assert (0, {f"{ref} created" for ref in (*CHILDREN, "job.batch/held")}) == (done.code, set(done.out.splitlines()))
    user.await_ready("held", 2)
    yield file


def test_the_rendered_names_resolve_in_the_pods(user: User, held: Path) -> None:
    """The coordinator's name leads from one pod to the other, where the worker answers."""
    pods = [user.pod("held", index) for index in range(2)]
    env = {one["name"]: one.get("value") for one in pods[0]["spec"]["containers"][0]["env"]}
    assert "held-0.held" == env["K8SDDP_COORDINATOR"]
    for index, asker in ((0, 0), (0, 1), (1, 0)):
        name = f"held-{index}.held"
        for host in (name, f"{name}.{user.namespace}.svc"):
            found = user.execute(pods[asker]["metadata"]["name"], LOOK_UP.format(host))
            assert pods[index]["status"]["podIP"] == found, f"{host} from node {asker}"
    assert "200" == user.execute(pods[1]["metadata"]["name"], ASK.format("held-0.held"))


def test_the_same_file_applied_again_changes_nothing(user: User, held: Path) -> None:
    """Every object is reported unchanged and keeps its resourceVersion, but for what the Job's own status does."""
    before = user.versions("held")
    again = user.k8sddp("apply", str(held))
    assert (0, UNCHANGED) == (again.code, set(again.out.splitlines()))
    assert before == user.versions("held")


def test_another_version_of_k8sddp_leaves_the_running_worker(user: User, held: Path, tmp_path: Path) -> None:
    """A client of another version, whose worker differs, says unchanged; pods and objects stay."""
    copy = tmp_path / "k8sddp"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").write_text(
        (copy / "__init__.py").read_text().replace(f'"{k8sddp.__version__}"', '"999.0.0"')
    )
    with (copy / "worker" / "main.py").open("a") as worker:
        worker.write("\n# a later version\n")
    newer = ("-c", NEWER.format(str(tmp_path)))
    assert "999.0.0" in user.k8sddp(*newer, "version", "--client", program="python").out

    def running() -> list[str]:
        return [pod["metadata"]["uid"] for pod in user.pods("held")]

    before = (user.versions("held"), running())
    again = user.k8sddp(*newer, "apply", str(held), program="python")
    assert (0, UNCHANGED) == (again.code, set(again.out.splitlines())), again
    assert before == (user.versions("held"), running())


def test_changed_code_is_refused(user: User, held: Path, tmp_path: Path) -> None:
    """The refusal says that the code changed, names --replace, and nothing has changed."""
    shutil.copytree(held.parent, tmp_path / "held")
    (tmp_path / "held" / "main.py").write_text(jobs.HOLD + "# changed\n")
    before = user.versions("held")
    refused = user.k8sddp("apply", str(tmp_path / "held" / "job.yaml"))
    assert (1, "") == (refused.code, refused.out)
    assert "job.batch/held exists and its code changed (digest " in refused.err
    assert "--replace" in refused.err
    assert before == user.versions("held")


def test_a_changed_spec_is_refused_and_the_field_named(user: User, held: Path, tmp_path: Path) -> None:
    """The refusal shows the field with its old and new value; the values of env stay private."""
    shutil.copytree(held.parent, tmp_path / "held")
    file = tmp_path / "held" / "job.yaml"
    job = json.loads(file.read_text())
    job["spec"] |= {"nnodes": 3, "env": {"PASSWORD": "hunter2"}}
    file.write_text(json.dumps(job))
    refused = user.k8sddp("apply", str(file))
    assert 1 == refused.code
    assert "spec.nnodes: 2 -> 3" in refused.err
    assert "spec.env.PASSWORD: added" in refused.err
    assert "hunter2" not in refused.err


def test_replace_starts_the_changed_job(user: User, tmp_path: Path) -> None:
    """--replace ends a running job and starts the new one; a finished one is refused and replaced as well."""
    before = user.objects()
    file = jobs.write(tmp_path, "again", jobs.HOLD, image=user.cluster.image)
    assert 0 == user.k8sddp("apply", str(file)).code
    user.await_ready("again", 1)
    old = user.object("job", "again")["metadata"]["uid"]

    (file.parent / "main.py").write_text(jobs.DONE)
    replaced = user.k8sddp("apply", str(file), "--replace")
    assert (0, True) == (replaced.code, "job.batch/again deleted" in replaced.out.splitlines()), replaced
    user.await_condition("again", "Complete")
    assert old != user.object("job", "again")["metadata"]["uid"]
    assert "[node 0] done" == user.k8sddp("logs", "again").out.strip()

    finished = user.k8sddp("apply", str(file))
    assert 1 == finished.code
    assert "job.batch/again is complete and a finished job never runs again" in finished.err
    assert 0 == user.k8sddp("apply", str(file), "--replace").code
    assert 0 == user.k8sddp("delete", "again").code
    user.await_objects(before)  # the next test counts what is there


@pytest.mark.parametrize("program", ["k8sddp", "kubectl"])
def test_delete_leaves_nothing(user: User, tmp_path: Path, program: str) -> None:
    """`k8sddp delete` and `kubectl delete job` remove all that a running and a finished job brought, of every kind."""
    before = user.objects()
    names = f"{program}-up", f"{program}-done"
    for name, script in zip(names, (jobs.HOLD, jobs.DONE), strict=True):
        file = jobs.write(tmp_path, name, script, image=user.cluster.image, nnodes=2)
        assert 0 == user.k8sddp("apply", str(file)).code
    user.await_ready(names[0], 2)
    user.await_condition(names[1], "Complete")
    kinds = {ref.partition("/")[0] for ref in user.objects() - before}
    assert {"job.batch", "pod", "service", "configmap", "networkpolicy.networking.k8s.io", "endpoints"} <= kinds

    if program == "k8sddp":
        deleted = user.k8sddp("delete", *names)
        assert (0, [f"job.batch/{name} deleted" for name in names]) == (deleted.code, deleted.out.splitlines())
        assert [[], []] == [user.pods(name) for name in names]
    else:
        user.kubectl("delete", "job", *names)
    user.await_objects(before)
    assert f"no DDP job {names[0]} in namespace {user.namespace}" in user.k8sddp("get", names[0]).err
