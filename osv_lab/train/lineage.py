"""Where a model came from, down to the samples, and what was made with it.

Nothing is recorded for this alone: MLflow knows runs and registered models, version records know data, datasets know
which model made their predictions and which evaluations read them. Here they become one graph, and a reference
cuts out of it what it came from and what came from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.report import Report

KINDS = (
    "task",
    "capture",
    "samples",
    "version",
    "environment",
    "run",
    "model",
    "predictions",
    "evaluation",
    "verdict",
)
_ONE = {"samples": "sample set", "predictions": "predictions field"}
_COLUMNS = (
    ("task", "capture"), ("samples",), ("version", "environment"), ("run",), ("model",), ("predictions", "verdict"),
    ("evaluation",),
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One thing: what it is, its name, and what is known of it."""

    id: str
    kind: str
    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage(Report):
    """What a reference came from and what came from it.

    Attributes:
        ref: What was asked for.
        focus: The ids of the nodes that it names.
        nodes: Everything, by kind in the order of :data:`KINDS`.
        edges: ``(from, to, verb)`` of node ids, in the direction that things were made.
    """

    ref: str
    focus: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, str], ...]

    def rows(self) -> list[Mapping[str, Any]]:
        before = _reached(self.focus, self.edges, backward=True)
        return [
            {
                "kind": node.kind,
                "name": node.name,
                "is": "asked for" if node.id in self.focus else "before" if node.id in before else "after",
                "detail": ", ".join(f"{key} {value}" for key, value in node.detail.items() if value),
            }
            for node in self.nodes
        ]

    def summary(self) -> str:
        counts = {kind: sum(node.kind == kind for node in self.nodes) for kind in KINDS}
        told = ", ".join(
            f"{count} {_ONE.get(kind, kind)}{'s' if count > 1 else ''}" for kind, count in counts.items() if count
        )
        return f"lineage of {self.ref}: {told}"

    def of(self, kind: str) -> tuple[Node, ...]:
        """The nodes of a kind."""
        return tuple(node for node in self.nodes if node.kind == kind)

    def tree(self) -> str:
        """What it came from and what came from it, as indented text."""
        by_id = {node.id: node for node in self.nodes}
        lines = []
        for title, backward in (("came from", True), ("led to", False)):
            lines.append(f"{self.ref} {title}")
            found: list[str] = []
            for focus in self.focus:
                found += _branches(focus, by_id, self.edges, backward, "", set())
            lines += found or ["└─ nothing that is known here"]
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The graph for Mermaid, which GitHub and notebooks draw."""
        names = {node.id: f"n{number}" for number, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            text = f"{node.kind}<br/>{node.name}".replace('"', "'")
            lines.append(f'  {names[node.id]}["{text}"]' + (":::focus" if node.id in self.focus else ""))
        lines += [f"  {names[a]} -->|{verb}| {names[b]}" for a, b, verb in self.edges]
        return "\n".join([*lines, "  classDef focus stroke-width:3px"])

    def plot(self) -> Any:
        """The graph as a plotly figure, from left to right."""
        import plotly.graph_objects as go

        columns = [some for some in _COLUMNS if any(self.of(kind) for kind in some)]
        place: dict[str, tuple[float, float]] = {}
        most = 1
        for column, kinds in enumerate(columns):
            stacked = [node for kind in kinds for node in self.of(kind)]
            most = max(most, len(stacked))
            place |= {node.id: (column, (len(stacked) - 1) / 2 - y) for y, node in enumerate(stacked)}
        figure = go.Figure()
        for a, b, verb in self.edges:
            (x0, y0), (x1, y1) = place[a], place[b]
            figure.add_annotation(
                x=x1, y=y1, ax=x0, ay=y0, xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2,
                arrowcolor="#9aa0a8", standoff=14, startstandoff=14, text="", hovertext=verb,
            )  # fmt: skip
        for node in self.nodes:
            x, y = place[node.id]
            told = "<br>".join(f"{key}: {value}" for key, value in node.detail.items())
            figure.add_scatter(
                x=[x], y=[y], mode="markers+text", text=[_short(node.name)],
                textposition="bottom center" if int(x) % 2 else "top center",
                marker={"size": 22, "color": "#ff7a3d" if node.id in self.focus else "#2979b9"}, showlegend=False,
                hovertemplate=f"{told}<extra>{node.kind}</extra>",
            )  # fmt: skip
        titles = ["<br>".join(kind for kind in kinds if self.of(kind)) for kinds in columns]
        ticks = {"tickvals": list(range(len(columns))), "ticktext": titles, "side": "bottom"}
        figure.update_xaxes(**ticks, showgrid=False, zeroline=False, range=[-0.6, len(columns) - 0.4])
        figure.update_yaxes(visible=False, range=[-most / 2 - 0.2, most / 2 + 0.2])
        return figure.update_layout(
            title=f"Lineage of {self.ref}", template="plotly_white", height=220 + 90 * most
        )

    def view(self) -> Any:
        """The samples that it came from: those of the dataset version, exactly as they were frozen.

        Raises:
            NotFoundError: no dataset version is part of the lineage.
        """
        from osv_lab.store.versions import load_version

        before = _reached(self.focus, self.edges, backward=True) | set(self.focus)
        for node in self.of("version"):
            if node.id in before:
                return load_version(node.name)
        raise NotFoundError("no dataset version is part of this lineage", self.ref, "train on one (blood@v1)")


def lineage(ref: str | Mapping[str, str] | None = None, *, digest: str | None = None) -> Lineage:
    """Follow a model, run or dataset version to everything that it came from and that came from it.

    Args:
        ref: ``models:/name@alias``, ``models:/name/3``, a run's name or MLflow id (``runs:/id`` too), a dataset version
            (``blood@v1``), a model file, or a served answer's headers (``X-Model-Digest``).
        digest: SHA-256 of a model file or dataset version, or at least its first 8 characters.

    Raises:
        NotFoundError: nothing like that is known here.
        UsageError: nothing was asked for.

    Example:
        >>> from osv_lab.store.versions import create_version
        >>> print(lineage(create_version(dataset).ref).tree())
        cells@v1 came from
        └─ frozen as: samples 20 samples of cells
        cells@v1 led to
        └─ nothing that is known here
    """
    from osv_lab.train.lineage_graph import build

    if isinstance(ref, Mapping):
        said = {key.lower(): value for key, value in ref.items()}
        ref, digest = said.get("x-model"), digest or said.get("x-model-digest")
    if not ref and not digest:
        raise UsageError("nothing to follow", "no reference and no digest")
    nodes, edges = build()
    focus = [node.id for node in nodes.values() if _named(node, None if digest else ref, digest)]
    if not focus:
        asked = digest or str(ref)
        raise NotFoundError(
            "nothing here is known by that",
            repr(asked),
            "give models:/name@alias, a run, DATASET@VERSION or a digest",
        )
    kept = {*focus, *_reached(focus, edges, backward=True), *_reached(focus, edges, backward=False)}
    shown = sorted((nodes[one] for one in kept), key=lambda node: KINDS.index(node.kind))
    return Lineage(
        ref=str(ref or digest),
        focus=tuple(focus),
        nodes=tuple(shown),
        edges=tuple((a, b, verb) for a, b, verb in dict.fromkeys(edges) if a in kept and b in kept),
    )


def _named(node: Node, ref: str | None, digest: str | None) -> bool:
    from pathlib import Path

    from osv_lab.core.modelfiles import model_digest

    known = str(node.detail.get("digest") or "")
    if digest:
        return len(digest) >= 8 and known.startswith(digest) and node.kind in ("model", "version")
    asked = str(ref)
    if node.kind == "model":
        if asked.startswith("models:/"):
            aliases = [f"{node.name.rpartition('/')[0]}@{one}" for one in node.detail.get("aliases") or ()]
            return asked in (node.name, *aliases)
        return Path(asked).is_file() and model_digest(asked) == known
    if node.kind == "run":
        return asked.removeprefix("runs:/").split("/")[0] in (node.name, node.detail.get("run_id"))
    return node.kind == "version" and asked == node.name


def _reached(start: Any, edges: Any, backward: bool) -> set[str]:
    """Ids that lie before (or after) some nodes."""
    found: set[str] = set()
    new = set(start)
    while new:
        step = {a if backward else b for a, b, _ in edges if (b if backward else a) in new}
        new = step - found
        found |= new
    return found


def _branches(
    node: str, by_id: Mapping[str, Node], edges: Any, backward: bool, indent: str, seen: set[str]
) -> Iterator[str]:
    nexts = [(a if backward else b, verb) for a, b, verb in edges if (b if backward else a) == node]
    for number, (other, verb) in enumerate(nexts):
        last = number == len(nexts) - 1
        told = by_id[other]
        again = " (as above)" if other in seen else ""
        yield f"{indent}{'└─' if last else '├─'} {verb}: {told.kind} {told.name}{again}"
        if not again:
            seen.add(other)
            yield from _branches(other, by_id, edges, backward, indent + ("   " if last else "│  "), seen)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:13]}…{name[-13:]}"
