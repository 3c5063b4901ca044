"""One object that two annotators drew, in images that their jobs share, is one object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from osv_lab.annotate.changes import Note
from osv_lab.annotate.objects import Annotations, Shape
from osv_lab.annotate.outcomes import matched
from osv_lab.annotate.overlap import NEAR_IOU


def without_doubles(theirs: Sequence[Shape], base: Annotations) -> tuple[tuple[Shape, ...], list[Note]]:
    """The server's objects without those that another annotator drew too: of one kind and class, with an IoU of 0.7.

    The one that was pulled before stays, else that of the job with the lower id. What was sent is no drawing.

    Returns:
        The objects, and a note about each that was left out.
    """
    known = {shape.server_id for shape in base.shapes} - {None}
    sent = {(shape.sample, shape.uid) for shape in base.shapes}
    drawn: dict[tuple[str, int], dict[int | None, list[Shape]]] = defaultdict(lambda: defaultdict(list))
    for shape in theirs:
        if (shape.sample, shape.uid) not in sent:
            drawn[shape.sample, shape.frame][shape.job].append(shape)
    doubled: list[Shape] = []
    for jobs in drawn.values():
        kept: list[Shape] = []
        for job in sorted(jobs, key=lambda job: (all(one.server_id not in known for one in jobs[job]), job or 0)):
            again = {
                j
                for i, j, _ in matched(kept, jobs[job], NEAR_IOU)
                if kept[i].label == jobs[job][j].label and jobs[job][j].server_id not in known
            }
            doubled += [jobs[job][j] for j in sorted(again)]
            kept += [one for j, one in enumerate(jobs[job]) if j not in again]
    out = set(map(id, doubled))
    return tuple(shape for shape in theirs if id(shape) not in out), [Note("drawn twice", one) for one in doubled]
