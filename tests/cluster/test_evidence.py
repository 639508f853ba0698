"""What a failed test leaves, with a kubectl that is a script."""

from pathlib import Path

import pytest

from tests.cluster import evidence
from tests.cluster.clusters import Cluster

pytest_plugins = ["pytester"]

ANSWERS = """#!/bin/sh
case "$*" in
  *"get pods --output=json"*) echo '{"items": [{"metadata": {"name": "a-0-xyz", "creationTimestamp": "1"}}]}' ;;
  *" logs a-0-xyz "*) echo "$*" ;;
  *"get events"*) head -c 3000000 /dev/zero | tr '\\0' e ;;
  *) echo "$*" ;;
esac
"""
SILENT = "#!/bin/sh\necho 'the server does not answer' >&2\nexit 1\n"


def make_cluster(folder: Path, kubectl: str) -> Cluster:
    """Build a cluster whose kubectl is the given script."""
    program = folder / "kubectl"
    program.write_text(kubectl)
    program.chmod(0o755)
    return Cluster("kind", "ci", folder / "config", "i:1", ("a", "b"), folder / "logs", folder / "work", str(program))


def test_pods_events_and_logs_are_written_bounded(tmp_path: Path) -> None:
    """One folder per test, whose name is a good file name; the sentence has its path."""
    said = evidence.collect(make_cluster(tmp_path, ANSWERS), "e2e-1", "tests/e2e/test_x.py::test_y[pod 1/2]")
    folder = Path(said.rpartition(": ")[2])
    assert tmp_path / "logs" / "failed-tests" == folder.parent
    assert {"pods.yaml", "events.txt", "a-0-xyz.log"} == {path.name for path in folder.iterdir()}
    assert evidence.MAX_BYTES == (folder / "events.txt").stat().st_size
    assert f"--limit-bytes={evidence.MAX_BYTES}" in (folder / "a-0-xyz.log").read_text()
    assert "--namespace=e2e-1" in (folder / "pods.yaml").read_text()


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("tests/e2e/test_x.py::test_y", "test_x.py-test_y"),
        ("tests/e2e/test_x.py::test_y[asked to stop, node 0/2]", "test_x.py-test_y-asked-to-stop-node-0-2"),
    ],
    ids=["plain", "with parameters"],
)
def test_the_folder_is_named_after_the_test(tmp_path: Path, test: str, name: str) -> None:
    """Letters, digits, dots, dashes and underscores only."""
    said = evidence.collect(make_cluster(tmp_path, ANSWERS), "e2e-1", test)
    assert said.endswith(f"/failed-tests/{name}")


def test_a_cluster_that_does_not_answer_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Nothing is raised: the test's own failure is what counts."""
    said = evidence.collect(make_cluster(tmp_path, SILENT), "e2e-1", "test_y")
    assert said.startswith("not all of namespace e2e-1 could be written to ")
    assert "the server does not answer" in (tmp_path / "logs" / "failed-tests" / "test_y" / "pods.yaml").read_text()


def test_the_end_of_a_run_says_which_cluster_it_was_and_where_its_logs_are(pytester: pytest.Pytester) -> None:
    """Each sentence once, also without -v or -s, and nothing where no cluster was asked for."""
    pytester.makeconftest(
        """
        from tests.cluster.fixtures import SENTENCES, pytest_terminal_summary
        import pytest

        @pytest.fixture
        def said(request):
            request.config.stash[SENTENCES] = ["cluster backend kind: because", "logs: /there"] * 2
        """
    )
    pytester.makepyfile("def test_with(said): assert 0\n\ndef test_without(): assert 0\n")
    asked = ("-q", "-p", "no:cacheprovider")
    pytester.runpytest(*asked, "-k", "with and not without").stdout.fnmatch_lines(
        ["*= cluster =*", "cluster backend kind: because", "logs: /there", "*= short test summary*"], consecutive=True
    )
    pytester.runpytest(*asked, "-k", "without").stdout.no_fnmatch_line("*= cluster =*")
