"""Picking a model, and serving it."""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError
from osv_lab.core.report import Report
from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.detect.export import Artifact
    from osv_lab.detect.parity import ParityReport
    from osv_lab.evaluate.promotion import Verdict
    from osv_lab.serve.client import Prediction
    from osv_lab.serve.run import ServerHandle
    from osv_lab.store.drift import DriftReport
    from osv_lab.train.registry import ModelVersion


@dataclass(frozen=True)
class Deployment(Report):
    """A model that was picked: where it is, what it was checked against, and how to serve it.

    Attributes:
        ref: The registered reference (``models:/name@champion``), good wherever a path is.
        version: The registered version.
        artifact: The exported file.
        parity: How the exported file compares with the weights on the validation view; ``None`` where the
            dataset has no validation samples to compare on, or the model came as ONNX.
        verdict: What the promotion gate found, where the alias pointed at another version before.
        note: What else the user should know.
    """

    ref: str
    version: str
    artifact: Artifact
    parity: ParityReport | None = None
    verdict: Verdict | None = None
    note: str = ""

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"": "model", "value": f"{self.ref} (version {self.version})"},
            {"": "artifact", "value": str(self.artifact.path)},
            {
                "": "parity",
                "value": self.parity.summary() if self.parity else "not checked: nothing to compare",
            },
            *([{"": "gate", "value": self.verdict.summary()}] if self.verdict else []),
            *([{"": "note", "value": self.note}] if self.note else []),
            {"": "serve it", "value": f"osv serve {self.ref}"},
        ]

    def summary(self) -> str:
        return f"deployed {self.ref}" + (f" ({self.note})" if self.note else "")


class ServingStage(LabBase):
    """Export, verify, register, serve, and watch what is served."""

    def export(self, model: str | Path | None = None, format: str = "onnx", **options: Any) -> Artifact:
        """Export a model for serving; by default the weights of the newest training run."""
        from osv_lab.detect.export import export_model

        return export_model(self._weights(model), format=format, **options)

    def deploy(
        self,
        model: str | Path | None = None,
        *,
        alias: str = "champion",
        split: str = "val",
        judge_on: str = "test",
        force: bool = False,
        reason: str = "",
        **options: Any,
    ) -> Deployment:
        """Export a model to ONNX, verify the export on the validation split, register it and give it an alias.

        A model that is ONNX already is registered as it is: there is nothing to compare it with.

        Where the alias points at another version already, the new one goes through the promotion gate
        (:func:`osv_lab.evaluate.promotion.promote`). Where that cannot judge, because nothing is labelled in
        ``judge_on`` or the model finds other things than boxes, the alias moves and the note says so.

        What its answers look like on that split is written beside it, so that the server can tell drift.

        Args:
            model: Weights by path or reference. ``None``, "best.pt" or "last.pt" (where no such file is here) mean
                those of the lab's newest training run.
            alias: The alias that will point at the new version.
            split: The split to verify on.
            judge_on: The split that the promotion gate compares models on.
            force: Move the alias whatever the gate finds; needs a reason.
            reason: Why it is forced; kept with the verdict.
            options: As for :func:`osv_lab.detect.export.export_model`.

        Raises:
            CheckFailedError: the exported file does not answer as the weights do, and nothing is registered; or the
                gate refuses, or the file it would compare with is gone, and the new version is registered without the
                alias.
            UsageError: forced without a reason.
            UnavailableError: the registry does not answer; nothing is made.
        """
        from osv_lab.detect.reference import resolve_model
        from osv_lab.evaluate.verify import verify
        from osv_lab.store.drift import make_reference
        from osv_lab.train.registry import get_version, has_alias, register

        if force and not reason.strip():
            raise UsageError("a model is forced only with a reason", repr(reason), "say why: reason='...'")
        # Asked first, so that nothing is made where the registry does not answer.
        before = get_version(self.name, alias).version if has_alias(self.name, alias) else None
        weights = self._weights(model)
        run = self._run_of(weights)
        artifact = self.export(weights, **options)
        parity = None
        if self._exists() and len(validation := self.view(split)):
            if artifact.path != resolve_model(weights):
                parity = verify(artifact, validation, original=weights, progress=self.progress)
            if parity is not None and not parity.passed:
                raise CheckFailedError(
                    "the exported model does not answer as the weights do, so it was not registered",
                    parity.summary(),
                    "look at the report with osv_lab.evaluate.verify.verify(), or export with other options",
                )
            if validation.media_type == "image":
                make_reference(artifact.path, validation, split=split, progress=self.progress)
        version = register(artifact, self.name, run_id=run.run_id if run else None, parity=parity)
        verdict, note = self._give_alias(version, alias, before, artifact.task, judge_on, force, reason)
        return Deployment(
            ref=f"models:/{self.name}@{alias}",
            version=str(version.version),
            artifact=artifact,
            parity=parity,
            verdict=verdict,
            note=note,
        )

    def _give_alias(
        self,
        version: ModelVersion,
        alias: str,
        before: int | None,
        task: str,
        judge_on: str,
        force: bool,
        reason: str,
    ) -> tuple[Verdict | None, str]:
        """Point an alias at a version: the first freely, a later one through the gate where that can judge."""
        from osv_lab.evaluate.promotion import promote
        from osv_lab.train.aliases import move_alias

        if before == version.version:
            return None, ""
        why = "" if before is None else self._cannot_judge(task, judge_on)
        if before is not None and not why and (gone := self._gone(before)):
            if not force:
                raise CheckFailedError(
                    f"version {version.version} is registered, and was not compared with version {before}",
                    gone,
                    "bring that file back, or deploy with force=True, reason='...'",
                )
            why = gone
        if before is None or why:
            kind = "forced" if force else "register"
            move_alias(self.name, alias, version.version, expected=before, kind=kind, reason=reason)
            return None, f"in place of version {before}, which it was not compared with: {why}" if why else ""
        verdict = promote(
            version, alias, view=self.view(judge_on), force=force, reason=reason, progress=self.progress
        )
        if not verdict.promoted:
            raise CheckFailedError(
                f"version {version.version} is registered, and does not take the place of version {before}",
                verdict.summary(),
                f"look at it with lab.promote({version.version}).view(), or deploy with force=True, reason='...'",
            )
        return verdict, ""

    def _gone(self, version: int) -> str:
        """Why the file of a registered version cannot be had; empty where it can."""
        from osv_lab.detect.reference import resolve_model

        try:
            resolve_model(f"models:/{self.name}/{version}")
        except NotFoundError as error:
            return f"{error.what}: {error.found}"
        return ""

    def _cannot_judge(self, task: str, split: str) -> str:
        """Why the promotion gate has nothing to say; empty where it has."""
        from osv_lab.train.data import labelled

        if task != "detect":
            return f"the gate judges detectors of boxes, and this one is for {task}"
        if not self._exists() or self.dataset.media_type != "image":
            return "this lab has no images"
        view = self.view(split)
        if not view.has_field("ground_truth") or not len(view) or not len(labelled(view, "ground_truth")):
            return f"nothing is labelled in its split '{split}'"
        return ""

    def drift(self, model: str | Path | None = None, **options: Any) -> DriftReport:
        """Compare captured samples with what the deployed model's answers usually look like.

        ``report.view()`` holds the samples that have become more frequent. ``deploy`` makes the reference.
        """
        from osv_lab.store.drift import drift

        return drift(self.dataset, self._reference(model), **options)


_started: defaultdict[str, list[ServerHandle]] = defaultdict(list)
"""This process's servers, by lab: a cell that is run again makes another ``Lab``, which must find them."""


@dataclass
class LabServer:
    """Serving for one lab: ``lab.server.run_server(port=8000)``."""

    lab: LabBase

    @property
    def handles(self) -> list[ServerHandle]:
        """The servers that this process started for labs of this name, and that run."""
        found = _started[self.lab.name]
        found[:] = [one for one in found if one.running]
        return found

    def run_server(
        self,
        port: int = 8000,
        host: str = "127.0.0.1",
        *,
        model: str | Path | None = None,
        block: bool | None = None,
        **options: Any,
    ) -> ServerHandle | None:
        """Serve the deployed model over HTTP; in the background, in place of the lab's server at the same port.

        Args:
            port: TCP port; 0 takes a free one.
            host: Address to listen on. Loopback unless told otherwise.
            model: Another model than the deployed one.
            block: Serve until interrupted (a script's default) or in the background, returning a handle (the
                default in a notebook, whose cell would otherwise never end).
            options: As for :func:`osv_lab.serve.run.run_server`.
        """
        from osv_lab.serve.run import run_server

        if block is None:
            block = not _in_notebook()
        if block:
            run_server(self.lab._reference(model), host=host, port=port, **options)
            return None
        for one in self.handles:
            if one.port == port:
                one.stop()
        return self.start(port, host, model=model, **options)

    def start(
        self, port: int = 0, host: str = "127.0.0.1", *, model: str | Path | None = None, **options: Any
    ) -> ServerHandle:
        """Serve in the background; the handle has ``url`` and ``stop()``."""
        from osv_lab.serve.run import start_server

        handle = start_server(self.lab._reference(model), host=host, port=port, **options)
        self.handles.append(handle)
        return handle

    def stop(self) -> None:
        """Stop every server that this process started in the background for labs of this name."""
        while self.handles:
            self.handles.pop().stop()

    def predict_batch(self, images: Sequence[Any], batch_size: int = 8, **options: Any) -> list[Prediction]:
        """Predict through HTTP on a server of this lab, one started for the call if none runs."""
        from osv_lab.serve.client import Client

        with contextlib.ExitStack() as stack:
            url = self.handles[-1].url if self.handles else stack.enter_context(self._temporary()).url
            with Client(url) as client:
                return client.predict_batch(images, batch_size=batch_size, **options)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[ServerHandle]:
        handle = self.start()
        try:
            yield handle
        finally:
            handle.stop()


def _in_notebook() -> bool:
    """Whether an IPython kernel (not a terminal) runs this code."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
