"""`/v1/cameras`: what gateways report and operators say, and the counts beside the ledger."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.jobs import JobState, Outcome
from core.redis.api_keys import KeyStore, Scope
from core.redis.camera_reports import CameraReports, Schedule
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import assert_problem, post_image

NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)
COUNTS = {"sampled": 10, "accepted": 6, "spooled": 1, "skipped": 1, "dropped": 1, "refused": 1}


def report(**members: Any) -> dict[str, Any]:
    """Return a report of a camera that sends."""
    document = {
        "gateway": "0123456789abcdef",
        "site": "plant-2",
        "detail": "h264 1920x1080",
        "silent_after": 15,
        "last_frame_at": datetime.now(UTC).isoformat(),
        "oldest_spooled_at": None,
        "spooled": 1,
        "hours": [{"hour": HOUR.isoformat(), **COUNTS}],
    }
    return {**document, **members}


def cameras(client: FlaskClient) -> dict[str, dict[str, Any]]:
    """Return what the API says of each camera."""
    return {camera["id"]: camera for camera in client.get("/v1/cameras").get_json()["cameras"]}


def test_a_report_is_shown(client: FlaskClient) -> None:
    """With the images that the ledger has of the camera; cameras without a gateway have no state."""
    post_image(client, X_Camera_Id="belt-1")
    post_image(client, X_Camera_Id="belt-2")
    answer = client.post("/v1/cameras/belt-1/report", json=report())
    assert (answer.status_code, answer.get_json()) == (202, {"camera": "belt-1", "hours": 1})
    shown = cameras(client)
    assert shown["belt-1"]["state"] == "live"
    assert shown["belt-1"]["detail"] == "h264 1920x1080"
    assert (shown["belt-1"]["site"], shown["belt-1"]["spooled"], shown["belt-1"]["received"]) == (
        "plant-2",
        1,
        1,
    )
    assert (shown["belt-2"]["state"], shown["belt-2"]["reported_at"]) == (None, None)


@pytest.mark.parametrize(
    ("last_frame", "oldest", "state"),
    [
        (1, None, "live"),
        (1, 10, "live"),
        (1, 300, "backfilling"),
        (100, 300, "silent"),
        (None, None, "silent"),
    ],
)
def test_the_state_follows_from_the_report(
    client: FlaskClient, last_frame: float | None, oldest: float | None, state: str
) -> None:
    """Seconds since the last frame, and since the oldest one that waits."""

    def ago(seconds: float | None) -> str | None:
        return None if seconds is None else (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()

    document = report(last_frame_at=ago(last_frame), oldest_spooled_at=ago(oldest))
    client.post("/v1/cameras/belt-1/report", json=document)
    assert cameras(client)["belt-1"]["state"] == state
    silent = int(state == "silent")
    assert f'wastestream_camera_silent{{camera="belt-1"}} {silent}' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("spooled", "state", "away"),
    [(0, "ended", "ended"), (3, "backfilling", "silent")],
)
def test_a_file_that_is_read_is_not_silent(
    client: FlaskClient, settings: Settings, spooled: int, state: str, away: str
) -> None:
    """Nothing more is to come; but what its gateway has not sent yet is missed when that is away."""
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    document = report(
        last_frame_at=long_ago, oldest_spooled_at=long_ago if spooled else None, spooled=spooled, ended=True
    )
    client.post("/v1/cameras/belt-1/report", json=document)
    assert cameras(client)["belt-1"]["state"] == state
    assert 'wastestream_camera_silent{camera="belt-1"} 0' in client.get("/metrics").text
    reports = CameraReports(connect(settings.redis_url.get_secret_value()), max_cameras=1, retention=3600)
    assert reports.cameras()["belt-1"].state(time.time() + 200) == away


def test_a_gateway_that_is_away_makes_its_cameras_silent(client: FlaskClient, settings: Settings) -> None:
    """Three minutes after its last report."""
    client.post("/v1/cameras/belt-1/report", json=report())
    reports = CameraReports(connect(settings.redis_url.get_secret_value()), max_cameras=1, retention=3600)
    status = reports.cameras()["belt-1"]
    assert (status.state(time.time() + 10), status.state(time.time() + 200)) == ("live", "silent")


def test_counts_stand_beside_the_ledger(client: FlaskClient) -> None:
    """By hour of capture, also of hours in which nothing was received; sent again, nothing changes."""
    accepted_at = datetime.fromisoformat(post_image(client, X_Camera_Id="belt-1").get_json()["accepted_at"])
    hour = accepted_at.replace(minute=0, second=0, microsecond=0)
    hours = [{"hour": each.isoformat(), **COUNTS} for each in (hour, hour - timedelta(hours=3))]
    for _ in range(2):
        client.post("/v1/cameras/belt-1/report", json=report(hours=hours))
    page = client.get("/v1/ledger?camera=belt-1").get_json()
    assert [(row["received"], row["gateway"]) for row in page["rows"]] == [(0, COUNTS), (1, COUNTS)]
    assert page["sum"]["gateway"] == {name: 2 * number for name, number in COUNTS.items()}
    assert page["balanced"]
    (first, _) = csv.DictReader(io.StringIO(client.get("/v1/ledger?format=csv").text))
    assert (first["received"], first["gateway_sampled"], first["gateway_refused"]) == ("0", "10", "1")


def test_two_gateways_of_a_camera_add_up(client: FlaskClient) -> None:
    """A box that was replaced within the hour."""
    for gateway in ("00000000", "11111111"):
        client.post("/v1/cameras/belt-1/report", json=report(gateway=gateway))
    (row,) = client.get("/v1/ledger").get_json()["rows"]
    assert row["gateway"]["sampled"] == 20


def test_without_a_gateway_there_are_no_counts(client: FlaskClient) -> None:
    """Null, not zero."""
    post_image(client, X_Camera_Id="belt-1")
    page = client.get("/v1/ledger").get_json()
    assert (page["rows"][0]["gateway"], page["sum"]["gateway"]) == (None, None)


def test_a_camera_is_described(client: FlaskClient) -> None:
    """Before it sends something too; the description is replaced as a whole."""
    about = {
        "name": "Belt 1",
        "site": "plant-1",
        "expected_fps": 0.5,
        "schedule": {"days": ["mon", "fri"], "from": "05:00", "to": "21:30"},
    }
    answer = client.put("/v1/cameras/Förderband 1", json=about)
    assert answer.status_code == 200
    assert answer.get_json() == cameras(client)["Förderband 1"]
    assert {name: answer.get_json()[name] for name in about} == about
    client.put("/v1/cameras/Förderband 1", json={})
    assert cameras(client)["Förderband 1"]["schedule"] is None


def test_outside_its_schedule_a_camera_is_off() -> None:
    """Over midnight as well."""
    night = Schedule((4,), 22 * 60, 6 * 60)
    friday = datetime(2026, 1, 30, tzinfo=UTC)
    assert [night.includes(friday + timedelta(hours=hour)) for hour in (5, 21, 22, 29, 30)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert Schedule((4,), 0, 60).includes(friday)


def test_a_schedule_makes_silence_no_alarm(client: FlaskClient) -> None:
    """The camera is off tomorrow's days only."""
    client.post("/v1/cameras/belt-1/report", json=report(last_frame_at=None))
    tomorrow = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(NOW + timedelta(days=2)).weekday()]
    schedule = {"days": [tomorrow], "from": "10:00", "to": "11:00"}
    assert client.put("/v1/cameras/belt-1", json={"schedule": schedule}).get_json()["state"] == "off"


def test_a_renamed_camera_takes_along_what_is_known_of_it(client: FlaskClient) -> None:
    """Description, report and counts; a gateway that counts on by the new name takes nothing away."""
    client.put("/v1/cameras/belt-11", json={"name": "Belt 1"})
    client.post("/v1/cameras/belt-11/report", json=report())
    renamed = client.post("/v1/cameras/belt-11/rename", json={"id": "belt-1"})
    assert (renamed.status_code, renamed.get_json()) == (200, cameras(client)["belt-1"])
    assert (renamed.get_json()["name"], renamed.get_json()["state"]) == ("Belt 1", "live")
    assert [*cameras(client)] == ["belt-1"]
    client.post("/v1/cameras/belt-1/report", json=report())
    (row,) = client.get("/v1/ledger").get_json()["rows"]
    assert (row["camera"], row["gateway"]["sampled"]) == ("belt-1", 20)


def test_a_camera_is_added_to_another(client: FlaskClient) -> None:
    """Only if that is said; its own description stays."""
    for camera in ("belt-1", "belt-2"):
        client.put(f"/v1/cameras/{camera}", json={"name": camera})
        client.post(f"/v1/cameras/{camera}/report", json=report())
    assert_problem(client.post("/v1/cameras/belt-2/rename", json={"id": "belt-1"}), 409, "merge")
    assert_problem(
        client.post("/v1/cameras/belt-2/rename", json={"id": "belt-2", "merge": True}), 409, "already"
    )
    merged = client.post("/v1/cameras/belt-2/rename", json={"id": "belt-1", "merge": True})
    assert (merged.status_code, merged.get_json()["name"]) == (200, "belt-1")
    (row,) = client.get("/v1/ledger").get_json()["rows"]
    assert (row["camera"], row["gateway"]["sampled"]) == ("belt-1", 20)


def test_a_deleted_camera_is_gone(client: FlaskClient, jobs: JobStore) -> None:
    """From the list, the ledger and the metrics, once its jobs have settled; its results stay."""
    job = post_image(client, X_Camera_Id="belt-1").get_json()["id"]
    client.post("/v1/cameras/belt-1/report", json=report())
    assert_problem(client.delete("/v1/cameras/belt-1"), 409, "1 images")
    jobs.settle([Outcome(job, JobState.FAILED, error="x")], "m")
    before = cameras(client)["belt-1"]
    deleted = client.delete("/v1/cameras/belt-1")
    assert (deleted.status_code, deleted.get_json()) == (200, before)
    assert cameras(client) == {}
    assert client.get("/v1/ledger").get_json()["rows"] == []
    assert "belt-1" not in client.get("/metrics").text
    assert not jobs.client.keys("ws:sampled*")
    assert client.get(f"/v1/jobs/{job}").get_json()["camera"] == "belt-1"
    assert_problem(client.delete("/v1/cameras/belt-1"), 404, "There is no camera 'belt-1'")
    assert_problem(client.post("/v1/cameras/belt-1/rename", json={"id": "x"}), 404, "There is no camera")
    assert_problem(client.post("/v1/cameras/belt-1/rename", json={"id": "../x"}), 400, "id")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"hours": [{**COUNTS, "hour": "yesterday"}]}, "hours[0].hour"),
        ({"hours": [{**COUNTS, "hour": HOUR.isoformat(), "sampled": -1}]}, "hours[0].sampled"),
        ({"gateway": "x"}, "gateway"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_report_is_rejected(client: FlaskClient, members: dict[str, Any], named: str) -> None:
    """The sentence names the member."""
    answer = client.post("/v1/cameras/belt-1/report", json=report(**members))
    assert_problem(answer, 400, named)


def test_the_number_of_cameras_is_bounded(client: FlaskClient, settings: Settings) -> None:
    """As that of the ledger."""
    reports = CameraReports(connect(settings.redis_url.get_secret_value()), max_cameras=1, retention=3600)
    client.post("/v1/cameras/one/report", json=report())
    status = reports.cameras()["one"].report
    assert status is not None
    reports.add("one", status, {})
    with pytest.raises(Exception, match="The camera is new"):
        reports.add("two", status, {})


def test_a_bound_key_reports_its_cameras_only(client: FlaskClient, keys: KeyStore) -> None:
    """And sees those only."""
    token = keys.create("k", [Scope.INGEST, Scope.READ], cameras=["belt-1"])[1]
    other = keys.create("o", [Scope.INGEST])[1]
    headers = {"Authorization": f"Bearer {token}"}
    post_image(client, X_Camera_Id="belt-2", Authorization=f"Bearer {other}")
    assert client.post("/v1/cameras/belt-1/report", json=report(), headers=headers).status_code == 202
    assert client.post("/v1/cameras/belt-2/report", json=report(), headers=headers).status_code == 403
    shown = client.get("/v1/cameras", headers=headers).get_json()["cameras"]
    assert [camera["id"] for camera in shown] == ["belt-1"]
    (row,) = client.get("/v1/ledger", headers=headers).get_json()["rows"]
    assert (row["camera"], row["gateway"]) == ("belt-1", COUNTS)
    assert client.put("/v1/cameras/belt-1", json={}, headers=headers).status_code == 403
