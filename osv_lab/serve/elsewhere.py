"""What stands in the front process for a model that the worker processes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osv_lab.core.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A detector that is asked for its name and classes only; see :class:`osv_lab.detect.detector.Detector`.

    Attributes:
        key: Under which they have it.
        described: What it is.
    """

    key: int
    described: Mapping[str, Any]

    @property
    def ref(self) -> str:
        return str(self.described["ref"])

    @property
    def task(self) -> str:
        return str(self.described["task"])

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.described["class_names"])

    @property
    def provider(self) -> str:
        return str(self.described["provider"])

    @property
    def input_size(self) -> tuple[int, int] | None:
        size = self.described["input_size"]
        return (size[0], size[1]) if size else None

    def describe(self) -> dict[str, Any]:
        return dict(self.described)

    def predict(self, images: Sequence[Any], **_: Any) -> list[Any]:
        """Not here.

        Raises:
            UnavailableError: always.
        """
        raise UnavailableError(
            "the model is in the worker processes", self.ref, "send a request, or use processes=0"
        )
