"""Lazy import hooks of launcher, children and ranks: act when torch's or multiprocessing's module is first imported.

A finder on sys.meta_path waits for a module by name, lets the ordinary finders load it, and then patches attributes
of it. Nothing is imported early, so a program that never touches torch pays nothing. Each patch calls the original and
only watches, or waits for gloo first; only a process group that is not the job's ends the process (k8sddp_world). A
module whose attribute is not there (another version of torch) is left alone.
"""

from __future__ import annotations

import functools
import os
import sys

import k8sddp_ends
import k8sddp_events
import k8sddp_rank
import k8sddp_teardown
from k8sddp_words import JOINED, JOINING, NO_GROUP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Patch = Callable[[Any], None]

C10D = "torch.distributed.distributed_c10d"
FOR_SCRIPTS = "k8sddp_report"  # an image's own, with an installed k8sddp, may be of another version than this worker

_patches: dict[str, list[Patch]] = {}


class _Finder:
    """Waits for the modules in _patches, and finds for scripts the one module that is theirs to import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name == FOR_SCRIPTS:
            from importlib.machinery import PathFinder

            return PathFinder.find_spec(name, [os.path.dirname(__file__)])
        patches = _patches.pop(name, None)
        if patches is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        else:
            return None
        k8sddp_events.guarded(_patch_after_load, spec.loader, patches)
        return spec


def _patch_after_load(loader: Any, patches: list[Patch]) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        for patch in patches:
            k8sddp_events.guarded(patch, module)

    loader.exec_module = exec_module


def when_imported(name: str, patch: Patch) -> None:
    """Call `patch(module)` right after the module `name` has been loaded."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if name in sys.modules:
        k8sddp_events.guarded(patch, sys.modules[name])
    else:
        _patches.setdefault(name, []).append(patch)


def watch_launcher() -> None:
    """In torchrun's agent: report each rank's exit code, of which its own exit code (always 1) says nothing."""
    when_imported("torch.distributed.elastic.multiprocessing.errors", _patch_process_failure)


def watch_children() -> None:
    """In the launcher and what it starts: become a rank when a group has formed, report what ends a child."""
    watch_group()
    when_imported("multiprocessing.process", _patch_process_run)
    if os.environ.get("K8SDDP_LAUNCHER") == "spawn":  # torchrun's agent tells of its ranks in its own way
        when_imported("multiprocessing.popen_fork", _patch_poll)
        when_imported("multiprocessing.popen_forkserver", _patch_poll)
        when_imported("subprocess", _patch_exit_status)


def watch_group() -> None:
    """In every process: look at the default group that forms, and let gloo finish before it goes."""
    when_imported(C10D, _patch_group)


def _patch_process_failure(module: Any) -> None:
    original = module.ProcessFailure.__post_init__

    def __post_init__(self: Any) -> None:
        k8sddp_events.guarded(_emit_process, self)
        original(self)

    module.ProcessFailure.__post_init__ = __post_init__


def _emit_process(failure: Any) -> None:
    k8sddp_events.emit("process", local_rank=failure.local_rank, child_pid=failure.pid, exit_code=failure.exitcode)


def _patch_group(module: Any) -> None:
    init, destroy = module.init_process_group, module.destroy_process_group

    @functools.wraps(init)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        k8sddp_events.guarded(_tell_group, JOINING)
        try:
            result = init(*args, **kwargs)
        except BaseException:
            k8sddp_events.guarded(_tell_group, NO_GROUP)
            raise
        k8sddp_events.guarded(_formed, module, args, kwargs)
        k8sddp_events.guarded(_tell_group, JOINED)  # under spawn there is no page before
        return result

    @functools.wraps(destroy)
    def destroy_process_group(*args: Any, **kwargs: Any) -> Any:
        k8sddp_events.guarded(k8sddp_teardown.let_gloo_finish)
        result = destroy(*args, **kwargs)
        k8sddp_events.guarded(_left, module)
        return result

    module.init_process_group = init_process_group
    module.destroy_process_group = destroy_process_group


def _tell_group(stage: int) -> None:
    """Write into the page, if this process has one, how far its process group is."""
    page = sys.modules.get("k8sddp_page")
    if page is not None:
        page.counter.tell_group(stage)


def _formed(module: Any, args: Any, kwargs: Any) -> None:
    k8sddp_events.load("k8sddp_world").formed(module, args, kwargs)


def _left(module: Any) -> None:
    if k8sddp_events.own_rank() is not None and not module.is_initialized():
        os.environ[k8sddp_rank.JOINED] = ""


def _patch_poll(module: Any) -> None:
    """Tell how a child ended that multiprocessing has reaped: nobody else can learn it any more."""
    original = module.Popen.poll

    @functools.wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = self.returncode
        code = original(self, *args, **kwargs)
        if known is None and code is not None:
            k8sddp_events.guarded(k8sddp_events.emit, "ended", child_pid=self.pid, exit_code=code)
        return code

    module.Popen.poll = poll


def _patch_exit_status(module: Any) -> None:
    """Do so for a child of subprocess."""
    original = module.Popen._handle_exitstatus

    @functools.wraps(original)
    def _handle_exitstatus(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        k8sddp_events.guarded(k8sddp_events.emit, "ended", child_pid=self.pid, exit_code=self.returncode)

    module.Popen._handle_exitstatus = _handle_exitstatus


def _patch_process_run(module: Any) -> None:
    original = module.BaseProcess.run

    @functools.wraps(original)
    def run(self: Any) -> None:
        try:
            original(self)
        except BaseException as error:
            k8sddp_events.guarded(_record_child, error)
            raise

    module.BaseProcess.run = run


def _record_child(error: BaseException | None) -> None:
    if k8sddp_events.own_rank() is None:
        return  # not a rank: a DataLoader worker, or a child that never joined, which its parent reports
    if isinstance(error, SystemExit):
        if error.__context__ is None:  # the script's own; torch's teardown may turn it into SIGABRT
            if isinstance(error.code, int) and error.code:
                k8sddp_events.emit("exit", exit_code=error.code)
            return
        error = error.__context__  # torch.multiprocessing.spawn turns an exception into sys.exit(1)
    if isinstance(error, Exception):
        k8sddp_ends.record_exception(type(error), error, error.__traceback__)
