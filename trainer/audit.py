"""Audit of the images before training: findings, and the images fit for training.

Two files are near-duplicates when their perceptual hashes (pHash: signs of the 8x8 lowest DCT
frequencies of the 32x32 grey image, Zauner 2010) differ in at most `MAX_BITS` bits and their 32x32
grey images correlate above `MIN_CORRELATION`. On techsash/waste-classification-data the hash alone
pairs unlike images from 4 bits on; the correlation removes those.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainer.dataset import CLASS_FOLDERS, ImageSet

MAX_BITS: Final = 8
"""Maximum Hamming distance of near-duplicates' hashes, of 64 bits."""

MIN_CORRELATION: Final = 0.98
"""Minimum correlation of near-duplicates' 32x32 grey images."""

UNSEEN_RUNS: Final = 2
"""Runs of consecutive numbers in each class that `unseen_mask` takes."""

FOLDS: Final = 5
"""Numbers of different runs that `unseen_mask` can take."""

_SMALL: Final = 32  # side of the grey image that is hashed and compared, pixels
_ROWS: Final = 512  # hashes compared with all others at a time: 512 x 25,000 x 8 bytes is 100 MB
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Pairs = npt.NDArray[np.int64]
"""int64 (P, 2): indexes of two images, the smaller first."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings, by file name, in the form written to `audit.json`."""

    counts: dict[str, dict[str, int]]
    unreadable: list[str]
    exact_duplicates: list[list[str]]
    near_duplicates: list[list[str]]
    in_train_and_test: list[list[str]]
    conflicting_labels: list[list[str]]
    dropped: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the contents of `audit.json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary for a person, one finding a line."""
        counts = [
            f"{split}: " + ", ".join(f"{count:,} {folder}" for folder, count in counts.items())
            for split, counts in self.counts.items()
        ]
        return [
            *counts,
            f"unreadable files: {len(self.unreadable)}",
            *(f"  {line}" for line in self.unreadable),
            f"groups of identical files: {len(self.exact_duplicates)}",
            f"groups of near-duplicates: {len(self.near_duplicates)}",
            f"test images that are also in TRAIN: {len(self.in_train_and_test)}",
            f"pairs with conflicting labels: {len(self.conflicting_labels)}",
            *(f"  {' and '.join(pair)}" for pair in self.conflicting_labels),
            f"training images dropped: {len(self.dropped)}",
        ]


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings, and their consequences for training.

    `keep` is bool (N_train,): false for images that duplicate a test image or carry a conflicting label.
    `groups` is int64 (N_train,): near-duplicates share a number. `leaked` is bool (N_test,): test
    images with a duplicate in TRAIN.
    """

    report: AuditReport
    keep: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]
    leaked: npt.NDArray[np.bool_]


def audit(train: ImageSet, test: ImageSet | None = None) -> Audit:
    """Compare all images of both splits with each other.

    Args:
        train: images of TRAIN, `pixels` of any side that is a multiple of 32.
        test: images of TEST at the same side, if there are any.
    """
    sets = [train] if test is None else [train, test]
    names = [name for images in sets for name in images.names]
    labels = np.concatenate([images.labels for images in sets])
    digests = [digest for images in sets for digest in images.digests]
    exact = _exact_pairs(digests)
    near = near_pairs(np.concatenate([_grey(images.pixels) for images in sets]))
    pairs = np.unique(np.concatenate([exact, near]), axis=0)
    groups = _groups(len(names), pairs)
    in_test = np.arange(len(names)) >= len(train)

    crossing = pairs[in_test[pairs[:, 0]] != in_test[pairs[:, 1]]]
    leaked = np.zeros(len(names), np.bool_)
    leaked[crossing[:, 1]] = True
    conflicting = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    # Drop the whole group, not only the direct duplicate: its members show the same scene.
    unwanted = np.isin(groups, groups[crossing[:, 1]])
    unwanted[conflicting.ravel()] = True
    unwanted &= ~in_test

    return Audit(
        AuditReport(
            counts={name: _counts(images) for name, images in zip(("TRAIN", "TEST"), sets, strict=False)},
            unreadable=[line for images in sets for line in images.unreadable],
            exact_duplicates=_named(names, _groups(len(names), exact)),
            near_duplicates=_named(names, _groups(len(names), near)),
            in_train_and_test=_by_test_image(names, crossing),
            conflicting_labels=[[names[a], names[b]] for a, b in conflicting],
            dropped=[names[at] for at in np.flatnonzero(unwanted)],
        ),
        keep=~unwanted[: len(train)],
        groups=groups[: len(train)],
        leaked=leaked[len(train) :],
    )


def near_pairs(grey: npt.NDArray[np.float32]) -> Pairs:
    """Return the near-duplicates among 32x32 grey images, float32 (N, 32, 32)."""
    hashes = _hashes(grey)
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    near = []
    for start in range(0, len(hashes), _ROWS):
        bits = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None, start:])
        first, second = np.nonzero(bits <= MAX_BITS)
        pairs = np.stack([first, second], 1)[second > first] + start
        alike = (flat[pairs[:, 0]] * flat[pairs[:, 1]]).sum(1) >= MIN_CORRELATION
        near.append(pairs[alike])
    return np.concatenate(near).astype(np.int64)


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    count, side = pixels.shape[:2]
    small = np.empty((count, _SMALL, _SMALL), np.float32)
    block = side // _SMALL
    for at in range(count):  # one by one: the whole set as float32 would take gigabytes
        grey = pixels[at] @ _LUMA
        small[at] = grey.reshape(_SMALL, block, _SMALL, block).mean((1, 3))
    return small


def _hashes(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    at = np.arange(_SMALL)
    cosines = np.cos(np.pi * (2 * at[None] + 1) * np.arange(8)[:, None] / (2 * _SMALL)).astype(np.float32)
    frequencies = np.einsum("ui,nij,vj->nuv", cosines, grey, cosines, optimize=True).reshape(-1, 64)
    frequencies[:, 0] = 0  # the mean brightness, useless as a hash bit
    signs = frequencies > np.median(frequencies[:, 1:], axis=1, keepdims=True)
    return np.packbits(signs, axis=1).view(np.uint64)[:, 0]


def _exact_pairs(digests: list[str]) -> Pairs:
    first: dict[str, int] = {}
    pairs = [(first[digest], at) for at, digest in enumerate(digests) if first.setdefault(digest, at) != at]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _groups(count: int, pairs: Pairs) -> npt.NDArray[np.int64]:
    """Number connected images alike: union-find, each group named by its smallest index."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for a, b in pairs.tolist():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(at) for at in range(count)], np.int64)


def _named(names: list[str], groups: npt.NDArray[np.int64]) -> list[list[str]]:
    members: defaultdict[int, list[str]] = defaultdict(list)
    for name, group in zip(names, groups.tolist(), strict=True):
        members[group].append(name)
    return [group for group in members.values() if len(group) > 1]


def _by_test_image(names: list[str], crossing: Pairs) -> list[list[str]]:
    duplicates: defaultdict[str, list[str]] = defaultdict(list)
    for train, test in crossing.tolist():
        duplicates[names[test]].append(names[train])
    return [[test, *trains] for test, trains in duplicates.items()]


def _counts(images: ImageSet) -> dict[str, int]:
    return {folder: int(np.sum(images.labels == label)) for folder, label in CLASS_FOLDERS.items()}


def validation_mask(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], *, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose the validation images: `share` of each class, every group wholly on one side.

    Args:
        labels: int64 (N,), 0 or 1.
        groups: int64 (N,), as `Audit.groups`.
        share: of the images of each class, 0-1.
        seed: decides which.

    Returns:
        bool (N,), true for validation.
    """
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    members = _members(groups)
    chosen = np.zeros(len(labels), np.bool_)
    for label in (0, 1):
        wanted = max(1, round(share * float(np.sum(labels == label))))
        for group in order.tolist():
            if np.sum(chosen & (labels == label)) >= wanted:
                break
            # A group goes with the class of its first image; mixed groups were dropped by the audit.
            if labels[members[group][0]] == label:
                chosen[members[group]] = True
    return chosen


def unseen_mask(
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    sources: npt.NDArray[np.str_],
    *,
    share: float,
    seed: int,
    fold: int = 0,
) -> npt.NDArray[np.bool_]:
    """Choose whole kinds of objects: of each source and class `UNSEEN_RUNS` runs of consecutive numbers.

    Collections are gathered object by object, and numbered in that order: in
    techsash/waste-classification-data each run of some hundred numbers shows one kind of object (plates,
    then envelopes, then boxes), and the numbers of TEST follow those of TRAIN, so TEST shows other kinds.
    Images chosen at random say nothing of those. Where numbers mean nothing, this is one more random choice.

    Args:
        names: of the files, N.
        labels: int64 (N,), 0 or 1.
        groups: int64 (N,), as `Audit.groups`; a group that a run touches goes with it.
        sources: str (N,), of each image.
        share: of the images of each class, 0-1.
        seed: decides where the runs of fold 0 begin.
        fold: 0 to `FOLDS` - 1; those of two folds have no number in common up to a share of a sixth.

    Returns:
        bool (N,), true for images of those kinds.
    """
    rng = np.random.default_rng((seed, 1))
    chosen = np.zeros(len(labels), np.bool_)
    for source, label in itertools.product(np.unique(sources), (0, 1)):
        members = np.flatnonzero((sources == source) & (labels == label)).tolist()
        if not members:
            continue
        numbered = sorted(members, key=lambda at: _by_number(names[at]))
        for part in np.array_split(np.array(numbered, np.int64), min(UNSEEN_RUNS, len(numbered))):
            length = max(1, round(share * len(part)))
            places = len(part) - length + 1
            begin = (int(rng.integers(0, places)) + fold * places // FOLDS) % places
            chosen[part[begin : begin + length]] = True
    return np.isin(groups, groups[chosen])


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort `O_9.jpg` before `O_10.jpg`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _members(groups: Iterable[int]) -> dict[int, list[int]]:
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        members[int(group)].append(at)
    return members
