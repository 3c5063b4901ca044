"""A dataset and a CVAT server, which is asked for when it is first needed."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from osv_lab.annotate.connection import DEADLINE_S, Connection
from osv_lab.annotate.settings import cvat_settings
from osv_lab.core.progress import Progress, silent

if TYPE_CHECKING:
    import fiftyone as fo


class Session:
    """A dataset, and a connection that is made when it is first asked for.

    Its arguments are those of :class:`osv_lab.annotate.AnnotationLoop`.
    """

    def __init__(
        self,
        dataset: fo.Dataset | str,
        url: str | None = None,
        credentials: tuple[str, str] | None = None,
        token: str | None = None,
        organization: str | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        progress: Progress = silent,
    ) -> None:
        from osv_lab.store.catalogue import open_dataset

        self.dataset: Any = open_dataset(dataset) if isinstance(dataset, str) else dataset
        self._who = (url, credentials, token, organization)
        self._deadline_s = deadline_s
        self._progress = progress
        self._cvat: Connection | None = None
        self._connecting = threading.Lock()

    @property
    def connection(self) -> Connection:
        """The connection, made when it is first asked for."""
        with self._connecting:
            if self._cvat is None:
                self._cvat = Connection(cvat_settings(*self._who), deadline_s=self._deadline_s)
            return self._cvat

    def another(self) -> Self:
        """The same for the same dataset with a connection of its own, for another thread."""
        url, credentials, token, organization = self._who
        return type(self)(self.dataset, url, credentials, token, organization, deadline_s=self._deadline_s)

    def close(self) -> None:
        """End the session."""
        if self._cvat is not None:
            self._cvat.close()
            self._cvat = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
