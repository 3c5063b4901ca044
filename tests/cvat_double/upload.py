"""The upload protocol: begin, many files in one body or one file in chunks, finish, and then a worker's turn."""

from __future__ import annotations

import base64
import io
import secrets
import threading
import time
from typing import Any

from PIL import Image

from cvat_double.http import SERVER_ERROR, RefusedError, Request, Response, Routes
from cvat_double.state import Frame, Job, Piece, Task, World, now
from cvat_double.tasks import task_of
from cvat_double.video import NoVideoError, is_video, read_video

SUCCESS_REMEMBERED = 500.0  # seconds for which a finished request can still be asked for


class Worker:
    """Makes tasks of uploaded files, each in a thread of its own, ``delay`` seconds after it was asked to.

    While ``awake`` is not set, requests stay queued, as they do when a server's workers are down.
    """

    def __init__(self, world: World, delay: float = 0.02) -> None:
        self.world, self.delay = world, delay
        self.awake = threading.Event()
        self.awake.set()

    def begin(self, task: Task, order: list[str], asked: dict[str, Any], request: Request) -> str:
        assert request.user is not None
        key = f"action=create&target=task&target_id={task.id}"
        owner = {"id": request.user.id, "username": request.user.username}
        operation = {"type": "create:task", "target": "task", "project_id": task.project_id, "task_id": task.id}
        operation |= {"job_id": None, "format": None, "lightweight": None}
        record: dict[str, Any] = {"status": "queued", "message": "", "id": key, "operation": operation}
        record |= {"progress": None, "created_date": now(), "started_date": None, "finished_date": None}
        record |= {"expiry_date": None, "owner": owner, "result_url": None, "result_id": None}
        self.world.requests.pop(key, None)
        self.world.requests[key] = record
        threading.Thread(target=self._work, args=(task, order, asked, record), daemon=True).start()
        return key

    def _work(self, task: Task, order: list[str], asked: dict[str, Any], record: dict[str, Any]) -> None:
        time.sleep(self.delay / 2)
        self.awake.wait()
        with self.world.lock:
            record |= {"status": "started", "started_date": now(), "progress": 0.0}
        time.sleep(self.delay / 2)
        with self.world.lock:
            try:
                if is_video(order):
                    task.frames, task.window = read_video(order[0], task.files[order[0]], asked)
                else:
                    task.frames = [read_frame(name, task.files[name]) for name in order]
                split(self.world, task)
                record |= {"status": "finished", "finished_date": now()}
            except (UnreadableError, NoVideoError) as error:
                task.frames = []
                record |= {"status": "failed", "message": str(error), "finished_date": now()}
        if record["status"] == "finished":
            forget = threading.Timer(SUCCESS_REMEMBERED, self.world.requests.pop, (record["id"], None))
            forget.daemon = True
            forget.start()


class UnreadableError(Exception):
    """A file is no image."""


def read_frame(name: str, content: bytes) -> Frame:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return Frame(name, *image.size)
    except Exception as error:
        # Of any kind: Ultralytics, once it is loaded, makes Pillow raise others than its own.
        message = f"utils.dataset_manifest.errors.InvalidImageError: failed to parse image file '{name}'\n"
        raise UnreadableError(message) from error


def split(world: World, task: Task) -> None:
    """Cut the frames into jobs of ``segment_size``, each sharing ``overlap`` frames with the one before."""
    size = len(task.frames)
    length = min(task.segment_size or size, size)
    mode = "annotation" if task.window is None else "interpolation"
    usual = 0 if task.window is None else 5
    overlap = min(usual if task.overlap is None else task.overlap, length // 2)
    task.segment_size, task.overlap, task.mode, task.updated = length, overlap, mode, now()
    start = 0
    while start < size:
        stop = min(start + length, size) - 1
        job = Job(world.next_id("job"), task, start, stop)
        world.jobs[job.id] = job
        if stop == size - 1:
            return
        start = stop + 1 - overlap


def routes(world: World, table: Routes, worker: Worker) -> None:
    @table.on("POST", "/tasks/{key}/data")
    def data(request: Request, key: str) -> Response:
        task = task_of(world, request, key)
        if task.frames:
            return Response(400, "Adding more data is not supported")
        if task.broken:
            return Response(500, SERVER_ERROR)
        task.has_data = True
        if "upload-finish" in request.headers:
            return finish(task, request)
        if "upload-start" in request.headers:
            return Response(202)
        if "upload-length" in request.headers:
            return announce(task, request)
        if "upload-multiple" in request.headers:
            return several(task, request)
        return finish(task, request)

    def several(task: Task, request: Request) -> Response:
        fields, files = request.form()
        names = [name for name, _ in files]
        if not fields.get("image_quality"):
            raise RefusedError(400, {"image_quality": ["This field is required."]})
        if len(set(names)) != len(names) or set(names) & set(task.entries):
            return Response(500, SERVER_ERROR)
        task.entries += names
        task.files |= dict(files)
        return Response(200)

    def announce(task: Task, request: Request) -> Response:
        pairs = (part.split(" ", 1) for part in request.headers["upload-metadata"].split(","))
        metadata = {name: base64.b64decode(value).decode() for name, value in pairs}
        name = metadata["filename"]
        if name in task.files:
            return Response(409, "File with same name already exists")
        if name not in task.entries:
            task.entries.append(name)
        identifier = secrets.token_hex(16)
        task.pieces[identifier] = Piece(name, int(request.headers["upload-length"]))
        location = f"{request.base}/api/tasks/{task.id}/data/{identifier}"
        return Response(201, headers={"Location": location, "Upload-Filename": name})

    def finish(task: Task, request: Request) -> Response:
        asked = request.json() or {}
        if "image_quality" not in asked:
            raise RefusedError(400, {"image_quality": ["This field is required."]})
        order = sorted(task.entries)
        if asked.get("sorting_method") == "predefined":
            order = list(asked.get("upload_file_order") or task.entries)
        wrong = set(order) ^ set(task.entries)
        if wrong:
            listed = ", ".join(
                f"{name} ({'extra' if name in task.entries else 'missing'})" for name in sorted(wrong)
            )
            message = "Uploaded files do not match the 'upload_file_order' field contents. Please check the "
            message += f"uploaded data and the list of uploaded files. Mismatching files: {listed}"
            return Response(400, [message])
        if not order or set(order) != set(task.files):
            return Response(500, SERVER_ERROR)
        task.image_quality = asked["image_quality"]
        return Response(202, {"rq_id": worker.begin(task, order, asked, request)})

    @table.on("HEAD", "/tasks/{key}/data/{identifier}")
    def arrived(request: Request, key: str, identifier: str) -> Response:
        piece = piece_of(task_of(world, request, key), identifier)
        return Response(headers={"Upload-Offset": str(len(piece.content)), "Upload-Length": str(piece.length)})

    @table.on("PATCH", "/tasks/{key}/data/{identifier}")
    def chunk(request: Request, key: str, identifier: str) -> Response:
        task = task_of(world, request, key)
        piece = piece_of(task, identifier)
        if int(request.headers["upload-offset"]) != len(piece.content):
            return Response(409)
        if len(piece.content) + len(request.body) > piece.length:
            return Response(413)
        piece.content += request.body
        if len(piece.content) == piece.length:
            task.files[piece.name] = piece.content
            del task.pieces[identifier]
        return Response(204, headers={"Upload-Offset": str(len(piece.content))})


def piece_of(task: Task, identifier: str) -> Piece:
    if identifier not in task.pieces:
        raise RefusedError(404, None)
    return task.pieces[identifier]
