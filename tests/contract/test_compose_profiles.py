"""The profiles of docker-compose.yml: Prometheus and Grafana (`observe`), Caddy (`tls`), and `backup`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.app import create_app
from api.keys import store_of
from core.redis.api_keys import Scope
from core.redis.client import connect
from core.settings import Settings
from tests.conftest import environment_of
from tests.contract.test_compose import DOCKERFILE, SERVICES, filled_in, settings_of
from tests.support.programs import run_tool
from tests.support.servers import REPOSITORY


def test_profiles_add_what_not_everybody_needs() -> None:
    """Without one, the stack of before starts."""
    by_profile: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        (profile,) = service.get("profiles", [""])
        by_profile.setdefault(profile, set()).add(name)
    assert by_profile.pop("observe") == {"metrics-key", "prometheus", "grafana"}
    assert by_profile.pop("tls") == {"caddy"}
    assert by_profile.pop("backup") == {"backup"}
    assert list(by_profile) == [""]


def test_a_backup_has_a_place_and_a_disk() -> None:
    """Its lists grow with jobs and objects: 16 MB of memory, as other containers have, do not hold them."""
    backup = SERVICES["backup"]
    assert "tmpfs" not in backup
    assert "TMPDIR" not in backup["environment"]
    place, temporary = map(filled_in, backup["volumes"])
    assert temporary == "backup-tmp:/tmp"
    assert place == f"/mnt/backup:{backup['command'][-1]}"
    documented = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    assert "docker compose run --rm backup\n" in documented
    assert f"python -m api.backup restore {backup['command'][-1]}\n" in documented


def test_prometheus_finds_its_files_and_grafana_prometheus() -> None:
    """Paths and addresses in their configurations are those of the containers."""
    prometheus = yaml.safe_load((REPOSITORY / "infra/prometheus/prometheus.yml").read_text())
    (job,) = prometheus["scrape_configs"]
    (written,) = SERVICES["metrics-key"]["volumes"]
    folder = written.partition(":")[2]
    assert f"{written}:ro" in SERVICES["prometheus"]["volumes"]
    assert job["authorization"]["credentials_file"] == f"{folder}/prometheus"
    assert f"mv {folder}/new {folder}/prometheus" in SERVICES["metrics-key"]["command"][-1]
    assert f"install -d -o wastestream -g wastestream {folder}" in DOCKERFILE
    assert job["static_configs"] == [{"targets": [f"api:{settings_of('api')['WASTESTREAM_PORT']}"]}]
    mounted = [volume.split(":") for volume in SERVICES["prometheus"]["volumes"]]
    files = {target: REPOSITORY / source for source, target, *_ in mounted if source.startswith("./")}
    assert files["/etc/prometheus/prometheus.yml"].is_file()
    assert {f"/etc/prometheus/{name}" for name in prometheus["rule_files"]} <= set(files)
    (source,) = yaml.safe_load((REPOSITORY / "infra/grafana/datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    (provider,) = yaml.safe_load((REPOSITORY / "infra/grafana/dashboards.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(f"{provider['options']['path']}/")
    assert f"./infra/grafana/dashboard.json:{home}:ro" in SERVICES["grafana"]["volumes"]


def test_the_key_of_prometheus_is_kept_while_it_is_valid(settings: Settings, tmp_path: Path) -> None:
    """The command of `metrics-key`, run as Compose does: a key that reads metrics.

    It makes another if the file is lost, the key is revoked, or Redis has lost it.
    """
    command = [
        part.replace("/run/wastestream", str(tmp_path)).replace("$$", "$")
        for part in SERVICES["metrics-key"]["command"]
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **environment_of(settings), "PATH": path}
    file = tmp_path / "prometheus"

    def key() -> str:
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
        return file.read_text()

    store = store_of(settings)
    store.create("another", [Scope.READ])
    keys = [key()]
    assert key() == keys[0]
    file.unlink()
    keys.append(key())
    store.revoke("prometheus")
    keys.append(key())
    connect(settings.redis).flushdb()
    keys.append(key())
    assert len(set(keys)) == 4
    client = create_app(settings).test_client()
    assert [
        client.get("/metrics", headers={"Authorization": f"Bearer {key.strip()}"}).status_code for key in keys
    ] == [401, 401, 401, 200]


def test_caddy_accepts_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caddy itself reads the file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    said = run_tool("caddy", "validate", "--adapter", "caddyfile", "--config", "infra/docker/Caddyfile")
    assert "Valid configuration" in said
    assert "not formatted" not in said
