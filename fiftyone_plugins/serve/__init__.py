"""Serve a model, watch how it does, and bring home what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.panels import LabPanel, Page, PanelAbout

SERVE = "@osv/serve/serve"
IMPORT = "@osv/serve/import_captures"
LOOK_MS = 2000
RULES = "random=0.01,near=0.05"


class Serve(LabOperator):
    about = About(
        name="serve",
        label="Serve a model",
        description="Answer POST /predict on this machine, until it is stopped; goes on when the App is closed",
        jobs="never",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        from osv_lab.serve.rules import parse_rules
        from osv_lab.up import pages

        up = pages()
        if up:
            form.note(
                "up", f"Up already: {', '.join(f'{name} at {page}' for name, page in up.items())}", "warning"
            )
        form.model("model")
        form.number("port", "Port", 8000, low=1024, high=65535, whole=True, help="On 127.0.0.1 only")
        help = f"Empty: none. Such as {RULES}; see osv serve --help"
        if rules := form.text("capture", "Keep images for the dataset", help=help):
            form.check("capture", parse_rules, rules)

    def run(self, ask: Ask) -> Any:
        from osv_lab.up.background import serve_in_background

        return serve_in_background(ask["model"], ask["port"], ask["capture"].strip() or None)


class AskServer(LabOperator):
    about = About(
        name="ask_server",
        label="Ask the server",
        description="Send the selected images to the server and write what it answers into a field",
        changes="dataset",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.text("url", "Server", _url() or "http://127.0.0.1:8000", help="Of this machine")
        form.check("url", _loopback, form.values["url"])
        form.text("field", "Field to write", "served", required=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.store.ask_server import ask_server

        return ask_server(ask.view, _loopback(ask["url"]), ask["field"].strip(), progress=ask.progress)


class ImportCaptures(LabOperator):
    about = About(
        name="import_captures",
        label="Import captured images",
        description="Bring what the server kept into this dataset, with its answers, as the saved view 'captured'",
    )

    def form(self, form: Any) -> None:
        from osv_lab.store.captures import list_captures

        waiting = (
            form.check("field", list_captures) if form.text("field", "Field for its answers", "captured") else None
        )
        if waiting is not None:
            form.note("waiting", waiting.summary())

    def run(self, ask: Ask) -> Any:
        from osv_lab.store.captures import import_captures

        return import_captures(None, ask.dataset, field=ask["field"], progress=ask.progress)

    def view(self, ask: Ask, report: Any) -> Any:
        if not ask.dataset.has_saved_view(report.view):
            return None
        waiting = ask.dataset.load_saved_view(report.view)
        # Images that the dataset had with labels do not wait for an annotator: nothing to look at.
        return waiting if len(waiting) else None


class Serving(LabPanel):
    about = PanelAbout(
        name="serving",
        label="Serving",
        help="What is served now, how busy and how fast it is, whether what it sees has changed, and what it kept.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        from osv_lab.core.errors import UnavailableError
        from osv_lab.serve.status import server_status
        from osv_lab.up import pages

        up = pages()
        page.every(LOOK_MS, self.look)
        bar = page.row("bar")
        if "api" not in up:
            bar.button("serve", "Serve a model", self.on_serve, main=True, icon="play_arrow")
            page.note(
                "empty", "Nothing is served.", more="Serve a registered model, and this page shows how it does."
            )
        else:
            if list(up) == ["api"]:
                bar.button("stop", "Stop serving", self.on_stop, icon="stop")
            else:
                page.text("together", f"Started together with {_others(up)}: `osv down` stops them all.")
            try:
                look = server_status(up["api"])
            except UnavailableError as error:
                page.note("no_answer", error.what, "warning", f"{error.found}; see its log in the folder up")
            else:
                page.text("said", f"**{look.summary()}**  \n{look.url} ({look.in_flight} requests in the house)")
                page.table("models", look.rows())
                self._drift(page, look)
        self._captures(page)

    def _drift(self, page: Page, look: Any) -> None:
        rows = look.shifts()
        if not rows:
            page.text(
                "no_drift",
                "No comparison with the training yet: *Deploy* writes the reference, and images must come.",
            )
            return
        drifted = [row["feature"] for row in rows if row["state"] == "drifted"]
        if drifted:
            page.note("drift_said", f"Drifted: {', '.join(drifted)}", "warning")
        elif all(row["state"] == "too few images" for row in rows):
            page.note("drift_said", "Too few images yet to compare with the training.")
        else:
            page.note("drift_said", "What it sees is like what it was trained on.", "success")
        page.table("drift", rows)

    def _captures(self, page: Page) -> None:
        from osv_lab.core.errors import NotFoundError
        from osv_lab.store.captures import list_captures

        try:
            waiting = list_captures()
        except NotFoundError:
            return
        row = page.row("captures")
        row.text("waiting", waiting.summary())
        row.button("import", "Import them", self.on_import, icon="download", disabled=not waiting.items)

    def on_serve(self, ctx: Any) -> None:
        ctx.prompt(SERVE)

    def on_import(self, ctx: Any) -> None:
        ctx.prompt(IMPORT)

    def on_stop(self, ctx: Any) -> None:
        from osv_lab.up import down

        down()

    def look(self, ctx: Any) -> None:
        """The timer: what is there is drawn anew."""


def _url() -> str | None:
    """Where the lab's server is, if it is up."""
    from osv_lab.up import pages

    return pages().get("api")


def _loopback(url: str) -> str:
    """The address of a server on this machine: a form sends images to no other."""
    from urllib.parse import urlsplit

    from osv_lab.core.errors import UsageError

    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError("not a server of this machine", url, "ask others with osv_lab.serve.client.Client")
    return url


def _others(up: Mapping[str, str]) -> str:
    return ", ".join(name for name in up if name != "api")


def register(plugin: Any) -> None:
    plugin.register(Serve)
    plugin.register(AskServer)
    plugin.register(ImportCaptures)
    plugin.register(Serving)
