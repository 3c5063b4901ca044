"""The versions of a dataset, and what changed from one to another."""

from __future__ import annotations

from typing import Any

from osv_lab.app.kept import kept
from osv_lab.app.panels import LabPanel, Page, PanelAbout
from osv_lab.core.words import counted
from osv_lab.store.diff_objects import OBJECT_CHANGES

COLUMNS = {"version": "version", "created": "created", "samples": "samples", "labels": "labels", "MiB": "MiB"}
SHOWN = 12


class Versions(LabPanel):
    about = PanelAbout(
        name="versions",
        label="Versions",
        help="Frozen states of the dataset, and what changed from one to another.",
        category="curate",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        if ".." in ctx.dataset.name and ctx.dataset.has_field("changes"):
            self._changes(ctx, page)
            return
        from osv_lab.store.versions import list_versions

        found = list_versions(ctx.dataset.name)
        refs = [version.ref for version in found.versions]
        row = page.row("buttons")
        row.button("create", "Create a version", self.on_create, icon="add", main=not refs)
        if not refs:
            page.text("none", "There is no version of this dataset yet. One freezes its media, splits and labels.")
            return
        ctx.panel.set_state("refs", refs[::-1])
        page.table(
            "versions",
            [{**row, "version": row["version"].rpartition("@")[2]} for row in found.rows()[::-1][:SHOWN]],
            COLUMNS,
            [("export", "Export", "download", self.on_export)],
        )
        if len(refs) > 1:
            self._diff(ctx, page, refs)

    def _diff(self, ctx: Any, page: Page, refs: list[str]) -> None:
        page.text("diff", "**What changed**")
        a, b = self._pair(ctx, refs)
        page.choice("a", "From", refs, a, self.on_pair)
        page.choice("b", "To", refs, b, self.on_pair)
        diff = self._compared(ctx, a, b)
        page.text("said", diff.summary())
        if diff.changed:
            page.table("changes", diff.rows()[1 : SHOWN + 1])
            page.button("look", "Look at the changes", self.on_look, icon="visibility", main=True)

    def _changes(self, ctx: Any, page: Page) -> None:
        """In a dataset that Show changes made: each kind of change, as a view."""
        a, _, b = ctx.dataset.name.partition("..")
        differ = "differs" if len(ctx.dataset) == 1 else "differ"
        page.text("title", f"From **{a}** to **{b}**: {counted(len(ctx.dataset), 'sample')} {differ}")
        objects = ctx.dataset.count_values("changes.detections.change")
        samples = {tag: n for tag, n in ctx.dataset.count_sample_tags().items() if tag in _SAMPLE_CHANGES}
        rows = [
            {"of": "objects", "change": name, "count": objects[name]} for name in OBJECT_CHANGES if name in objects
        ]
        rows += [{"of": "samples", "change": name, "count": count} for name, count in samples.items()]
        ctx.panel.set_state("rows", [[row["of"], row["change"]] for row in rows])
        page.table("kinds", rows, None, [("show", "Show these", "visibility", self.on_kind)], on_row=self.on_kind)
        row = page.row("back")
        row.button("all", "Show all", self.on_all, icon="grid_view")
        row.button("home", f"Back to {a.rpartition('@')[0]}", self.on_back, icon="arrow_back")

    def on_create(self, ctx: Any) -> None:
        ctx.prompt("@osv/versions/create_version", on_success=self.on_pair)

    def on_export(self, ctx: Any) -> None:
        version = ctx.panel.get_state("refs")[ctx.params["row"]]
        ctx.prompt("@osv/versions/export_version", params={"version": version})

    def on_pair(self, ctx: Any) -> None:
        """Other versions were chosen, or there is a new one; the page is drawn anew."""

    def on_look(self, ctx: Any) -> None:
        a, b = self._pair(ctx, [*reversed(ctx.panel.get_state("refs"))])
        ctx.prompt("@osv/versions/show_changes", params={"a": a, "b": b}, skip_prompt=True)

    def on_kind(self, ctx: Any) -> None:
        from fiftyone import ViewField

        of, change = ctx.panel.get_state("rows")[ctx.params["row"]]
        if of == "objects":
            ctx.ops.set_view(view=ctx.dataset.filter_labels("changes", ViewField("change") == change))
        else:
            ctx.ops.set_view(view=ctx.dataset.match_tags(change))

    def on_all(self, ctx: Any) -> None:
        ctx.ops.clear_view()

    def on_back(self, ctx: Any) -> None:
        ctx.ops.open_dataset(ctx.dataset.name.partition("..")[0].rpartition("@")[0])

    @staticmethod
    def _pair(ctx: Any, refs: list[str]) -> tuple[str, str]:
        a, b = ctx.panel.get_state("a"), ctx.panel.get_state("b")
        return (a if a in refs else refs[-2]), (b if b in refs else refs[-1])

    @staticmethod
    def _compared(ctx: Any, a: str, b: str) -> Any:
        from osv_lab.store.diff import diff_versions

        return kept(ctx.dataset, lambda: diff_versions(a, b), "diff", a, b)


_SAMPLE_CHANGES = ("added", "removed", "resplit", "replaced", "changed")
