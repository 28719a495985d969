"""docker-compose.yml and infra/docker: every name in them exists, and docs/containers.md is true.

No container engine is needed: the files are read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from typing import Any, Final

import grimp
import pytest
import yaml

from api.app import create_app
from core.settings import PREFIX, Settings
from tests.support.programs import tool
from tests.support.servers import REPOSITORY
from worker.batching import STOP_SECONDS

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
DOCKERFILE: Final = (REPOSITORY / "infra/docker/Dockerfile").read_text().replace("\\\n", " ")
ENV_EXAMPLE: Final = (REPOSITORY / ".env.example").read_text()
OURS: Final = sorted(name for name, service in SERVICES.items() if "build" in service)
SECRETS: Final = {
    "REDIS_PASSWORD": "0a1b2c",
    "S3_ACCESS_KEY": "3d4e5f",
    "S3_SECRET_KEY": "6a7b8c",
    "ADMIN_KEY_SHA256": "0123456789abcdef" * 4,
}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_of_ours = pytest.mark.parametrize("name", OURS)


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the Dockerfile's stages: name to (instruction, arguments)."""
    stages: dict[str, list[tuple[str, str]]] = {}
    instructions: list[tuple[str, str]] = []
    for line in DOCKERFILE.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            instructions = stages[rest.rpartition(" AS ")[2]] = []
        elif word.isupper():
            instructions.append((word, rest.strip()))
    return stages


def modules_run(name: str) -> set[str]:
    """Return the modules that a service runs with `python -m`: its command and its health check."""
    service = SERVICES[name]
    command = service.get("command") or json.loads(dict(stages()[service["build"]["target"]])["CMD"])
    check = service.get("healthcheck", {}).get("test", [])
    return {
        module for words in (command, check) for module in re.findall(r"python -m (\S+)", " ".join(words))
    }


def copied(name: str) -> set[str]:
    """Return the folders of this repository that a service's image holds."""
    instructions = stages()[SERVICES[name]["build"]["target"]]
    return {
        rest.split()[0] for word, rest in instructions if word == "COPY" and not rest.startswith("--from")
    }


@cache
def imports() -> grimp.ImportGraph:
    """Return who imports whom in this repository."""
    return grimp.build_graph("core", "api", "worker", "trainer", "infra", cache_dir=None)


def seconds(text: str) -> int:
    """Read a duration such as 90s."""
    return int(text.removesuffix("s"))


def filled_in(value: str) -> str:
    """Replace ${VARIABLE...} as Compose does when the secrets are set and nothing else is."""
    return re.sub(
        r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: SECRETS.get(match[1]) or match[2] or "", value
    )


def settings_of(name: str) -> dict[str, str]:
    """Return the WASTESTREAM_ variables that a service gets; those passed on from outside are left out."""
    environment = SERVICES[name].get("environment", {})
    return {key: filled_in(value) for key, value in environment.items() if value and key.startswith(PREFIX)}


# ---- What is named exists ----------------------------------------------------------------------


@each_of_ours
def test_commands_and_health_checks_are_modules(name: str) -> None:
    """Each `python -m MODULE` is a module of this repository that can be run."""
    for module in modules_run(name):
        path = REPOSITORY / module.replace(".", "/")
        runs = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        assert '__name__ == "__main__"' in runs.read_text(), f"{runs} cannot be run"


@each_of_ours
def test_images_hold_what_their_programs_import(name: str) -> None:
    """Every module of ours that a program imports, however far away, is in its image; nothing more is."""
    graph = imports()
    needed = {
        package.partition(".")[0]
        for module in modules_run(name)
        for start in {module, f"{module}.__main__"} & graph.modules
        for package in {start, *graph.find_upstream_modules(start)}
    }
    assert needed <= copied(name)
    assert copied(name) == {"core", SERVICES[name]["build"]["target"]}


def test_every_setting_can_be_set() -> None:
    """But for Redis and storage of your own, the model's folder and the host's disk."""
    passed = {key for name in ("api", "worker", "sinks") for key in SERVICES[name]["environment"]}
    own = {"s3_bucket", "s3_region", "s3_session_token", "s3_ca_file", "model_dir", "disk"}
    own |= {"s3_credentials", "s3_addressing", "s3_prefix"}
    own |= {"redis_sentinels", "redis_sentinel_password", "redis_replicas"}
    assert {f"{PREFIX}{field.upper()}" for field in set(Settings.model_fields) - own} == passed


@each_service
def test_settings_exist(name: str) -> None:
    """Each WASTESTREAM_ variable is a field of Settings, with a valid value."""
    variables = [key for key in SERVICES[name].get("environment", {}) if key.startswith(PREFIX)]
    assert {key.removeprefix(PREFIX).lower() for key in variables} <= set(Settings.model_fields)
    values = {key.removeprefix(PREFIX).lower(): value for key, value in settings_of(name).items()}
    Settings.model_validate(values)


def test_the_apis_health_check_is_a_route() -> None:
    """The URL that is asked is one of the API's, on the port that it listens on."""
    settings = settings_of("api")
    (url,) = re.findall(r'"http://127\.0\.0\.1:(\d+)(/\w+)"', SERVICES["api"]["healthcheck"]["test"][-1])
    routes = {rule.rule for rule in create_app(Settings()).url_map.iter_rules()}
    assert url[0] == settings["WASTESTREAM_PORT"]
    assert url[1] in routes


def test_the_apis_port_is_one_number() -> None:
    """The published port, the exposed port and the API's port agree."""
    port = settings_of("api")["WASTESTREAM_PORT"]
    (published,) = SERVICES["api"]["ports"]
    assert filled_in(published) == f"127.0.0.1:8000:{port}"
    assert ("EXPOSE", port) in stages()["api"]


@each_of_ours
def test_addresses_are_services(name: str) -> None:
    """Redis and S3 are looked for at services of this file, on the ports that they are started with."""
    settings = settings_of(name)
    assert settings["WASTESTREAM_REDIS_URL"] == f"redis://:{SECRETS['REDIS_PASSWORD']}@redis:6379/0"
    assert "port 6379" in (REPOSITORY / "infra/docker/redis.conf").read_text().splitlines()
    assert settings["WASTESTREAM_S3_ENDPOINT"] == "http://s3:8333"
    assert "-s3.port=8333" in (REPOSITORY / "infra/docker/s3.sh").read_text()


def test_the_workers_command_line() -> None:
    """The worker knows every option that it is started with."""
    options = [word for word in SERVICES["worker"]["command"] if word.startswith("--")]
    said = subprocess.run(
        [sys.executable, "-m", "worker", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert options
    assert all(option in said.stdout for option in options)


@each_service
def test_files_exist(name: str) -> None:
    """Each file that is mounted or built from is in the repository."""
    service = SERVICES[name]
    for volume in map(filled_in, service.get("volumes", [])):
        source = volume.partition(":")[0]
        if source.startswith("/"):  # the operator's own
            assert name == "backup"
            continue
        assert (REPOSITORY / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
    if "build" in service:
        assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
        assert service["build"]["target"] in stages()


# ---- What is promised is kept ------------------------------------------------------------------


@each_service
def test_containers_have_few_rights(name: str) -> None:
    """Every container: read-only root, no capabilities, no new privileges, and a user other than root."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = service.get("user") or dict(stages()[service["build"]["target"]])["USER"]
    if name == "caddy":  # Its image has a volume of root's; it keeps one right of root's.
        assert service["cap_add"] == ["NET_BIND_SERVICE"]
    else:
        assert "cap_add" not in service
        assert user.partition(":")[0] not in {"", "0", "root"}


@each_service
def test_stopping_leaves_time(name: str) -> None:
    """Every container has at least 30 s to end; a worker has time for its last batch."""
    grace = seconds(SERVICES[name]["stop_grace_period"])
    assert grace >= 30
    if name == "worker":
        assert grace >= STOP_SECONDS + 10


@each_service
def test_versions_are_pinned(name: str) -> None:
    """Every image that is pulled names an exact version."""
    images = [line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")]
    pulled = [image for image in images if image not in stages()]
    if "build" not in SERVICES[name]:
        pulled.append(SERVICES[name]["image"])
    assert pulled
    assert all(re.fullmatch(r"[a-z0-9/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image) for image in pulled)


def test_starting_waits_for_readiness() -> None:
    """Redis and S3 are healthy and the bucket is made before API and workers start."""
    for name in ("api", "worker", "sinks", "backup"):
        assert SERVICES[name]["depends_on"] == {
            "redis": {"condition": "service_healthy"},
            "bucket": {"condition": "service_completed_successfully"},
        }
    assert SERVICES["bucket"]["depends_on"] == {"s3": {"condition": "service_healthy"}}
    done = {"service_completed_successfully"}
    once = {
        name
        for service in SERVICES.values()
        for name, wanted in service.get("depends_on", {}).items()
        if {wanted["condition"]} == done
    }
    assert once == {"bucket", "metrics-key"}
    assert all(SERVICES[name]["restart"] == "no" for name in {*once, "backup"})
    assert all("healthcheck" in SERVICES[name] for name in SERVICES if name not in {*once, "sinks", "backup"})


def test_only_the_api_can_be_reached() -> None:
    """It publishes on loopback, nothing else without a profile; sinks and backup have a way out."""
    published = {name: SERVICES[name]["ports"] for name in SERVICES if "ports" in SERVICES[name]}
    assert set(published) == {"api", "prometheus", "grafana", "caddy"}
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in published[name])
    inside = {name for name in SERVICES if SERVICES[name]["networks"] == ["inside"]}
    assert set(SERVICES) - inside == {*published, "sinks", "backup"}
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_data_lie_in_named_volumes() -> None:
    """The files of Redis and S3 outlive their containers."""
    assert "redis-data:/data" in SERVICES["redis"]["volumes"]
    assert "s3-data:/data" in SERVICES["s3"]["volumes"]
    assert "prometheus-data:/prometheus" in SERVICES["prometheus"]["volumes"]
    assert "caddy-data:/data" in SERVICES["caddy"]["volumes"][0]
    used = {
        filled_in(volume).partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert {name for name in used if name[0] not in "./"} == set(COMPOSE["volumes"])


def test_documented_overrides_fit() -> None:
    """Each names services of this file, and networks of this file or of its own."""
    text = (REPOSITORY / "docs" / "containers.md").read_text(encoding="utf-8")
    overrides = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    assert {name for override in overrides for name in override["services"]} == {"worker", "s3"}
    for override in overrides:
        known = {**COMPOSE["networks"], **override.get("networks", {})}
        assert all(
            set(service.get("networks", [])) <= set(known) for service in override["services"].values()
        )
    ways_out = [override["services"].get("worker", {}).get("networks") for override in overrides]
    assert ["inside", "outside"] in ways_out  # for traces: by itself a worker is inside only


def test_there_are_no_default_secrets() -> None:
    """Each secret is asked for by ${NAME:?...}, and .env.example lists them empty."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    assert {name for name in used if f"${{{name}:?" in text} == set(SECRETS)
    assert not any(re.search(rf"\$\{{{name}(:?-|\}})", text) for name in SECRETS)
    assert set(re.findall(r"^(\w+)=$", ENV_EXAMPLE, re.MULTILINE)) == set(SECRETS)


def test_the_example_lists_every_variable_with_its_default() -> None:
    """`.env.example` has each variable that docker-compose.yml takes; the defaults are those of the code."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    optional = dict(re.findall(r"^#(\w+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    taken = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if value is None and not variable.startswith(PREFIX):
                taken[variable] = ""
            elif value is None:
                default = Settings.model_fields[variable.removeprefix(PREFIX).lower()].default
                taken[variable] = f"{default:g}" if isinstance(default, float) else str(default).strip("()")
    assert optional == taken


@pytest.mark.parametrize("target", ["api", "worker", "gateway"])
def test_packages_are_pinned_by_hash(target: str) -> None:
    """Each image is built from its own lock file, hash-checked, wheels only."""
    (install,) = (rest for word, rest in stages()[f"{target}-packages"] if word == "RUN")
    (lock,) = re.findall(r"source=(requirements/\S+?),", install)
    assert "--require-hashes --only-binary :all:" in install
    assert lock == f"requirements/{target}.txt"
    assert "--hash=sha256:" in (REPOSITORY / lock).read_text()
    assert ("COPY", f"--from={target}-packages /opt/packages /opt/packages") in stages()[target]


def test_the_builder_gets_what_is_copied_and_no_more() -> None:
    """.dockerignore leaves out everything but the folders that the Dockerfile reads."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    read = {folder for name in OURS for folder in copied(name)} | {"requirements", "client"}
    assert "*" in lines
    assert let_in == read


# ---- The tools accept the files ----------------------------------------------------------------


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose, which needs no engine for this; skip without it."""
    base = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    plugin = shutil.which("docker")
    command = (
        [plugin, "compose"]
        if plugin and _runs([plugin, "compose", "version"])
        else [tool("docker-compose", in_ci=False)]
    )
    return subprocess.run(
        [*command, "--env-file", os.devnull, *arguments],
        cwd=REPOSITORY,
        env=base | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_compose_accepts_the_file() -> None:
    """Docker Compose itself reads the file, and fills the secrets in."""
    done = compose("--profile", "*", "config", **SECRETS)
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES), done.stderr


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_without_a_secret(missing: str) -> None:
    """While one secret is unset nothing starts, and the sentence says what to do."""
    done = compose("config", **{**SECRETS, missing: ""})
    assert done.stdout == ""
    assert missing in done.stderr
    assert "copy .env.example to .env" in done.stderr


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile keeps to the rules of its linter."""
    hadolint = tool("hadolint")
    done = subprocess.run(
        [hadolint, "infra/docker/Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
