"""The training configuration: a commented TOML file, validated before training starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.audit import FOLDS
from trainer.errors import ConfigError

DEFAULT_PATH: Final = Path(__file__).with_name("default.toml")
"""The configuration of the shipped model; its comments explain every field."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability or a part of a whole."""

_FULL_SIDE: Final = 128  # px, the model's input

SmallSide = Annotated[int, Field(ge=32, le=512, multiple_of=32)]
"""A side in pixels that the network halves five times without a remainder."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Preparation of the images before training; explained in `default.toml`."""

    cache_side: int = Field(ge=32, le=512)
    validation_share: float = Field(gt=0, lt=0.5)
    unseen_share: float = Field(ge=0, lt=0.5)
    unseen_fold: int = Field(ge=0, lt=FOLDS)
    decode_processes: int = Field(ge=1, le=256)

    @model_validator(mode="after")
    def _folds(self) -> DataConfig:
        if self.unseen_fold and not 0 < self.unseen_share <= 1 / (FOLDS + 1):
            raise ValueError(f"unseen_fold needs an unseen_share above 0 and up to 1/{FOLDS + 1}")
        return self


class HeadConfig(_Section):
    """The linear head on frozen features; explained in `default.toml`."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class KnowledgeConfig(_Section):
    """Distillation from a teacher, beside the labels; explained in `default.toml`."""

    side: SmallSide
    classes: float = Field(ge=0)
    prior: float = Field(ge=0)


class FineTuneConfig(_Section):
    """Training through the network; no `sides` means the head alone. Explained in `default.toml`."""

    sides: tuple[SmallSide, ...]
    patience: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    dropout: float = Field(ge=0, lt=1)
    batch_norm_momentum: float = Field(gt=0, lt=1)
    ema_decay: float = Field(ge=0, lt=1)
    trainable_after: str


class AugmentConfig(_Section):
    """Random changes of training images; explained in `default.toml`."""

    area: tuple[float, float]
    aspect: float = Field(ge=1)
    rotation: float = Field(ge=0, le=180)
    vertical_flip: Share
    brightness: Share
    contrast: Share
    saturation: Share
    hue: float = Field(ge=0, le=180)
    greyscale: Share
    uneven_light: Share
    blur: Share
    sharpen: Share
    noise: float = Field(ge=0, le=128)
    jpeg: Share
    jpeg_quality: tuple[int, int]
    erase: Share

    @model_validator(mode="after")
    def _ranges(self) -> AugmentConfig:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError("area must be two rising shares above 0, such as [0.5, 1.1]")
        if not 1 <= self.jpeg_quality[0] < self.jpeg_quality[1] <= 100:  # noqa: PLR2004 - libjpeg's scale ends
            raise ValueError("jpeg_quality must be two rising numbers from 1 to 100, such as [30, 95]")
        return self


class SettleConfig(_Section):
    """The last epochs, at 128 px with colours closer to those of the images; explained in `default.toml`."""

    epochs: int = Field(ge=0)
    learning_rate: float = Field(gt=0)
    hue: float = Field(ge=0, le=180)
    saturation: Share
    greyscale: Share


class QuantizeConfig(_Section):
    """The quantisation-aware finish of the 8-bit model; glossed in `default.toml`."""

    steps: int = Field(ge=0)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)


class CalibrateConfig(_Section):
    """Calibration of the output; explained in `default.toml`."""

    review_error: float = Field(gt=0, lt=0.5)


class TrainConfig(_Section):
    """A whole training run. `default.toml` holds the values and explains every field."""

    seed: int = Field(ge=0, lt=2**31)
    data: DataConfig
    head: HeadConfig
    knowledge: KnowledgeConfig
    fine_tune: FineTuneConfig
    augment: AugmentConfig
    settle: SettleConfig
    quantize: QuantizeConfig
    calibrate: CalibrateConfig

    @property
    def sides(self) -> tuple[int, ...]:
        """Side in pixels for each epoch of fine-tuning, settling ones included; () without fine-tuning."""
        first = self.fine_tune.sides
        return (*first, *[_FULL_SIDE] * self.settle.epochs) if first else ()

    def settles(self, epoch: int) -> bool:
        """Return whether colours settle in an epoch, counted from 0: in the last ones."""
        return epoch >= len(self.fine_tune.sides)

    def cost(self, epoch: int) -> float:
        """Return the cost of an image in an epoch, relative to an image at 128 px."""
        return (self.sides[epoch] / _FULL_SIDE) ** 2

    def augmentation(self, epoch: int) -> AugmentConfig:
        """Return how images are changed in an epoch."""
        if not self.settles(epoch):
            return self.augment
        return self.augment.model_copy(
            update=self.settle.model_dump(include={"hue", "saturation", "greyscale"})
        )


def load_config(path: Path | None = None) -> TrainConfig:
    """Read the configuration at `path` over the defaults; without a path, the defaults.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or a key is unknown or has a wrong value.
    """
    values = _read(DEFAULT_PATH)
    if path is not None:
        values = _merge(values, _read(path))
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path or DEFAULT_PATH.name}: {where}: {first['msg']} (found {first['input']!r})."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {path} is not TOML: {error}.") from error


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged
