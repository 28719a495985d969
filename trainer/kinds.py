"""Kinds of objects, from file names: an average over all images hides weak kinds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

# techsash/waste-classification-data names its files O_1 or R_1, one web search after the other. These are
# the numbers of its test images' kinds; the kinds of its training images are unknown.
_KNOWN: Final = {
    "O": {
        range(12568, 12816): "carrots",
        range(12816, 13204): "potatoes",
        range(13204, 13586): "pulses",
        range(13586, 13969): "peels",
    },
    "R": {
        range(10000, 10385): "curtains",
        range(10385, 10731): "drinking straws",
        range(10731, 11112): "tissue paper, paper flowers",
    },
}
_RUN: Final = 500  # numbers in a run of an unknown kind
_DIGITS: Final = 6  # of a count of images; longer numbers are times, and tell nothing of the kind


@dataclass(frozen=True, slots=True)
class Kind:
    """Accuracy on one kind of object: `right` of `images` of a source and class folder are correct."""

    source: str
    folder: str
    name: str
    images: int
    right: int


def kind_of(name: str) -> tuple[str, str, str]:
    """Return source, class folder and kind of an image named as `trainer.dataset.ImageFile`.

    The kind is the part of the file's name before the number, such as `cardboard` of `cardboard_12.webp`. If
    that is only the class, the number decides: a known kind of the public collection, or a run of 500.
    """
    source, _, folder, file = name.split("/", 3)
    match = re.fullmatch(r"(.*?)[_\- ]*(\d*)", PurePosixPath(file).stem)
    prefix, digits = match.groups() if match else (file, "")
    if prefix not in {folder, ""}:
        return source, folder, prefix
    if not 0 < len(digits) <= _DIGITS:
        return source, folder, f"{folder} without a name"
    number = int(digits)
    if file.startswith(f"{folder}_{number}."):
        for numbers, kind in _KNOWN[folder].items():
            if number in numbers:
                return source, folder, kind
    begin = number - number % _RUN
    return source, folder, f"{folder} {begin}-{begin + _RUN - 1}"


def by_kind(names: Sequence[str], right: npt.NDArray[np.bool_]) -> list[Kind]:
    """Return each kind, the most mistakes first.

    Args:
        names: of N images, as `kind_of`.
        right: bool (N,), whether each label is correct.
    """
    members: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        members[kind_of(name)].append(at)
    kinds = [
        Kind(*key, images=len(indexes), right=int(right[indexes].sum())) for key, indexes in members.items()
    ]
    return sorted(kinds, key=lambda kind: (kind.right - kind.images, kind.name))


def kind_lines(kinds: Sequence[Kind]) -> list[str]:
    """Return a line for each kind."""
    titles = [f"{kind.source}, {kind.folder}: {kind.name}" for kind in kinds]
    width = max(map(len, titles), default=0)
    return [
        f"  {title:<{width}}  {kind.images:6,} images  {100 * kind.right / kind.images:6.2f} % right"
        for title, kind in zip(titles, kinds, strict=True)
    ]
