"""Prometheus' text format: metrics as text, and the sums of `core.metrics` as its samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from core.metrics import CATALOGUE, MICRO, SUM, Histogram, Key, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}

Sample = tuple[str, float]
"""Labels, as `labels` writes them, and the value."""


def labels(**pairs: str) -> str:
    """Return labels as text, with their braces; nothing without any."""
    return _labels(pairs.items())


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    """Return the lines of one metric."""
    lines = [f"{name}{labelled} {value!r}" for labelled, value in samples]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines]


def counted(sums: Mapping[Key, int]) -> Iterator[str]:
    """Yield the lines of all metrics that processes count; names that this version lacks are left out."""
    by_metric: defaultdict[str, dict[Key, int]] = defaultdict(dict)
    for (name, *rest), value in sums.items():
        by_metric[name][tuple(rest)] = value
    for name, metric in CATALOGUE.items():
        yield f"# HELP {name} {metric.text}"
        yield f"# TYPE {name} {metric.kind}"
        values = by_metric[name]
        yield from _histogram(metric, values) if isinstance(metric, Histogram) else _counter(metric, values)


def _counter(metric: Metric, values: Mapping[Key, int]) -> Iterator[str]:
    for key, value in sorted((dict.fromkeys(metric.values, 0) | dict(values)).items()):
        yield f"{metric.name}{_labels(zip(metric.labels, key, strict=True))} {value}"


def _histogram(metric: Histogram, values: Mapping[Key, int]) -> Iterator[str]:
    for key in sorted({*metric.values, *(key[:-1] for key in values)}):
        pairs, total = list(zip(metric.labels, key, strict=True)), 0
        for number, bound in enumerate([*metric.buckets, "+Inf"]):
            total += values.get((*key, str(number)), 0)
            yield f"{metric.name}_bucket{_labels([*pairs, ('le', str(bound))])} {total}"
        yield f"{metric.name}_sum{_labels(pairs)} {values.get((*key, SUM), 0) / MICRO!r}"
        yield f"{metric.name}_count{_labels(pairs)} {total}"


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""
