"""What every test process needs, whoever started it."""

import signal

from tests.cluster.fixtures import pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_terminal_summary"]


def pytest_configure() -> None:
    """Take SIGINT and SIGHUP back: a background shell or nohup ignores them, and programs below inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
