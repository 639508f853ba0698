"""`k8sddp delete`: remove jobs and everything that belongs to them, and nothing else.

The first line says where: context and namespace. By default the command ends when the pods are gone too, so that the
same name can be applied again at once. A Job that is not ours is refused.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from k8sddp import constants, errors
from k8sddp.cli import jobs, screen, target, usage

if TYPE_CHECKING:
    from k8sddp import cluster

LIMIT: Final = 300.0  # seconds for the pods to end; the grace period of a pod is 30 by default
POLL: Final = 0.3

EXAMPLES = (
    usage.Example("delete a job and wait until its pods are gone", "delete digits"),
    usage.Example("do not wait", "delete digits other --no-wait"),
)


@click.command(cls=usage.Examples, examples=EXAMPLES)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--wait/--no-wait", default=True, help="Wait until the job and its pods are gone (default).")
@target.options
def command(names: tuple[str, ...], wait: bool, at: target.Target) -> int:
    """Delete jobs and all that belongs to them."""
    connection = at.connect()
    screen.note(target.where(connection))
    code = 0
    deleted = []
    for name in dict.fromkeys(map(jobs.bare, names)):
        try:
            _delete(connection, name)
            deleted.append(name)
        except (errors.NotFoundError, errors.RefusedError) as error:  # the other names may still be there
            screen.error(str(error))
            code = error.exit_code
    if wait:
        wait_until_gone(connection, deleted)
    return code


def _delete(connection: cluster.Cluster, name: str) -> None:
    from k8sddp import cluster

    try:
        cluster.delete(connection, name, report=screen.out)
    except errors.NotFoundError as error:
        raise jobs.not_found(connection, name) from error


def wait_until_gone(connection: cluster.Cluster, names: list[str], *, limit: float = LIMIT) -> None:
    """Return when the pods of these jobs are gone; raises WaitTimeoutError after `limit` seconds."""
    deadline = time.monotonic() + limit
    left = names
    while left:
        left = [name for name in left if _pods(connection, name)]
        if left and time.monotonic() > deadline:
            raise errors.WaitTimeoutError(
                f"pods of {', '.join(left)} have not ended after {limit:g} s; see kubectl get pods "
                f"-n {connection.namespace} -l {constants.LABEL_BATCH_JOB_NAME}={left[0]}"
            )
        if left:
            time.sleep(POLL)


def _pods(connection: cluster.Cluster, name: str) -> int:
    return len(connection.list("v1", "Pod", label_selector=f"{constants.LABEL_BATCH_JOB_NAME}={name}").items)
