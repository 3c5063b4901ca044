"""Webhooks: what the listener takes and refuses, and a server that tells of finished jobs."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from annotation_people import Annotator

from osv_lab.annotate import AnnotationLoop, listen
from osv_lab.annotate.listen import SIGNATURE, Listener, signature
from osv_lab.annotate.records import Runs
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError

NOTICE = json.dumps({"event": "update:job", "job": {"id": 3, "task_id": 7}}).encode()


@pytest.fixture
def heard() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def listener(heard: queue.Queue[str]) -> Iterator[Listener]:
    with Listener(heard.put, {7: "ours"}.get, "secret", max_bytes=1000, quiet_s=0) as found:
        yield found


def post(listener: Listener, body: bytes, signed: str | None, path: str = "/", method: str = "POST") -> int:
    connection = http.client.HTTPConnection(listener.address.removeprefix("http://"), timeout=10)
    connection.request(method, path, body, {} if signed is None else {SIGNATURE: signed})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_signed_notice_of_our_task_is_taken(listener: Listener, heard: queue.Queue[str]) -> None:
    assert post(listener, NOTICE, signature("secret", NOTICE)) == 202
    assert heard.get(timeout=10) == "ours"


@pytest.mark.parametrize(
    "signed", [None, "", "sha256=", "sha256=é", signature("guess", NOTICE), signature("secret", NOTICE + b" ")]
)
def test_a_notice_that_is_not_signed_rightly_does_nothing(
    listener: Listener, heard: queue.Queue[str], signed: str | None
) -> None:
    encoded = signed.encode().decode("latin-1") if signed else signed
    assert post(listener, NOTICE, encoded) == 401
    listener.close()
    assert heard.empty()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"job": 5}', 400),
        (b'{"job": {"task_id": "x"}}', 400),
        (b"[" * 900, 400),
        (b'{"event": "ping"}', 204),
        (b'{"job": {"task_id": 8}}', 204),
    ],
)
def test_what_is_signed_but_says_nothing_of_ours_does_nothing(
    listener: Listener, heard: queue.Queue[str], body: bytes, status: int
) -> None:
    assert post(listener, body, signature("secret", body)) == status
    listener.close()
    assert heard.empty()


def test_large_bodies_other_paths_and_methods_are_refused(listener: Listener) -> None:
    large = b"x" * 1001
    assert post(listener, large, signature("secret", large)) == 413
    assert post(listener, NOTICE, signature("secret", NOTICE), "/other") == 404
    assert post(listener, b"", None, method="GET") == 501
    with socket.create_connection(("127.0.0.1", int(listener.address.rsplit(":", 1)[1]))) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in raw.recv(100)


def test_one_that_fails_is_not_the_last(heard: queue.Queue[str]) -> None:
    def changed(key: str) -> None:
        heard.put(key)
        raise RuntimeError("once")

    with Listener(changed, {7: "ours"}.get, "secret", quiet_s=0) as listener:
        for _ in range(2):
            assert post(listener, NOTICE, signature("secret", NOTICE)) == 202
            assert heard.get(timeout=10) == "ours"


def test_what_cannot_be_listened_on_is_said(listener: Listener) -> None:
    with pytest.raises(UnavailableError, match="cannot be listened on"):
        Listener(print, {}.get, port=int(listener.address.rsplit(":", 1)[1]))
    with pytest.raises(UnavailableError, match="70000"):
        Listener(print, {}.get, port=70000)
    with pytest.raises(UsageError, match="secret"):
        Listener(print, {}.get, "")


def test_who_sends_byte_by_byte_holds_no_place_for_long(
    listener: Listener, heard: queue.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "WHOLE_S", 0.2)
    port = int(listener.address.rsplit(":", 1)[1])
    with contextlib.ExitStack() as held:
        slow = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(listen.AT_ONCE)]
        for one in slow:
            one.sendall(b"POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n{")
            # Less than each may be silent for, and more than all of it may take.
            one.settimeout(listen.SILENT_S / 2)
        for one in slow:
            while one.recv(1000):
                pass
    assert post(listener, NOTICE, signature("secret", NOTICE)) == 202
    assert heard.get(timeout=10) == "ours"


def test_a_notice_that_cannot_be_worked_off_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def down(_: int) -> None:
        raise UnavailableError("the database is down")

    with Listener(print, down, "secret") as listener, pytest.raises(http.client.RemoteDisconnected):
        post(listener, NOTICE, signature("secret", NOTICE))
    assert "could not be taken" in caplog.text
    assert "secret" not in caplog.text


def test_an_address_of_version_six_is_one_that_can_be_asked() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(UnavailableError, match="cannot be listened on"):
            Listener(print, {}.get, "secret", host="::1")
        return
    with Listener(print, {}.get, "secret", host="::1") as listener:
        assert post(listener, NOTICE, signature("secret", NOTICE)) == 204


def webhooks(loop: AnnotationLoop, pets: Any) -> list[Any]:
    (project,) = loop.connection.pages("/api/projects", {"name": pets.name})
    return list(loop.connection.pages("/api/webhooks", {"project_id": project["id"]}))


def test_a_finished_job_is_pulled_when_the_server_says_so(loop: AnnotationLoop, pets: Any) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred", segment_size=3).task)
    first, _ = sorted(job.job for job in loop.status("key").jobs)
    person.do("delete", person.objects()[0])
    told: queue.Queue[Any] = queue.Queue()
    with loop.listen("key", told=lambda key, report: told.put(report)) as listening:
        assert told.get(timeout=300).jobs_pulled == 0
        (hook,) = webhooks(loop, pets)
        assert hook["target_url"] == listening.target
        assert "secret" not in hook
        person.finish(first)
        report = told.get(timeout=300)
        assert (report.jobs_pulled, report.counts["deleted"]) == (1, 1)
    assert webhooks(loop, pets) == []
    with pytest.raises(NotFoundError):
        loop.listen("nothing")
    with pytest.raises(UsageError, match="how it reaches us"):
        loop.listen("key", host="0.0.0.0")


def test_nothing_is_registered_on_a_server_where_the_run_is_not(loop: AnnotationLoop, pets: Any) -> None:
    with pytest.raises(NotFoundError, match="nothing to listen for"):
        loop.listen()
    loop.send(pets, "key", "pred")
    runs, here = Runs(pets), Runs(pets).get("key")
    runs.put(replace(here, url="http://elsewhere:8080"))
    with pytest.raises(UsageError, match="sent elsewhere"):
        loop.listen("key")
    with pytest.raises(NotFoundError, match="nothing to listen for"):
        loop.listen()
    assert webhooks(loop, pets) == []
    runs.put(here)
