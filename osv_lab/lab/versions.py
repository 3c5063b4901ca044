"""Freezing the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.store.diff import VersionDiff
    from osv_lab.store.versions import DatasetVersion, VersionList


class VersionStage(LabBase):
    """Versions of the dataset: make, list, load, compare, move."""

    def create_version(self, name: str | None = None, *, view: Any = None, **options: Any) -> DatasetVersion:
        """Freeze the dataset, or a view of it; options as for :func:`osv_lab.store.versions.create_version`."""
        from osv_lab.store.versions import create_version

        return create_version(self.view() if view is None else view, name, progress=self.progress, **options)

    def versions(self) -> VersionList:
        """The versions of the lab's dataset."""
        from osv_lab.store.versions import list_versions

        return list_versions(self.dataset_name)

    def load_version(self, name: str, dataset: str | None = None) -> Any:
        """A version as a FiftyOne view, or as a fresh dataset of a name of its own."""
        from osv_lab.store.versions import load_version

        return load_version(self._version(name), dataset, progress=self.progress)

    def diff_versions(self, a: str, b: str, iou: float = 0.5) -> VersionDiff:
        """What changed from one version to another, with a view of each kind of change."""
        from osv_lab.store.diff import diff_versions

        return diff_versions(self._version(a), self._version(b), iou)

    def push_version(self, name: str, remote: str | None = None, **options: Any) -> DatasetVersion:
        """Bring a version to a DVC remote: a folder, ``s3://``, ..."""
        from osv_lab.store.versions import push

        return push(self._version(name), remote, options=options, progress=self.progress)

    def pull_version(self, name: str, remote: str | None = None, **options: Any) -> DatasetVersion:
        """Bring a version from a DVC remote, every byte checked."""
        from osv_lab.store.versions import pull

        return pull(self._version(name), remote, options=options, progress=self.progress)

    def restore_version(self, name: str, *, overwrite: bool = False) -> Any:
        """Make the dataset again as it was in a version."""
        from osv_lab.store.versions import restore

        return restore(self._version(name), overwrite=overwrite, progress=self.progress)
