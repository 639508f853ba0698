"""What every test process needs, whoever started it."""

import signal

import hypothesis
import pytest

from tests import rotation
from tests.cluster.fixtures import pytest_terminal_summary

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_terminal_summary"]

# By default the same examples in every run, so that no run fails by chance; `make property` looks at others, each time
# at new ones, and a find is repeated with the line that it prints.
# How fast a machine makes examples says nothing about the code (HealthCheck.too_slow failed under load).
slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=slow)
hypothesis.settings.register_profile(
    "wide", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=slow
)
hypothesis.settings.load_profile("same")


def pytest_configure() -> None:
    """Take back signals that a background shell or nohup ignores: programs below inherit that."""
    taken = (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    )
    for number, handler in taken:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests on request whose turn it is not."""
    rotation.skip_the_others(items)
