"""Stages, reviewers and the rule of done; and what a failed send leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
from annotation_people import Annotator, at_upload
from cvat_double.reach import Reachable

from osv_lab.annotate import AnnotationLoop
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError


@pytest.fixture
def people(told_server: Reachable) -> list[str]:
    """Two user names."""
    return [told_server.new_person()[0] for _ in range(2)]


def test_a_job_goes_from_annotator_to_reviewer_and_back_and_is_accepted(
    loop: AnnotationLoop, pets: Any, people: list[str]
) -> None:
    ann, rev = people
    task = loop.send(pets, "key", "pred", segment_size=3, assignees=[ann], reviewers=[rev])
    first, second = (job.job for job in loop.status("key").jobs)
    person = Annotator(loop.connection, task.task)
    person.finish(first)
    assert loop.pull("key").jobs_pulled == 1

    one, other = loop.advance("key").jobs
    assert (one.stage, one.state, one.assignee) == ("validation", "new", rev)
    assert (other.stage, other.state, other.assignee) == ("annotation", "new", ann)
    assert loop.pull("key").jobs_pulled == 0
    assert loop.pull("key", done="annotated").jobs_pulled == 1
    assert loop.pull("key", done="validated").jobs_pulled == 0

    one, _ = loop.send_back("key", [first]).jobs
    assert (one.stage, one.state, one.assignee) == ("annotation", "rejected", ann)
    assert loop.pull("key", done="annotated").jobs_pulled == 0

    person.finish(first)
    loop.advance("key")
    person.finish(first)
    one, _ = loop.advance("key").jobs
    assert (one.stage, one.state) == ("acceptance", "completed")
    assert loop.pull("key", done="accepted").jobs_pulled == 1
    assert loop.advance("key", [second], to="acceptance").jobs[1].state == "completed"
    assert loop.connection.get(f"/api/tasks/{task.task}")["status"] == "completed"


def test_the_rule_of_done_is_remembered(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred", done="accepted")
    Annotator(loop.connection, task.task).finish()
    assert loop.pull("key").jobs_pulled == 0
    loop.advance("key")
    assert loop.pull("key").jobs_pulled == 1
    assert [(run["done"], run["jobs"]) for run in loop.list().runs] == [("accepted", 1)]
    with pytest.raises(UsageError, match="accepted"):
        loop.pull("key", done="acepted")  # type: ignore[arg-type]


def test_jobs_are_given_to_others_and_to_nobody(loop: AnnotationLoop, pets: Any, people: list[str]) -> None:
    loop.send(pets, "key", "pred", segment_size=2)
    given = loop.reassign("key", people).jobs
    assert [job.assignee for job in given] == [people[0], people[1], people[0]]
    assert [job.assignee for job in loop.reassign("key", (), [given[0].job]).jobs] == ["", people[1], people[0]]
    with pytest.raises(NotFoundError, match="no such job"):
        loop.reassign("key", people[0], [10**9])
    with pytest.raises(NotFoundError, match="no such user"):
        loop.reassign("key", "nobody-of-that-name")


def test_an_annotator_may_not_move_jobs_on_and_is_told_who_may(
    loop: AnnotationLoop, pets: Any, told_server: Reachable
) -> None:
    name, password = told_server.new_person()
    task = loop.send(pets, "key", "pred", assignees=[name])
    Annotator(loop.connection, task.task).finish()
    with (
        AnnotationLoop(pets, told_server.url, (name, password), organization="") as theirs,
        pytest.raises(UsageError, match="maintainer"),
    ):
        theirs.advance("key")
    (job,) = loop.status("key").jobs
    assert (job.stage, job.state) == ("annotation", "completed")


def test_a_reviewer_who_is_unknown_is_told_before_anything_is_made(loop: AnnotationLoop, pets: Any) -> None:
    with pytest.raises(NotFoundError, match="no such user"):
        loop.send(pets, "key", "pred", reviewers=["nobody-of-that-name"])
    assert list(loop.connection.pages("/api/projects", {"name": pets.name})) == []


def test_a_failed_send_takes_its_new_project_along(
    loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> None:
        raise UnavailableError("the upload was cut")

    def projects() -> list[Any]:
        return list(loop.connection.pages("/api/projects", {"name": pets.name}))

    with monkeypatch.context() as patch:
        at_upload(patch, cut)
        with pytest.raises(UnavailableError, match="cut"):
            loop.send(pets, "key", "pred")
        assert projects() == []
    loop.send(pets, "key", "pred")
    with monkeypatch.context() as patch:
        at_upload(patch, cut)
        with pytest.raises(UnavailableError, match="cut"):
            loop.send(pets, "other", "pred")
    assert len(projects()) == 1
