"""The audit finds duplicates, leaks and contradictions, and keeps groups on one side of the split."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainer.audit import FOLDS, UNSEEN_RUNS, audit, unseen_mask, validation_mask
from trainer.dataset import ImageSet

Picture = npt.NDArray[np.uint8]


def picture(seed: int) -> Picture:
    """A smooth random image, uint8 (64, 64, 3); different seeds look unlike each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))


def brighter(image: Picture) -> Picture:
    """The same scene stored once more: every value a little different."""
    return np.clip(image.astype(np.int64) + 3, 0, 255).astype(np.uint8)


def image_set(split: str, *items: tuple[int, Picture]) -> ImageSet:
    """Images with labels, named SPLIT/CLASS/INDEX."""
    labels = [label for label, _ in items]
    return ImageSet(
        names=tuple(f"{split}/{'OR'[label]}/{at}" for at, label in enumerate(labels)),
        labels=np.array(labels, np.int64),
        digests=tuple(hashlib.sha256(pixels.tobytes()).hexdigest() for _, pixels in items),
        pixels=np.stack([pixels for _, pixels in items]),
    )


def test_unlike_images_are_left_alone() -> None:
    """Random scenes give no finding, and all of them are kept."""
    result = audit(image_set("TRAIN", *((at % 2, picture(at)) for at in range(40))))
    assert result.keep.all()
    assert result.report.near_duplicates == []
    assert result.report.exact_duplicates == []
    assert result.report.counts == {"TRAIN": {"O": 20, "R": 20}}


def test_identical_files_are_exact_duplicates() -> None:
    """Equal digests make a group, however many files share them."""
    same = picture(1)
    result = audit(image_set("TRAIN", (0, same), (1, picture(2)), (0, same), (0, same)))
    assert result.report.exact_duplicates == [["TRAIN/O/0", "TRAIN/O/2", "TRAIN/O/3"]]
    assert result.groups.tolist() == [0, 1, 0, 0]
    assert result.keep.all()


def test_the_same_scene_stored_again_is_a_near_duplicate() -> None:
    """Files that differ in every byte but look the same share a group."""
    result = audit(image_set("TRAIN", (0, picture(1)), (1, picture(2)), (0, brighter(picture(1)))))
    assert result.report.exact_duplicates == []
    assert result.report.near_duplicates == [["TRAIN/O/0", "TRAIN/O/2"]]
    assert result.groups.tolist() == [0, 1, 0]


def test_training_images_that_are_also_in_test_are_dropped() -> None:
    """The exact and the near-duplicate of a test image go; the test image is marked as leaked."""
    train = image_set("TRAIN", (0, picture(1)), (1, picture(2)), (1, brighter(picture(3))))
    test = image_set("TEST", (0, picture(9)), (0, picture(1)), (1, picture(3)))
    result = audit(train, test)
    assert result.keep.tolist() == [False, True, False]
    assert result.leaked.tolist() == [False, True, True]
    assert result.report.in_train_and_test == [["TEST/O/1", "TRAIN/O/0"], ["TEST/R/2", "TRAIN/R/2"]]
    assert result.report.dropped == ["TRAIN/O/0", "TRAIN/R/2"]


def test_conflicting_labels_are_dropped_and_named() -> None:
    """Two copies of one scene in both classes teach nothing; neither is kept."""
    result = audit(image_set("TRAIN", (0, picture(1)), (1, brighter(picture(1))), (1, picture(2))))
    assert result.report.conflicting_labels == [["TRAIN/O/0", "TRAIN/R/1"]]
    assert result.keep.tolist() == [False, False, True]


def test_the_summary_names_files() -> None:
    """The report before training gives number and place of the faults."""
    train = image_set("TRAIN", (0, picture(1)), (1, picture(1)))
    train = ImageSet(train.names, train.labels, train.digests, train.pixels, ("TRAIN/O/x.jpg: cut off",))
    text = "\n".join(audit(train).report.lines())
    assert "TRAIN/O/x.jpg: cut off" in text
    assert "TRAIN/O/0 and TRAIN/R/1" in text


@given(st.data())
def test_a_group_is_never_split(data: st.DataObject) -> None:
    """For any groups and any share, all images of a group are on one side."""
    count = data.draw(st.integers(8, 60))
    groups = np.array(data.draw(st.lists(st.integers(0, 15), min_size=count, max_size=count)), np.int64)
    labels = groups % 2
    share = data.draw(st.floats(0.05, 0.45))
    chosen = validation_mask(labels, groups, share=share, seed=data.draw(st.integers(0, 99)))
    for group in np.unique(groups):
        assert len(set(chosen[groups == group].tolist())) == 1


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_each_class_gives_its_share(share: float) -> None:
    """Without duplicates the validation part has the wanted share of each class."""
    labels = np.array([0] * 300 + [1] * 100, np.int64)
    chosen = validation_mask(labels, np.arange(400), share=share, seed=4)
    assert chosen[:300].sum() == round(300 * share)
    assert chosen[300:].sum() == round(100 * share)


@pytest.mark.parametrize("seed", range(5))
def test_unseen_kinds_are_runs_of_numbers(seed: int) -> None:
    """In each class the chosen files follow one another by number, 9 before 10, in few runs."""
    order = np.random.default_rng(seed).permutation(400)
    labels = (order >= 250).astype(np.int64)
    names = [f"TRAIN/{'OR'[label]}/{'OR'[label]}_{at}.jpg" for at, label in zip(order, labels, strict=True)]
    sources = np.full(400, "set")
    chosen = unseen_mask(names, labels, np.arange(400), sources, share=0.1, seed=seed)
    for label, count in ((0, 250), (1, 150)):
        numbers = np.sort(order[chosen & (labels == label)])
        assert len(numbers) == pytest.approx(0.1 * count, abs=UNSEEN_RUNS)
        assert np.sum(np.diff(numbers) > 1) < UNSEEN_RUNS


@pytest.mark.parametrize("share", [0.06, 0.16])
def test_folds_of_unseen_kinds_have_none_in_common(share: float) -> None:
    """Each fold is as large as the others, so their mean says how a recipe does on kinds in general."""
    names = [f"{at}.jpg" for at in range(1000)]
    labels, groups = np.repeat([0, 1], 500), np.arange(1000)
    sources = np.tile(["one", "two"], 500)
    folds = [
        unseen_mask(names, labels, groups, sources, share=share, seed=1, fold=fold) for fold in range(FOLDS)
    ]
    assert np.sum(folds, axis=0).max() == 1
    assert len({int(fold.sum()) for fold in folds}) == 1


def test_a_group_goes_with_the_unseen_kind_that_it_touches() -> None:
    """A near-duplicate elsewhere in the collection would show the kind to the training."""
    names = [f"TRAIN/O/{at}.jpg" for at in range(100)] + [f"TRAIN/R/{at}.jpg" for at in range(100)]
    labels = np.repeat([0, 1], 100)
    groups = np.arange(200)
    sources = np.full(200, "set")
    alone = np.flatnonzero(unseen_mask(names, labels, groups, sources, share=0.05, seed=1))
    outside = next(at for at in range(100) if at not in alone)
    groups[outside] = groups[alone[0]]
    assert unseen_mask(names, labels, groups, sources, share=0.05, seed=1)[outside]


def test_each_source_gives_unseen_kinds() -> None:
    """Also one that holds a single class, such as a collection of packaging."""
    names = [f"{at}.jpg" for at in range(300)]
    labels = np.repeat([0, 1, 1], 100)
    sources = np.repeat(["food", "food", "boxes"], 100)
    labels[:50] = 1
    chosen = unseen_mask(names, labels, np.arange(300), sources, share=0.1, seed=3)
    assert [int(chosen[sources == source].sum()) for source in ("food", "boxes")] == [20, 10]
