"""Camera motion from images: a camera that moves in a known way over a generated picture, and over a real one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import supervision as sv
from support import shared_data

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track import ObjectTracker
from osv_lab.track.camera import CameraMotion, Ecc, SparseFlow

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
SIZE = (640, 360)


def picture(seed: int = 1, width: int = 960, height: int = 600) -> Image:
    """Spots of many sizes."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.uint8)
    for spot in (8, 32, 128):
        coarse = rng.integers(0, 85, (height // spot + 1, width // spot + 1, 3), dtype=np.uint8)
        image = cv2.add(image, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return image


def seen_by(image: Image, dx: float, dy: float, degrees: float, zoom: float) -> tuple[Image, Floats]:
    """What a camera sees of a picture, and where it puts the picture's points."""
    matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, zoom)
    matrix[:, 2] += (SIZE[0] - image.shape[1]) / 2 + dx, (SIZE[1] - image.shape[0]) / 2 + dy
    return cv2.warpAffine(image, matrix, SIZE), np.vstack((matrix, (0, 0, 1)))


def corner_error(found: Floats, true: Floats) -> float:
    """Greatest distance in pixels at a corner of the image."""
    corners = np.array([[0, 0, 1], [SIZE[0], 0, 1], [0, SIZE[1], 1], [*SIZE, 1]], dtype=np.float64).T
    return float(np.abs(found @ corners - true[:2] @ corners).max())


def errors(camera: CameraMotion, images: list[Image], amount: float) -> tuple[list[float], int]:
    """Corner errors of the estimates over a shaking camera with a large object moving through, and how often none."""
    rng = np.random.default_rng(0)
    found, none = [], 0
    before = np.eye(3)
    for k, image in enumerate(images):
        dx, dy = rng.normal(0, amount, 2)
        frame, place = seen_by(
            image, dx, dy, rng.normal(0, amount / 20), float(np.exp(rng.normal(0, amount / 2000)))
        )
        x = 60 + 14 * k
        frame = np.ascontiguousarray(frame)
        cv2.rectangle(frame, (x, 100), (x + 120, 300), (40, 200, 90), -1)
        cv2.circle(frame, (x + 60, 200), 40, (0, 0, 255), -1)
        warp = camera.estimate(frame, np.array([[x, 100, x + 120, 300.0]]))
        if k == 0:
            assert warp is None
        elif warp is None:
            none += 1
        else:
            found.append(corner_error(warp, place @ np.linalg.inv(before)))
        before = place
    return found, none


@pytest.mark.parametrize(("camera", "amount"), [(SparseFlow(), 2), (SparseFlow(), 20), (Ecc(), 2), (Ecc(), 5)])
def test_known_motion_is_found_within_a_pixel_beside_a_moving_object(camera: CameraMotion, amount: float) -> None:
    found, none = errors(camera, [picture()] * 16, amount)
    assert none == 0 and max(found) < 1


@pytest.mark.parametrize("camera", [SparseFlow(), Ecc()])
def test_known_motion_over_a_real_video(camera: CameraMotion) -> None:
    root = shared_data()
    images = [picture(seed) for seed in (1, 1, 1, 1)]
    if root is not None:
        video = cv2.VideoCapture(str(root / "videos" / "car-detection.mp4"))
        images = [cv2.resize(video.read()[1], None, fx=1.2, fy=1.2) for _ in range(10)]
        video.release()
    found, none = errors(camera, images, 3)
    # Cars in the video move by themselves, and nothing says where they are.
    assert none <= len(images) // 4 and np.median(found) < 2.5 and max(found) < 8


@pytest.mark.parametrize("camera", [SparseFlow(), Ecc()])
def test_what_shows_no_motion_gives_none(camera: CameraMotion) -> None:
    nothing = np.empty((0, 4))
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (360, 640, 3), dtype=np.uint8) for _ in range(3)]
    for first, second in (
        (np.zeros((360, 640, 3), np.uint8), np.zeros((360, 640, 3), np.uint8)),
        (picture(1), picture(2)),
        (noise[0], noise[1]),
        (picture(1), picture(1)[::2, ::2].copy()),
        (noise[0][:20, :20].copy(), noise[0][:20, :20].copy()),
    ):
        camera.reset()
        assert camera.estimate(first, nothing) is None
        assert camera.estimate(second, nothing) is None
    camera.reset()
    everything = np.array([[-50.0, -50, 2000, 2000], [np.nan, 0, 1, 1]])
    assert [camera.estimate(picture(), everything) for _ in range(2)] == [None, None]
    with pytest.raises(InvalidDataError, match="not an image"):
        camera.estimate(np.zeros((5, 5), np.float64), nothing)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="too small"):
        SparseFlow(longest=3)


def panned(
    option: str, jump: float = 13.0
) -> tuple[ObjectTracker, list[list[int]], list[sv.Detections], list[Image]]:
    """Three objects in a world over which the camera jerks to and fro by most of an object's width."""
    tracker = ObjectTracker("botsort", camera_motion=option)
    world = picture(3)
    rng = np.random.default_rng(4)
    ids, views, frames = [], [], []
    for k in range(24):
        dx = 0.0 if k < 4 else float(rng.choice((-jump, jump)))
        frame, place = seen_by(world, dx, 0, 0, 1)
        boxes = []
        for x in (300.0, 420.0, 600.0):
            left, top = place[:2] @ (x + k, 250, 1)
            boxes.append([left, top, left + 30, top + 80])
        seen = sv.Detections(xyxy=np.array(boxes), confidence=np.full(3, 0.9), class_id=np.zeros(3, int))
        tracked = tracker.update(seen, frame=None if option in ("boxes", "none") else frame)
        assert tracked.tracker_id is not None
        ids.append(tracked.tracker_id.tolist())
        views.append(seen)
        frames.append(frame)
    return tracker, ids, views, frames


def test_the_tracker_holds_identities_by_looking_at_the_background() -> None:
    for option in ("flow", "ecc"):
        _, ids, _, _ = panned(option)
        assert ids == [[1, 2, 3]] * 24
    # Three objects are too few to tell the camera's motion from their own.
    assert panned("none")[1] != [[1, 2, 3]] * 24


def test_camera_motion_is_part_of_the_state_and_its_options_are_checked() -> None:
    tracker, _, views, frames = panned("flow")
    other = ObjectTracker("botsort", camera_motion="flow")
    other.restore(tracker.state())
    following = [part.update(views[-2], frame=frames[-2]).tracker_id.tolist() for part in (tracker, other)]
    assert following == [[1, 2, 3]] * 2
    assert tracker.camera is not None and tracker.camera.state()
    tracker.reset()
    assert not tracker.camera.state()
    with pytest.raises(UsageError, match="did you mean 'flow'"):
        ObjectTracker("botsort", camera_motion="flw")
    with pytest.raises(UsageError, match="camera motion needs the image"):
        tracker.update(views[0])
    # A warp that is known spares the look.
    assert len(tracker.update(views[0], warp=np.eye(2, 3))) == 3
    assert not ObjectTracker("botsort", camera_motion="none").tracker.settings.follow_camera
