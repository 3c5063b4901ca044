"""Dataset versions: frozen, content-addressed, kept by DVC, rebuilt bit for bit.

What a version is on disk, in the lab's folder ``versions`` (an ordinary DVC project without Git, so that DVC's own
commands work on it)::

    .dvc/cache/files/md5/..      every file of every version, once, under its MD5
    blood/v1.dvc                 the version: DVC's pointer to its folder, and under ``meta`` its digest and recipe

and in the folder that the pointer names::

    samples.jsonl                one line per sample: content (media digest, split, labels) and what goes with it
    samples.index                fixed-size rows by sample, for looking one up and for the diff
    shards/0000.tar              media, packed; a later version names the shards of an earlier one again

A version exists from the moment its ``.dvc`` file does, and no longer: that file is written last and removed first.
Example:

    >>> from osv_lab.store.versions import create_version, load_version, push
    >>> v1 = create_version(dataset, splits=(0.8, 0.1, 0.1))
    >>> push(v1.ref, "backup").summary()                  # or s3://bucket/datasets, or any DVC remote
    'cells@v1 ...: 20 samples (16 train, 2 val, 2 test), 30 labels'
    >>> len(load_version("cells@v1").match_tags("train"))
    16
"""

from __future__ import annotations

from osv_lab.store.versions.create import create_version
from osv_lab.store.versions.erase import EraseReport, erase
from osv_lab.store.versions.load import export_version, load_version, rebuild, restore
from osv_lab.store.versions.model import DatasetVersion, VersionList
from osv_lab.store.versions.registry import delete, find_version, is_version, list_versions
from osv_lab.store.versions.remote import list_remote, pull, push
from osv_lab.store.versions.verify import verify

__all__ = [
    "DatasetVersion",
    "EraseReport",
    "VersionList",
    "create_version",
    "delete",
    "erase",
    "export_version",
    "find_version",
    "is_version",
    "list_remote",
    "list_versions",
    "load_version",
    "pull",
    "push",
    "rebuild",
    "restore",
    "verify",
]
