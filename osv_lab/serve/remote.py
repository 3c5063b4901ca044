"""What may be computed in a worker process: how each is written into a frame, done there, and read back.

An operation stands for a method of :class:`~osv_lab.serve.answers.Answers`. ``asked`` makes, in the front, a header and
raw bytes of its arguments; ``done`` calls the method in a worker and makes a header and bytes of the result; ``read``
makes the result of those, in the front again. The front imports neither decoders nor the runtime for it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve import pipe
from osv_lab.serve.message import Answer, Fetch, Sent
from osv_lab.serve.models import DEFAULT
from osv_lab.serve.served import thresholds_of

if TYPE_CHECKING:
    from osv_lab.serve.answers import Answers, Batch
    from osv_lab.serve.models import Models
    from osv_lab.serve.observe import Observation
    from osv_lab.serve.served import ServedModel
    from osv_lab.serve.ticket import Ticket

Header = Mapping[str, Any]
Asking = tuple[Header, Sequence[bytes], Mapping[str, "ServedModel"]]
"""A header, raw bytes, and the models that may answer, by name."""
Done = tuple[Header, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of :class:`Answers` that may be called in a worker; the last argument of each is its ticket."""

    asked: Callable[..., Asking]
    done: Callable[[Answers, Ticket, Header, list[bytes]], Done]
    read: Callable[[Header, list[bytes]], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation: JSON-able values, raw bytes, and the models that may answer, by name."""

    operation: Operation
    header: Header
    parts: Sequence[bytes]
    models: Mapping[str, ServedModel]


def call_of(name: str, models: Models, observing: bool, arguments: Sequence[Any]) -> Call:
    """The call of an operation.

    Args:
        models: Those that may answer.
        observing: Whether the result carries its observation.
        arguments: Those of the method, without the ticket.
    """
    operation = OPERATIONS[name]
    header, parts, named = operation.asked(models, *arguments)
    return Call(operation, {**header, "do": name, "observing": observing}, parts, named)


def _predict_asked(models: Models, sent: Sent, fetched: bytes | None = None) -> Asking:
    fields = [sent.content_type, sent.query, sent.accept, sent.options]
    return {"sent": fields}, [sent.body] if fetched is None else [sent.body, fetched], dict(models.loaded())


def _predict_done(answers: Answers, ticket: Ticket, job: Header, parts: list[bytes]) -> Done:
    content_type, query, accept, options = job["sent"]
    found = answers.predict(Sent(content_type, query, parts[0], accept, options), *parts[1:], ticket=ticket)
    if isinstance(found, Fetch):
        return {"fetch": found.url}, []
    header = {"status": found.status, "headers": found.headers, "observation": _said(found.observation)}
    return header, [found.body]


def _predict_read(header: Header, parts: list[bytes]) -> Answer | Fetch:
    if "fetch" in header:
        return Fetch(header["fetch"])
    return Answer(parts[0], header["headers"], header["status"], _heard(header["observation"]))


def _one_of_batch_asked(models: Models, batch: Batch, index: int, image: str | bytes | OsvError) -> Asking:
    header: dict[str, Any] = {"index": index, "thresholds": dataclasses.asdict(batch.thresholds)}
    parts = []
    if isinstance(image, OsvError):
        header["error"] = pipe.error_json(image)
    else:
        header["text"] = isinstance(image, str)
        parts = [image.encode("utf-8", "surrogatepass") if isinstance(image, str) else image]
    return header, parts, {DEFAULT: batch.model}


def _one_of_batch_done(answers: Answers, ticket: Ticket, job: Header, parts: list[bytes]) -> Done:
    from pydantic_core import to_json

    from osv_lab.serve.answers import Batch

    image: str | bytes | OsvError
    if "error" in job:
        image = pipe.error_of(job["error"])
    else:
        image = parts[0].decode("utf-8", "surrogatepass") if job["text"] else parts[0]
    batch = Batch(answers.models.current(), thresholds_of(job["thresholds"]), [], 1)
    result, observation = answers.one_of_batch(batch, job["index"], image, ticket=ticket)
    return {"observation": _said(observation)}, [to_json(result)]


def _one_of_batch_read(header: Header, parts: list[bytes]) -> tuple[dict[str, Any], Observation | None]:
    found: dict[str, Any] = json.loads(parts[0])
    return found, _heard(header["observation"])


def _said(observation: Observation | None) -> Header | None:
    return None if observation is None else observation.to_json()


def _heard(said: Header | None) -> Observation | None:
    if said is None:
        return None
    from osv_lab.serve.observe import Observation

    return Observation.from_json(said)


OPERATIONS: Mapping[str, Operation] = {
    "predict": Operation(_predict_asked, _predict_done, _predict_read),
    "one_of_batch": Operation(_one_of_batch_asked, _one_of_batch_done, _one_of_batch_read),
}
"""By name of the method."""
