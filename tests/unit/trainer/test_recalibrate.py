"""A model that a place calibrated: its name, and what its manifest and card say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.model.engine import LiteRtEngine
from core.model.manifest import ModelManifest, load_manifest
from trainer.calibrate import cut_of
from trainer.dataset import ImageSet
from trainer.errors import DatasetError
from trainer.evaluate import classify
from trainer.recalibrate import write_recalibrated

MODEL = Path("worker/model")


def place(seed: int, *sources: str) -> ImageSet:
    """Noise, 120 images of each source, labelled by the shipped model's logits, every ninth wrongly."""
    rng = np.random.default_rng(seed)
    names, labels, pixels = [], [], []
    for source in sources:
        tints = rng.integers(1, 256, (120, 1, 1, 3))
        pixels.append((rng.random((120, 128, 128, 1)) * tints).astype(np.uint8))
        logits = LiteRtEngine(MODEL).logits(pixels[-1])
        labels.append((logits > np.median(logits)) ^ (np.arange(120) % 9 == 0))
        names += [f"{source}/TEST/{'OR'[said]}/{at}.png" for at, said in enumerate(labels[-1].tolist())]
    digests = tuple(f"{seed}-{at}" for at in range(len(names)))
    return ImageSet(tuple(names), np.concatenate(labels).astype(np.int64), digests, np.concatenate(pixels))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The shipped model calibrated for one place, and that one for another."""
    root = tmp_path_factory.mktemp("places")
    write_recalibrated(MODEL, place(1, "belt"), root / "first")
    write_recalibrated(root / "first", place(2, "belt", "hall"), root / "second")
    return root / "first", root / "second"


def test_each_calibration_has_an_id_of_its_own(twice: tuple[Path, Path], tmp_path: Path) -> None:
    """Results of two places can be told apart; the same images give the same id."""
    shipped, first, second = (load_manifest(folder) for folder in (MODEL, *twice))
    assert first.version.startswith(f"{shipped.version}-calibrated-")
    assert second.version.startswith(f"{shipped.version}-calibrated-")
    assert len({shipped.model_id, first.model_id, second.model_id}) == 3
    assert second.training["calibrated_on"]["version_before"] == first.version
    write_recalibrated(MODEL, place(1, "belt"), tmp_path / "again")
    assert load_manifest(tmp_path / "again").model_id == first.model_id


def test_figures_are_those_of_the_calibration(twice: tuple[Path, Path]) -> None:
    """Of both models, by source, and of each source with the others' calibration; none of the old one."""
    images, second = place(2, "belt", "hall"), load_manifest(twice[1])
    assert second.int8 is not None
    names = {"calibration", "calibration/belt", "calibration/hall"}
    assert set(second.metrics) == set(second.int8.metrics) == names
    assert set(second.training["source_left_out"]) == {"belt", "hall"}
    about = second.training["calibrated_on"]
    assert (about["images"], about["sources"]) == (240, {"belt": 120, "hall": 120})
    assert about["counts"] == dict(zip("OR", np.bincount(images.labels).tolist(), strict=True))
    for weights in ("float", "int8"):
        before = LiteRtEngine(twice[0], weights=weights)
        accuracy = np.mean((classify(before, images.pixels) >= before.manifest.threshold) == images.labels)
        assert about["metrics_before"][weights]["accuracy"]["value"] == pytest.approx(accuracy)
    said = [
        classify(engine, images.pixels) >= engine.manifest.threshold
        for engine in (LiteRtEngine(twice[1]), LiteRtEngine(twice[1], weights="int8"))
    ]
    assert second.int8.agreement == pytest.approx(np.mean(said[0] == said[1]))


def test_the_card_says_what_chose_the_calibration(twice: tuple[Path, Path]) -> None:
    """Images and figures of the place alone, those before beside those after, and why these flatter."""
    version = load_manifest(twice[0]).version
    card = (twice[1] / "MODEL_CARD.md").read_text()
    assert "chosen on 240 labelled images of a place of use" in card
    assert "`belt` 120, `hall` 120) at 20" in card
    assert "| before, 240 images | after calibration, 240 images |" in card
    assert "figures after it are flattering" in card
    assert f'"Before" is {version}' in card
    assert "- calibration/hall, 120 images:" in card
    assert "% of the calibration images alike" in card
    assert "chosen on the calibration images for at most 2.0 %" in card
    assert "kinds of objects" not in card.split("**Read by**")[1]


def test_the_card_names_all_that_the_model_learnt_from(twice: tuple[Path, Path]) -> None:
    """The teacher, as NOTICE does; and no file that a shipped folder lacks."""
    card = (twice[0] / "MODEL_CARD.md").read_text()
    assert "EfficientNet-lite2 of Google" in card
    assert "Apache License 2.0. `manifest.json` says the rest." in card
    assert "audit.json" not in card


def test_the_8_bit_model_cuts_where_the_float_model_does(twice: tuple[Path, Path]) -> None:
    """Its temperature is its own, and its threshold the float model's, in logits."""
    for folder in twice:
        manifest = load_manifest(folder)
        read = manifest.of_int8()
        assert cut_of(read.temperature, read.threshold) == pytest.approx(
            cut_of(manifest.temperature, manifest.threshold), abs=1e-6
        )
        assert read.temperature != manifest.temperature


def test_a_long_version_is_shortened(tmp_path: Path) -> None:
    """The manifest that is written can be read; a model without 8-bit weights is calibrated as well."""
    manifest = load_manifest(MODEL).model_copy(update={"version": "a" * 40, "int8": None})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.tflite").symlink_to((MODEL / "model.tflite").absolute())
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    lines = write_recalibrated(folder, place(1, "belt"), tmp_path / "out")
    assert isinstance(load_manifest(tmp_path / "out"), ModelManifest)
    assert [line.split(":")[0] for line in lines[1:3]] == ["float, before", "float, after"]
    assert not any("int8" in line for line in lines)


def test_a_place_where_8_bits_differ_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; where labels agree, nothing is said."""
    images = place(1, "belt")
    for name, least, told in (("alike", 0.0, False), ("other", 1.1, True)):
        monkeypatch.setattr("trainer.recalibrate.MIN_AGREEMENT", least)
        said = " ".join(write_recalibrated(MODEL, images, tmp_path / name))
        assert "of these 120 images otherwise than float" in said
        assert ("WASTESTREAM_ENGINE=float" in said) is told


def test_labels_that_the_model_contradicts_are_rejected(tmp_path: Path) -> None:
    """Folders that were swapped, or images without order for the model, also of one source among others."""
    images = place(1, "belt", "hall")
    hall, order = images.sources == "hall", np.argsort(LiteRtEngine(MODEL).logits(images.pixels))
    either = np.zeros(len(images), np.int64)
    either[order[::2]] = 1
    for labels, said in (
        (np.where(hall, 1 - images.labels, images.labels), "the opposite of the labels of hall"),
        (np.where(hall, either, images.labels), "does not tell the classes of hall apart"),
    ):
        with pytest.raises(DatasetError, match=said):
            write_recalibrated(MODEL, replace(images, labels=labels), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_few_images_are_rejected(tmp_path: Path) -> None:
    """The class is named, and nothing is written."""
    images = place(1, "belt")
    few = replace(images, labels=np.where(np.arange(len(images)) < 90, 0, 1))
    with pytest.raises(DatasetError, match="30 images of non_biodegradable are too few"):
        write_recalibrated(MODEL, few, tmp_path / "out")
    assert not (tmp_path / "out").exists()
