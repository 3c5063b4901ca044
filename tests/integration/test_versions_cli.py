"""``osv version`` as a script sees it, and the same through the lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from osv_lab import Lab
from osv_lab.cli import main
from osv_lab.store.synthetic import render_dataset


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    code = main([*argv, "--json", *(["--quiet"] if argv[1] in _SLOW else [])])
    return code, json.loads(capsys.readouterr().out)


_SLOW = ("create", "push", "pull", "export", "restore", "verify")


def test_from_freezing_to_restoring(
    fo: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, dataset_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    render_dataset(tmp_path / "parts", {"train": 6, "val": 2}, (96, 96))
    lab = Lab(dataset_name)
    lab.upload_data(tmp_path / "parts")
    v1, v2, remote = f"{dataset_name}@v1", f"{dataset_name}@v2", str(tmp_path / "remote")

    code, first = run(capsys, "version", "create", dataset_name)
    assert (code, first["name"], first["samples"]) == (0, "v1", 8)
    steps = tmp_path / "steps.yaml"
    steps.write_text(
        "preprocessing: {resize: {width: 64, height: 64}}\naugmentation: {flip: {horizontal: true}}\n"
    )
    more = ["--augment", "rotate: {degrees: 5}", "--multiplier", "2", "--splits", "train=0.5,val=0.5"]
    code, second = run(capsys, "version", "create", dataset_name, "--steps", str(steps), *more)
    assert (code, second["samples"], second["splits"]) == (0, 12, {"train": 8, "val": 4})
    assert [list(step) for step in second["recipe"]["augment"]] == [["flip"], ["rotate"]]

    code, listed = run(capsys, "version", "list", dataset_name)
    assert [version["name"] for version in listed["versions"]] == ["v1", "v2"]
    assert run(capsys, "version", "show", v1)[1]["digest"] == first["digest"]
    code, diff = run(capsys, "version", "diff", v1, v2)
    assert code == 0 and diff["samples"]["added"] == 4 and diff["samples"]["replaced"] == 8
    assert run(capsys, "version", "verify", v2) == (0, {"ref": v2, "samples": 12, "problems": []})
    assert run(capsys, "version", "export", v2, str(tmp_path / "yolo"))[1]["images"] == {"train": 8, "val": 4}
    assert run(capsys, "export", "data", v2, str(tmp_path / "coco"), "--format", "coco")[0] == 0
    assert run(capsys, "version", "export", v1, str(tmp_path / "raw"), "--format", "raw")[0] == 0
    assert len(list((tmp_path / "raw" / "media").iterdir())) == 8

    assert run(capsys, "version", "push", v1, "--remote", remote)[0] == 0
    assert run(capsys, "version", "delete", v1)[0] == 0
    code, gone = run(capsys, "version", "show", v1)
    assert code == 3 and "osv version pull" in gone["fix"]
    assert run(capsys, "version", "list", "--remote", remote)[1]["versions"][0]["digest"] == first["digest"]
    assert run(capsys, "version", "pull", v1, "--remote", remote)[1]["digest"] == first["digest"]

    fo.delete_dataset(dataset_name)
    assert run(capsys, "version", "restore", v1)[0] == 0
    assert len(lab.dataset) == 8
    assert run(capsys, "version", "restore", v1)[0] == 2
    pictures = tmp_path / "pictures"
    code, shown = run(
        capsys, "version", "preview", dataset_name, str(pictures), "--augment", "mosaic", "--copies", "2"
    )
    assert code == 0 and len(list(pictures.iterdir())) == 3 and shown["titles"][-1] == "augmented 2"

    third = lab.create_version(view=lab.view("train"))
    assert third.ref == f"{dataset_name}@v3" and len(lab.versions().versions) == 3
    assert len(lab.load_version("v3")) == third.samples == 6
    assert lab.diff_versions("v1", "v3").samples["removed"] == 2
    lab.push_version("v3", remote)
    assert lab.pull_version("v3", remote) == third
    assert len(lab.restore_version("v3", overwrite=True)) == 6
    for name in (v2, third.ref):
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["create", "{name}", "--splits", "train"], "--splits takes shares"),
        (["create", "{name}", "--steps", "nowhere.yaml"], "--steps cannot be read"),
        (["show", "v1"], "not a dataset version"),
        (["push", "{name}@v1", "--option", "profile"], "KEY=VALUE"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str, fo: Any, dataset_name: str
) -> None:
    fo.Dataset(dataset_name)
    code = main(["version", *(part.format(name=dataset_name) for part in argv)])
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1
