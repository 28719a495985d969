"""Scrapes of `/metrics`, as Prometheus reads them."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families  # it comes with Flower


class Scrape:
    """One response of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {
            f"{family.name}{'_total' * (family.type == 'counter')}": family
            for family in text_string_to_metric_families(text)
        }

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str] = MappingProxyType({})) -> Scrape:
        """Read the metrics of an API."""
        with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=headers)) as response:
            return cls(response.read().decode())

    @property
    def names(self) -> set[str]:
        """Names of all samples that a query can use."""
        return {sample.name for family in self.families.values() for sample in family.samples}

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of this name that have these labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
