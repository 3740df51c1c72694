"""How much memory stays after something was computed."""

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def bytes_held(compute: Callable[[], Any]) -> int:
    """By tensors that came about in `compute` and are still there, while its result is."""
    made = _Made()
    with made:
        result = compute()
    total = sum(size for storage, size in made.storages.values() if not storage.expired())
    del result
    return total


class _Made(TorchDispatchMode):
    """The storages of all tensors that come about, in backward passes and in graphs too."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                storage = each.untyped_storage()
                reference = StorageWeakRef(storage)
                self.storages[reference.cdata] = (reference, storage.nbytes())
        return made
