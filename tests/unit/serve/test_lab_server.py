"""Servers that a notebook starts: a cell that is run again, with a lab of the same name, finds and stops them."""

from __future__ import annotations

from pathlib import Path

from tiny_model import write_tiny_model

from osv_lab import Lab


def test_another_lab_of_the_name_stops_what_was_started(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    first = Lab("served-again").server.start(model=model)
    other = Lab("served-elsewhere").server.start(model=model)
    again = Lab("served-again").server
    assert again.handles == [first]
    second = again.run_server(first.port, model=model, block=False)
    assert not first.running
    assert again.handles == [second]
    again.stop()
    assert other.running
    assert again.handles == []
    Lab("served-elsewhere").server.stop()
    assert not other.running
