"""Who is who: which object on the server is which object that was sent.

An object is known, in this order,

1. by its uid, on the sample and frame that it was sent to: CVAT moves no object to another frame, so the same uid
   elsewhere is a copy;
2. without a uid that is known there, by CVAT's id, as last seen: so objects that annotators drew are followed;
3. by being equal to one that is missing: so they are followed where a task was written anew and has new ids.

Where one uid is on several objects of a job, an annotator copied one. The original is the one with the id that is on
record, else the one that is as it was sent, else the one with the lowest id: a copy's id is the newer. The copies, and
objects with a uid that is not known, are additions, and get a uid of their own that depends on CVAT's id only: whoever
reads the task again finds the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from osv_lab.annotate.changes import Key, Note, key_of
from osv_lab.annotate.objects import Shape, Track
from osv_lab.annotate.properties import by_a_person, same

One = TypeVar("One", Shape, Track)


def identify(base: Mapping[Key, One], theirs: Iterable[One]) -> tuple[dict[Key, list[One]], list[One], list[Note]]:
    """Tell known objects from additions.

    Args:
        base: The objects that were sent, or pulled before, by key.
        theirs: The objects on the server.

    Returns:
        The versions of every known object that is still there, one per job that has it; the additions, each with a
        uid of its own; and notes about copies and unknown identities.
    """
    by_server = {one.server_id: key for key, one in base.items() if one.server_id is not None}
    candidates: dict[Key, list[One]] = defaultdict(list)
    strange: list[One] = []
    notes: list[Note] = []
    for one in theirs:
        key = key_of(one) if one.uid else None
        if key is None or key not in base:
            known = by_server.get(one.server_id) if one.server_id is not None else None
            key = known if known is not None and key_of(replace(one, uid=known[2])) == known else None
        if key is None:
            strange.append(one)
        else:
            candidates[key].append(one)
    versions: dict[Key, list[One]] = {}
    for key, some in candidates.items():
        originals, copies = _originals(base[key], some) if len(some) > 1 else (some, [])
        versions[key] = originals
        notes += [Note("copied", one) for one in copies]
        strange += [by_a_person(replace(one, uid=None), "manual") for one in copies]
    additions = _follow_equal(base, versions, strange)
    notes += [Note("unknown identity", one) for one in additions if one.uid]
    return versions, _named(by_a_person(one, one.source) if one.uid else one for one in additions), notes


def _originals(base: One, some: Sequence[One]) -> tuple[list[One], list[One]]:
    """One object per job, the original; and the copies."""
    by_job: dict[int | None, list[One]] = defaultdict(list)
    for one in some:
        by_job[one.job].append(one)
    originals, copies = [], []
    for group in by_job.values():
        group.sort(
            key=lambda one: (
                one.server_id is None or one.server_id != base.server_id,
                not same(base, one),
                one.server_id is None,
                one.server_id or 0,
            )
        )
        originals.append(group[0])
        copies += group[1:]
    return originals, copies


def _follow_equal(base: Mapping[Key, One], versions: dict[Key, list[One]], strange: list[One]) -> list[One]:
    """Give objects without a known id to missing ones that are equal; what is left are additions."""
    missing: dict[str, list[Key]] = defaultdict(list)
    if strange:
        for key, one in base.items():
            if key not in versions:
                missing[content(one)].append(key)
    if not missing:
        return strange
    left = []
    for one in strange:
        keys = missing.get(content(one))
        if keys:
            versions[keys.pop(0)] = [one]
        else:
            left.append(one)
    return left


def content(one: Shape | Track) -> str:
    """What an object says, without who made it and under which numbers."""
    values = one.to_dict()
    for name in ("uid", "server_id", "job", "track", "open", "source", "confidence", "model", "group"):
        values.pop(name, None)
    return json.dumps(values, sort_keys=True)


def _named(additions: Iterable[One]) -> list[One]:
    """Additions with uids that whoever reads the same task gives them again: 24 hexadecimal digits."""
    found = []
    seen: Counter[str] = Counter()
    for one in additions:
        frame = one.frame if isinstance(one, Shape) else -1
        what = content(one) if one.server_id is None else str(one.server_id)
        text = json.dumps([one.sample, frame, one.kind, what])
        seen[text] += 1
        digest = hashlib.sha256(f"{text}{seen[text]}".encode()).hexdigest()
        found.append(replace(one, uid=digest[:24]))
    return found
