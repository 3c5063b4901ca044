"""What the server holds: plain records, one counter of ids per kind, one lock around all of it."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class User:
    id: int
    username: str
    password: str
    is_admin: bool = False


@dataclass
class Token:
    id: int
    name: str
    value: str
    user: User
    read_only: bool = True
    revoked: bool = False


@dataclass
class Organization:
    id: int
    slug: str
    owner: User
    members: dict[int, str] = field(default_factory=dict)  # user id -> role


@dataclass
class Project:
    id: int
    name: str
    owner: User
    organization: Organization | None
    assignee: User | None = None
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Label:
    id: int
    name: str
    project_id: int | None
    task_id: int | None
    type: str = "any"
    color: str = "#e5b557"
    attributes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Piece:
    """A file that arrives in chunks."""

    name: str
    length: int
    content: bytes = b""


@dataclass
class Frame:
    name: str
    width: int
    height: int


@dataclass
class Window:
    """Which frames of a video are a task's: the first and the last, from 0, and of those between every so many."""

    first: int
    last: int
    step: int


@dataclass
class Task:
    id: int
    name: str
    owner: User
    project_id: int | None
    organization: Organization | None
    segment_size: int = 0
    overlap: int | None = None
    subset: str = ""
    assignee: User | None = None
    mode: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)  # names of files announced, arrived or not
    pieces: dict[str, Piece] = field(default_factory=dict)
    has_data: bool = False  # an upload was begun
    broken: bool = False  # an upload was cut: no later one into this task can succeed
    image_quality: int = 50
    has_truth: bool = False  # a ground-truth job was made
    frames: list[Frame] = field(default_factory=list)
    window: Window | None = None  # of a video
    deleted_frames: list[int] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)


@dataclass
class Job:
    id: int
    task: Task
    start: int
    stop: int
    type: str = "annotation"
    frames: list[int] | None = None
    stage: str = "annotation"
    state: str = "new"
    assignee: User | None = None
    tags: list[dict[str, Any]] = field(default_factory=list)
    shapes: list[dict[str, Any]] = field(default_factory=list)
    tracks: list[dict[str, Any]] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)

    @property
    def status(self) -> str:
        if self.stage == "annotation":
            return "annotation"
        done = self.stage == "acceptance" and self.state == "completed"
        return "completed" if done else "validation"


@dataclass
class World:
    """Everything the server remembers over a restart."""

    users: dict[int, User] = field(default_factory=dict)
    sessions: dict[str, User] = field(default_factory=dict)
    tokens: list[Token] = field(default_factory=list)
    organizations: dict[int, Organization] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    labels: dict[int, Label] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    webhooks: dict[int, dict[str, Any]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    counters: dict[str, Iterator[int]] = field(default_factory=lambda: defaultdict(lambda: itertools.count(1)))

    def next_id(self, kind: str) -> int:
        return next(self.counters[kind])

    def add_user(self, username: str, password: str, *, is_admin: bool = False) -> User:
        user = User(self.next_id("user"), username, password, is_admin)
        self.users[user.id] = user
        return user

    def add_token(self, user: User, name: str = "token", *, read_only: bool = True) -> Token:
        value = f"{secrets.token_hex(4)}.{secrets.token_hex(16)}"
        token = Token(self.next_id("token"), name, value, user, read_only)
        self.tokens.append(token)
        return token

    def user_named(self, username: str) -> User | None:
        return next((user for user in self.users.values() if user.username == username), None)

    def labels_of(self, task: Task) -> list[Label]:
        if task.project_id is not None:
            return [label for label in self.labels.values() if label.project_id == task.project_id]
        return [label for label in self.labels.values() if label.task_id == task.id]

    def jobs_of(self, task: Task) -> list[Job]:
        return [job for job in self.jobs.values() if job.task is task]

    def forget(self, task: Task) -> None:
        """Delete a task and its jobs; a project's labels stay. What its upload still does ends in nothing."""
        self.tasks.pop(task.id, None)
        self.jobs = {key: job for key, job in self.jobs.items() if job.task is not task}
        self.labels = {key: label for key, label in self.labels.items() if label.task_id != task.id}

    def touch(self, job: Job) -> None:
        """An edit moves the date of the job, its task and the task's project."""
        job.updated = job.task.updated = now()
        if job.task.project_id in self.projects:
            self.projects[job.task.project_id].updated = job.updated
