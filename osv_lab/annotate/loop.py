"""The annotation loop of a dataset: send, look, pull."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.agreement import AgreementReport, agreement_of
from osv_lab.annotate.changes import Resolution
from osv_lab.annotate.conflicts import ConflictReport, open_conflicts
from osv_lab.annotate.keyframes import TOLERANCE
from osv_lab.annotate.listing import AnnotationRuns, list_runs
from osv_lab.annotate.ontology import Ontology
from osv_lab.annotate.pack_clips import Windows
from osv_lab.annotate.predict_task import TaskPredictions, predict_task
from osv_lab.annotate.proposals import THRESHOLD, Levels
from osv_lab.annotate.pull import SyncReport, pull
from osv_lab.annotate.records import Runs
from osv_lab.annotate.rules import IOU, Rules, loaded
from osv_lab.annotate.send import AnnotationTask, cancel, send
from osv_lab.annotate.session import Session
from osv_lab.annotate.settle import Keep, resolve
from osv_lab.annotate.status import AnnotationStatus, is_here, status
from osv_lab.annotate.target import Target, task_of_run, task_of_server
from osv_lab.annotate.webhooks import Listening
from osv_lab.annotate.workflow import Done, Stage, advance, reassign, send_back
from osv_lab.annotate.yields import YieldReport, yield_of
from osv_lab.core.errors import NotFoundError

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector


class AnnotationLoop(Session):
    """Sends samples of a dataset to CVAT and brings the labels back.

    The server is asked first when it is first needed; :meth:`list` needs none.

    Args:
        dataset: A FiftyOne dataset, or its name.
        url: The server, such as ``http://localhost:8080``; by default ``OSV_CVAT_URL`` or the settings file's.
        credentials: User name and password.
        token: A personal access token with write access, instead of ``credentials``.
        organization: The organisation's short name, ``""`` for the own workspace.
        deadline_s: Seconds that the server may be silent in one call.
        progress: Told how far uploads are.

    Example:
        >>> with AnnotationLoop("cells") as loop:             # the server and who we are: from the environment
        ...     task = loop.send(view, "first_batch", "predictions")
        ...     print(loop.status("first_batch").summary())
        ...     report = loop.pull("first_batch")
        0 of 1 jobs completed; labels: 0 edited, 0 added, 0 removed
    """

    def send(
        self,
        view: Any,
        key: str,
        label_field: str,
        classes: Sequence[str] | None = None,
        attributes: Mapping[str, Sequence[str]] | None = None,
        *,
        project: str | None = None,
        assignees: Sequence[str] = (),
        reviewers: Sequence[str] = (),
        segment_size: int | None = None,
        overlap: int = 0,
        done: Done = "completed",
        windows: Windows | None = None,
        frame_step: int = 1,
        tolerance: float = TOLERANCE,
    ) -> AnnotationTask:
        """Send images or videos with what a label field says of them; all of it, or after an error nothing.

        The same command after a failure or a kill completes it, and after success changes nothing. Boxes are clipped
        to their image. Samples and labels that cannot be sent are reported and the others are sent.

        Images become one task. Of videos, of windows of them, and of sequences of images whose labels are of tracks
        (samples with the fields ``sequence`` and ``frame_number``), each becomes a task with its frames in order. Their
        tracks go as keyframes; labels without a track number, and masks, go frame by frame.

        Args:
            view: The samples; of a view of clips, the frames of the clips.
            key: The name of this run.
            label_field: Its labels go along, and what comes back is merged into it. It must exist; it may be empty.
                Of videos ``frames.<name>``.
            classes: Only labels of these classes; by default all that the dataset declares or has.
            attributes: For attributes with a closed set of values: those, the first being CVAT's default, which is
                taken for "not set" when it comes back on a label that did not have the attribute. All other
                attributes of the labels are sent too, as checkboxes and texts.
            project: The name of the CVAT project, by default the dataset's; made if need be, never cut down.
            assignees: User names; jobs are given to them in turn.
            reviewers: User names; :meth:`advance` gives finished jobs to them in turn.
            segment_size: Images or frames per job; by default one job, in which a track is whole.
            overlap: Images that each job shares with the one before, for :meth:`agreement`.
            done: Which jobs a pull takes, unless it is told otherwise: see :data:`osv_lab.annotate.workflow.Done`.
            windows: Only these frames are sent, and only they are touched by a pull: first and last frame, from 1, by
                the sample id of a video or the name of a sequence.
            frame_step: Of videos, send every so many frames.
            tolerance: Pixels by which a box of a track may be off in CVAT on a frame that is no keyframe there; the
                dataset's own boxes stay exact.

        Raises:
            UsageError: the key is in use for other samples, or the server refuses us.
            NotFoundError: no such field or user, or no sample that could be sent.
            UnavailableError: the server is down, silent, or lost something.
        """
        return send(
            self.connection,
            view,
            key,
            label_field,
            classes,
            attributes,
            project=project,
            assignees=assignees,
            reviewers=reviewers,
            segment_size=segment_size,
            overlap=overlap,
            done=done,
            windows=windows,
            frame_step=frame_step,
            tolerance=tolerance,
            progress=self._progress,
        )

    def send_samples_to_annotation(
        self,
        paths: Iterable[str | Path],
        key: str = "selection",
        label_field: str = "ground_truth",
        **options: Any,
    ) -> AnnotationTask:
        """Send the samples of these media files.

        Raises:
            NotFoundError: a path that is none of the dataset's media.
        """
        wanted = [str(Path(path).expanduser().absolute()) for path in paths]
        ids = dict(zip(*self.dataset.values(["filepath", "id"]), strict=True))
        missing = [path for path in wanted if path not in ids]
        if missing:
            raise NotFoundError(
                f"{len(missing)} of {len(wanted)} paths are not in the dataset", missing[0], "upload them first"
            )
        return self.send(self.dataset.select([ids[path] for path in wanted]), key, label_field, **options)

    def status(self, key: str | None = None) -> AnnotationStatus:
        """The jobs of a run, or of all: stage, state, assignee, and what was edited, added and removed so far.

        Cheap to poll: one call per run, and the labels only where the server says that something changed.
        """
        return status(self.connection, Runs(self.dataset), key)

    def predict(
        self,
        key: str,
        detector: Detector | str,
        ontology: Ontology | None = None,
        thresholds: Levels = THRESHOLD,
        *,
        iou: float = IOU,
    ) -> TaskPredictions:
        """Let a detector label the task of a run, with the images from this machine.

        Everything else is as for :meth:`annotate_task`.

        Raises:
            NotFoundError: no such run, or its task has none of the labels.
            UsageError: the run is of videos or sequences, was not sent to its end, or is on another server.
            UnavailableError: the server does not have what was written.
        """
        target = task_of_run(self.connection, self.dataset, key)
        return self._label(target, detector, ontology, thresholds, iou)

    def annotate_task(
        self,
        task: int,
        detector: Detector | str,
        ontology: Ontology | None = None,
        thresholds: Levels = THRESHOLD,
        *,
        iou: float = IOU,
    ) -> TaskPredictions:
        """Let a detector label any task of images on the server, and only where no person's work is.

        Frames that nobody has labelled get the detector's labels, in jobs that nobody has finished. Of what is there,
        only what this method wrote itself is replaced, and that only where nobody has touched any of the frame since;
        the same detector with the same rules changes nothing the second time. What is written is read back.

        Args:
            task: CVAT's id of the task.
            detector: A detector, or what :func:`osv_lab.detect.load_detector` loads.
            ontology: Which label each class becomes; see :func:`osv_lab.annotate.autolabel.autolabel`.
            thresholds: Detections with a lower confidence are left out: one for all labels, or one each.
            iou: Of two detections of one label that overlap by more, the less confident is dropped.

        Raises:
            NotFoundError: no such task, or it has none of the labels.
            UsageError: the task is a video.
            UnavailableError: the server does not have what was written.
        """
        target = task_of_server(self.connection, self.dataset, task)
        return self._label(target, detector, ontology, thresholds, iou)

    def _label(
        self, target: Target, detector: Detector | str, ontology: Ontology | None, thresholds: Levels, iou: float
    ) -> TaskPredictions:
        found = loaded(detector)
        rules = Rules.of(found, ontology, thresholds, iou=iou)
        return predict_task(self.connection, self.dataset, target, found, rules, self._progress)

    def pull(self, key: str, conflict: Resolution = "review", *, done: Done | None = None) -> SyncReport:
        """Merge what annotators did into the dataset.

        Labels that nobody touched stay as they are, to the last bit. Edited ones lose the model's confidence and get a
        person as their source (``osv_source``). Local changes are kept. Conflicts become the saved view
        ``<key>_conflicts`` with the server's versions in the field ``<key>_theirs``. Pulling twice changes nothing.

        Args:
            key: The run.
            conflict: ``review`` keeps ours and leaves the conflict open; ``ours`` and ``theirs`` settle it.
            done: Which jobs are taken, see :data:`osv_lab.annotate.workflow.Done`; by default as it was said when
                they were sent (``completed``: the state, at any stage).
        """
        return pull(self.connection, self.dataset, key, conflict, done)

    def conflicts(self, key: str) -> ConflictReport:
        """What both sides changed differently and a pull left open, with both versions; asks no server."""
        return open_conflicts(self.dataset, key)

    def resolve(
        self, key: str, objects: str | Sequence[str] | None = None, *, keep: Keep = "ours"
    ) -> ConflictReport:
        """Settle conflicts; asks no server.

        Args:
            key: The run.
            objects: Ids of labels, as :meth:`conflicts` has them; by default all.
            keep: ``ours``, ``theirs``, or of several versions on the server one by its place.

        Returns:
            What is still open.

        Raises:
            NotFoundError: an object that is in no open conflict.
            UsageError: no such version.
        """
        return resolve(self.dataset, key, [objects] if isinstance(objects, str) else objects, keep)

    def yields(self, key: str) -> YieldReport:
        """What annotators made of what was sent: accepted, moved, relabelled, removed, added, per class.

        From the records of what was sent and pulled, so it asks no server. An object that was removed and drawn anew in
        its place (IoU 0.5 or more) counts as moved, or relabelled. Where jobs share images, each annotator counts.

        Raises:
            NotFoundError: nothing of the run was pulled yet.
        """
        return yield_of(self.dataset, key)

    def agreement(self, *keys: str, iou: float = 0.5) -> AgreementReport:
        """How far annotators agree who had the same images: by overlapping jobs of a run, or by several runs.

        From the records of pulls, so it asks no server. Objects are matched by IoU whatever their class; Cohen's kappa
        is over the classes of matches, Krippendorff's alpha over all objects, "nothing" being what one left out.

        Args:
            keys: The runs; by default all of the dataset.
            iou: Overlap from which two objects are matched.

        Raises:
            NotFoundError: no image has two annotators.
        """
        return agreement_of(self.dataset, keys or Runs(self.dataset).names(), iou)

    def reassign(
        self, key: str, users: str | Sequence[str], jobs: Sequence[int] | None = None
    ) -> AnnotationStatus:
        """Give jobs of a run, by default all, to a user, to several in turn, or with ``()`` to nobody.

        Raises:
            NotFoundError: no such job or user.
            UsageError: the server does not let us.
        """
        reassign(self.connection, Runs(self.dataset), key, [users] if isinstance(users, str) else users, jobs)
        return self.status(key)

    def advance(
        self,
        key: str,
        jobs: Sequence[int] | None = None,
        *,
        to: Stage | None = None,
        reviewers: str | Sequence[str] = (),
    ) -> AnnotationStatus:
        """Move jobs on: from annotation to validation and a reviewer, from there to acceptance.

        Args:
            key: The run.
            jobs: CVAT's ids; by default those whose state is completed.
            to: The stage; by default the next one, and without a reviewer acceptance at once.
            reviewers: Who gets jobs for validation, in turn; by default those of :meth:`send`.

        Raises:
            NotFoundError: no such job or user.
            UsageError: the server does not let us: only the task's owner or a maintainer may.
        """
        users = [reviewers] if isinstance(reviewers, str) else reviewers
        advance(self.connection, Runs(self.dataset), key, jobs, to, users)
        return self.status(key)

    def send_back(self, key: str, jobs: Sequence[int]) -> AnnotationStatus:
        """Give jobs back, rejected, to those who annotated them."""
        send_back(self.connection, Runs(self.dataset), key, jobs)
        return self.status(key)

    def listen(
        self,
        *keys: str,
        pull: bool = True,
        told: Callable[[str, Any], Any] = lambda key, report: None,
        target: str | None = None,
        secret: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> Listening:
        """Pull, or look at the status, whenever CVAT says that something changed, for as long as it is open.

        A webhook is made in the runs' projects, and removed on :meth:`Listening.close`. Notices must bear CVAT's
        signature with the secret, and can cause nothing but this one thing. It is done once at the beginning, too.

        Args:
            keys: Which runs; by default all of the dataset that are on this server.
            pull: Whether to pull; else the status is asked for.
            told: Called with the key and the report each time.
            target: Our address as the server reaches it; by default where we listen.
            secret: What CVAT signs with; by default a random one.
            host: Where to listen; loopback by default.
            port: 0 takes a free one.

        Raises:
            NotFoundError: no such run, or none at all.
            UsageError: the server does not let us make webhooks, a run is on another one, or ``host`` is all
                addresses and there is no ``target``.
            UnavailableError: the address cannot be listened on.

        Example:
            >>> task = loop.send(view, "first_batch", "predictions")
            >>> told = []
            >>> with loop.listen("first_batch", told=lambda key, report: told.append(report)) as listening:
            ...     listening.target                                # until somebody ends it
            'http://127.0.0.1:...'
        """

        def ask(loop: AnnotationLoop, key: str) -> Any:
            return loop.pull(key) if pull else loop.status(key)

        runs = Runs(self.dataset)
        names = keys or [name for name in runs.names() if is_here(self.connection, runs.get(name))]
        return Listening(self, names, ask, told, target, secret=secret, host=host, port=port)

    def cancel(self, key: str) -> None:
        """Delete the task on the server and forget the run. Labels in the dataset stay as they are.

        What annotators did and nobody pulled is lost, and so are conflicts that are still open, with their view and
        field. A cancel that is interrupted is repeated by the same call.
        """
        cancel(self.connection, self.dataset, key)

    def list(self) -> AnnotationRuns:
        """The runs of the dataset, without asking the server."""
        return list_runs(self.dataset)
