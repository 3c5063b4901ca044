"""The pages for people: what is served and a form to try it, and the API's documentation, both without a network."""

from __future__ import annotations

import importlib.util
import mimetypes
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, Response

from osv_lab.serve.errors import RequestError
from osv_lab.serve.slot import ModelSlot

_HERE = Path(__file__).parent
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='none' "
    "stroke='%232f7de1' stroke-width='2' d='M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4'/%3E%3Ccircle cx='8' cy='8' "
    "r='2.5' fill='%232f7de1'/%3E%3C/svg%3E"
)
# Everything comes from this server; pictures may also be what the visitor dropped on the page.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def add_pages(app: FastAPI, slot: ModelSlot, *, needs_key: bool) -> None:
    """Add ``/`` (a form to try the model) and ``/docs`` (Swagger UI) to an app.

    Swagger UI's files come from the ``fastapi-offline`` package; without it ``/docs`` is a plain list.
    """
    html = (_HERE / "page.html").read_text(encoding="utf-8")
    html = html.replace("{{icon}}", _ICON).replace("{{needs_key}}", "true" if needs_key else "false")
    assets = _asset_folder()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(html, headers=_HEADERS)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        if assets is None:
            return HTMLResponse(_plain_docs(app), headers=_HEADERS)
        shown = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{app.title}: API",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url=_ICON,
            swagger_ui_parameters={"defaultModelsExpandDepth": 0, "validatorUrl": None},
        )
        return HTMLResponse(bytes(shown.body), headers=_HEADERS)

    @app.get("/docs/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if assets is None or name not in _ASSETS:
            raise RequestError(404, "no such page", f"/docs/{name}", "see /docs")
        return FileResponse(assets / name, media_type=mimetypes.guess_type(name)[0], headers=_HEADERS)


def _asset_folder() -> Path | None:
    """Where fastapi-offline keeps Swagger UI, found without importing it."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "static"
    return folder if all((folder / name).is_file() for name in _ASSETS) else None


def _plain_docs(app: FastAPI) -> str:
    """The endpoints as a list, for an installation without Swagger UI."""
    rows = [
        f"<li><code>{method.upper()} {path}</code> {operation.get('summary', '')}</li>"
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        f"<!doctype html><title>{app.title}: API</title><h1>API</h1><ul>{''.join(rows)}</ul>"
        "<p>The schema is at <a href='openapi.json'>/openapi.json</a>. For an interactive page: "
        "<code>pip install fastapi-offline</code>.</p>"
    )
