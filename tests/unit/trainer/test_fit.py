"""The loop around the training steps: which weights it keeps, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer import fit
from trainer.checkpoint import Position
from trainer.config import TrainConfig, load_config
from trainer.dataset import ImageSet
from trainer.errors import DivergedError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def one_weight() -> Any:
    """A network of a single number."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((1, 1), np.float32)])
    return model


def number(model: Any) -> float:
    """The number that `one_weight` consists of."""
    return float(model.get_weights()[0][0, 0])


def train_through(
    losses: list[float], patience: int, monkeypatch: pytest.MonkeyPatch, *, settle: int = 0
) -> tuple[fit.TrainingState, Position]:
    """Run the loop over as many epochs; the average's number is the epoch, its loss as given."""
    run = fit.TrainingState(one_weight(), one_weight(), one_weight().weights, keras.optimizers.SGD())
    position = Position()

    def step(run: fit.TrainingState, *_: object, **__: object) -> Callable[..., Any]:
        def once(*_: object) -> Any:
            run.average.set_weights([np.full((1, 1), position.epoch + 1, np.float32)])
            return tf.constant(0.0)

        return once

    def validate(network: Any, _: object) -> dict[str, float]:
        return {"held_out_loss": losses[round(number(network)) - 1]}

    monkeypatch.setattr(fit, "_train_step", step)
    monkeypatch.setattr(fit, "validate", validate)
    settings = load_config().model_dump(mode="json")
    settings["fine_tune"] |= {"sides": [32] * (len(losses) - settle), "patience": patience, "batch": 4}
    settings["settle"] |= {"epochs": settle}
    images = ImageSet(("a",) * 4, np.zeros(4, np.int64), ("b",) * 4, np.zeros((4, 32, 32, 3), np.uint8))
    fit.fine_tune(
        run,
        position,
        images,
        fit.Lesson(np.ones(4, np.float32)),
        {"validation": images},
        TrainConfig.model_validate(settings),
        on_step=lambda *_: None,
        on_epoch=lambda _: None,
        save=lambda: None,
    )
    return run, position


def test_the_best_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that are exported are those of the lowest loss on held-out images, not the last ones."""
    run, position = train_through([0.8, 0.4, 0.5], 3, monkeypatch)
    assert (number(run.average), position.epoch) == (2, 3)


def test_training_stops_when_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs without a better one end it, however many were planned."""
    run, position = train_through([0.8, 0.4, 0.5, 0.45, 0.1, 0.1], 2, monkeypatch)
    assert (number(run.average), len(position.history)) == (2, 4)


def test_colours_settle_though_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epochs are those of the configuration, and take part in the choice of the best."""
    run, position = train_through([0.8, 0.4, 0.5, 0.45, 0.1, 0.43, 0.35], 2, monkeypatch, settle=2)
    assert [entry["epoch"] for entry in position.history] == [1, 2, 3, 4, 6, 7]
    assert number(run.average) == 7


def test_a_network_that_is_no_number_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if only the last step broke it: it must not be taken for the best."""
    with pytest.raises(DivergedError, match="held-out images is nan in epoch 2: lower"):
        train_through([0.5, math.nan], 4, monkeypatch)


def test_weights_decide_whose_labels_count() -> None:
    """The head follows the heavier one of two groups with opposite labels."""
    inputs = np.ones((400, 2), np.float32)
    labels = np.repeat([0, 1], 200)
    head = load_config().head.model_copy(update={"batch": 100, "learning_rate": 0.05})
    for heavy in (0, 1):
        weights = np.where(labels == heavy, 1.8, 0.2).astype(np.float32)
        kernel, bias = fit.fit_head(inputs, labels, weights, head, seed=1)
        assert (inputs[0] @ kernel + bias > 0) == bool(heavy)


def test_linear_regression_finds_a_line() -> None:
    """The prior's head begins where it predicts the teacher best from unchanged features."""
    inputs = np.random.default_rng(1).normal(0, 1, (2000, 3)).astype(np.float32)
    kernel, bias = fit.fit_linear(inputs, inputs @ np.array([2, -1, 0], np.float32) + 3)
    np.testing.assert_allclose(kernel, [2, -1, 0], rtol=0.15, atol=0.1)
    assert bias == pytest.approx(3, abs=0.1)


def test_the_teacher_pulls_on_both_outputs() -> None:
    """The loss grows with the distance of prior and classes from the teacher's."""
    config = load_config().knowledge
    classes = np.zeros((2, 1000), np.float32)
    classes[:, 7] = 20

    def loss(prior: float, sure: float) -> float:
        said = np.zeros((2, 1000), np.float32)
        said[:, 7] = sure
        loss = fit._knowledge_loss(
            config, np.full(2, prior, np.float32), said, np.full(2, 3, np.float32), classes
        )
        return float(loss)

    assert loss(3, 20) < loss(0, 20) < loss(0, 0)
    assert loss(3, 20) == pytest.approx(0, abs=1e-3)
