"""The widgets in real JupyterLab, driven as a person would: one server, one kernel, one notebook for the whole file."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from app_driver import AppServer
from notebook_driver import JupyterLab, Notebook, free_port
from widget_scenes import SWITCH, images, render, video

from osv_lab import Lab
from osv_lab.evaluate.tracking import evaluate_tracks

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

SETUP = """\
import gc, os, threading, time
import psutil
from ipywidgets.widgets.widget import _instances
from osv_lab import Lab
from osv_lab.core.errors import UnavailableError
from osv_lab.store.catalogue import open_dataset
from osv_lab.widgets import *

lab, clips = Lab({images!r}), open_dataset({clips!r})
report = lab.evaluate("predictions", key="eval", split=None)
compared = lab.compare("eval", "second_eval", split=None, n_boot=100)

def held():
    "What this process has open."
    gc.collect()
    own = psutil.Process()
    return dict(
        widgets=len(_instances), threads=threading.active_count(),
        sockets=len(own.net_connections()), videos=sum(file.path.endswith(".mp4") for file in own.open_files()),
        children=sorted(child.name() for child in own.children(recursive=True)),
        listeners=sum(map(len, session._client._listeners.values())), linked=AppLink.of(session).attached,
    )

class Slow(LabWidget):
    heading = "Slow"
    def _load(self):
        for k in range(3000):
            self.progress("steps", k, 3000)
            time.sleep(0.1)

def loading(widget):
    "The widget as it is while it loads."
    widget._loading = True
    widget.told = {{"what": "Loading", "label": "frames", "done": 12, "total": 30}}
    display({{"application/vnd.jupyter.widget-view+json": {{"version_major": 2, "version_minor": 0,
             "model_id": widget.model_id}}, "text/plain": ""}}, raw=True)

print("ready")
"""


STAGE, ASIDE = 2, 3
"""The cell for widgets, and one beside it."""


@dataclass
class Bench:
    """The notebook, and the App of its session in a page of its own."""

    notebook: Notebook
    app_url: str
    context: BrowserContext
    images: str
    clips: str
    lab: JupyterLab

    def run(self, source: str) -> str:
        """Put some lines into the cell for widgets and run it; gives what they print."""
        self.notebook.write(STAGE, source)
        return self.notebook.run(STAGE)

    def value(self, expression: str) -> Any:
        """What an expression is in the kernel, asked in a cell of its own: running another would close its widgets."""
        return json.loads(self.tell(f"import json; print(json.dumps({expression}))"))

    def tell(self, source: str) -> str:
        """Run some lines in another cell than that of the widgets."""
        self.notebook.write(ASIDE, source)
        return self.notebook.run(ASIDE)


@pytest.fixture(scope="module")
def bench(
    fo: Any, browser: Browser, app_server: AppServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder, tag = tmp_path_factory.mktemp("notebooks"), uuid.uuid4().hex[:8]
    names = f"cats-{tag}", f"parts-{tag}"
    images(fo, names[0], tmp_path_factory.mktemp("images"))
    lab = Lab(names[0])
    lab.evaluate("second", key="second_eval", split=None)
    lab.create_version("v1")
    sample = lab.dataset.first()
    sample.ground_truth.detections = sample.ground_truth.detections[1:]
    sample.save()
    lab.create_version("v2")
    clips = video(fo, names[1], render(tmp_path_factory.mktemp("video")))
    evaluate_tracks(clips)
    port = int(app_server.url.rpartition(":")[2])
    jupyter = JupyterLab(folder, free_port())
    context = browser.new_context(viewport={"width": 1280, "height": 1100})
    local = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    asked: list[str] = []

    def guard(route: Any) -> None:
        if route.request.url.startswith(local):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    context.set_default_timeout(45_000)
    page = context.new_page()
    context.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
    setup = SETUP.format(images=names[0], clips=names[1])
    jupyter.write("widgets.ipynb", [setup, f"session = lab.app(port={port}, timeout_s=300, show=False)", "", ""])
    notebook = jupyter.open(page, "widgets.ipynb")
    assert notebook.run(0, timeout_s=300).strip().endswith("ready")
    notebook.run(1, timeout_s=320)
    yield Bench(notebook, app_server.url, context, *names, jupyter)
    # The App's page asks for fonts, and nbconvert's for its own scripts; a notebook asks nobody.
    theirs = ("fonts.", "cdnjs.cloudflare.com")
    assert not [url for url in asked if not any(host in url for host in theirs)], asked
    context.close()
    jupyter.close()
    for name in names:
        fo.delete_dataset(name)


def shoot(widget: Locator, output_dir: Path, name: str) -> None:
    widget.scroll_into_view_if_needed()
    widget.screenshot(path=output_dir / f"widget-{name}.png")


def settled(page: Page, condition: str, argument: Any = None) -> None:
    page.wait_for_function(condition, arg=argument, timeout=45_000)


# -- driving -------------------------------------------------------------------------------------------------


def test_a_cell_of_the_matrix_opens_its_objects(bench: Bench, output_dir: Path) -> None:
    bench.run("matrix = ConfusionExplorer(report, link=session); matrix")
    widget = bench.notebook.widget("confusion").last
    labels = bench.value("list(report.confusion.labels)")
    dog, cat = labels.index("dog"), labels.index("cat")
    widget.locator(f"[data-cell='{dog},{cat}']").click()
    widget.locator(".osv-gallery img").nth(3).wait_for()
    assert widget.locator(".osv-gallery img").count() == 4
    assert "4 dog found as cat: 4 samples in the App" in widget.locator(".osv-note").inner_text()
    shoot(widget, output_dir, "confusion")
    assert bench.value("[len(session.view), matrix.cell_chosen]") == [4, ["dog", "cat"]]


def test_app_and_widget_are_one_session(bench: Bench, output_dir: Path) -> None:
    """A click in the widget changes the App; a selection in the App changes the widget."""
    bench.run("session.clear_view(); matrix = ConfusionExplorer(report, link=session); matrix")
    widget = bench.notebook.widget("confusion").last
    labels = bench.value("list(report.confusion.labels)")
    dog, cat = labels.index("dog"), labels.index("cat")
    app = bench.context.new_page()
    app.goto(f"{bench.app_url}/datasets/{bench.images}")
    entries = app.locator("[data-cy='entry-counts']")
    settled(app, "() => /12 samples/.test(document.querySelector('[data-cy=entry-counts]')?.textContent)")
    widget.locator(f"[data-cell='{dog},{cat}']").click()
    settled(app, "() => /4 samples/.test(document.querySelector('[data-cy=entry-counts]')?.textContent)")
    assert entries.inner_text().startswith("4 samples")
    app.screenshot(path=output_dir / "widget-linked-app.png")
    assert "linked to the App" in widget.inner_text()
    tile = app.locator("[data-cy='looker']").first
    tile.hover()
    tile.locator("input[type=checkbox]").first.dispatch_event("click")
    widget.locator(".osv-link", has_text="1 selected in the App").wait_for()
    widget.locator(f".osv-hit[data-cell='{dog},{cat}']").wait_for()
    assert len(bench.value("matrix.selected['samples']")) == 1
    shoot(widget, output_dir, "linked")
    app.close()


def test_the_slider_moves_the_thresholds(bench: Bench, output_dir: Path) -> None:
    bench.run("chosen = ThresholdExplorer(report, n_boot=0); chosen")
    widget = bench.notebook.widget("thresholds").last
    widget.locator("select").select_option("cat")
    slider = widget.locator("input[type=range]")
    box = slider.bounding_box()
    assert box is not None
    page = bench.notebook.page
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    widget.locator(".osv-gallery img").nth(5).wait_for()
    page.wait_for_timeout(600)
    at = float(widget.locator(".osv-number").inner_text())
    assert 0.35 < at < 0.45
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert float(widget.locator(".osv-number").inner_text()) == pytest.approx(at + 0.02), "keys are the widget's"
    at = float(widget.locator(".osv-number").inner_text())
    for _ in range(100):  # the kernel hears where the slider comes to rest
        if bench.value("chosen.confidences['cat']") == pytest.approx(at):
            break
    shoot(widget, output_dir, "thresholds")
    said = {
        name: widget.locator(f"[data-figure='{name}'] b").inner_text() for name in ("right", "false", "missed")
    }
    point = bench.value(f"[vars(chosen.thresholds.curve('cat').at({at})), chosen.confidences['cat']]")
    assert point[1] == pytest.approx(at)
    wanted = {"right": point[0]["true"], "false": point[0]["false"], "missed": point[0]["missed"]}
    assert said == {name: str(count) for name, count in wanted.items()}


def test_tracks_are_scrubbed_played_and_mended(bench: Bench, output_dir: Path) -> None:
    bench.run("tracks = TrackInspector(clips, 'frames.tracks', link=session); tracks")
    page, widget = bench.notebook.page, bench.notebook.widget("tracks").last
    settled(page, "() => document.querySelector('.osv-tracks').dataset.picture === '1'")
    line = widget.locator(".osv-timeline")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 60, steps=25)
    page.mouse.up()
    frame = int(widget.get_attribute("data-frame") or 0)
    assert 50 < frame < 70
    settled(page, "frame => document.querySelector('.osv-tracks').dataset.picture === frame", str(frame))
    page.wait_for_timeout(500)
    assert bench.value("tracks.frame") == frame
    widget.get_by_label("the frame and its tracks").focus()
    page.keyboard.press("ArrowRight")
    settled(page, "frame => document.querySelector('.osv-tracks').dataset.frame === frame", str(frame + 1))
    page.keyboard.press("Home")
    widget.get_by_role("button", name="Play").click()
    settled(page, "() => Number(document.querySelector('.osv-tracks').dataset.frame) > 12")
    widget.get_by_role("button", name="Pause").click()
    widget.get_by_label("kind of events").select_option("switch")
    widget.locator("li[data-kind='switch']").first.click()
    settled(page, "frame => document.querySelector('.osv-tracks').dataset.frame === frame", str(SWITCH))
    assert sorted(bench.value("list(tracks.chosen)")) == [1, 2]
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    shoot(widget, output_dir, "tracks")
    widget.get_by_role("button", name="on", exact=True).click()
    widget.locator("[data-edit='swap']").click()
    widget.locator(".osv-note", has_text=f"1 and 2 swapped from frame {SWITCH + 1}").wait_for()
    widget.locator(".osv-stale").wait_for()
    after = bench.value("[one.words for one in tracks.editor.edits().edits]")
    assert after == [f"1 and 2 swapped from frame {SWITCH + 1}"]
    widget.locator("[data-edit='undo']").click()
    widget.locator(".osv-note", has_text="taken back").wait_for()
    assert bench.value("tracks.editor.edits().undoable is None")
    bench.tell("tracks.frame = 7")
    settled(page, "() => document.querySelector('.osv-tracks').dataset.picture === '7'")


def test_the_others_are_drawn_and_open_what_they_show(bench: Bench, output_dir: Path) -> None:
    notebook = bench.notebook
    bench.run("ComparisonExplorer(compared, link=session)")
    widget = notebook.widget("comparison").last
    widget.locator("[data-outcome='fixed']").click()
    widget.locator(".osv-note", has_text="in the App").wait_for()
    shoot(widget, output_dir, "comparison")
    bench.run("HealthExplorer(lab.health(), link=session)")
    widget = notebook.widget("health").last
    widget.locator("tr[data-row]").first.click()
    widget.locator(".osv-note", has_text="in the App").wait_for()
    shoot(widget, output_dir, "health")
    bench.run("SliceExplorer(lab.slices('eval', ['tags', 'density'], split=None, n_boot=100), link=session)")
    widget = notebook.widget("slices").last
    widget.locator("tr[data-row]").first.click()
    widget.locator(".osv-note", has_text="in the App").wait_for()
    shoot(widget, output_dir, "slices")
    bench.run("VersionBrowser(lab.name, link=session)")
    widget = notebook.widget("versions").last
    widget.locator("[data-change='object-removed']").click()
    widget.locator(".osv-note", has_text="1 sample in the App").wait_for()
    shoot(widget, output_dir, "versions")
    bench.run("board = TrainingBoard(lab.name); board")
    widget = notebook.widget("training").last
    widget.locator("[data-setting='imgsz']").fill("33")
    widget.locator("[data-setting='imgsz']").press("Tab")
    widget.get_by_text("multiple of 32").wait_for()
    assert widget.get_by_role("button", name="Train").is_disabled()
    widget.locator("[data-setting='imgsz']").fill("64")
    widget.locator("[data-setting='imgsz']").press("Tab")
    widget.get_by_text("The recipe is good").wait_for()
    shoot(widget, output_dir, "training")
    assert bench.value("board.recipe.imgsz") == 64


# -- states --------------------------------------------------------------------------------------------------

EMPTY = {
    "confusion": "import dataclasses, numpy as np; from osv_lab.evaluate.confusion import ConfusionMatrix; "
    "ConfusionExplorer(dataclasses.replace(report, confusion=ConfusionMatrix(('(none)',), np.zeros((1, 1), int))))",
    "tracks": "TrackInspector(clips.limit(0), 'frames.tracks')",
    "versions": "VersionBrowser('never frozen')",
    "annotation": "AnnotationBoard(lab.annotate('http://127.0.0.1:9'))",
    "health": "import dataclasses; HealthExplorer(dataclasses.replace(lab.health(), findings=(), objects={}))",
    "slices": "import dataclasses; SliceExplorer(dataclasses.replace(lab.slices('eval', ['tags'], split=None, "
    "n_boot=100), slices=()))",
    "thresholds": "import dataclasses; ThresholdExplorer(dataclasses.replace(chosen.thresholds, curves=()))",
    "comparison": "import dataclasses; ComparisonExplorer(dataclasses.replace(compared, samples=0))",
}
ERROR = {
    "tracks": "TrackInspector(clips, 'frames.trackz')",
    "thresholds": "ThresholdExplorer(lab.dataset, eval_key='evl')",
}


@pytest.mark.parametrize("state", ["empty", "loading", "error"])
def test_every_state_is_said(bench: Bench, output_dir: Path, state: str) -> None:
    """Each widget in a state. Errors that nothing real brings about at will are brought about in its loading."""
    notebook = bench.notebook
    bench.tell("chosen = ThresholdExplorer(report, n_boot=0); chosen.load()")
    kinds = {**EMPTY, "training": "TrainingBoard(lab.name)"}
    cell = ["from osv_lab.core.errors import UnavailableError", "made = []"]
    for kind, source in kinds.items():
        source = ERROR.get(kind, source) if state == "error" else source
        *before, expression = source.split("; ")
        cell += [*before, f"made.append({expression})"]
        if state == "error" and kind not in ERROR:
            cell += [
                "def fail(): raise UnavailableError('the server does not answer', 'http://127.0.0.1:8080', "
                "'start it, then try again')",
                "made[-1]._load = fail",
            ]
    cell.append("for one in made: " + ("loading(one)" if state == "loading" else "display(one)"))
    bench.run("\n".join(cell))
    shown = notebook.widget()
    for kind in kinds:
        widget = notebook.widget(kind).last
        if state == "empty" and kind == "training":
            assert "No run yet" in widget.inner_text()
        else:
            widget.and_(notebook.page.locator(f"[data-state='{state}']")).wait_for()
            assert widget.locator(".osv-what").inner_text()
            assert widget.locator(".osv-spinner").count() == (state == "loading")
        shoot(widget, output_dir, f"{kind}-{state}")
    assert shown.count() == len(kinds)


# -- life ----------------------------------------------------------------------------------------------------

EVERY = (
    "everything = [ConfusionExplorer(report, link=session), ThresholdExplorer(report, n_boot=0, link=session), "
    "TrackInspector(clips, 'frames.tracks', link=session), HealthExplorer(lab.health(), link=session), "
    "VersionBrowser(lab.name, link=session), TrainingBoard(lab.name), "
    "ComparisonExplorer(compared, link=session)]\n"
    "session = lab.app(port=session.server_port, show=False)\n"
    "for one in everything: display(one)"
)


def test_running_a_cell_again_leaves_nothing_behind(bench: Bench) -> None:
    page, notebook = bench.notebook.page, bench.notebook
    notebook.write(STAGE, EVERY)

    def again() -> dict[str, Any]:
        notebook.run(STAGE)
        settled(page, "() => document.querySelector('.osv-tracks')?.dataset.picture === '1'")
        return dict(bench.value("held()"))

    first = again()
    assert first["linked"] >= 6 and first["widgets"] >= 14
    later = [again() for _ in range(4)]
    grown = [one for one in later if any(one[name] > first[name] for name in first)]
    assert not grown, json.dumps([first, *later])
    assert notebook.widget().count() == 7


def test_an_interrupted_cell_leaves_things_usable(bench: Bench, output_dir: Path) -> None:
    page, notebook = bench.notebook.page, bench.notebook
    notebook.write(STAGE, "matrix = ConfusionExplorer(report, link=session); display(matrix); Slow('steps')")
    notebook.run(STAGE, wait=False)
    slow = page.locator("section.osv-bare")
    slow.locator(".osv-fix", has_text=re.compile(r"steps \d+ of 3000")).wait_for()
    matrix = notebook.widget("confusion").last
    notebook.command("notebook:interrupt-kernel")
    slow.get_by_text("Stopped before it was loaded").wait_for()
    slow.screenshot(path=output_dir / "widget-stopped.png")
    notebook.settle()
    assert "KeyboardInterrupt" in notebook.cell(STAGE).inner_text()
    assert bench.value("1 + 1") == 2
    matrix.locator("button.osv-cell:enabled").nth(1).click()
    matrix.locator(".osv-note", has_text="in the App").wait_for()
    bench.tell("Slow._load = lambda self: None")
    slow.get_by_role("button", name="Try again").click()
    page.locator("section.osv-bare[data-state='ready']").wait_for()


def test_a_saved_notebook_has_pictures_in_place_of_widgets(bench: Bench, output_dir: Path) -> None:
    notebook, page = bench.notebook, bench.notebook.page
    bench.run(
        "display(ConfusionExplorer(report)); display(report.plot()); display(TrackInspector(clips, 'frames.tracks'))"
    )
    for kind in ("confusion", "tracks"):
        notebook.widget(kind).last.wait_for()
    assert page.locator("[data-osv-static]").count() == 2
    assert not page.locator("[data-osv-static]").first.is_visible()
    notebook.save()
    exported = bench.context.request.get(
        f"{bench.lab.address}/nbconvert/html/widgets.ipynb?token={bench.lab.token}"
    )
    assert exported.ok
    saved = bench.context.new_page()
    saved.set_content(exported.text(), wait_until="domcontentloaded")
    saved.locator(".js-plotly-plot svg.main-svg").first.wait_for()
    for part in (saved.locator("[data-osv-static] table"), saved.locator("[data-osv-static] svg image")):
        assert part.first.is_visible()
    saved.screenshot(path=output_dir / "widget-exported.png", full_page=True)
    saved.close()
    other = bench.context.new_page()
    path = bench.lab.folder / "widgets.ipynb"
    copy = bench.lab.folder / "copy.ipynb"
    copy.write_bytes(path.read_bytes())
    other.goto(f"{bench.lab.address}/doc/tree/copy.ipynb?token={bench.lab.token}")
    other.locator("[data-osv-static] svg image").last.wait_for()
    other.wait_for_timeout(1500)
    assert not other.get_by_text("Error displaying widget").first.is_visible()
    other.screenshot(path=output_dir / "widget-reopened.png")
    other.close()
