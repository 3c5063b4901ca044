"""Plotly's figures in a notebook that is saved as a page.

JupyterLab draws a figure itself and keeps only its JSON in the notebook, of which ``nbconvert`` makes nothing.
``osv lab`` has :class:`PlotlyFigures` in its own *Save and Export Notebook As*; on a command line it is asked for:

    jupyter nbconvert --to html --HTMLExporter.preprocessors=osv_lab.widgets.saved.PlotlyFigures notebook.ipynb
"""

from __future__ import annotations

from typing import Any

from nbconvert.preprocessors import Preprocessor

_FIGURE = "application/vnd.plotly.v1+json"


class PlotlyFigures(Preprocessor):
    """An ``nbconvert`` preprocessor that gives figures an HTML form. plotly.js, 5 MB, is written into the page once,
    and only where there is a figure, so that the page needs no other host.
    """

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Add ``text/html`` to the outputs that are figures and have none."""
        import plotly.io

        there = False
        for cell in nb.cells:
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                if _FIGURE in data and "text/html" not in data:
                    shown = {name: data[_FIGURE][name] for name in ("data", "layout") if name in data[_FIGURE]}
                    data["text/html"] = plotly.io.to_html(
                        shown,
                        data[_FIGURE].get("config"),
                        include_plotlyjs=not there,
                        full_html=False,
                        validate=False,
                    )
                    there = True
        return nb, resources
