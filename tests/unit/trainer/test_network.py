"""The network: right weights only, any multiple of 32, and nothing lost by folding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped] # h5py ships none
import keras
import numpy as np
import pytest

from trainer import fit
from trainer.bn_folding import folded
from trainer.errors import ConfigError, WeightsError
from trainer.network import (
    at_side,
    backbone_of,
    build_backbone,
    build_student,
    empty_backbone,
    read_classifier,
    unfreeze_after,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def network() -> Any:
    """A network with random weights, none of them at a value that would hide a mistake."""
    keras.utils.set_random_seed(2)
    network = build_student(empty_backbone(), dropout=0.1)
    rng = np.random.default_rng(1)
    for variable in network.weights:
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    network.get_layer("head").set_weights([rng.normal(0, 1, (1280, 1)), np.array([0.3])])
    return network


def test_missing_weights_are_named() -> None:
    """The error names the file."""
    with pytest.raises(WeightsError, match=r"nowhere\.weights\.h5 do not exist"):
        build_backbone("nowhere.weights.h5")


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without internet the person is told to name a file."""
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError, match=r"could not be downloaded .* give --weights the path"):
        build_backbone("imagenet")


def test_keras_brings_the_classifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`imagenet` reads the last layer of the file that Keras keeps of the whole network."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    whole = keras.applications.MobileNetV2(input_shape=(128, 128, 3), weights=None)
    (tmp_path / "models").mkdir()
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_128.h5"
    with h5py.File(tmp_path / "models" / name, "w") as file:
        save_weights_to_hdf5_group(file, whole)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    read, expected = read_classifier("imagenet"), whole.get_layer("predictions").get_weights()
    assert all(np.array_equal(mine, its) for mine, its in zip(read, expected, strict=True))


def test_weights_of_another_architecture_are_rejected(tmp_path: Path) -> None:
    """Weights of another network never load by halves."""
    path = tmp_path / "other.weights.h5"
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save_weights(path)
    with pytest.raises(WeightsError, match="do not fit MobileNetV2"):
        build_backbone(path)


def test_a_file_that_holds_no_weights_is_rejected(tmp_path: Path) -> None:
    """Any other file is rejected in the same words."""
    path = tmp_path / "text.weights.h5"
    path.write_text("not HDF5")
    with pytest.raises(WeightsError, match="do not fit MobileNetV2"):
        build_backbone(path)


def test_another_side_shares_the_weights(network: Any) -> None:
    """Training at a small side trains the network that is exported at 128."""
    small = at_side(network, 32)
    assert small.input_shape == (None, 32, 32, 3)
    assert {id(variable) for variable in small.weights} == {id(variable) for variable in network.weights}


def test_layers_before_the_named_one_stay_frozen(network: Any) -> None:
    """Freezing holds for weights and statistics; the head is always trained."""
    unfreeze_after(network, "block_15_add", batch_norm_momentum=0.9)
    trained = {layer.name for layer in backbone_of(network).layers if layer.trainable and layer.weights}
    assert "block_16_expand" in trained
    assert "block_15_project" not in trained
    assert backbone_of(network).get_layer("block_16_expand_BN").momentum == 0.9
    assert network.get_layer("head").trainable


def test_an_unknown_layer_is_rejected(network: Any) -> None:
    """A mistyped layer would silently train everything or nothing."""
    with pytest.raises(ConfigError, match="no layer 'block_99'"):
        unfreeze_after(network, "block_99", batch_norm_momentum=0.9)


def test_folding_keeps_the_function(network: Any) -> None:
    """Without batch norms, in float16's precision, the logits are the same up to rounding."""
    pixels = np.random.default_rng(3).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
    lean = folded(network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone_of(lean).layers)
    before, after = fit.logits(network, pixels), fit.logits(lean, pixels)
    np.testing.assert_allclose(after, before, rtol=0.01, atol=0.01 * np.abs(before).max())
    for variable in lean.weights:
        values = np.asarray(variable)
        np.testing.assert_array_equal(values, values.astype(np.float16))


def test_a_classifier_of_another_network_is_rejected(tmp_path: Path) -> None:
    """Files of another form, or of other features, are named."""
    path = tmp_path / "top.npz"
    path.write_text("not NumPy")
    with pytest.raises(WeightsError, match=r"top\.npz is no \.npz file"):
        read_classifier(path)
    np.savez(path, kernel=np.zeros((1280, 1000), np.float16), bias=np.zeros(10))
    with pytest.raises(WeightsError, match="does not fit"):
        read_classifier(path)
    np.savez(path, kernel=np.zeros((1280, 1000), np.float16), bias=np.zeros(1000))
    assert read_classifier(path)[0].dtype == np.float32
