"""The client against the whole running stack, and the examples of its documentation."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from infra.lab.stack import Stack
from tests.support.both_clients import Awaited, Connect, take
from tests.support.images import jpeg, pattern
from tests.support.servers import REPOSITORY
from wastestream import ApiError, Client, Image, Job, KeyRejectedError, Outcome, requests
from wastestream.problems import (
    CameraExistsError,
    CameraNotFoundError,
    InvalidCameraIdError,
    JobNotFoundError,
    JobNotRetryableError,
    JobSettledError,
    UnsupportedImageError,
)

_EXAMPLES = [
    code
    for document in ("README.md", "client/README.md")
    for code in re.findall(
        r"^```python\n(.*?)^```", (REPOSITORY / document).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
]


@pytest.fixture(params=[Client, Awaited], ids=["Client", "AsyncClient"])
def client(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Client]:
    """Either client, by the methods of `Client`."""
    connect: Connect = request.param
    made = connect(stack.url, camera="client")
    yield made
    made.close()


def jobs_of(outcomes: list[Outcome]) -> list[Job]:
    """Return the jobs, which all outcomes have."""
    return [outcome.job for outcome in outcomes if outcome.job is not None or pytest.fail(str(outcome))]


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda code: str(_EXAMPLES.index(code)))
def test_the_examples_run(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    example: str,
) -> None:
    """As they stand in the documentation, each a program of its own, which prints something."""
    examples = shutil.copytree(REPOSITORY / "docs" / "examples", tmp_path / "docs" / "examples")
    for name in ("apple.jpg", "can.jpg"):
        shutil.copy(examples / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(example.replace("http://127.0.0.1:8000", stack.url), {"__name__": "__main__"})  # noqa: S102 - our own
    assert capsys.readouterr().out


def test_a_file_bytes_and_a_picture(client: Client, tmp_path: Path) -> None:
    """Each is classified, and belongs to the client's camera."""
    (tmp_path / "a.jpg").write_bytes(jpeg())
    for image in (tmp_path / "a.jpg", jpeg(), pattern(), pattern(mode="RGBA")):
        job = client.classify(image)
        assert (job.state, job.camera) == ("classified", "client")
        assert job.prediction is not None
        assert client.job(job.id).prediction == job.prediction


def test_good_and_bad_images_together(client: Client, tmp_path: Path) -> None:
    """Each has its outcome: 130 jobs, two that the server rejects, one that fails, one that is missing."""
    whole = jpeg(7)
    images: list[Any] = [*(jpeg(seed) for seed in range(130)), b"no image", b"", whole[: len(whole) // 2]]
    images.append(tmp_path / "gone.jpg")
    outcomes = sorted(client.classify_many(images), key=lambda outcome: outcome.index)
    assert [outcome.index for outcome in outcomes] == list(range(134))
    assert {job.state for job in jobs_of(outcomes[:130])} == {"classified"}
    assert isinstance(outcomes[130].error, UnsupportedImageError)
    assert isinstance(outcomes[131].error, ApiError)
    (failed,) = jobs_of(outcomes[132:133])
    assert (failed.state, bool(failed.error)) == ("failed", True)
    assert "cannot be read" in str(outcomes[133].error)


def test_uploads_now_results_later(client: Client) -> None:
    """Jobs are known by their ids, with what was said of their images."""
    taken = datetime(2026, 1, 31, 8, 15, tzinfo=UTC)
    sent = jobs_of(list(client.upload_many([Image(jpeg(), captured_at=taken, max_age=600)] * 3)))
    settled = [client.wait(job) for job in sent]
    assert {job.captured_at for job in settled} == {taken}
    jobs, unknown = client.query([*sent, "0" * 26])
    assert (jobs, unknown) == ([*settled], ["0" * 26])


def test_frames_of_several_cameras_go_together(client: Client) -> None:
    """Each keeps its camera and time; a wrong one fails alone."""
    times = [datetime(2026, 1, 31, hour, tzinfo=UTC) for hour in range(3)]
    frames = [Image(jpeg(), camera=f"client-{time.hour}", captured_at=time) for time in times]
    frames += [Image(jpeg(), camera="gate/7"), Image(jpeg())]
    outcomes = sorted(client.classify_many(frames), key=lambda outcome: outcome.index)
    jobs = jobs_of(outcomes[:3])
    assert [(job.camera, job.captured_at) for job in jobs] == [
        (f"client-{time.hour}", time) for time in times
    ]
    assert isinstance(outcomes[3].error, InvalidCameraIdError)
    assert jobs_of(outcomes[4:])[0].camera == "client"


def test_jobs_are_listed_and_repeated(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """By camera, state and time; more of them than fit one page. A failed one gets a new job, once."""
    monkeypatch.setattr(requests, "PAGE", 20)
    whole, camera = jpeg(8), f"listed-{uuid4().hex}"
    since = datetime.now(UTC) - timedelta(minutes=1)
    frames = [
        Image(whole[: len(whole) // 2] if number in {7, 60} else whole, camera=camera) for number in range(70)
    ]
    sent = {job.id for job in jobs_of(list(client.classify_many(frames)))}
    listed = list(client.jobs(camera=camera, since=since))
    assert (len(listed), {job.id for job in listed}) == (70, sent)
    failed, other = client.jobs(state=["failed", "expired"], camera=camera)
    new = client.retry(failed)
    assert (new.retry_of, new.camera, client.retry(failed.id).id) == (failed.id, camera, new.id)
    assert client.wait(new).state == "failed"
    retried = {each.old_id: each.job and each.job.id for each in client.retry_all(camera=camera, since=since)}
    assert retried.keys() == {failed.id, other.id, new.id}
    assert retried[failed.id] == new.id
    assert list(client.jobs(camera=camera, until=since)) == []
    with pytest.raises(JobNotRetryableError):
        client.retry(next(job for job in listed if job.id != failed.id))


def test_results_are_read_and_followed(client: Client, tmp_path: Path) -> None:
    """Those that are there, and with `follow` or as events those that come."""
    camera, begun = f"feed-{uuid.uuid4().hex}", datetime.now(UTC)
    sent = [client.classify(Image(jpeg(seed), camera=camera)) for seed in range(3)]
    cursor = tmp_path / "cursor"
    assert list(client.results(camera=camera, cursor_file=cursor)) == sent
    assert list(client.results(camera=camera, state="failed", since=begun)) == []
    uploads = Thread(target=lambda: [client.upload(Image(jpeg(seed), camera=camera)) for seed in range(4)])
    uploads.start()
    followed = take(client, 4, "results", camera=camera, cursor_file=cursor, follow=True)
    assert take(client, 7, "events", camera=camera, since=begun) == [*sent, *followed]
    uploads.join()


def test_an_image_is_taken_once(client: Client) -> None:
    """Under one key of the caller's, however often it is sent."""
    image = Image(jpeg(), idempotency_key=f"client-{uuid4().hex}")
    before = client.ledger(camera="client").sum
    assert client.classify(image).id == client.upload(image).id
    after = client.ledger(camera="client", since=date(2026, 1, 1)).sum
    assert after.received >= before.received + 1
    assert after.duplicates == before.duplicates + 1


def test_what_the_server_rejects(client: Client) -> None:
    """Has the class of its problem."""
    job = client.classify(jpeg())
    with pytest.raises(JobSettledError, match="is classified already"):
        client.cancel(job)
    with pytest.raises(JobNotFoundError):
        client.wait("0" * 26)
    with pytest.raises(UnsupportedImageError):
        client.upload(b"no image")


@pytest.mark.parametrize("connect", [Client, Awaited])
def test_keys(locked_stack: Stack, connect: Connect) -> None:
    """One with both scopes may classify; one without `read` is told so."""
    name = connect.__name__
    with Client(locked_stack.url, key=locked_stack.make_key(f"{name}-both", "ingest", "read")) as client:
        assert client.classify(jpeg()).state == "classified"
    for key in (locked_stack.make_key(f"{name}-ingest", "ingest"), "ws_wrong", None):
        client = connect(locked_stack.url, key=key)
        with pytest.raises(KeyRejectedError):
            list(client.classify_many([jpeg()] * 2))
        client.close()


def test_cameras_are_listed_renamed_and_deleted(client: Client) -> None:
    """By either client; a name that is in use is an error of its own."""
    wrong, right, other = (f"camera-{uuid4().hex[:8]}" for _ in range(3))
    for camera in (wrong, other):
        client.classify(Image(jpeg(), camera=camera))
    assert [camera.received for camera in client.cameras() if camera.id == wrong] == [1]
    assert (client.rename_camera(wrong, right).id, client.rename_camera(right, wrong).received) == (right, 1)
    with pytest.raises(CameraExistsError, match="already"):
        client.rename_camera(wrong, other)
    assert client.delete_camera(wrong).state is None
    with pytest.raises(CameraNotFoundError, match=wrong):
        client.delete_camera(wrong)
