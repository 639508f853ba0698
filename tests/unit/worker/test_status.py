"""/status and /metrics: what they tell, in forms that others can read, and nothing secret."""

from __future__ import annotations

import json
import math
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from k8sddp.worker import metrics, status
from k8sddp.worker.gang import hanging, memory, progress, stragglers, summary
from tests.unit.worker import workers

FACTS = status.Facts(
    job='di"gits\\',
    namespace="team-a",
    node_rank=0,
    nnodes=2,
    nproc_per_node=1,
    pod="digits-0-abcde",
    kube_node="node-a",
    state="training",
    attempt=1,
    max_attempts=4,
    spent=1,
    history=(
        memory.entry(0, True, "rank 1 raised ValueError: password", kind="exception", rank=1, node_rank=1, exit_code=3),
        memory.entry(1, None, "node 1 (pod digits-1) was lost", kind="lost", node_rank=1),
    ),
    nodes={0: "training", 1: "missing"},
    progress=summary.Summary(1, "training", 3, 0, 1, 30, None, 1000, 4.0, None, math.nan, 1),
    stragglers=(stragglers.Straggler(1, 0.06, 0.01, 0.075),),
    hang=hanging.Finding((1,), "for 605 s it has been in secret.py:3", 605.0, works=True),
    ranks=(
        status.Seen(0, 0.0, progress.Rank(0, 17, 30, 31, 30, 0.5, 7.25, own_time=1.5, own_steps=29, waiting=0.25)),
        status.Seen(1, 0.75, progress.Rank(1, None, 0, 0, 0, 9.5, 0.0, loss=math.nan, metrics=(("lr", 0.1),))),
        status.Seen(2, 0.75, progress.Rank(2)),
    ),
    rss=1024,
)


def families(facts: status.Facts = FACTS) -> dict[str, Metric]:
    """Return what Prometheus reads, by name."""
    return {family.name: family for family in text_string_to_metric_families(metrics.to_text(facts) + "\n")}


def test_metrics_are_what_prometheus_reads() -> None:
    """Every sample has its type; labels are escaped; no step is 0, and a rank that nobody counts has no sample."""
    found = families()
    assert {family.type for family in found.values()} <= {"gauge", "counter"}
    values = {
        (sample.name, sample.labels.get("rank", "")): sample.value
        for family in found.values()
        for sample in family.samples
    }
    assert (1, 1, 4) == tuple(values[f"k8sddp_{name}", ""] for name in ("attempt", "attempts_spent", "attempts_limit"))
    names = ("steps_total", "step_seconds_total", "step_age_seconds", "own_seconds_total", "waiting_seconds")
    assert [(30, 7.25, 0.5, 1.5, 0.25), (0, 0, 9.5, None, None), (None,) * 5] == [
        tuple(values.get((f"k8sddp_{name}", rank)) for name in names) for rank in "012"
    ]
    labels = [sample.labels for family in found.values() for sample in family.samples]
    assert {('di"gits\\', "team-a", None)} == {(one["job_name"], one["namespace"], one.get("job")) for one in labels}


def test_status_is_json_with_each_ranks_phase() -> None:
    """In forward as long as it was entered once more than left; starting before anything was seen."""
    told = json.loads(status.to_json(FACTS))
    assert (1, 1, {"0": "training", "1": "missing"}) == (told["attempt"], told["spent"], told["nodes"])
    assert [("forward", 30, 0.25), ("starting", 0, None), ("starting", None, None)] == [
        (rank["phase"], rank["step"], rank["mean_step"]) for rank in told["ranks"]
    ]


def test_status_tells_of_the_gang_first() -> None:
    """Its figures, who holds it up, and of each rank whose it is and how old the word is; nan is a text in JSON."""
    told = json.loads(status.to_json(FACTS), parse_constant=lambda word: None)
    names = ("attempt", "phase", "step", "steps_max", "total_steps", "rate", "loss", "slowest_rank")
    assert (1, "training", 0, 30, 1000, 4.0, "nan", 1) == tuple(told["progress"][name] for name in names)
    (slow,) = told["stragglers"]
    assert (1, 1, 0.06, 0.01, 0.075) == tuple(slow[name] for name in ("rank", "node_rank", "own", "others", "step"))
    assert round(slow["share"], 3) == 0.667
    assert [(0, 0.0, None, {}), (1, 0.75, "nan", {"lr": 0.1}), (2, 0.75, None, {})] == [
        tuple(rank[name] for name in ("node_rank", "heard", "loss", "metrics")) for rank in told["ranks"]
    ]


def test_who_holds_up_the_others_is_told_without_its_place() -> None:
    """The log and /stacks have that; the ranks, whether they still move, and how long the others had waited."""
    told = status.to_json(FACTS)
    assert {"ranks": [1], "works": True, "waited": 605.0} == json.loads(told, parse_constant=str)["hang"]
    assert "secret.py" not in told
    (hang,) = families()["k8sddp_hang_waited_seconds"].samples
    assert ("1", 605.0) == (hang.labels["rank"], hang.value)
    quiet = FACTS._replace(hang=None)
    assert None is json.loads(status.to_json(quiet), parse_constant=str)["hang"]
    assert "k8sddp_hang_waited_seconds" not in families(quiet)


def test_metrics_of_the_gang_are_node_0s() -> None:
    """Under names of their own, so that whoever scrapes all pods counts no rank twice; a loss may be nan."""
    found = families()
    names = ("gang_steps", "gang_steps_max", "gang_steps_per_second", "gang_total_steps")
    assert [0, 30, 4.0, 1000] == [found[f"k8sddp_{name}"].samples[0].value for name in names]
    assert math.isnan(found["k8sddp_gang_loss"].samples[0].value)
    (slow,) = found["k8sddp_straggler_share"].samples
    assert ("1", "1", 0.667) == (slow.labels["rank"], slow.labels["node_rank"], round(slow.value, 3))
    assert "k8sddp_gang_eta_seconds" not in found
    other = families(FACTS._replace(node_rank=1, nodes={}))
    assert not [name for name in other if name.startswith("k8sddp_gang") or name.startswith("k8sddp_straggler")]


def test_a_node_without_ranks_has_no_progress() -> None:
    """Before and between attempts."""
    facts = FACTS._replace(progress=None, stragglers=(), ranks=())
    told = json.loads(status.to_json(facts))
    assert (None, [], []) == (told["progress"], told["stragglers"], told["ranks"])
    assert not [name for name in families(facts) if name.startswith("k8sddp_gang")]


def test_past_attempts_are_told_without_the_ranks_words() -> None:
    """Class, rank, exit code and whether it counts: a message may hold data, and anybody in the cluster may ask."""
    first = {"attempt": 0, "counted": True, "class": "exception", "rank": 1, "node_rank": 1, "exit_code": 3}
    second = {"attempt": 1, "counted": None, "class": "lost", "rank": None, "node_rank": 1, "exit_code": None}
    assert [first, second] == json.loads(status.to_json(FACTS))["history"]
    rows = [sample.labels for sample in families()["k8sddp_past_attempt"].samples]
    assert [("0", "true", "exception", "1", "1", "3"), ("1", "", "lost", "", "1", "")] == [
        tuple(row[name] for name in status.PAST) for row in rows
    ]
    assert "password" not in status.to_json(FACTS) + metrics.to_text(FACTS)


def test_a_worker_tells_both_over_a_restart(tmp_path: Path) -> None:
    """Attempt, budget and history move on, on node 0 and on the other; no key of the join is shown."""
    script = """
import os, sys, time
if os.environ["K8SDDP_ATTEMPT"] == "0":
    sys.exit(int(os.environ["RANK"]) * 3)
print("up", flush=True)
time.sleep(100)
"""
    with workers.Gang(tmp_path, script, nnodes=2, launcher="direct", max_attempts="3").start() as gang:
        for pod in gang.pods:
            pod.wait_for("] up")
        for node in (0, 1):
            code, text = gang.get("/status", node)
            told = json.loads(text)
            assert (200, 1, 1, "training") == (code, told["attempt"], told["spent"], told["state"])
            names = ("class", "rank", "node_rank", "exit_code")
            assert [("exit", 1, 1, 3)] == [tuple(one[name] for name in names) for one in told["history"]]
            assert "3f0c6a52" not in text
            assert "k8sddp_attempt{" in gang.get("/metrics", node)[1]
        assert {"0": "training", "1": "training"} == json.loads(gang.get("/status", 0)[1])["nodes"]


STEPS = """
import os, sys, time
counter = sys.modules["k8sddp_page"].counter
optimizer = type("Optimizer", (), {})()
def step():
    counter.stepped(optimizer, (), {})
for _ in range(3):
    step()
print("up", flush=True)
while not os.path.exists("fail"):
    time.sleep(0.01)
sys.exit(3)
"""


def test_a_ranks_steps_are_in_status_metrics_and_verdict(tmp_path: Path) -> None:
    """The page of a real rank is read while it trains, and once more when it fails."""
    with workers.Gang(tmp_path, STEPS, launcher="direct").start() as gang:
        (pod,) = gang.pods
        pod.wait_for("] up")
        (rank,) = json.loads(gang.get("/status")[1])["ranks"]
        assert (0, 3, "between") == (rank["rank"], rank["step"], rank["phase"])
        assert 'k8sddp_steps_total{job_name="digits",namespace="team-a",rank="0"} 3\n' in gang.get("/metrics")[1]
        (tmp_path / "fail").touch()
        assert 3 == pod.wait()
        assert 3 == pod.cause["last_step"]


def test_node_0_tells_of_the_other_nodes_ranks(tmp_path: Path) -> None:
    """As its member tells, within seconds; the other node tells of its own, and nobody of a rank that there is not."""
    script = STEPS.replace("range(3)", "range(3 + int(os.environ['RANK']))")
    with workers.Gang(tmp_path, script, nnodes=2, launcher="direct").start() as gang:
        for pod in gang.pods:
            pod.wait_for("] up")

        def ranks() -> list[tuple[int, int, int]]:
            told = json.loads(gang.get("/status?ranks=0-9")[1])["ranks"]
            return [(one["rank"], one["node_rank"], one["step"]) for one in told]

        workers.wait_until(lambda: [(0, 0, 3), (1, 1, 4)] == ranks(), lambda: str(ranks()))
        told = json.loads(gang.get("/status")[1])
        assert (2, 3, 0, 4) == tuple(told["progress"][name] for name in ("ranks", "step", "last_rank", "steps_max"))
        (other,) = json.loads(gang.get("/status", 1)[1])["ranks"]
        assert (1, 4) == (other["rank"], other["step"])
        own, all_ranks = gang.get("/metrics")[1], gang.get("/metrics?ranks=0-9")[1]
        assert "k8sddp_gang_steps_max{" in own
        assert (1, 2) == (own.count("k8sddp_steps_total{"), all_ranks.count("k8sddp_steps_total{"))  # scraped once
        assert (400, []) == (gang.get("/status?ranks=x")[0], json.loads(gang.get("/status?ranks=2-9")[1])["ranks"])
