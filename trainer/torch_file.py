"""Reader of PyTorch's weights files from before version 1.6, without PyTorch and without running code.

Such a file is five pickles (magic number, protocol, system, tensors, storage keys), then each storage: its
count of numbers and the numbers. Only the few names of tensors are unpickled.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from trainer.errors import WeightsError

Arrays = dict[str, npt.NDArray[Any]]

_STORAGES: Final = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_HEADER_PICKLES: Final = 3


def read_weights(path: Path) -> Arrays:
    """Return the tensors of a `.pth` file by name.

    Raises:
        WeightsError: the file is missing, or is not such a file of float and integer tensors.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise WeightsError(f"The weights {path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # A file of another kind fails anywhere in pickle, struct or numpy.
        raise WeightsError(
            f"{path} is not a PyTorch weights file from before version 1.6 ({error})."
        ) from error


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors as (storage type, key, offset, shape, strides), and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a tensor")

    def persistent_load(self, pid: Any) -> tuple[npt.DTypeLike, str]:
        _, dtype, key, *_ = pid
        return dtype, key


def _tensor(storage: tuple[Any, str], offset: int, shape: Any, strides: Any, *_: Any) -> tuple[Any, ...]:
    return *storage, offset, shape, strides


def _read(stream: BinaryIO) -> Arrays:
    load: Callable[[], Any] = lambda: _Unpickler(stream).load()  # noqa: E731 - each pickle needs a new one
    for _ in range(_HEADER_PICKLES):
        load()
    tensors, keys = load(), load()
    dtypes = {key: dtype for dtype, key, *_ in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storages[key] = np.frombuffer(stream.read(count * dtypes[key].itemsize), dtypes[key])
    return {
        name: _view(storages[key][offset:], shape, strides)
        for name, (_, key, offset, shape, strides) in tensors.items()
    }


def _view(storage: npt.NDArray[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> npt.NDArray[Any]:
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if min((*shape, 1)) < 1 or min((*strides, 0)) < 0 or last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage, shape, steps, writeable=False).copy()
