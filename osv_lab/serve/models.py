"""The models of one server, by name, and what may be loaded into it while it runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError, as_request_error
from osv_lab.serve.served import ServedModel
from osv_lab.serve.slot import ModelSlot

DEFAULT = "default"
"""Name of the model that answers where a request names none."""

MAX_MODELS = 8
"""Most models in memory at once."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LISTED = 200


class Models:
    """Models by name. Loading, swapping and unloading go one at a time; looking one up never waits for them.

    A request may only name what the server was started with: the default model's own reference, and ``allowed``.
    Of a path a client knows, and writes, the file's name alone.

    Args:
        default: The model that answers where a request names none.
        allowed: What else may be loaded: a path or reference; a folder, for the ``.onnx`` files in it; or
            ``models:/name``, for every version and alias of a registered model.
    """

    def __init__(self, default: ModelSlot, allowed: Sequence[str | Path] = ()) -> None:
        self._slots = {DEFAULT: default}
        self._allowed: dict[str, str] = {}
        self._folders: list[Path] = []
        self._registered: set[str] = set()
        # Options such as imgsz hold for all: they were given for this machine, not for one file.
        self._default = default
        for one in [*([default.ref] if isinstance(default.ref, (str, Path)) else []), *allowed]:
            self._allow(str(one))
        self._changing = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the default model answers."""
        return self._default.ready

    def current(self, name: str | None = None) -> ServedModel:
        """The model of a name, as it is now.

        Raises:
            RequestError: 404, no such model.
            UnavailableError: it is not loaded yet.
        """
        return self._slot(name or DEFAULT).current

    def loaded(self) -> list[tuple[str, ServedModel]]:
        """Names and models that answer."""
        return [(name, slot.current) for name, slot in list(self._slots.items()) if slot.ready]

    def describe(self) -> list[dict[str, Any]]:
        """The models, the default first."""
        return [{"name": name, **slot.describe()} for name, slot in list(self._slots.items())]

    def available(self) -> list[str]:
        """What may be loaded, as a client writes it."""
        files = [path.name for folder in self._folders for path in sorted(folder.glob("*.onnx")) if path.is_file()]
        versions = [f"models:/{name}@<alias>" for name in sorted(self._registered)]
        return list(dict.fromkeys([*self._allowed, *versions, *files]))[:_LISTED]

    def load(self, ref: str, name: str) -> ServedModel:
        """Load a further model.

        Raises:
            RequestError: 403 for what may not be loaded, 409 when the name is taken or there are too many models.
            OsvError: it cannot be loaded.
        """
        if not _NAME.fullmatch(name):
            raise RequestError(422, "a model's name is letters, digits, dots and dashes", name)
        known = self._known(ref)
        with self._changing:
            if name in self._slots:
                raise RequestError(409, "there is a model of this name", name, "swap it, or take another name")
            if len(self._slots) >= MAX_MODELS:
                raise RequestError(409, "too many models", f"{len(self._slots)} are loaded", "unload one")
            slot = self._default.like(known)
            self._do(slot.load, known, ref)
            self._slots[name] = slot
            return slot.current

    def swap(self, ref: str | None, name: str | None = None) -> ServedModel:
        """Exchange a model for another, or load its own reference again; the old one answers until then.

        Raises:
            RequestError: 403 for what may not be loaded, 404 for no such model.
            OsvError: the new one cannot be loaded; the old one stays.
        """
        slot = self._slot(name or DEFAULT)
        known = str(slot.ref) if ref is None else self._known(ref)
        if ref is None and not isinstance(slot.ref, (str, Path)):
            raise RequestError(409, "the model came from memory and cannot be loaded again", "", "name a ref")
        with self._changing:
            self._do(lambda: slot.swap(known), known, ref or "its own reference")
            return slot.current

    def unload(self, name: str) -> None:
        """Forget a model; requests that have it are still answered by it.

        Raises:
            RequestError: 404 for no such model, 409 for the default, which can only be swapped.
        """
        with self._changing:
            self._slot(name)
            if name == DEFAULT:
                raise RequestError(409, "the default model cannot be unloaded", "", "swap it for another")
            del self._slots[name]

    def _slot(self, name: str) -> ModelSlot:
        slot = self._slots.get(name)
        if slot is None:
            raise no_such_model(name, list(self._slots))
        return slot

    def _allow(self, ref: str) -> None:
        if ref.startswith("models:/"):
            if re.fullmatch(r"models:/[^/@]+", ref):
                self._registered.add(ref.removeprefix("models:/"))
            self._allowed[ref] = ref
        elif (folder := Path(ref).expanduser()).is_dir():
            self._folders.append(folder.resolve())
        else:
            self._allowed[Path(ref).name if ":/" not in ref else ref] = ref

    def _known(self, ref: str) -> str:
        """What a client's reference stands for.

        Raises:
            RequestError: 403, it was not named when the server was started.
        """
        if ref in self._allowed:
            return self._allowed[ref]
        versioned = re.fullmatch(r"models:/([^/@]+)[/@][^/@]+", ref)
        if versioned and versioned[1] in self._registered:
            return ref
        # A bare name of a file, so that nothing leads out of the folder; and only ONNX, which holds no code.
        if _NAME.fullmatch(ref) and ref.lower().endswith(".onnx"):
            for folder in self._folders:
                path = (folder / ref).resolve()
                if path.is_file() and path.parent == folder:
                    return str(path)
        raise RequestError(
            403,
            "the server was not started to serve this",
            ref,
            "GET /models lists what is available; start the server with --also to add to it",
        )

    def _do(self, work: Any, known: str, shown: str) -> None:
        """Run it; an error names the model as the client did, since folders are nobody else's business."""
        try:
            work()
        except OsvError as error:
            answer = as_request_error(error)
            found = answer.found.replace(known, shown).replace(str(Path(known).resolve()), shown)
            raise RequestError(
                max(answer.status, 422) if answer.status != 500 else 500, answer.what, found, answer.fix
            ) from None


def no_such_model(name: str, loaded: Iterable[str]) -> RequestError:
    """The answer to a request that names a model there is not."""
    return RequestError(404, "no such model", name, f"loaded are: {', '.join(list(loaded)[:20])}")
