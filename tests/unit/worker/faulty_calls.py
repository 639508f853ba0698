"""System calls that fail, for tests of what goes on all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

ERRORS = [
    pytest.param(getattr(errno, name), id=name) for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EIO", "EPERM")
]


def failing(number: int, *, only: Callable[..., bool] = lambda *_: True, times: int = 10**9) -> Callable[[Any], Any]:
    """Return what wraps a function so that its first calls fail with the error `number`."""
    left = [times]

    def wrap(function: Any) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            if left[0] and only(*values):
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return function(*values, **options)

        return call

    return wrap
