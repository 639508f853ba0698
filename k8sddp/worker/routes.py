"""The pages of the worker's HTTP port.

`/status` tells of a fit number of ranks, `/metrics` of this node's; `?ranks=512-1023` names others, which node 0 knows
of the whole gang. `/stacks` is stacks_page.py's. docs/status-and-metrics.md is what people read about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Optional, Union

from . import metrics, readiness, stacks_page, status
from .net import http_server

MOST = 512  # ranks in one answer: 0.3 MB, which takes the worker some 50 ms
MAX_DIGITS = 9  # of a rank


def table(
    ready: readiness.Readiness, facts: Callable[[Optional[range]], status.Facts], look: stacks_page.Look, *, own: range
) -> Mapping[str, http_server.Route]:
    """Return all pages; `facts` tells of the ranks in a range, or of a fit number, `look` what this node's `own` do.

    /metrics is about a node's own ranks unless it is asked for others: who scrapes all pods gets each series once.
    """
    return {
        "/healthz": http_server.at_once(http_server.TEXT, lambda: (200, "ok")),
        "/readyz": ready.route(),
        "/stacks": stacks_page.route(lambda: facts(range(0)), look),
        "/status": _told(http_server.JSON, lambda chosen: status.to_json(facts(chosen))),
        "/metrics": _told(http_server.METRICS, lambda chosen: metrics.to_text(facts(chosen or own))),
    }


def _told(kind: str, text: Callable[[Optional[range]], str]) -> http_server.Route:
    def ask(request: http_server.Request, respond: http_server.Respond) -> None:
        asked = chosen(request.query.get("ranks"))
        if isinstance(asked, str):
            respond(400, asked)
        else:
            respond(200, text(asked))

    return http_server.Route(kind, ask)


def chosen(text: Optional[str]) -> Union[range, str, None]:
    """Return the ranks of `3` or `0-511`, None where none are named, and what is wrong with anything else."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first, first)
    if not all(one.isascii() and one.isdigit() and len(one) <= MAX_DIGITS for one in numbers):
        return "ranks=%.40s is neither a rank nor a range of them, as ranks=0-511" % text
    found = range(int(numbers[0]), int(numbers[1]) + 1)
    if not 0 < len(found) <= MOST:
        return "ranks=%.40s are %d ranks: from 1 to %d can be asked for at once" % (text, len(found), MOST)
    return found
