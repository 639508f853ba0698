"""Lazy import hooks of launcher, children and ranks: act when torch's or multiprocessing's module is first imported.

A finder on sys.meta_path waits for a module by name, lets the ordinary finders load it, and then patches attributes
of it. Nothing is imported early, so a program that never touches torch pays nothing. Each patch calls the original and
only watches, or waits for gloo first; a module whose attribute is not there (another version of torch) is left alone.
"""

from __future__ import annotations

import functools
import os
import sys

import k8sddp_rank
import k8sddp_teardown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Patch = Callable[[Any], None]

C10D = "torch.distributed.distributed_c10d"

_patches: dict[str, Patch] = {}


class _Finder:
    """Waits for the modules in _patches."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        patch = _patches.pop(name, None)
        if patch is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        else:
            return None
        k8sddp_rank.guarded(_patch_after_load, spec.loader, patch)
        return spec


def _patch_after_load(loader: Any, patch: Patch) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        k8sddp_rank.guarded(patch, module)

    loader.exec_module = exec_module


def when_imported(name: str, patch: Patch) -> None:
    """Call `patch(module)` right after the module `name` has been loaded."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if name in sys.modules:
        k8sddp_rank.guarded(patch, sys.modules[name])
    else:
        _patches[name] = patch


def watch_launcher() -> None:
    """In torchrun's agent: report each rank's exit code, of which its own exit code (always 1) says nothing."""
    when_imported("torch.distributed.elastic.multiprocessing.errors", _patch_process_failure)


def watch_children() -> None:
    """In the launcher and its children: become a rank on init_process_group, report what ends a child."""
    when_imported(C10D, _patch_init)
    when_imported("multiprocessing.process", _patch_process_run)


def watch_teardown() -> None:
    """In a rank that starts as one: let gloo finish before the process group goes."""
    when_imported(C10D, _patch_destroy)


def _patch_process_failure(module: Any) -> None:
    original = module.ProcessFailure.__post_init__

    def __post_init__(self: Any) -> None:
        k8sddp_rank.guarded(_emit_process, self)
        original(self)

    module.ProcessFailure.__post_init__ = __post_init__


def _emit_process(failure: Any) -> None:
    k8sddp_rank.emit("process", local_rank=failure.local_rank, child_pid=failure.pid, exit_code=failure.exitcode)


def _patch_init(module: Any) -> None:
    original = module.init_process_group

    @functools.wraps(original)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        k8sddp_rank.guarded(_become, module)
        return result

    module.init_process_group = init_process_group
    _patch_destroy(module)


def _patch_destroy(module: Any) -> None:
    original = module.destroy_process_group

    @functools.wraps(original)
    def destroy_process_group(*args: Any, **kwargs: Any) -> Any:
        k8sddp_rank.guarded(k8sddp_teardown.let_gloo_finish)
        return original(*args, **kwargs)

    module.destroy_process_group = destroy_process_group


def _become(module: Any) -> None:
    rank = module.get_rank()
    if rank >= 0:
        k8sddp_rank.become_rank(rank)


def _patch_process_run(module: Any) -> None:
    original = module.BaseProcess.run

    @functools.wraps(original)
    def run(self: Any) -> None:
        try:
            original(self)
        except BaseException as error:
            k8sddp_rank.guarded(_record_child, error)
            raise

    module.BaseProcess.run = run


def _record_child(error: BaseException | None) -> None:
    if k8sddp_rank._state["rank"] is None or k8sddp_rank._state["pid"] != os.getpid():
        return  # not a rank: a DataLoader worker, or a child that never joined, which its parent reports
    if isinstance(error, SystemExit):
        if error.__context__ is None:  # the script's own; torch's teardown may turn it into SIGABRT
            if isinstance(error.code, int) and error.code:
                k8sddp_rank.emit("exit", exit_code=error.code)
            return
        error = error.__context__  # torch.multiprocessing.spawn turns an exception into sys.exit(1)
    if isinstance(error, Exception):
        k8sddp_rank.record_exception(type(error), error, error.__traceback__)
