"""Start, use and end the tests' cluster from a shell: `python -m tests.cluster up|down|status|exec`.

`exec -- COMMAND` runs a command where the API server is reachable, with KUBECONFIG set to the admin's and kubectl on
PATH; it starts a cluster when none runs, and then ends it afterwards, whatever the command does. `make e2e` is `exec
-- python -m pytest tests/e2e`: a cold build then counts against no test's time limit. The command ends with `exec`,
even when that is killed. Exit codes: the command's own for `exec`, 143 after SIGTERM, 130 after Ctrl-C; 1 for a broken
cluster; 3 where this machine can have none.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from tests.cluster import lifecycle
from tests.cluster.clusters import Cluster
from tests.cluster.errors import ClusterError, ClusterUnavailableError
from tests.cluster.testbed import bed, layout

GRACE_SECONDS = 10  # for a command that was asked to end

VERBS = {
    "up": "start it",
    "down": "end it",
    "status": "say whether it runs",
    "exec": "run what follows -- where its API server is reachable",
}


def main(argv: Sequence[str]) -> int:
    """Run one subcommand and return the exit code."""
    split = argv.index("--") if "--" in argv else len(argv)  # argparse would eat a later -- of the command's own
    arguments = _parser().parse_args(argv[:split])
    arguments.command = argv[split + 1 :]
    try:
        if arguments.verb == "guard":  # started by bed.start, not by people
            bed.guard(Path(arguments.base), arguments.name, arguments.run_id)
            return 0
        if arguments.name:
            os.environ["K8SDDP_TEST_CLUSTER"] = arguments.name
        return {"up": _up, "down": _down, "status": _status, "exec": _exec}[arguments.verb](arguments)
    except ClusterUnavailableError as error:
        _say(str(error))
        return 3
    except ClusterError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _up(arguments: argparse.Namespace) -> int:
    _explain(lifecycle.up(_say, _options(arguments)))
    return 0


def _down(arguments: argparse.Namespace) -> int:
    _say("ended" if lifecycle.down(_say) else "nothing to end")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    running = lifecycle.running(_say)
    if running is None:
        _say("no cluster runs")
        return 1
    _explain(running)
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _terminated)
    with lifecycle.started(_say, _options(arguments)) as cluster:
        path = f"{Path(cluster.kubectl_path).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"KUBECONFIG": str(cluster.admin_kubeconfig), "PATH": path}
        argv = cluster.inside_argv(arguments.command)
        if cluster.network_namespace is not None:  # Linux; where this process starts no test bed no guard ends it
            argv = ("setpriv", "--pdeathsig", "KILL", *argv)
        return _run(argv, {**os.environ, **cluster.environment, **own})


def _run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command to its end; one that outlives this call by `GRACE_SECONDS` is killed."""
    with subprocess.Popen(argv, env=env) as command:
        try:
            return command.wait()
        except SystemExit:
            command.terminate()  # SIGTERM reached only us; a terminal's Ctrl-C reaches both
            raise
        finally:
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    command.wait(GRACE_SECONDS)
            finally:
                command.kill()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _options(arguments: argparse.Namespace) -> layout.Options:
    return layout.Options(node_monitor_grace_seconds=arguments.node_grace)


def _explain(cluster: Cluster) -> None:
    print(f"cluster {cluster.name} ({cluster.backend}): {len(cluster.nodes)} Nodes Ready: {', '.join(cluster.nodes)}")
    print(f"  admin kubeconfig  {cluster.admin_kubeconfig}")
    print(f"  image in pods     {cluster.image}")
    print(f"  logs              {cluster.logs_dir}")
    print(f"  kubectl           {' '.join(cluster.inside_argv(cluster.kubectl_argv('get', 'nodes')))}")
    print("  any command       python -m tests.cluster exec -- COMMAND")
    print("  end it            python -m tests.cluster down")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="The tests' Kubernetes cluster.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in VERBS.items():
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("--name", help="which of several side by side (default: $K8SDDP_TEST_CLUSTER, else default)")
        if verb in ("up", "exec"):
            grace = layout.Options.node_monitor_grace_seconds
            text = f"seconds until a silent Node counts as lost (default: {grace})"
            sub.add_argument("--node-grace", type=int, default=grace, help=text)
    guard = verbs.add_parser("guard")
    for name in ("base", "name", "run_id"):
        guard.add_argument(name)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
