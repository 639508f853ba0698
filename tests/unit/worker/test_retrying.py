"""Which failures are worth another attempt."""

from __future__ import annotations

import pytest

from k8sddp.worker import root_cause
from k8sddp.worker.gang import messages, retrying
from tests.unit.worker import gangs

CODE, IMAGE, ARGUMENTS = (
    "Python cannot read this code",
    "the image and the code stay as they are",
    "the arguments stay as they are",
)
USAGE = "usage: train.py [-h] [--epochs EPOCHS]\ntrain.py: error: argument --epochs: invalid int value: 'two'"
CLICK = "Usage: train.py [OPTIONS]\nTry 'train.py --help' for help.\n\nError: Invalid value for '--epochs': 'two'."
TYPER = "Usage: train.py [OPTIONS]\n╭─ Error ────╮\n│ Invalid value for '--epochs' │\n╰────────────╯"
MODULE = "usage: python3 -m pkg.train [-h]\npython3 -m pkg.train: error: unrecognized arguments: --epoch"
TWICE = "the same failure came twice before any step"


def raised(exception: str, **changes: object) -> root_cause.Failure:
    return gangs.make_failure(1, exception)._replace(**{"last_step": None, **changes})


def exited(code: int, last: str, **changes: object) -> root_cause.Failure:
    return raised("")._replace(kind="exit", exception=None, exit_code=code, traceback=last, **changes)


KILLED = raised("")._replace(kind="signal", exception=None, exit_code=None, signal="SIGKILL")
LOST = raised("")._replace(kind="lost", exception=None, exit_code=None, detail="gone")


def decide(failure: root_cause.Failure, before: str = "", lasted: float = 5.0, **rules: tuple[int, ...]) -> str | None:
    """Return why no other attempt follows, None where one does."""
    decision = retrying.decide(failure, retrying.Rules(**rules), lasted=lasted, before=before)
    return decision.reason if decision.final else None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (raised("SyntaxError: invalid syntax (train.py, line 3)"), CODE),
        (raised("IndentationError: unexpected indent (train.py, line 3)"), CODE),
        (raised("TabError: inconsistent use of tabs and spaces in indentation (train.py, line 3)"), CODE),
        (raised("ModuleNotFoundError: No module named 'transformers'"), IMAGE),
        (raised("ImportError: cannot import name 'x' from 'y' (/y.py)"), IMAGE),
        (raised("ImportError: libGL.so.1: cannot open shared object file: No such file or directory"), IMAGE),
        (raised("SyntaxError: invalid syntax", last_step=0), CODE),
        (exited(2, USAGE), ARGUMENTS),
        (exited(2, USAGE.partition("\n")[2]), ARGUMENTS),  # a long usage leaves only the end
        (exited(2, USAGE + "\nwandb: synced 0 files"), ARGUMENTS),
        (exited(2, MODULE), ARGUMENTS),
        (exited(2, CLICK), ARGUMENTS),
        (exited(2, TYPER), ARGUMENTS),
        (
            exited(2, "/usr/bin/python3: can't open file '/w/x.py': [Errno 2] No such file or directory"),
            "the script is not there",
        ),
        (exited(1, "/usr/bin/python3: No module named pkg.train"), IMAGE),
        (raised("")._replace(kind="configuration", exception=None, detail="the world is too small"), ""),
        (raised("")._replace(kind="preflight", exception=None, detail="torch is missing"), ""),
    ],
    ids=lambda value: value.exception or value.traceback if isinstance(value, root_cause.Failure) else "",
)
def test_what_no_attempt_can_mend_ends_the_job_at_once(failure: root_cause.Failure, reason: str) -> None:
    """The same arguments, code and image meet the next attempt."""
    assert reason == decide(failure)


@pytest.mark.parametrize(
    "failure",
    [
        raised("ValueError: bad"),
        raised("ImportError: No module named 'late'", last_step=40),
        raised("ImportError: /lib/x.so: cannot read file data: Input/output error"),
        raised("ImportError: libx.so: failed to map segment from shared object: Cannot allocate memory"),
        raised("OSError: [Errno 116] Stale file handle: 'train.py'"),
        raised("mylib.SyntaxError: bad input"),
        exited(2, "ld: error: cannot open output file"),
        exited(3, USAGE),
        exited(2, USAGE, last_step=3),
        exited(1, "no data"),
        exited(2, ""),
    ],
    ids=lambda failure: f"{failure.exception or failure.traceback!r} after {failure.last_step}",
)
def test_what_may_pass_is_tried_again(failure: root_cause.Failure) -> None:
    """It may be the machine, the network or the data."""
    assert None is decide(failure)


@pytest.mark.parametrize(
    ("first", "second", "final"),
    [
        (raised("ValueError: bad"), raised("ValueError: bad", rank=0, node_rank=0, pod="digits-0", last_step=0), True),
        (raised("ValueError: bad"), raised("ValueError: worse"), False),
        (raised("ValueError: bad"), raised("TypeError: bad"), False),
        (raised("KeyError: <object at 0x7f00>"), raised("KeyError: <object at 0x7fa8>"), True),
        (raised("ValueError: bad", last_step=1), raised("ValueError: bad"), False),
        (raised("ValueError: bad"), raised("ValueError: bad", last_step=1), False),
        (exited(1, "first\nno data"), exited(1, "second\nno data"), True),
        (exited(1, "no data"), exited(3, "no data"), False),
        (exited(3, ""), exited(3, ""), False),
        (KILLED, KILLED, False),
        (LOST, LOST, False),
    ],
    ids=[
        "the same, of another rank", "another text", "another class", "an address in it", "the first had trained",
        "the second had trained", "the same last line", "another code", "no words", "killed", "lost",
    ],
)  # fmt: skip
def test_the_same_failure_before_any_step_ends_the_job_the_second_time(
    first: root_cause.Failure, second: root_cause.Failure, final: bool
) -> None:
    """Class and text are compared, whichever rank was the first to say them; a killed rank says nothing."""
    before = retrying.words(first, lasted=5.0)
    assert (TWICE if final else None) == decide(second, before)


def test_an_attempt_that_took_long_may_have_trained_unseen() -> None:
    """A script without one of torch's optimizers makes no step that anybody counts."""
    long = retrying.BRIEF + 1.0
    assert None is decide(raised("ValueError: bad"), retrying.words(raised("ValueError: bad"), lasted=5.0), lasted=long)
    assert "" == retrying.words(raised("ValueError: bad"), lasted=long)
    assert None is decide(raised("ModuleNotFoundError: No module named 'late'"), lasted=long)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"retry_on": (1,)}, None),
        ({"retry_on": (3,)}, "restart.retryOn does not name 1"),
        ({"fail_on": (1,)}, "restart.failOn names 1"),
        ({"fail_on": (3,)}, CODE),
    ],
)
def test_the_users_own_rules_go_first(rules: dict[str, tuple[int, ...]], reason: str | None) -> None:
    """Who asks for another attempt after this code gets it."""
    assert reason == decide(raised("SyntaxError: invalid syntax"), **rules)
    again = raised("ValueError: bad")
    if "retry_on" in rules:
        assert reason == decide(again, retrying.words(again, lasted=5.0), **rules)


def test_a_hang_is_tried_again_unless_the_job_says_otherwise() -> None:
    """restart.onHang; exit codes have no say, because there is none."""
    hung = root_cause.Failure("hang", 1, "digits-1", "node-b", rank=1, detail="for 600 s it has been in train.py:40")
    assert decide(hung, retry_on=(3,)) is None
    assert "restart.onHang is fail" == decide(hung, on_hang="fail")


def fail(gang: object, attempt: int, failure: root_cause.Failure, now: float) -> list[object]:
    """Let rank 1 of a running gang fail and every member be idle; return all effects."""
    effects = gang.received(1, messages.Failed(attempt, root_cause.to_record(failure)), now)
    effects += gang.tick(now + 3.0)
    for peer in (0, 1):
        effects += gang.received(peer, messages.Idle(attempt), now + 4.0)
    return effects


def test_a_job_that_repeats_itself_says_why_it_ends() -> None:
    """Two of four attempts are used, and the sentence tells why the other two are not."""
    gang = gangs.make_running(max_attempts=4)
    assert {} == gangs.ends(fail(gang, 0, raised("ValueError: no data in /data"), 1.0))
    told = gangs.ends(fail(gang, 1, raised("ValueError: no data in /data"), 10.0))
    assert (1, 79, 2) == (told[0].code, told[1].code, told[0].verdict["spent"])
    said = f"rank 1 (pod digits-1, node node-1) raised ValueError: no data in /data; not tried again: {TWICE}"
    assert said == gangs.cause_of(told[0])["message"]


def test_an_attempt_that_was_disrupted_in_between_may_have_trained() -> None:
    """Nobody knows how far it came, so a failure like the one before it is not a job that repeats itself."""
    gang = gangs.make_running(max_attempts=4)
    assert {} == gangs.ends(fail(gang, 0, raised("ValueError: no data in /data"), 1.0))
    gang.received(1, messages.Leaving("SIGTERM"), 10.0)
    gang.received(0, messages.Idle(1), 11.0)
    gang.received(1, gangs.make_join(1, pod="digits-1-new", ignored_count=1), 12.0)
    assert {} == gangs.ends(fail(gang, 2, raised("ValueError: no data in /data"), 20.0))
    assert {0, 1} == set(gangs.ends(fail(gang, 3, raised("ValueError: no data in /data"), 30.0)))


def test_the_last_attempt_of_the_budget_needs_no_excuse() -> None:
    """There is nothing that is not tried again."""
    gang = gangs.make_running(max_attempts=1)
    told = gangs.ends(fail(gang, 0, raised("SyntaxError: invalid syntax"), 1.0))
    assert "rank 1 (pod digits-1, node node-1) raised SyntaxError: invalid syntax" == gangs.cause_of(told[0])["message"]


def test_the_time_of_an_attempt_is_counted_from_its_start() -> None:
    """The wait for nodes before it does not make it long, and a long one's failure may come again."""
    gang = gangs.make_running(max_attempts=4)
    assert {} == gangs.ends(fail(gang, 0, raised("ValueError: bad"), retrying.BRIEF + 1.0))
    assert {} == gangs.ends(fail(gang, 1, raised("ValueError: bad"), retrying.BRIEF + 10.0))
    assert {0, 1} == set(gangs.ends(fail(gang, 2, raised("ValueError: bad"), retrying.BRIEF + 20.0)))


def test_a_doubtful_failure_is_asked_about_when_nobody_was_lost() -> None:
    """An abort may be the watchdog's: when every member is cleared it is the failure, and its rule holds."""
    gang = gangs.make_running(max_attempts=4, rules=retrying.Rules(retry_on=(1,)))
    aborted = raised("")._replace(
        kind="signal", signal="SIGABRT", exception=None, exit_code=None, weight=root_cause.WEAK
    )
    told = gangs.ends(fail(gang, 0, aborted, 1.0))
    assert str(gangs.cause_of(told[0])["message"]).endswith("; not tried again: restart.retryOn does not name 134")
