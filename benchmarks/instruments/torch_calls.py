"""What torch is called for while something runs: operations, waits for a device, and bytes alive.

A `Far` tensor lies on a CUDA device that is not there: its values are on the CPU, and every copy to or from it is seen.
So waits can be counted on a machine without a GPU, and a tensor on the wrong device is an error there too.
"""

import contextlib
import sys
import weakref
from collections import Counter
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

FAR = torch.device("cuda", 0)
READS = {  # operations whose result the processor must know before it goes on
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # they take indices from the processor, and wait
TRANSFERS = {"_to_copy", "copy_"}


class Operations(TorchDispatchMode):
    """Counts the operations that reach torch's kernels while `due()`; views count too."""

    def __init__(self, due=lambda: True):
        super().__init__()
        self.due, self.count = due, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += self.due()
        return func(*args, **(kwargs or {}))


class LiveBytes(TorchDispatchMode):
    """Follows every storage that an operation makes until nothing holds it any more; `peak` is the most, in bytes."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = 0, 0
        self.known = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(storage) for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if id(storage) not in given and id(storage) not in self.known:
                self._follow(storage)
        return out

    def _follow(self, storage):
        key, size = id(storage), storage.nbytes()

        def freed(_):
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def _storages(tree):
    return [leaf.untyped_storage() for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]


class Far(torch.Tensor):
    """A tensor on the device that is not there; `near` holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=FAR,
        )

    def __init__(self, near):
        self.near = near

    def __repr__(self):
        return f"Far({self.near!r})"

    def tolist(self):  # torch refuses it for subclasses
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on a tensor of a `FarDevice` that is gone.")


class FarDevice(TorchDispatchMode):
    """Carries out what is on the far device, and counts what makes the processor wait for it.

    `waits` counts values read and copies that are not asked to go on by themselves, by place in the code: what comes
    from the device under "from", what goes to it under "to".
    """

    def __init__(self):
        super().__init__()
        self.waits = {"from": Counter(), "to": Counter()}

    def take(self) -> dict[str, Counter]:
        """The waits since the last time."""
        taken, self.waits = self.waits, {"from": Counter(), "to": Counter()}
        return taken

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        given = [t for t in tensors if isinstance(t, Far)]
        target = kwargs.get("device")
        far = bool(given) if target is None else torch.device(target).type == FAR.type
        if not given and not far:
            return func(*args, **kwargs)
        self._note(name, args, kwargs, given, far)
        if name not in TRANSFERS | INDEXING:
            strangers = [t for t in tensors if not isinstance(t, Far) and t.ndim > 0]
            if given and strangers:
                raise RuntimeError(
                    f"{func}: expected all tensors on {FAR}, got one of {list(strangers[0].shape)} on the CPU."
                )
        if target is not None:
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        owners = {id(t.near): t for t in given}
        args, kwargs = tree_map_only(Far, lambda t: t.near, (args, kwargs))
        out = func(*args, **kwargs)
        if name == "copy_":
            return owners.get(id(out), out)
        if not far:
            return out
        return tree_map_only(torch.Tensor, lambda t: owners[id(t)] if id(t) in owners else Far(t), out)

    def _note(self, name, args, kwargs, given, far):
        if name in READS and given:
            self._wait("from")
        elif name == "_to_copy" and not kwargs.get("non_blocking") and far != bool(given):
            self._wait("to" if far else "from")
        elif name == "copy_":
            to, source = (isinstance(t, Far) for t in args[:2])
            waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
            if to != source and waits:
                self._wait("to" if to else "from")
        elif name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self._wait("from")
            if not all(isinstance(index, Far) for index in indices):
                self._wait("to")
        elif name == "repeat_interleave" and kwargs.get("output_size") is None:
            self._wait("from")

    def _wait(self, way):
        self.waits[way][place()] += 1

    @contextlib.contextmanager
    def there(self):
        """Within it, torch believes in the device."""
        wait = self._wait

        class Event:
            def record(self, *_):
                pass

            def query(self):
                return True

            def synchronize(self):
                wait("from")

        torch._C._ensureCUDADeviceGuardSet()
        lifted = torch._C._only_lift_cpu_tensors()
        pretended = {
            "_lazy_init": lambda: None,
            "current_device": lambda: 0,
            "set_device": lambda _: None,
            "Event": Event,
        }
        with mock.patch.multiple("torch.cuda", **pretended), self:
            torch._C._set_only_lift_cpu_tensors(True)
            try:
                yield self
            finally:
                torch._C._set_only_lift_cpu_tensors(lifted)

    @contextlib.contextmanager
    def carrying(self, model):
        """A clone of the host's MODEL that samples on the device, once the host has loaded it to the CPU."""
        carried = model.clone()

        def prepare(executor, patcher, *args, **kwargs):
            ready = executor(patcher, *args, **kwargs)
            patcher.load_device = FAR
            patcher.model.to(FAR)
            self.take()  # weights are not what is measured
            return ready

        carried.add_wrapper_with_key("prepare_sampling", "far", prepare)
        try:
            yield carried
        finally:
            carried.model.to("cpu")


def place():
    """File and line of the nearest caller outside of torch and this file."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").split(".")[0] == "torch" or frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
