"""A configuration that cannot work is rejected with the name of its key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from trainer.config import DEFAULT_PATH, load_config
from trainer.errors import ConfigError


def test_the_default_is_complete_and_commented() -> None:
    """Every key of the default file carries a comment that says what it means."""
    load_config()
    lines = DEFAULT_PATH.read_text().splitlines()
    keys = [line for line in lines if "=" in line and not line.startswith("#")]
    assert keys
    assert [line for line in keys if "#" not in line] == []


def test_a_file_overrides_single_keys(tmp_path: Path) -> None:
    """Keys left out keep their defaults."""
    path = tmp_path / "mine.toml"
    path.write_text("[fine_tune]\nsides = [64]\n")
    config = load_config(path)
    assert config.fine_tune.sides == (64,)
    assert config.head == load_config().head


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sed = 1", "sed"),
        ("[fine_tune]\nlearning_rate = -1", "fine_tune.learning_rate"),
        ("[fine_tune]\nsides = [100]", "fine_tune.sides.0"),
        ("[augment]\narea = [1.0, 0.5]", "area must be two rising shares"),
        ("[augment]\njpeg_quality = [0, 0]", "jpeg_quality must be two rising numbers"),
        ("[data]\nunseen_fold = 5", "data.unseen_fold"),
        ("[data]\nunseen_fold = 1\nunseen_share = 0", "unseen_fold needs an unseen_share above 0"),
        ("[data]\nunseen_fold = 1\nunseen_share = 0.2", "unseen_fold needs an unseen_share above 0"),
        ("seed = ", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    """The error names the key, or says that the file is not TOML."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        load_config(tmp_path / "nowhere.toml")


def test_the_default_is_plain_toml() -> None:
    """The file that ships parses without the trainer."""
    assert tomllib.loads(DEFAULT_PATH.read_text())["seed"] >= 0


def test_an_epoch_costs_what_its_pixels_do() -> None:
    """The progress bar's estimate, relative to 128 px."""
    config = load_config()
    assert config.sides[0] == 96
    assert (config.cost(0), config.cost(len(config.sides) - 1)) == (0.5625, 1)


def test_colours_settle_in_the_last_epochs() -> None:
    """The values in [settle] replace those of [augment] there; everything else stays."""
    config = load_config()
    first, last = config.augmentation(0), config.augmentation(len(config.sides) - 1)
    assert len(config.sides) == len(config.fine_tune.sides) + config.settle.epochs
    assert (last.hue, last.saturation) == (config.settle.hue, config.settle.saturation)
    assert first == config.augment
    assert last.model_copy(update=first.model_dump(include={"hue", "saturation", "greyscale"})) == first
