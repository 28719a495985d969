"""Lists and retries of jobs, by the API and by the commands, on a real Redis and a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.jobs import jobs as container_jobs
from core.errors import ObjectNotFoundError
from core.jobs import JobState, Outcome
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.settings import Settings, load_settings
from core.storage import ObjectStore
from infra.cli.main import cli
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import Server, wait_until
from tests.support.stream import BROKEN, assert_balanced, upload, upload_bulk, wait_settled

Call = Callable[..., Result]


@pytest.fixture(params=["./wastestream jobs", "python -m api.jobs"])
def call(settings: Settings, request: pytest.FixtureRequest) -> Call:
    """The commands, on the real servers, as on a machine and as in a container."""
    runner = CliRunner(env=environment_of(settings))
    own = request.param == "python -m api.jobs"

    def run(*arguments: str) -> Result:
        load_settings.cache_clear()
        return runner.invoke(*((container_jobs, arguments) if own else (cli, ["jobs", *arguments])))

    return run


def _settle(jobs: JobStore, ids: Sequence[str], state: JobState = JobState.FAILED) -> None:
    jobs.settle([Outcome(job_id, state, error="x") for job_id in ids], "m")


def _list(client: FlaskClient, query: str = "") -> list[str]:
    response = client.get(f"/v1/jobs?{query}")
    assert response.status_code == 200, response.get_data(as_text=True)
    return [job["id"] for job in response.get_json()["jobs"]]


def _problem(response: TestResponse) -> tuple[int, str, str]:
    problem = response.get_json(force=True)
    assert response.content_type == "application/problem+json"
    return response.status_code, problem["type"], problem["detail"]


def _retry_all(client: FlaskClient, **members: Any) -> dict[str, Any]:
    response = client.post("/v1/jobs/retry", json={"states": ["failed", "expired"], **members})
    assert response.status_code == 202, response.get_data(as_text=True)
    document: dict[str, Any] = response.get_json()
    return document


def test_jobs_are_listed_page_by_page(client: FlaskClient, jobs: JobStore) -> None:
    """Filtered by state, camera and time; each page says where the next one begins."""
    ids = [upload(client), *upload_bulk(client, 5), upload(client, camera="belt-2")]
    _settle(jobs, ids[1:3])
    _settle(jobs, ids[3:4], JobState.EXPIRED)
    page = client.get("/v1/jobs?limit=4").get_json()
    rest = client.get(f"/v1/jobs?limit=4&after={page['next']}").get_json()
    assert [job["id"] for job in (*page["jobs"], *rest["jobs"])] == ids
    assert rest["next"] is None
    assert page["jobs"][1] == client.post("/v1/jobs/query", json={"ids": [ids[1]]}).get_json()["jobs"][0]
    assert page["jobs"][1]["retry_of"] is None

    assert _list(client, "state=failed") == ids[1:3]
    assert _list(client, "state=failed&state=expired") == ids[1:4]
    assert _list(client, "state=failed,expired&camera=belt") == ids[1:4]
    assert _list(client, "camera=belt-2") == ids[6:]
    assert _list(client, "camera=never-seen") == []
    accepted = page["jobs"][0]["accepted_at"]
    assert _list(client, f"from={accepted}") == ids
    assert _list(client, f"to={accepted}") == []
    assert _list(client, "from=2020-01-01&to=2020-01-02") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "state=quued",
            "has 'quued', which is not a state; use queued, classified, failed, expired, cancelled",
        ),
        ("state=failed&state=odd,queued", "state='failed,odd,queued' has 'odd', which is not a state"),
        ("state=failed,", "state='failed,' has '', which is not a state"),
        ("camera=a/b", "camera='a/b' 'a/b' cannot be a camera's id"),
        ("from=yesterday", "from='yesterday' is not a date, or a time with a zone"),
        ("from=2026-01-02&to=2026-01-01", "is not before to=2026-01-01T00:00:00.000Z; send an earlier from"),
        ("after=5", "after='5' is not a cursor; send `next` of the page before, as it is"),
        ("limit=0", "limit='0' is not a number from 1 to 1,000"),
        ("limit=1001", "limit='1001' is not a number from 1 to 1,000"),
        ("limit=ten", "limit='ten' is not a number from 1 to 1,000"),
        ("limit=5&limit=6", "'limit' was sent 2 times; send it once"),
        (
            "status=failed",
            "'status' is not a parameter of this call; use camera, from, to, after, state, limit",
        ),
    ],
)
def test_what_is_wrong_with_a_list_is_named(client: FlaskClient, query: str, says: str) -> None:
    """The parameter, its value, and what may stand there."""
    status, kind, detail = _problem(client.get(f"/v1/jobs?{query}"))
    assert (status, kind) == (400, "/problems/invalid-parameter")
    assert says in detail


def test_an_emptied_redis_has_no_list(client: FlaskClient, jobs: JobStore) -> None:
    """It is not taken for one without jobs."""
    upload(client)
    jobs.client.flushall()
    assert _problem(client.get("/v1/jobs"))[:2] == (503, "/problems/data-lost")


def test_a_job_is_retried_once(client: FlaskClient, jobs: JobStore, objects: ObjectStore) -> None:
    """The new job has the old one's image, camera and time, names it, and stays the only one."""
    headers = {"Content-Type": "image/jpeg", "X-Camera-Id": "belt-7", "X-Captured-At": "2026-01-31T07:15:00Z"}
    old = client.post("/v1/images", data=jpeg(3), headers={**headers, "X-Max-Age": "604800"}).get_json()
    shared = upload_bulk(client, 3)
    _settle(jobs, [old["id"], shared[1]])
    response = client.post(f"/v1/jobs/{old['id']}/retry")
    new = response.get_json()
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{new['id']}")
    assert new == {**old, "id": new["id"], "accepted_at": new["accepted_at"], "expires_at": None} | {
        "retry_of": old["id"],
        "queue": new["queue"],
    }
    assert new["id"] != old["id"]
    (job,) = jobs.read_many([new["id"]])
    assert job is not None
    assert objects.get(job.image_key) == jpeg(3)

    with ThreadPoolExecutor(4) as pool:
        app = client.application
        answers = [pool.submit(app.test_client().post, f"/v1/jobs/{shared[1]}/retry") for _ in range(8)]
        ids = {answer.result().get_json()["id"] for answer in answers}
    assert len(ids) == 1
    assert client.get(f"/v1/jobs/{ids.copy().pop()}/image").data == jpeg(1)
    assert client.post(f"/v1/jobs/{old['id']}/retry").get_json()["id"] == new["id"]
    assert len(_list(client)) == 4 + 2
    assert_balanced(jobs)

    # It fails again: a retry of its own; the first one's stays what it is.
    _settle(jobs, [new["id"]])
    again = client.post(f"/v1/jobs/{new['id']}/retry").get_json()
    assert (again["retry_of"], again["state"]) == (new["id"], "queued")
    assert client.post(f"/v1/jobs/{old['id']}/retry").get_json()["id"] == new["id"]


def test_what_cannot_be_retried_is_named(client: FlaskClient, jobs: JobStore, objects: ObjectStore) -> None:
    """Jobs in other states, unknown ones, those whose image is gone, and wrong filters."""
    queued, done, gone, cut = (upload(client, jpeg(seed)) for seed in range(4))
    _settle(jobs, [done], JobState.CANCELLED)
    _settle(jobs, [gone, cut])
    stored = {job.id: job.image_key for job in jobs.read_many([gone, cut]) if job is not None}
    objects.delete_many([stored[gone]])
    objects.put(stored[cut], jpeg(3)[:20])
    for job_id, status, kind, says in (
        (queued, 409, "job-not-retryable", f"Job {queued} is queued; only a failed or expired job can be"),
        (done, 409, "job-not-retryable", "is cancelled;"),
        ("01K9Z3NDEKTSV4RRFFQ69G5FAV", 404, "job-not-found", "There is no job 01K9Z3NDEKTSV4RRFFQ69G5FAV"),
        ("nonsense", 404, "job-not-found", "'nonsense' is not a job id"),
        (gone, 410, "image-gone", f"The image of job {gone} is no longer stored"),
        (cut, 422, "damaged-image", f"The stored image of job {cut} is not accepted now"),
    ):
        answer = _problem(client.post(f"/v1/jobs/{job_id}/retry"))
        assert answer[:2] == (status, f"/problems/{kind}")
        assert says in answer[2]
    outcome = _retry_all(client)
    assert outcome["next"] is None
    assert [(item["job_id"], item["status"], item["error"]["type"]) for item in outcome["items"]] == [
        (gone, 410, "/problems/image-gone"),
        (cut, 422, "/problems/damaged-image"),
    ]

    for body, says in (
        ({}, '\'states\' is missing; send JSON such as {"states": ["failed", "expired"], "camera": "belt-1"'),
        ({"states": []}, "states"),
        ({"states": ["queued"]}, "states[0]"),
        ({"states": ["failed"], "state": "failed"}, "'state' is not a member of this document"),
        ({"states": ["failed"], "first": "2026-01-01"}, "'first' is not a member of this document"),
        ({"states": ["failed"], "from": 5}, "from is not a date"),
        ({"states": ["failed"], "from": "2026-01-02", "to": "2026-01-01"}, "is not before to="),
        ({"states": ["failed"], "camera": 7}, "camera is not text"),
        ({"states": ["failed"], "after": "x"}, "after is not a cursor"),
        ({"states": ["failed"], "limit": 101}, "limit"),
        ({"states": ["failed"], "limit": "5"}, "limit"),
    ):
        answer = _problem(client.post("/v1/jobs/retry", json=body))
        assert answer[:2] == (400, "/problems/invalid-body"), body
        assert says in answer[2], answer


def test_all_that_match_are_retried(
    client: FlaskClient, jobs: JobStore, start_worker: Callable[..., Server]
) -> None:
    """Page by page; not those that the retries made, which fail again; the same calls make no second ones."""
    good = upload_bulk(client, 20)
    bad, other = upload(client, BROKEN), upload(client, camera="belt-2")
    _settle(jobs, [*good[:18], other])
    _settle(jobs, good[18:], JobState.EXPIRED)
    _settle(jobs, [bad])
    start_worker()

    def retry() -> dict[str, str]:
        made: dict[str, str] = {}
        after: str | None = None
        while True:
            outcome = _retry_all(client, camera="belt", limit=8, after=after)
            assert all(item["status"] == 202 for item in outcome["items"])
            made |= {item["job_id"]: item["job"]["id"] for item in outcome["items"]}
            wait_settled(jobs, list(made.values()))
            after = outcome["next"]
            if after is None:
                return made

    made = retry()
    assert list(made) == [*good, bad]
    assert wait_settled(jobs, list(made.values())) == {"classified": 20, "failed": 1}
    again = retry()
    assert again.items() > made.items()
    assert list(again)[-1] == made[bad]
    assert jobs.read_many([other])[0] is not None
    assert len(_list(client)) == 22 + 21 + 1
    assert_balanced(jobs)
    assert Ledger(jobs.client).balance().counts["duplicates"] == 0


def test_a_full_queue_ends_a_call_early(client: FlaskClient, settings: Settings, jobs: JobStore) -> None:
    """What was retried is told, with where to go on; when nothing was, 429."""
    ids = upload_bulk(client, 6)
    _settle(jobs, ids)
    small = create_app(settings.model_copy(update={"max_queued": 100})).test_client()
    waiting = upload_bulk(client, 86)  # bulk uploads are taken up to 90
    outcome = _retry_all(small)
    assert [item["job_id"] for item in outcome["items"]] == ids[:4]
    full = small.post("/v1/jobs/retry", json={"states": ["failed"], "after": outcome["next"]})
    assert _problem(full)[:2] == (429, "/problems/queue-full")
    assert "Retry-After" in full.headers
    _settle(jobs, waiting[:10])
    rest = _retry_all(small, after=outcome["next"], to=None)
    assert [item["job_id"] for item in rest["items"]][:2] == ids[4:]


def test_a_key_retries_its_own_jobs(client: FlaskClient, jobs: JobStore) -> None:
    """To others they do not exist; `admin` may retry any; the new job belongs to whom the old one did."""
    key_store = KeyStore(jobs.client)
    scopes = {"belt": [Scope.INGEST], "other": [Scope.INGEST], "boss": [Scope.ADMIN], "eye": [Scope.READ]}
    key_ids, headers = {}, {}
    for name, granted in scopes.items():
        key, token = key_store.create(name, granted)
        key_ids[name], headers[name] = key.id, {"Authorization": f"Bearer {token}"}
    wait_until(lambda: client.get("/v1/jobs").status_code == 401, "keys to be needed")
    image = {"Content-Type": "image/jpeg"}
    mine, second = (
        client.post("/v1/images", data=jpeg(seed), headers=headers["belt"] | image).get_json()["id"]
        for seed in range(2)
    )
    _settle(jobs, [mine, second])

    def retry(name: str, job_id: str = mine) -> TestResponse:
        return client.post(f"/v1/jobs/{job_id}/retry", headers=headers[name])

    def retry_all(name: str) -> list[str]:
        response = client.post("/v1/jobs/retry", json={"states": ["failed"]}, headers=headers[name])
        assert response.status_code == 202
        return [item["job_id"] for item in response.get_json()["items"]]

    assert _problem(retry("other"))[:2] == (404, "/problems/job-not-found")
    assert retry("eye").status_code == 403
    assert retry_all("other") == []
    new = retry("boss").get_json()["id"]
    assert retry("belt").get_json()["id"] == new
    assert retry_all("belt") == [mine, second]
    jobs.settle([Outcome(new, JobState.FAILED, error="x")], "m")
    assert retry("other", new).status_code == 404
    assert retry("belt", new).get_json()["retry_of"] == new
    stored = jobs.read(new)
    assert stored is not None
    assert stored.owner == key_ids["belt"]
    assert client.get("/v1/jobs", headers=headers["belt"]).status_code == 403
    assert len(client.get("/v1/jobs", headers=headers["eye"]).get_json()["jobs"]) == 5


def test_an_operator_lists_and_retries(
    call: Call, client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """By filter or by id; what could not be retried is named, and so says the exit code."""
    ids = [*upload_bulk(client, 4), upload(client, camera="belt-2")]
    _settle(jobs, ids[:3])
    rows = [line.split() for line in call("list").stdout.splitlines()]
    assert rows[0] == ["id", "state", "camera", "accepted", "result"]
    assert [row[:3] for row in rows[1:]] == [
        *([job_id, "failed", "belt"] for job_id in ids[:3]),
        [ids[3], "queued", "belt"],
        [ids[4], "queued", "belt-2"],
    ]
    shown = call(
        "list", "--json", "--failed", "--queued", "--camera", "belt", "--since", "2h", "--limit", "2"
    )
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == ids[:2]
    assert "There are more than 2" in shown.stderr
    nothing = call("list", "--cancelled", "--until", "2026-01-01")
    assert (nothing.exit_code, nothing.stdout, "No job matches" in nothing.stderr) == (0, "", True)

    done = call("retry", "--failed", "--expired", "--since", "2h", "--camera", "belt")
    assert done.exit_code == 0, done.output
    made = dict(line.split() for line in done.stdout.splitlines())
    assert list(made) == ids[:3]
    assert "Retried 3." in done.stderr
    again = call("retry", "--failed")
    assert (again.stdout, "Retried before: 3." in again.stderr) == (done.stdout, True)
    for new, old in zip(jobs.read_many(list(made.values())), made, strict=True):
        assert new is not None
        assert (new.retry_of, new.state) == (old, JobState.QUEUED)
    none = call("retry", "--expired")
    assert (none.exit_code, "No job matches, so none was retried" in none.stderr) == (0, True)

    _settle(jobs, [ids[4]])
    (last,) = jobs.read_many([ids[4]])
    assert last is not None
    objects.delete_many([last.image_key])
    named = call("retry", ids[0], ids[4], ids[3], "nonsense")
    assert named.exit_code == 1
    assert named.stdout == f"{ids[0]} {made[ids[0]]}\n"
    for sentence in (
        f"The image of job {ids[4]} is no longer stored",
        f"Job {ids[3]} is queued; only",
        "There is no job 'nonsense'",
        "Retried before: 1. Could not be retried: 3.",
    ):
        assert sentence in named.stderr
    with pytest.raises(ObjectNotFoundError):
        objects.get(last.image_key)
    assert_balanced(jobs)


def test_a_wrong_command_line_is_named(call: Call) -> None:
    """With exit code 2."""
    for arguments, says in (
        (["retry"], "Name the ids of jobs, or select jobs with --failed, --expired or both"),
        (["retry", "--failed", "01K9Z3NDEKTSV4RRFFQ69G5FAV"], "Name the ids of jobs, or select"),
        (["retry", "--queued"], "No such option"),
        (["list", "--since", "lately"], "'lately' is not a time; write how long ago, such as 30m, 2h or 7d"),
        (["list", "--camera", "a/b"], "cannot be a camera's id"),
        (["list", "--limit", "0"], "0 is not in the range"),
    ):
        result = call(*arguments)
        assert (result.exit_code, says in result.stderr) == (2, True), result.output


def test_commands_say_that_data_are_lost(call: Call, client: FlaskClient, jobs: JobStore) -> None:
    """They are not taken for an installation without jobs."""
    upload(client)
    jobs.client.flushall()
    result = call("list")
    assert (result.exit_code, "Redis has lost its data" in result.stderr) == (1, True), result.output
