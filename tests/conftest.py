"""What every test process needs, whoever started it."""

import signal


def pytest_configure() -> None:
    """Take SIGINT back: a shell that starts pytest in the background ignores it, and programs below inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
