"""The Helm chart, rendered with values of several installations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from helm_python.chart import Chart

from tests.support.servers import REPOSITORY

CHART = REPOSITORY / "infra" / "helm" / "wastestream"
FOUR: dict[str, Any] = {
    "image": {"registry": "registry.example.com/belts"},
    "secret": "wastestream",
    "adminKeySha256": "ab" * 32,
    "s3": {"endpoint": "https://s3.example.com"},
}
"""The values that an installation needs."""

ALL: dict[str, Any] = {
    **FOUR,
    "image": {"registry": "registry.example.com/belts", "tag": "1", "pullSecrets": ["registry"]},
    "redis": {"sentinels": "a:26379,b:26379", "replicas": 1, "ports": [6379, 26379]},
    "s3": {
        "endpoint": "https://s3.example.com:9000",
        "credentials": "aws",
        "addressing": "virtual",
        "prefix": "sites/north",
        "publicEndpoint": "https://s3.example.com",
    },
    "authorities": {"configMap": "authorities", "s3": True},
    "clientCertificate": {"secret": "certificate"},
    "mqtt": {"enabled": True},
    "settings": {"MAX_QUEUED": "500000", "OTLP_ENDPOINT": "http://collector.watch:4318"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/belts"}},
    "api": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "belts.example.com",
            "tlsSecret": "tls",
            "annotations": {"a": "b"},
        }
    },
    "worker": {"autoscaling": {"enabled": True}},
    "backup": {
        "schedule": "15 3 * * *",
        "timeZone": "Europe/Berlin",
        "target": "s3://belts-backup/plant",
        "credentials": "aws",
    },
    "networkPolicy": {"apiFrom": [{"namespaceSelector": {}}]},
    "monitoring": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "runbooks": "https://git.example.com/belts/blob/main/docs/runbooks.md",
    },
}
FIXED: dict[str, Any] = {
    **FOUR,
    "api": {"autoscaling": {"enabled": False}},
    "backup": {"schedule": "@daily", "claim": "backups"},
    "networkPolicy": {"enabled": False},
}
KEYS: dict[str, Any] = {
    **FOUR,
    "backup": {"schedule": "@daily", "target": "s3://belts-backup", "endpoint": "http://other:9001"},
}
CLUSTER: dict[str, Any] = {
    **FOUR,
    "redis": {"ports": [6380]},
    "s3": {"endpoint": "http://minio.storage", "ports": [9000]},
    "settings": {"OTLP_ENDPOINT": "http://collector.watch"},
    "backup": {
        "schedule": "@daily",
        "target": "s3://belts-backup",
        "endpoint": "https://other.storage",
        "ports": [8443],
    },
    "networkPolicy": {"otlpPorts": [4318]},
}
"""Redis, storage and a collector behind Services, whose ports are not those of their pods."""

TRIAL: dict[str, Any] = {**FOUR, "s3": {}, "trial": {"enabled": True}}
INSTALLATIONS = {
    "four values": FOUR,
    "all": ALL,
    "fixed": FIXED,
    "keys": KEYS,
    "cluster": CLUSTER,
    "trial": TRIAL,
}


@cache
def chart() -> Chart:
    """Return the chart."""
    return Chart.load(CHART)


@cache
def rendered(name: str, release: str = "belts") -> list[dict[str, Any]]:
    """Return the resources of an installation; what YAML's anchors share is not to be changed."""
    files = chart().render(INSTALLATIONS[name], name=release, namespace="plant")
    texts = [text for file, text in files.items() if not file.endswith(".txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of a kind in an installation, by name."""
    return {item["metadata"]["name"]: item for item in rendered(name) if item["kind"] == kind}


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and pod of each workload."""
    for kind in ("Deployment", "StatefulSet"):
        for workload, item in of_kind(name, kind).items():
            yield workload, item["spec"]["template"]["spec"]
    for workload, item in of_kind(name, "CronJob").items():
        yield workload, item["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the containers of a pod, the initial ones first."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def ours(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield workload and container of our programs."""
    for workload, pod in pods(name):
        for container in containers(pod):
            if "/wastestream-" in container["image"]:
                yield workload, container
