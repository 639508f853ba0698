"""How often a wait without a limit is spoken of."""

from k8sddp.worker.gang import reminders


def test_lines_come_soon_and_then_ever_less_often():
    """The first after a second, then 30 s, 60 s and so on, at last every 5 min; a new wait begins anew."""
    wait = reminders.Reminder(10.0)
    rung = []
    now = 10.0
    for _ in range(7):
        assert not wait.rings(wait.due - 0.1)
        now = wait.due
        assert wait.rings(now)
        rung.append(now - 10.0)
    assert [1.0, 31.0, 91.0, 211.0, 451.0, 751.0, 1051.0] == rung
    wait.begin(5000.0)
    assert (5000.0, 5001.0) == (wait.since, wait.due)
