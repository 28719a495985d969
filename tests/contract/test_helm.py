"""The Helm chart: rendered by Helm itself, valid for Kubernetes, and in agreement with the code."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click import Context
from helm_python.chart import lint
from helm_python.errors import HelmError

from api.app import create_app
from api.backup.__main__ import main
from api.server.gunicorn_worker import GRACEFUL_TIMEOUT
from core.settings import PREFIX, Settings
from tests.support.charts import (
    ALL,
    CHART,
    FOUR,
    INSTALLATIONS,
    chart,
    containers,
    of_kind,
    ours,
    pods,
    rendered,
)
from tests.support.servers import REPOSITORY
from worker.app import _EXIT_SECONDS
from worker.batching import STOP_SECONDS

_VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest Kubernetes that the chart is for, and two newer ones."""

_OF_OPERATORS = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"}
"""Kinds of KEDA and the Prometheus operator, which Kubernetes has no schema of."""

_MANAGED = {
    *("redis_url", "redis_sentinels", "redis_sentinel_password", "redis_replicas", "mqtt_url", "disk"),
    *("host", "port", "admin_key_sha256", "s3_session_token", "s3_ca_file", "s3_public_endpoint"),
    *("s3_endpoint", "s3_credentials", "s3_addressing", "s3_prefix", "s3_access_key", "s3_secret_key"),
    *("s3_bucket", "s3_region"),
}
"""Settings that other values decide, or that make no sense in a cluster: its disk, temporary keys."""

each_installation = pytest.mark.parametrize("name", INSTALLATIONS)


@pytest.mark.parametrize("version", _VERSIONS)
def test_every_resource_is_valid(version: str) -> None:
    """Strictly: a misspelt member would be ignored by the cluster."""
    different = {json.dumps(item): item for name in INSTALLATIONS for item in rendered(name)}
    for item in different.values():
        if item["kind"] not in _OF_OPERATORS:
            kubernetes_validate.validate(item, version, strict=True)


def test_helm_finds_nothing_to_correct() -> None:
    """Not even with its strict checks; and resources have different names."""
    report = lint(CHART, FOUR, strict=True)
    assert [message for message in report["messages"] if message["severity"] > 1] == []
    for name in INSTALLATIONS:
        names = [(item["kind"], item["metadata"]["name"]) for item in rendered(name)]
        assert len(names) == len(set(names))
        assert not [kind for kind, _ in names if kind == "Secret"]  # by reference only


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("image", "Set image.registry"),
        ("secret", "Set secret"),
        ("adminKeySha256", "Set adminKeySha256"),
        ("s3", "Set s3.endpoint"),
    ],
)
def test_a_missing_value_is_named(missing: str, words: str) -> None:
    """And nothing else is needed."""
    values = {name: value for name, value in FOUR.items() if name != missing}
    with pytest.raises(HelmError, match=words):
        chart().render(values, name="belts")


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": {}},
        {"settings": {"MAX_QUEUD": "1"}},
        {"settings": {"HOST": "127.0.0.1"}},
        {"s3": {"endpoint": "https://s3.example.com", "credentials": "role"}},
        {"adminKeySha256": "ws_admin_key"},
        {"monitoring": {"enabled": True, "runbooks": "docs/runbooks.md#wastestreamapidown"}},
    ],
)
def test_a_value_that_does_not_exist_is_rejected(wrong: dict[str, Any]) -> None:
    """By the chart's schema, before anything is installed."""
    with pytest.raises(HelmError):
        chart().validate_schema({**FOUR, **wrong})


def test_every_setting_can_be_set() -> None:
    """By a value of its own or in `settings`, and by one of them only."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    names = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert {name.lower() for name in names} == set(Settings.model_fields) - _MANAGED
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(schema["properties"]) - {"global"} == set(defaults)
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    assert [value for value in defaults if f"`{value}" not in readme] == []


@each_installation
def test_programs_get_valid_settings(name: str) -> None:
    """Each variable is a setting; Secrets have the documented keys."""
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    (settings,) = (item for key, item in of_kind(name, "ConfigMap").items() if key == "belts-settings")
    for _, container in ours(name):
        assert container["envFrom"] == [{"configMapRef": {"name": "belts-settings"}}]
        values = dict(settings["data"])
        for variable in container["env"]:
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            if source:
                assert source["name"] == "wastestream"
                assert f"`{source['key']}`" in readme
            if variable["name"].startswith(PREFIX):
                values[variable["name"]] = variable.get("value", "")
        by_field = {key.removeprefix(PREFIX).lower(): value for key, value in values.items()}
        assert set(by_field) <= set(Settings.model_fields)
        by_field |= {"redis_url": "redis://belts" if name == "all" else "redis://redis/0", "mqtt_url": ""}
        by_field.pop("s3_ca_file", None)  # a file of the pod
        Settings.model_validate(by_field)
    public = FOUR["adminKeySha256"]
    assert settings["data"]["WASTESTREAM_ADMIN_KEY_SHA256"] == public


@each_installation
def test_commands_ports_and_probes_are_those_of_the_code(name: str) -> None:
    """Modules are in the image that runs them; the paths are routes."""
    routes = {rule.rule for rule in create_app(Settings()).url_map.iter_rules()}
    commands = {}
    for workload, container in ours(name):
        python, option, module, *_ = container["command"]
        commands[f"{workload}/{container['name']}"] = module
        image = container["image"].partition("/wastestream-")[2].partition(":")[0]
        assert (python, option) == ("python", "-m")
        assert module.partition(".")[0] in {"core", image}
        assert importlib.util.find_spec(module) is not None
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {})
            if "httpGet" in asked:
                assert asked["httpGet"]["path"] in routes
                assert asked["httpGet"]["port"] == container["ports"][0]["name"]
            if "exec" in asked:
                assert asked["exec"]["command"] == ["python", "-m", "worker.health"]
    backups = {"belts-backup/backup": "api.backup"} if of_kind(name, "CronJob") else {}
    assert commands == backups | {
        "belts-api/bucket": "core.bucket",
        "belts-api/rollout": "api.rollout",
        "belts-api/api": "api",
        "belts-worker/worker": "worker",
        "belts-sinks/sinks": "worker.sinks",
    }
    port = of_kind(name, "ConfigMap")["belts-settings"]["data"]["WASTESTREAM_PORT"]
    (api,) = of_kind(name, "Deployment")["belts-api"]["spec"]["template"]["spec"]["containers"]
    assert api["ports"] == [{"name": "http", "containerPort": int(port)}]
    (served,) = of_kind(name, "Service")["belts-api"]["spec"]["ports"]
    assert served["targetPort"] == "http"


def test_programs_have_the_time_that_they_need_to_end() -> None:
    """More than the code takes, so that nobody is killed at work."""
    grace = {
        workload: pod["terminationGracePeriodSeconds"]
        for workload, pod in pods("all")
        if workload != "belts-backup"  # which may be cut off
    }
    assert grace["belts-api"] > GRACEFUL_TIMEOUT + 5  # seconds of preStop
    assert grace["belts-worker"] > STOP_SECONDS + _EXIT_SECONDS
    assert grace["belts-sinks"] > 15


@each_installation
def test_pods_are_restricted(name: str) -> None:
    """As the Pod Security Standard of this name wants it; and nobody writes to the root file system."""
    for workload, pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True, workload
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
        allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= allowed


def test_selectors_meet_their_pods() -> None:
    """Of Services, budgets, network policies, the monitor and the scalers."""
    for name in ("all", "trial"):
        labels = {
            workload: item["spec"]["template"]["metadata"]["labels"]
            for kind in ("Deployment", "StatefulSet")
            for workload, item in of_kind(name, kind).items()
        }
        for workload, item in of_kind(name, "CronJob").items():
            labels[workload] = item["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
        for kind, path in (
            ("Service", ["selector"]),
            ("PodDisruptionBudget", ["selector", "matchLabels"]),
            ("NetworkPolicy", ["podSelector", "matchLabels"]),
        ):
            for workload, item in of_kind(name, kind).items():
                selector = item["spec"]
                for member in path:
                    selector = selector[member]
                met = [pod for pod, own in labels.items() if selector.items() <= own.items()]
                assert met == [workload], kind
    (scaler,) = of_kind("all", "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] == "belts-api"
    service = of_kind("all", "Service")["belts-api"]["metadata"]["labels"]
    (monitor,) = of_kind("all", "ServiceMonitor").values()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service.items()


@pytest.mark.parametrize(
    ("name", "servers", "backups"),
    [
        ("four values", {6379, 443}, set()),
        ("all", {6379, 26379, 9000, 4318}, {443}),
        ("keys", {6379, 443}, {9001}),
        ("cluster", {6380, 9000, 4318}, {8443}),
        ("trial", {6379, 8333}, set()),
    ],
)
def test_pods_may_reach_what_they_need(name: str, servers: set[int], backups: set[int]) -> None:
    """DNS, Redis, storage and a collector of traces, as pods or outside; the sinks also the world."""
    policies = of_kind(name, "NetworkPolicy")
    components = {"api", "worker", "sinks", *(["backup"] if backups else [])}
    assert {f"belts-{component}" for component in components} == {workload for workload, _ in ours(name)}
    trial = {"belts-redis", "belts-s3"} if name == "trial" else set()
    assert set(policies) == {f"belts-{component}" for component in components} | trial
    roles = {443} if name == "all" else set()
    for component in components:
        rules = policies[f"belts-{component}"]["spec"]["egress"]
        needed = {53, *servers, *roles} | (backups if component == "backup" else set())
        reached = {port["port"] for rule in rules if meets_pods(rule) for port in rule["ports"]}
        assert reached == needed, component
        outside = [rule for rule in rules if meets_the_world(rule)]
        everywhere = [rule for rule in outside if "ports" not in rule]
        assert len(everywhere) == (component == "sinks")
        assert everywhere or {port["port"] for rule in outside for port in rule["ports"]} == needed
    assert [key for key, item in policies.items() if "ingress" in item["spec"]] == [
        "belts-api",
        *sorted(trial),
    ]


def meets_pods(rule: dict[str, Any]) -> bool:
    """Return whether a rule lets to pods of all namespaces. Cilium matches none of them by its address."""
    return "to" not in rule or {"namespaceSelector": {}} in rule["to"]


def meets_the_world(rule: dict[str, Any]) -> bool:
    """Return whether a rule lets to all addresses outside, but those of a cloud's metadata."""
    blocks = [peer["ipBlock"]["cidr"] for peer in rule.get("to", []) if "ipBlock" in peer]
    return "to" not in rule or {"0.0.0.0/0", "::/0"} <= set(blocks)


def test_roles_are_asked_for_at_the_metadata_service() -> None:
    """By pods whose storage wants the credentials of a role; no other pod reaches it."""
    for name in ("four values", "all"):
        for component in ("api", "worker", "sinks"):
            rules = of_kind(name, "NetworkPolicy")[f"belts-{component}"]["spec"]["egress"]
            cidrs = [
                peer["ipBlock"]["cidr"] for rule in rules for peer in rule.get("to", []) if "ipBlock" in peer
            ]
            assert ("169.254.169.254/32" in cidrs) == (name == "all")


def test_network_policies_can_be_left_out() -> None:
    """By one value."""
    assert of_kind("fixed", "NetworkPolicy") == {}


def test_backups_go_to_a_bucket_or_a_volume() -> None:
    """As `backup` takes the place; with the credentials of that bucket, and room on disk for its lists."""
    assert of_kind("four values", "CronJob") == {}
    for name, place in (
        ("all", "s3://belts-backup/plant"),
        ("keys", "s3://belts-backup"),
        ("fixed", "/backup"),
    ):
        ((_, pod),) = [item for item in pods(name) if item[0] == "belts-backup"]
        (container,) = pod["containers"]
        assert container["command"][2:] == ["api.backup", "create", place]
        assert main.get_command(Context(main), "create") is not None
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "medium" not in volumes["tmp"]["emptyDir"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.get("backup") == ("/backup" if name == "fixed" else None)
        variables = {item["name"] for item in container["env"] if item["name"].startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
        assert variables == {"all": {"AWS_REGION"}, "keys": {"AWS_REGION", *keys}, "fixed": set()}[name]
    assert volumes["backup"]["persistentVolumeClaim"] == {"claimName": "backups"}


def test_restore_and_recover_are_jobs_like_backups() -> None:
    """The README's `sed` makes them of the CronJob, in the YAML that kubectl prints."""
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    restoring, recovering = re.findall(r"sed ('[^']+') \| kubectl apply", readme)
    assert readme.count("autoscaling.keda.sh/paused-replicas=0") == 1
    for name, place in (("all", "s3://belts-backup/plant"), ("fixed", "/backup")):
        text = yaml.safe_dump(of_kind(name, "CronJob")["belts-backup"]["spec"]["jobTemplate"])
        for script, arguments in ((restoring, ["restore", place]), (recovering, ["recover"])):
            job = yaml.safe_load(sed(script, text))
            (container,) = job["spec"]["template"]["spec"]["containers"]
            assert container["command"] == ["python", "-m", "api.backup", *arguments]
            assert main.get_command(Context(main), arguments[0]) is not None


def sed(script: str, text: str) -> str:
    """Run sed, as a shell does with a quoted script."""
    words = ["sed", *shlex.split(script)]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["all", "trial"])
def test_a_release_may_have_the_longest_name(name: str) -> None:
    """53 characters, as Helm allows; Kubernetes allows 63 of a name, of CronJobs and StatefulSets 52."""
    items = rendered(name, "b" * 53)
    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    assert len(names) == len(items)
    assert max(len(own) for _, own in names) <= 63
    appended = [own for kind, own in names if kind in {"CronJob", "StatefulSet"}]
    assert {len(own) for own in appended} == {52}
    if name == "trial":  # The addresses are those of the Services.
        redis, s3 = sorted(appended)
        assert {("Service", redis), ("Service", s3)} <= names
        text = json.dumps(items)
        assert f"@{redis}:6379/0" in text
        assert f"http://{s3}:8333" in text


@pytest.mark.parametrize(
    ("backup", "words"),
    [
        ({}, "backup.target .* or backup.claim"),
        ({"target": "s3://a/b", "claim": "c"}, "one of the two"),
        ({"target": "/folder"}, "set backup.claim"),
        ({"target": "s3://a/b", "credentials": "keys"}, "by the same role"),
    ],
)
def test_a_backup_to_nowhere_is_rejected(backup: dict[str, Any], words: str) -> None:
    """When the chart is rendered, not at night."""
    with pytest.raises(HelmError, match=words):
        chart().render({**ALL, "backup": {"schedule": "@daily", **backup}}, name="belts", namespace="plant")


def test_a_trial_has_the_servers_of_compose() -> None:
    """The same images and programs."""
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for name, item in of_kind("trial", "StatefulSet").items():
        service = name.removeprefix("belts-")
        (container,) = item["spec"]["template"]["spec"]["containers"]
        assert container["image"] == compose[service]["image"]
        script = of_kind("trial", "ConfigMap")[name]["data"][f"{service}.sh"]
        own = (REPOSITORY / "infra" / "docker" / f"{service}.sh").read_text(encoding="utf-8")
        assert script.strip() == own.strip()
