"""One tiny run from files to a measured model folder, through the commands a person uses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from core.errors import ModelError
from core.images import decode
from core.jobs import JobState
from core.model.engine import LiteRtEngine
from core.model.manifest import file_entry, load_manifest
from core.redis.job_store import JobStore
from infra.cli.evaluate import evaluate
from infra.cli.train import train
from tests.support.servers import Server
from tests.support.stream import upload, wait_settled
from tests.support.training import image_set, random_weights, train_arguments
from worker.engines.tensorflow import TensorFlowEngine

# Keras 3.15 converts its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """TRAIN as a folder, TEST as a tar archive, and a second source."""
    return image_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of MobileNetV2, a classifier and a teacher beside them."""
    return random_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", autouse=True)
def few_parity_images() -> Iterator[None]:
    """Graphs are compared on 40 images: each export of a run compares them, and there are six here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.ship.PARITY_IMAGES", 40)
        yield


def with_ctrl_c(function: Callable[..., float]) -> Callable[..., float]:
    """Return the function as it is when the person presses Ctrl-C meanwhile."""

    def pressed(*arguments: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return function(*arguments)

    return pressed


@dataclass(frozen=True)
class Interrupted:
    """A run of the command: stopped, resumed, failed to export, stopped while it exported, and resumed.

    `failed` and `stopped` are the third and the fourth; `left` is what lay in the folder after each.
    `begun` is the folder of the first, stopped in epoch 1. `seconds`: of all runs, and of the last.
    """

    model: Path
    begun: Path
    failed: Result
    stopped: Result
    left: list[list[str]]
    seconds: tuple[float, float]


@pytest.fixture(scope="module")
def interrupted(data: list[Path], weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """A model folder that the command wrote after all this: each step of training runs once."""
    from trainer import fit

    root = tmp_path_factory.mktemp("models")
    first = time.monotonic()
    arguments = train_arguments(data, weights, root, "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.fit._learning_rate", with_ctrl_c(fit._learning_rate))
        stopped = CliRunner().invoke(train, arguments)
    assert stopped.exit_code == 1, stopped.output
    assert "--resume continues" in stopped.output
    assert not (root / "model").exists()
    begun = shutil.copytree(root, tmp_path_factory.mktemp("begun"), dirs_exist_ok=True)
    results: list[Result] = []
    left: list[list[str]] = []
    for name, value in (
        ("trainer.export.MAX_DIFFERENCE", -1.0),
        ("trainer.ship.measure_held_out", with_ctrl_c(lambda *_: 0.0)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(name, value)
            results.append(CliRunner().invoke(train, [*arguments, "--resume"]))
        left.append(_names(root))
    assert "resumed in epoch 1, step 2" in results[0].output
    assert "teacher:" not in results[0].output  # its logits were kept
    last = time.monotonic()
    result = CliRunner().invoke(train, [*arguments, "--resume"])
    assert result.exit_code == 0, result.output
    seconds = time.monotonic() - first, time.monotonic() - last
    return Interrupted(root / "model", begun, results[0], results[1], left, seconds)


@pytest.fixture(scope="module")
def trained(interrupted: Interrupted) -> Path:
    """A model folder that the command wrote."""
    return interrupted.model


def _evaluate(model: Path, data: list[Path], folder: Path, *options: str) -> Result:
    """Run the command on the test images; the report goes to a folder."""
    fixed = ["--model", str(model), "--data", str(data[1]), "--report", str(folder / "report.html")]
    return CliRunner().invoke(evaluate, [*fixed, *options])


def _damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_the_model_and_nothing_else(trained: Path) -> None:
    """The folder holds graphs, manifest, card and audit; checkpoint and temporary files are gone."""
    graphs = ["model.int8.tflite", "model.keras", "model.tflite", "saved_model"]
    assert _names(trained) == ["MODEL_CARD.md", "audit.json", "manifest.json", *graphs]
    assert _names(trained.parent) == ["model", "tiny.toml"]


@pytest.fixture(scope="module")
def again(data: list[Path], weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the same run without a break, whose 8-bit model may not differ at all."""
    root = tmp_path_factory.mktemp("again")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.compare.MIN_AGREEMENT", 1.1)
        result = CliRunner().invoke(train, train_arguments(data, weights, root, "again"))
    assert result.exit_code == 0, result.output
    assert "the 8-bit model is left out" in result.output
    return root / "again"


def test_the_same_run_without_a_break_gives_the_same_model(trained: Path, again: Path) -> None:
    """The seed makes a run repeatable, and Ctrl-C with `--resume` does not change the model."""
    first, second = load_manifest(trained), load_manifest(again)
    assert all(getattr(second, name) == getattr(first, name) for name in ("temperature", "threshold", "data"))
    assert (second.review_band, second.training["history"]) == (first.review_band, first.training["history"])
    assert second.files["model.tflite"] == first.files["model.tflite"]


def test_an_8_bit_model_that_differs_is_left_out(again: Path) -> None:
    """The float model is shipped alone, and a worker asked for the other is told."""
    assert not (again / "model.int8.tflite").exists()
    with pytest.raises(ModelError, match=r"has no model\.int8\.tflite"):
        LiteRtEngine(again, weights="int8")


def test_the_manifest_says_where_training_began(trained: Path, weights: Path) -> None:
    """The first weights and the device; pixels are scaled inside the graph."""
    manifest = load_manifest(trained)
    teacher = weights.with_name("lite.pth")
    files = {"": weights, "classifier_": weights.with_name("top.npz"), "teacher_": teacher}
    assert manifest.training["weights"] == {
        **{f"{role}name": file.name for role, file in files.items()},
        **{f"{role}sha256": file_entry(file).sha256 for role, file in files.items()},
    }
    assert manifest.training["blend"]["prior"] >= 0
    assert "CPU cores" in manifest.training["device"]
    assert manifest.training["parity"]["images"] == 40
    assert "inside the graph" in manifest.input.scaling
    card = (trained / "MODEL_CARD.md").read_text()
    assert weights.name in card
    assert f"a teacher says of each image: {teacher.name}" in card


def test_the_manifest_says_how_long_the_command_took(interrupted: Interrupted, again: Path) -> None:
    """All of it, with the runs that a resumed one continues, up to their checkpoints."""
    training, whole = load_manifest(interrupted.model).training, load_manifest(again).training
    assert interrupted.seconds[1] < training["total_seconds"] < interrupted.seconds[0]
    assert (training["resumed"], whole["resumed"]) == (True, False)
    assert whole["total_seconds"] >= whole["fine_tune_seconds"] + whole["quantize_seconds"]


def test_a_run_that_ends_while_exporting_leaves_no_half_model(interrupted: Interrupted) -> None:
    """Because graphs differ, or by Ctrl-C: one sentence, and the checkpoint of the trained network stays."""
    assert (interrupted.failed.exit_code, interrupted.stopped.exit_code) == (1, 130)
    assert "The exported model differs from the trained one" in interrupted.failed.output
    assert "--resume continues" in interrupted.stopped.output
    assert interrupted.left == [["model.training", "tiny.toml"]] * 2


def test_a_loss_that_is_no_number_ends_the_run(
    interrupted: Interrupted, data: list[Path], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to change, and that the checkpoint cannot go on with that."""
    monkeypatch.setattr("trainer.fit._learning_rate", lambda *_: float("nan"))
    arguments = train_arguments(data, weights, interrupted.begun, "model")
    result = CliRunner().invoke(train, [*arguments, "--resume"])
    assert result.exit_code == 1
    assert "lower fine_tune.learning_rate, delete" in result.output
    assert not (interrupted.begun / "model").exists()


def test_the_audit_names_what_is_wrong(trained: Path) -> None:
    """The broken file and the test image that is also in TRAIN are named; the latter is not trained on."""
    report = json.loads((trained / "audit.json").read_text())
    assert [line.split(":")[0] for line in report["unreadable"]] == ["set/TRAIN/O/O_broken.png"]
    assert report["in_train_and_test"] == [["test/TEST/O/O_leak.png", "set/TRAIN/O/O_0.png"]]
    assert report["dropped"] == ["set/TRAIN/O/O_0.png"]


def test_the_worker_engine_classifies_with_it(trained: Path, data: list[Path]) -> None:
    """The exported graph takes decoded uint8 pixels in any number and tells the two classes apart."""
    engine = LiteRtEngine(trained)
    names = ["O/O_1.png"] * 5 + ["R/R_1.png"] * 6
    pixels = np.stack([decode((data[0] / "TRAIN" / name).read_bytes()) for name in names])
    logits = engine.logits(pixels)
    assert logits.shape == (11,)
    assert logits[:5].max() < logits[5:].min()
    np.testing.assert_allclose(logits[:5], logits[0], atol=1e-3)


def test_the_manifest_lists_every_file(trained: Path) -> None:
    """Each file of the graphs stands in the manifest with its digest, those of the SavedModel too."""
    listed = load_manifest(trained).files
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert set(listed) == files - {"manifest.json", "MODEL_CARD.md", "audit.json"}
    assert listed == {name: file_entry(trained / name) for name in listed}


def test_the_card_shows_the_figures_of_the_manifest(trained: Path) -> None:
    """Every set has its column and every figure its row, named for people."""
    manifest, card = load_manifest(trained), (trained / "MODEL_CARD.md").read_text()
    titles = {
        "test_without_leaked": "test without leaked",
        "unseen": "kinds of objects not trained on",
        "unseen_turned": "the same, on their sides and upside down",
    }
    for name, values in ((name, each) for name, each in manifest.metrics.items() if "/" not in name):
        assert f"| {titles.get(name, name)}, {values['images'].value:,.0f} images |" in card
        assert f" {100 * values['roc_auc'].value:.1f}" in card
    assert "| recall, non-biodegradable |" in card
    assert manifest.version in card


def test_each_source_is_told_apart(trained: Path) -> None:
    """Its images, licence and figures, and how a calibration without it does on it, if there can be one."""
    manifest, card = load_manifest(trained), (trained / "MODEL_CARD.md").read_text()
    assert manifest.data["sources"]["trashnet"] < manifest.data["sources"]["set"]
    assert set(manifest.training["source_left_out"]) == {"trashnet"}
    assert f"`trashnet`: {manifest.data['sources']['trashnet']} images, TrashNet" in card
    for name in (name for name in manifest.metrics if "/" in name):
        assert f"- {name}, {manifest.metrics[name]['images'].value:.0f} images: " in card


def test_tensorflow_says_what_litert_says(trained: Path, data: list[Path]) -> None:
    """The engine for GPUs gives the same logits for any number of images, none included."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (11, 128, 128, 3), dtype=np.uint8)
    served = TensorFlowEngine(trained)
    np.testing.assert_allclose(served.logits(pixels), LiteRtEngine(trained).logits(pixels), atol=5e-3)
    assert served.logits(pixels[:0]).shape == (0,)


def test_an_altered_saved_model_is_rejected(trained: Path, tmp_path: Path) -> None:
    """One changed byte in the weights of the SavedModel is found before it is loaded."""
    shutil.copytree(trained, tmp_path / "model")
    _damage(next((tmp_path / "model").rglob("variables.data*")))
    with pytest.raises(ModelError, match="is not the file that the manifest describes"):
        TensorFlowEngine(tmp_path / "model")


@pytest.mark.parametrize("engine", ["float", "int8", "tensorflow"])
def test_a_worker_serves_it(
    engine: str,
    trained: Path,
    data: list[Path],
    start_worker: Callable[..., Server],
    client: FlaskClient,
    jobs: JobStore,
) -> None:
    """A worker with the trained folder answers uploads with its classes, under its id, on either engine."""
    start_worker(WASTESTREAM_MODEL_DIR=str(trained), WASTESTREAM_ENGINE=engine)
    for name, label in (("O/O_1.png", "biodegradable"), ("R/R_1.png", "non_biodegradable")):
        job_id = upload(client, (data[0] / "TRAIN" / name).read_bytes(), kind="image/png")
        assert wait_settled(jobs, [job_id]) == {JobState.CLASSIFIED: 1}
        prediction = client.get(f"/v1/jobs/{job_id}").get_json()["prediction"]
        manifest = load_manifest(trained)
        runs = manifest.of_int8() if engine == "int8" else manifest
        assert (prediction["label"], prediction["model"]) == (label, runs.model_id)


def test_evaluate_measures_what_the_manifest_says(trained: Path, data: list[Path], tmp_path: Path) -> None:
    """The figures for the test images in the manifest are those the `evaluate` command prints."""
    result = _evaluate(trained, data, tmp_path, "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    written = load_manifest(trained).model_dump(mode="json")["metrics"]
    held_out = ("validation", "unseen", "unseen_turned")
    of_sources = {f"{name}/{source}" for name in held_out for source in ("set", "trashnet")}
    assert set(written) == {"test", "test_without_leaked", *held_out} | of_sources
    assert measured == {name: written[name] for name in ("test", "test_without_leaked")}
    assert measured["test"]["images"]["value"] == measured["test_without_leaked"]["images"]["value"] + 1


def test_the_report_stands_alone(trained: Path, data: list[Path], tmp_path: Path) -> None:
    """The HTML file shows the figures, of sources and kinds too, and loads nothing; another replaces it."""
    other = shutil.copy(data[1], tmp_path / "other.tar")
    for sources in ([], ["--data", str(other)]):
        result = _evaluate(trained, data, tmp_path, *sources)
        assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.tar", "report.html"]
    assert ">other, 25</th>" in page
    assert re.search(r">other, O: [^<]+</th><td>1[23]</td>", page)
    assert load_manifest(trained).model_id in page
    assert f"{100 * load_manifest(trained).metrics['test']['accuracy'].value:.1f}" in page
    assert not re.search(r"<script|<link|(src|href)=[\"'](?!data:)|url\(|@import", page)


def test_a_report_that_cannot_be_written_is_said_first(
    trained: Path, data: list[Path], tmp_path: Path
) -> None:
    """A folder that does not exist is named before any image is read."""
    result = _evaluate(trained, data, tmp_path / "nowhere")
    assert result.exit_code == 1
    assert f"The report cannot be written to {tmp_path}/nowhere/report.html" in result.output
    assert "classify" not in result.output


def test_evaluate_rejects_an_altered_model(trained: Path, data: list[Path], tmp_path: Path) -> None:
    """A file that is not the one in the manifest is named, and no report is written."""
    shutil.copytree(trained, tmp_path / "model")
    _damage(tmp_path / "model" / "model.tflite")
    result = _evaluate(tmp_path / "model", data, tmp_path)
    assert result.exit_code == 1
    assert "is not the file that the manifest describes" in result.output
    assert not (tmp_path / "report.html").exists()


def test_the_8_bit_model_says_what_the_float_model_says(trained: Path, data: list[Path]) -> None:
    """It has its own section in the manifest and its own id, and labels the test images alike."""
    both = LiteRtEngine(trained), LiteRtEngine(trained, weights="int8")
    assert both[0].manifest.model_id != both[1].manifest.model_id
    assert both[1].manifest.metrics.keys() == both[0].manifest.metrics.keys()
    pixels = np.stack([decode(path.read_bytes()) for path in sorted(data[0].rglob("?_1?.png"))])
    said = [[it.manifest.predict(float(logit)).label for logit in it.logits(pixels)] for it in both]
    assert said[0] == said[1]


def test_evaluate_says_each_kind(trained: Path, data: list[Path], tmp_path: Path) -> None:
    """Also of the 8-bit model, for people and as JSON."""
    evaluate_kinds = partial(_evaluate, trained, data, tmp_path, "--by-kind", "--engine", "int8")
    result = evaluate_kinds()
    assert result.exit_code == 0, result.output
    assert "test, R: R 0-499" in result.output
    result = evaluate_kinds("--json")
    assert sum(kind["images"] for kind in json.loads(result.stdout)["by_kind"]) == 25


def test_a_place_calibrates_the_model_for_itself(
    trained: Path, data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--calibrate` writes a model that a worker takes, with the same weights; few images are rejected."""
    calibrate = partial(_evaluate, trained, data, tmp_path, "--calibrate", str(tmp_path / "mine"))
    result = calibrate()
    assert result.exit_code == 1
    assert "are too few for a calibration; label at least 50" in result.output
    assert not (tmp_path / "mine").exists()
    monkeypatch.setattr("trainer.recalibrate.MIN_IMAGES", 5)
    result = calibrate()
    assert result.exit_code == 0, result.output
    mine, before = load_manifest(tmp_path / "mine"), load_manifest(trained)
    assert mine.files == before.files
    assert LiteRtEngine(tmp_path / "mine", weights="int8").manifest.version == mine.version
    # As `evaluate` measured it:
    was = mine.training["calibrated_on"]["metrics_before"]["float"]
    assert was == before.model_dump(mode="json")["metrics"]["test"]
    assert f"calibrated model {mine.version} in" in result.stderr
    result = calibrate()
    assert result.exit_code == 1
    assert "mine exists and is not empty" in result.output
