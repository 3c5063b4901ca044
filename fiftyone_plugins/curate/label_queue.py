"""One suggested label error after another, decided with a key."""

from __future__ import annotations

import base64
from typing import Any

from osv_lab.app.panels import LabPanel, Page, PanelAbout
from osv_lab.core.errors import OsvError
from osv_lab.curate.review import LabelReview, ReviewItem

DECISIONS = {
    "fix": "Fix as suggested [F]",
    "accept": "Label is right [A]",
    "skip": "Skip [S]",
    "to_annotate": "To CVAT [C]",
}


class LabelQueue(LabPanel):
    about = PanelAbout(
        name="label_queue",
        label="Label errors",
        help="Labels that are probably wrong, the likeliest first. F fixes, A accepts, S skips, U undoes.",
        category="curate",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        keys = sorted(ctx.dataset.info.get("label_errors_of", {}))
        if not keys:
            page.text("none", "Nothing was looked for yet.")
            page.button("find", "Find label errors", self.on_find, icon="search", main=True)
            return
        key = self._key(ctx)
        if len(keys) > 1:
            page.choice("key", "Of", keys, key, self.on_key)
        review = LabelReview(ctx.dataset, key)
        queue = review.queue(limit=1)
        page.text("counts", queue.summary())
        if queue.items:
            self._item(page, queue.items[0])
            ctx.panel.set_state("item", queue.items[0].id)
        else:
            page.note("over", "All are decided", "success")
        row = page.row("more")
        row.button("undo", "Undo [U]", self.on_undo, icon="undo")
        row.button("view", "Show its image", self.on_view, icon="visibility", disabled=not queue.items)
        row.button("send", "Send what is set aside", self.on_send, disabled=not queue.counts["to_annotate"])

    def _item(self, page: Page, item: ReviewItem) -> None:
        page.text(
            "question",
            f"**{item.question}**\n\n{item.kind.replace('_', ' ')}, {item.score:.0%} sure, no. {item.rank}",
        )
        try:
            page.data["crop"] = _data_url(item)
            page.root.img("crop", alt_text="the label in red, the suggestion in green")
        except OsvError as error:
            page.note("unreadable", error.what, "warning", error.found)
        page.text("colours", "red: the label as it is; green: as suggested")
        row = page.row("decide")
        for name, label in DECISIONS.items():
            row.button(name, label, getattr(self, f"on_{name}"), main=name == "fix")

    def on_fix(self, ctx: Any) -> None:
        self._decide(ctx, "fix")

    def on_accept(self, ctx: Any) -> None:
        self._decide(ctx, "accept")

    def on_skip(self, ctx: Any) -> None:
        self._decide(ctx, "skip")

    def on_to_annotate(self, ctx: Any) -> None:
        self._decide(ctx, "to_annotate")

    def on_undo(self, ctx: Any) -> None:
        undone = LabelReview(ctx.dataset, self._key(ctx)).undo()
        ctx.ops.notify(f"open again: {undone.question}" if undone else "there is nothing to undo")
        ctx.ops.reload_samples()

    def on_view(self, ctx: Any) -> None:
        review = LabelReview(ctx.dataset, self._key(ctx))
        ctx.ops.set_view(view=ctx.dataset.select(review.find(ctx.panel.get_state("item")).sample))

    def on_find(self, ctx: Any) -> None:
        ctx.prompt("@osv/curate/find_label_errors", on_success=self.on_key)

    def on_send(self, ctx: Any) -> None:
        ctx.prompt("@osv/curate/annotate_label_errors", params={"key": self._key(ctx)})

    def on_key(self, ctx: Any) -> None:
        """Another key was chosen, or there are new suggestions; the page is drawn anew."""

    def _decide(self, ctx: Any, decision: str) -> None:
        review = LabelReview(ctx.dataset, self._key(ctx))
        id = ctx.panel.get_state("item") or next(one.id for one in review.queue(limit=1).items)
        getattr(review, decision)(id)
        if decision == "fix":
            ctx.ops.reload_samples()

    @staticmethod
    def _key(ctx: Any) -> str:
        keys = sorted(ctx.dataset.info.get("label_errors_of", {}))
        chosen = ctx.panel.get_state("key")
        return str(chosen if chosen in keys else keys[0])


def _data_url(item: ReviewItem) -> str:
    import cv2

    from osv_lab.curate.review_picture import picture

    data = cv2.imencode(".jpg", picture(item), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
