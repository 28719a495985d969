"""Writer of PyTorch's weights files from before version 1.6, without PyTorch."""

from __future__ import annotations

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt


class _Storage:
    def __init__(self, key: str, array: npt.NDArray[Any]) -> None:
        self.key, self.array = key, array


class _Tensor:
    def __init__(self, key: str, array: npt.NDArray[Any]) -> None:
        self.storage = _Storage(key, np.ascontiguousarray(array).ravel())
        self.shape = array.shape
        self.strides = tuple(int(np.prod(array.shape[at + 1 :])) for at in range(array.ndim))

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, 0, self.shape, self.strides, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        return "storage", sys.modules["torch"].FloatStorage, obj.key, "cpu", len(obj.array), None


@contextmanager
def _torch() -> Iterator[None]:
    """Replace the two names of PyTorch in such a file."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_: Any) -> None:
        """Replace PyTorch's function."""

    for module, name, value in (
        (torch, "FloatStorage", type("FloatStorage", (), {})),
        (utils, "_rebuild_tensor_v2", _rebuild_tensor_v2),
    ):
        value.__module__, value.__qualname__ = module.__name__, name
        setattr(module, name, value)
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield
    finally:
        for name, held in before.items():
            sys.modules.pop(name)
            if held is not None:
                sys.modules[name] = held


def write_pth(path: Path, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Write float32 arrays as a file of tensors."""
    tensors = OrderedDict((name, _Tensor(str(at), array)) for at, (name, array) in enumerate(arrays.items()))
    with path.open("wb") as stream, _torch():
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, stream, protocol=2)
        _Pickler(stream, protocol=2).dump(tensors)
        pickle.dump([tensor.storage.key for tensor in tensors.values()], stream, protocol=2)
        for tensor in tensors.values():
            stream.write(struct.pack("<q", len(tensor.storage.array)))
            stream.write(tensor.storage.array.astype("<f4").tobytes())


def tiny_teacher() -> dict[str, npt.NDArray[np.float32]]:
    """Random weights of EfficientNet-lite's form, a block a stage and few channels."""
    rng = np.random.default_rng(5)
    arrays: dict[str, npt.NDArray[np.float32]] = {}

    def convolution(name: str, norm: str, *shape: int) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"{name}.weight"] = rng.normal(0, scale, shape).astype(np.float32)
        for key, value in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)):
            arrays[f"{norm}.{key}"] = np.full(shape[0], value, np.float32)

    convolution("_conv_stem", "_bn0", 8, 3, 3, 3)
    before = 8
    for at, channels in enumerate((4, 6, 8, 10, 12, 14, 16)):
        prefix, wide = f"_blocks.{at}.", before if at == 0 else 2 * before
        if at:
            convolution(f"{prefix}_expand_conv", f"{prefix}_bn0", wide, before, 1, 1)
        convolution(f"{prefix}_depthwise_conv", f"{prefix}_bn1", wide, 1, 3, 3)
        convolution(f"{prefix}_project_conv", f"{prefix}_bn2", channels, wide, 1, 1)
        before = channels
    convolution("_conv_head", "_bn1", 32, before, 1, 1)
    arrays["_fc.weight"] = rng.normal(0, 0.5, (1000, 32)).astype(np.float32)
    arrays["_fc.bias"] = np.zeros(1000, np.float32)
    return arrays
