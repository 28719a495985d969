"""What the Helm chart gives to KEDA and the Prometheus operator agrees with the code and the repository."""

from __future__ import annotations

import json

import yaml

from api.schemas.probes import Readiness
from tests.support.charts import ALL, CHART, of_kind
from tests.support.servers import REPOSITORY


def test_workers_scale_by_what_the_api_answers() -> None:
    """From none; the numbers are members of `/readyz`, for a key that may read them."""
    (scaled,) = of_kind("all", "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"] == {"name": "belts-worker"}
    assert scaled["spec"]["minReplicaCount"] == 0
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert {trigger["valueLocation"] for trigger in triggers} == {"runnable", "oldest_seconds"}
    assert {trigger["valueLocation"] for trigger in triggers} <= set(Readiness.model_fields)
    assert {trigger["url"] for trigger in triggers} == {"http://belts-api.plant:80/readyz"}
    (access,) = of_kind("all", "TriggerAuthentication").values()
    assert access["spec"]["secretTargetRef"] == [
        {"parameter": "token", "name": "wastestream", "key": "metrics-key"}
    ]
    assert "replicas" not in of_kind("all", "Deployment")["belts-worker"]["spec"]
    assert of_kind("four values", "Deployment")["belts-worker"]["spec"]["replicas"] == 2


def test_rules_and_dashboard_are_the_repositorys() -> None:
    """Word by word, with the labels by which Prometheus finds them; the rules are of this release alone."""
    (rule,) = of_kind("all", "PrometheusRule").values()
    (monitor,) = of_kind("all", "ServiceMonitor").values()
    service = of_kind("all", "Service")["belts-api"]["metadata"]
    (endpoint,) = monitor["spec"]["endpoints"]
    (instance,) = [
        each["replacement"] for each in endpoint["relabelings"] if each.get("targetLabel") == "instance"
    ]
    # The labels that the Prometheus operator gives the targets of a ServiceMonitor, but for those dropped.
    target = f'namespace="{service["namespace"]}",job="{service["name"]}",instance="{instance}"'
    own = (REPOSITORY / "infra" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    named = own.replace('job="wastestream"', target)
    runbooks = ALL["monitoring"]["runbooks"]
    assert rule["spec"] == yaml.safe_load(named.replace(": docs/runbooks.md#", f": {runbooks}#"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert named.count(f"runbook_url: {defaults['monitoring']['runbooks']}#") == own.count("- alert: ")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    shown = of_kind("all", "ConfigMap")["belts-dashboard"]["data"]["wastestream.json"]
    dashboard = (REPOSITORY / "infra" / "grafana" / "dashboard.json").read_text(encoding="utf-8")
    assert json.loads(shown) == json.loads(dashboard)
