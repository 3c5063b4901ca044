"""Versions' operators."""

from __future__ import annotations

from typing import Any, Literal

from osv_lab.app.form import Form
from osv_lab.app.operators import About, Ask, LabOperator


class CreateVersion(LabOperator):
    about = About(
        name="create_version",
        label="Create a dataset version",
        description="Freeze media, splits and labels under a name; steps and splits are part of it",
    )

    def form(self, form: Form) -> None:
        form.target()
        form.text("name", "Name", help="Such as v1; empty: the next number")
        form.text("splits", "Split anew", help="train=0.8,val=0.1,test=0.1; empty: the samples' split tags")
        form.check("splits", self._splits, form.values["splits"])
        form.text(
            "group_by", "Group by", help="A sample field, such as a patient, no value of which is in two splits"
        )
        steps = "YAML, such as: resize: {width: 640, height: 640, format: Fit within}"
        form.text("preprocess", "Preprocessing", many=True, help=f"For every image. {steps}")
        form.check("preprocess", self._steps, form.values["preprocess"], "preprocess")
        form.text("augment", "Augmentation", many=True, help="For copies of training images, likewise")
        form.check("augment", self._steps, form.values["augment"], "augment")
        form.number("multiplier", "Images per training image", 1, low=1, whole=True, help="Itself included")

    def run(self, ask: Ask) -> Any:
        from osv_lab.store.versions import create_version

        return create_version(
            ask.view,
            ask["name"] or None,
            self._splits(ask["splits"]),
            ask["group_by"] or None,
            self._steps(ask["preprocess"], "preprocess"),
            self._steps(ask["augment"], "augment"),
            ask["multiplier"],
            progress=ask.progress,
        )

    @staticmethod
    def _splits(text: str) -> Any:
        from osv_lab.core.errors import UsageError
        from osv_lab.store.splits import parse_split

        shares = parse_split(text or None)
        if isinstance(shares, str):
            raise UsageError("a split needs shares", repr(text), "write train=0.8,val=0.1,test=0.1")
        return shares

    @staticmethod
    def _steps(text: str, which: Literal["preprocess", "augment"]) -> Any:
        import yaml

        from osv_lab.core.errors import UsageError
        from osv_lab.store.transforms.catalogue import parse_steps

        try:
            steps = yaml.safe_load(text) or ()
        except yaml.YAMLError as error:
            raise UsageError("the steps are no YAML", str(error).splitlines()[0]) from None
        parse_steps(steps, which)
        return steps


class ShowChanges(LabOperator):
    about = About(
        name="show_changes",
        label="Show what changed between two versions",
        description="A dataset of the samples that differ, with their labels before and after",
    )

    def form(self, form: Form) -> None:
        refs = version_refs(form.ctx)
        form.choice("a", "From", refs, refs[-2] if len(refs) > 1 else None)
        form.choice("b", "To", refs, refs[-1] if refs else None)
        form.number("iou", "Least overlap of the same object", 0.5, low=0.01, high=1)
        if len(refs) < 2:
            form.note("few", "There are not two versions yet: Create a dataset version makes one.", "warning")

    def run(self, ask: Ask) -> Any:
        from osv_lab.store.diff import diff_versions

        diff = diff_versions(ask["a"], ask["b"], ask["iou"])
        # Made here, since it may take a while: with progress, and under the operator's errors.
        ask.kept = diff.view(progress=ask.progress) if diff.changed else None
        return diff

    def view(self, ask: Ask, result: Any) -> Any:
        return ask.kept


class ExportVersion(LabOperator):
    about = About(
        name="export_version",
        label="Export a dataset version",
        description="Write a version as YOLO, COCO, Pascal VOC or CVAT files into the lab's folder exports",
        changes="nothing",
    )

    def form(self, form: Form) -> None:
        from osv_lab.store.formats.write import WRITERS

        refs = version_refs(form.ctx)
        version = form.choice("version", "Version", refs, refs[-1] if refs else None)
        kind = form.choice("format", "Format", WRITERS, "yolo")
        form.export_folder(
            "folder", "Folder", f"{version}-{kind}".replace("@", "-"), help="A new one, in exports/"
        )

    def run(self, ask: Ask) -> Any:
        from osv_lab.app.places import export_path
        from osv_lab.store.versions import export_version

        return export_version(ask["version"], export_path(ask["folder"]), ask["format"], progress=ask.progress)


def version_refs(ctx: Any) -> list[str]:
    """The versions of the dataset that is open, the oldest first."""
    from osv_lab.store.versions import list_versions

    return [version.ref for version in list_versions(ctx.dataset.name).versions]
