"""A client that is killed after any of its requests leaves what the next apply finishes and one delete removes.

The client is the real program. A `sitecustomize` of this test ends it, without any clean-up, as soon as the answer to
its k-th request that changes something has come.
"""

from pathlib import Path

import pytest

from tests.e2e import jobs
from tests.e2e.users import User

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

KILLED = 137
REQUESTS = 6  # the Job (suspended), Service, two ConfigMaps, NetworkPolicy, the Job (started)
SITECUSTOMIZE = f"""
import http.client, os

left = int(os.environ["DIE_AFTER"])
answer = http.client.HTTPConnection.getresponse


def getresponse(self, *args, **options):
    global left
    response = answer(self, *args, **options)
    left -= self._method != "GET"
    if left == 0:
        os._exit({KILLED})
    return response


http.client.HTTPConnection.getresponse = getresponse
"""


def killed(user: User, folder: Path, *words: str, after: int) -> None:
    """Run `k8sddp WORDS...` and kill it after its k-th request that changes something."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    done = user.k8sddp(*words, env={"PYTHONPATH": str(folder), "DIE_AFTER": str(after)})
    assert KILLED == done.code, done


def test_the_next_apply_finishes_the_creation(user: User, tmp_path: Path) -> None:
    """Until the last request nothing runs and `get` says so; the second apply completes the job; for every k."""
    names = {after: f"cut-{'abcdefghi'[after]}" for after in range(1, REQUESTS + 1)}
    for after, name in names.items():
        file = jobs.write(tmp_path, name, jobs.DONE, image=user.cluster.image)
        killed(user, tmp_path, "apply", str(file), after=after)
        if after < REQUESTS:
            shown = user.k8sddp("get", name).out
            assert [name, "Incomplete", "0/1"] == shown.splitlines()[1].split()[:3]
            assert "its creation was interrupted; run `k8sddp apply FILE` again to finish, or " in shown
            assert [] == user.pods(name)
        again = user.k8sddp("apply", str(file))
        assert 0 == again.code, again
    for name in names.values():
        user.await_condition(name, "Complete")


@pytest.mark.parametrize("program", ["k8sddp", "kubectl"])
@pytest.mark.parametrize("after", range(1, REQUESTS + 1))
def test_one_delete_removes_it(user: User, tmp_path: Path, after: int, program: str) -> None:
    """What a killed apply left goes with its Job."""
    before = user.objects()
    name = f"{program}-{'abcdefghi'[after]}"
    file = jobs.write(tmp_path, name, jobs.HOLD, image=user.cluster.image)
    killed(user, tmp_path, "apply", str(file), after=after)
    assert f"job.batch/{name}" in user.objects() - before
    if program == "k8sddp":
        assert 0 == user.k8sddp("delete", name).code
    else:
        user.kubectl("delete", "job", name)
    user.await_objects(before)


def test_there_are_no_other_requests_to_be_killed_after(user: User, tmp_path: Path) -> None:
    """A client that is to die after one more request than there are lives, so the tests above are complete."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    file = jobs.write(tmp_path, "whole", jobs.DONE, image=user.cluster.image)
    doomed = {"PYTHONPATH": str(tmp_path), "DIE_AFTER": str(REQUESTS + 1)}
    assert 0 == user.k8sddp("apply", str(file), env=doomed).code


def test_a_replacement_killed_after_its_delete_is_repeated(user: User, tmp_path: Path) -> None:
    """The Job is gone or going, and the next `apply --replace` brings the new one to Complete."""
    file = jobs.write(tmp_path, "swap", jobs.HOLD, image=user.cluster.image)
    assert 0 == user.k8sddp("apply", str(file)).code
    user.await_ready("swap", 1)
    (file.parent / "main.py").write_text(jobs.DONE)
    killed(user, tmp_path, "apply", str(file), "--replace", after=1)
    again = user.k8sddp("apply", str(file), "--replace")
    assert 0 == again.code, again
    user.await_condition("swap", "Complete")


def test_a_delete_killed_after_its_request_is_a_delete(user: User, tmp_path: Path) -> None:
    """Nothing that the client would do later is needed."""
    before = user.objects()
    file = jobs.write(tmp_path, "half", jobs.HOLD, image=user.cluster.image)
    assert 0 == user.k8sddp("apply", str(file)).code
    user.await_ready("half", 1)
    killed(user, tmp_path, "delete", "half", after=1)
    user.await_objects(before)
