"""Watches what a rank does in torch, and what it may wait in: optimizer, DDP, autograd, collectives, DataLoader.

Each patch calls the original and tells the counter (k8sddp_page) before and after. A module is patched right after it
has been loaded, before torch.distributed or a script copies the names, so that `torch.distributed.all_reduce` stays the
very function of distributed_c10d: torch.compile knows collectives by identity, and by the signatures that
functools.wraps keeps. What else torch.compile would find of ours it must not trace (_keep_out_of_dynamo). An attribute
that another version of torch does not have is left alone.
"""

from __future__ import annotations

import functools

import k8sddp_hooks
from k8sddp_words import CALLS, FUNCTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from k8sddp_page import Counter

OURS = ("k8sddp_calls", "k8sddp_page", "k8sddp_hooks", "k8sddp_faults")  # modules whose frames a compiler meets

_watched: list[Counter] = []


def watch(counter: Counter) -> None:
    """Tell `counter` of this process from now on; later calls do nothing."""
    if _watched:
        return
    _watched.append(counter)
    patches = {
        "torch.autograd.graph": _watch_backward,
        k8sddp_hooks.C10D: _watch_collectives,
        "torch.nn.parallel.distributed": _watch_ddp,
        "torch.optim.optimizer": _watch_steps,
        "torch.utils.data.dataloader": _watch_batches,
    }
    for name, patch in patches.items():
        k8sddp_hooks.when_imported(name, functools.partial(patch, counter))
    k8sddp_hooks.when_imported("torch._dynamo.trace_rules", _keep_out_of_dynamo)


def _watch_steps(counter: Counter, module: Any) -> None:
    module.register_optimizer_step_post_hook(counter.stepped)


def _watch_backward(counter: Counter, module: Any) -> None:
    original = module._engine_run_backward  # what Tensor.backward and autograd.grad call

    @functools.wraps(original)
    def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
        entered = counter.enter_backward()
        try:
            return original(*args, **kwargs)
        finally:
            counter.leave_backward(entered)

    module._engine_run_backward = _engine_run_backward


def _watch_collectives(counter: Counter, module: Any) -> None:
    for name in FUNCTIONS:
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _function(counter, original, CALLS.index(name)))
    _watch_method(counter, getattr(module, "Work", None), "wait", "Work.wait")


def _watch_ddp(counter: Counter, module: Any) -> None:
    model = module.DistributedDataParallel
    _watch_method(counter, model, "__init__", "DistributedDataParallel")  # it compares the parameters of all ranks
    _watch_method(counter, model, "_sync_buffers", "DistributedDataParallel.sync_buffers")
    original = model.forward

    @functools.wraps(original)
    def forward(self: Any, *inputs: Any, **kwargs: Any) -> Any:
        entered = counter.enter_forward()
        try:
            return original(self, *inputs, **kwargs)
        finally:  # a script may catch what it raises, and skip the batch
            counter.leave_forward(entered)

    model.forward = forward


def _watch_batches(counter: Counter, module: Any) -> None:
    original = module._BaseDataLoaderIter.__next__

    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        asked = counter.ask()
        try:
            return original(self)
        finally:
            counter.get(asked)

    module._BaseDataLoaderIter.__next__ = __next__


def _function(counter: Counter, original: Any, number: int) -> Any:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        entered = counter.enter(number)
        try:
            return original(*args, **kwargs)
        finally:
            counter.leave(entered)

    return call


def _watch_method(counter: Counter, kind: Any, name: str, called: str) -> None:
    original = getattr(kind, name, None)
    if original is None:
        return
    number = CALLS.index(called)

    # pybind11 asks a Python subclass of Work for its own `wait`. It finds this one, and knows by the frame's name and
    # first argument that it must not call it again (pybind11.h, get_type_override)
    def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        entered = counter.enter(number)
        try:
            return original(self, *args, **kwargs)
        finally:
            counter.leave(entered)

    setattr(kind, name, functools.wraps(original)(wait))


def _keep_out_of_dynamo(module: Any) -> None:
    """Let torch.compile pass over our frames and go on in the originals, as if we were not there."""
    for name in OURS:
        module.add(name)
