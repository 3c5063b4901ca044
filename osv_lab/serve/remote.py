"""The pieces of work that may be done in a worker process: how each is written into a frame, done there, and read back.

An operation stands for a method of :class:`~osv_lab.serve.answers.Answers`. ``asked`` makes, in the front, a header and
raw bytes of its arguments, and says which models may answer; ``done`` calls the method in a worker and makes a header
and bytes of the result; ``read`` makes the result of those, in the front again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from osv_lab.core.errors import OsvError
from osv_lab.serve import pipe
from osv_lab.serve.answers import Answer, Answers, Batch, Fetch, Sent
from osv_lab.serve.models import DEFAULT
from osv_lab.serve.observe import Observation
from osv_lab.serve.slot import thresholds_of

if TYPE_CHECKING:
    from osv_lab.serve.house import Ticket
    from osv_lab.serve.slot import ServedModel

Header = Mapping[str, Any]


Done = tuple[Header, list[bytes]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of :class:`Answers` that may be called in a worker."""

    asked: Callable[..., tuple[Header, list[bytes], Mapping[str, ServedModel]]]
    done: Callable[[Answers, Ticket, Header, list[bytes]], Done]
    read: Callable[[Header, list[bytes]], Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call of an operation: JSON-able values, raw bytes, and the models that may answer, by name."""

    operation: Operation
    header: Header
    parts: list[bytes]
    models: Mapping[str, ServedModel]


def asked_of(work: Callable[..., Any], arguments: Sequence[Any]) -> Asked | None:
    """The call of a bound method, if a worker can do it."""
    answers = getattr(work, "__self__", None)
    operation = OPERATIONS.get(work.__name__) if isinstance(answers, Answers) else None
    return None if operation is None else Asked(operation, *operation.asked(answers, *arguments))


def _predict_asked(answers: Answers, sent: Sent, ticket: Ticket, fetched: bytes | None = None) -> Any:
    fields = {one.name: getattr(sent, one.name) for one in dataclasses.fields(Sent) if one.name != "body"}
    parts = [sent.body] if fetched is None else [sent.body, fetched]
    return (
        {"do": "predict", "sent": fields, "observing": answers.observing()},
        parts,
        dict(answers.models.loaded()),
    )


def _predict_done(answers: Answers, ticket: Ticket, job: Header, parts: list[bytes]) -> Done:
    body, *fetched = parts
    found = answers.predict(Sent(**job["sent"], body=body), ticket, *fetched)
    if isinstance(found, Fetch):
        return {"fetch": found.url}, []
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in found.raw_headers]
    header = {"status": found.status_code, "headers": headers, "observation": _said(found.observation)}
    return header, [bytes(found.body)]


def _predict_read(header: Header, parts: list[bytes]) -> Answer | Fetch:
    if "fetch" in header:
        return Fetch(header["fetch"])
    response = Answer(parts[0], header["status"])
    response.observation = _heard(header["observation"])
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in header["headers"]]
    return response


def _one_of_batch_asked(
    answers: Answers, batch: Batch, index: int, image: str | bytes | OsvError, ticket: Ticket
) -> Any:
    header: dict[str, Any] = {"do": "one_of_batch", "index": index, "observing": answers.observing()}
    header["thresholds"] = dataclasses.asdict(batch.thresholds)
    parts = []
    if isinstance(image, OsvError):
        header["error"] = pipe.error_json(image)
    else:
        header["text"] = isinstance(image, str)
        parts = [image.encode("utf-8", "surrogatepass") if isinstance(image, str) else image]
    return header, parts, {DEFAULT: batch.model}


def _one_of_batch_done(answers: Answers, ticket: Ticket, job: Header, parts: list[bytes]) -> Done:
    image: str | bytes | OsvError
    if "error" in job:
        image = pipe.error_of(job["error"])
    else:
        image = parts[0].decode("utf-8", "surrogatepass") if job["text"] else parts[0]
    batch = Batch(answers.models.current(), thresholds_of(job["thresholds"]), [], 1)
    result, observation = answers.one_of_batch(batch, job["index"], image, ticket)
    return {"observation": _said(observation)}, [to_json(result)]


def _one_of_batch_read(header: Header, parts: list[bytes]) -> tuple[dict[str, Any], Observation | None]:
    found: dict[str, Any] = from_json(parts[0])
    return found, _heard(header["observation"])


def _said(observation: Observation | None) -> Header | None:
    return None if observation is None else observation.to_json()


def _heard(said: Header | None) -> Observation | None:
    return None if said is None else Observation.from_json(said)


OPERATIONS: Mapping[str, Operation] = {
    "predict": Operation(_predict_asked, _predict_done, _predict_read),
    "one_of_batch": Operation(_one_of_batch_asked, _one_of_batch_done, _one_of_batch_read),
}
"""By name of the method."""
