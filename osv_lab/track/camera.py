"""Camera motion from the images: what the background did between two frames, as a 2x3 warp.

Two estimators with one shape, :class:`SparseFlow` (corners followed by Lucas-Kanade flow, an affine motion that most
agree on) and :class:`Ecc` (the motion that makes the two images most alike, Evangelidis and Psarakis 2008). Boxes are
left out, for what is tracked moves by itself. An estimate that does not hold is none at all: the tracker then goes by
the boxes alone (:func:`osv_lab.track.motion.shift_from_boxes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track.tracks import Floats

Image = npt.NDArray[np.uint8]

_LEAST_INLIERS = 10
_LEAST_SHARE = 0.5
_LEAST_ALIKE = 0.6
_PYRAMID = 3
_SCALES = (0.7, 1.4)
# A corner that does not come back to its place when followed there and back, in pixels of the small image, is lost.
_RETURNS = 1.0


class CameraMotion(Protocol):
    """What says how the camera moved since the frame before."""

    def estimate(self, frame: Image, xyxy: Floats) -> Floats | None:
        """The motion from the last frame given to this one.

        Args:
            frame: (h, w, 3) BGR or (h, w) grey, uint8.
            xyxy: (n, 4) boxes in it that are not background, absolute pixels.

        Returns:
            (2, 3) affine warp in full pixels, or ``None`` when there is no frame before or no trustworthy motion.
        """

    def reset(self) -> None:
        """Forget the last frame."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as arrays."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; without one as after :meth:`reset`."""


class _ImageMotion:
    """The small grey image of the last frame, and what both estimators do around it.

    Args:
        longest: Images are made smaller until their longer side has this many pixels.
    """

    def __init__(self, longest: int) -> None:
        if longest < 64:
            raise UsageError("too small an image to see motion", longest, "give 64 pixels or more")
        self.longest = longest
        self.reset()

    def reset(self) -> None:
        """Forget the last frame."""
        self.previous: Image | None = None
        self.background: Image | None = None
        self.size: tuple[int, int] | None = None

    def state(self) -> dict[str, Any]:
        """See :meth:`CameraMotion.state`."""
        if self.previous is None:
            return {}
        return {"camera_image": self.previous, "camera_background": self.background, "camera_size": self.size}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See :meth:`CameraMotion.restore`."""
        self.reset()
        if "camera_image" in state:
            self.previous = np.asarray(state["camera_image"], dtype=np.uint8)
            self.background = np.asarray(state["camera_background"], dtype=np.uint8)
            height, width = state["camera_size"]
            self.size = int(height), int(width)

    def estimate(self, frame: Image, xyxy: Floats) -> Floats | None:
        """See :meth:`CameraMotion.estimate`.

        Raises:
            InvalidDataError: not an image of bytes.
        """
        import cv2

        image = np.asarray(frame)
        if (
            image.dtype != np.uint8
            or image.ndim not in (2, 3)
            or not image.size
            or image.shape[2:] not in ((), (3,))
        ):
            raise InvalidDataError("not an image", f"{image.shape} {image.dtype}", "give (h, w, 3) uint8, BGR")
        scale = min(1.0, self.longest / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        mask = _background(grey.shape, np.asarray(xyxy, dtype=np.float64).reshape(-1, 4) * scale)
        warp = None
        if self.previous is not None and self.background is not None and self.size == image.shape[:2]:
            found = self._motion(self.previous, self.background, grey, mask)
            warp = None if found is None else _full_size(found, scale)
        self.previous, self.background, self.size = grey, mask, (image.shape[0], image.shape[1])
        return warp if warp is not None and _plausible(warp, image.shape[:2]) else None

    def _motion(self, before: Image, mask_before: Image, now: Image, mask_now: Image) -> Floats | None:
        raise NotImplementedError


class SparseFlow(_ImageMotion):
    """Corners of the background, followed by pyramidal Lucas-Kanade flow there and back; RANSAC finds the motion.

    Args:
        longest: Longer side in pixels of the image that is looked at.
        corners: At most so many corners.
    """

    def __init__(self, longest: int = 640, corners: int = 400) -> None:
        super().__init__(longest)
        self.corners = corners

    def _motion(self, before: Image, mask_before: Image, now: Image, mask_now: Image) -> Floats | None:
        import cv2

        start = cv2.goodFeaturesToTrack(before, self.corners, 0.01, 7, mask=mask_before, blockSize=3)
        if start is None or len(start) < _LEAST_INLIERS:
            return None
        end, arrived, _ = cv2.calcOpticalFlowPyrLK(before, now, start, None, winSize=(21, 21), maxLevel=4)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(now, before, end, None, winSize=(21, 21), maxLevel=4)
        start, end, back = start.reshape(-1, 2), end.reshape(-1, 2), back.reshape(-1, 2)
        good = (arrived.ravel() == 1) & (returned.ravel() == 1)
        good &= np.abs(start - back).max(axis=1) < _RETURNS
        column, row = np.round(end.T).astype(np.int64)
        inside = (column >= 0) & (row >= 0) & (column < now.shape[1]) & (row < now.shape[0])
        good &= inside
        good[good] = mask_now[row[good], column[good]] > 0
        if np.count_nonzero(good) < _LEAST_INLIERS:
            return None
        warp, agreed = cv2.estimateAffinePartial2D(
            start[good], end[good], method=cv2.RANSAC, ransacReprojThreshold=1.5, maxIters=500, confidence=0.999
        )
        if warp is None or agreed.sum() < max(_LEAST_INLIERS, _LEAST_SHARE * len(agreed)):
            return None
        return np.asarray(warp, dtype=np.float64)


class Ecc(_ImageMotion):
    """The rotation and shift with the greatest correlation of the two images. Slower; needs no corners.

    Args:
        longest: Longer side in pixels of the image that is looked at.
        iterations: At most so many steps.
    """

    def __init__(self, longest: int = 320, iterations: int = 100) -> None:
        super().__init__(longest)
        self.iterations = iterations

    def _motion(self, before: Image, mask_before: Image, now: Image, mask_now: Image) -> Floats | None:
        import cv2

        # The solver takes one mask: what is background in both, for motion is small beside a box.
        mask = mask_before & mask_now
        if not mask.any() or min(before.shape) < 64 or min(before.std(), now.std()) < 1:
            return None
        warp = np.eye(2, 3, dtype=np.float32)
        alike = 0.0
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, self.iterations, 1e-5)
        # ECC climbs to the nearest summit: on small images first, where a long way is short.
        for halvings in range(_PYRAMID, -1, -1):
            size = before.shape[1] >> halvings, before.shape[0] >> halvings
            first, second = (
                _detail(cv2.resize(part, size, interpolation=cv2.INTER_AREA)) for part in (before, now)
            )
            small_mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            warp[:, 2] *= 1 if halvings == _PYRAMID else 2
            try:
                alike, warp = cv2.findTransformECC(first, second, warp, cv2.MOTION_AFFINE, stop, small_mask, 3)
            except cv2.error:  # it did not converge, or the images no longer overlap
                return None
        return np.asarray(warp, dtype=np.float64) if alike >= _LEAST_ALIKE else None


_ESTIMATORS: dict[str, Callable[[], _ImageMotion]] = {"flow": SparseFlow, "ecc": Ecc}


def camera_motion_by_name(name: str) -> CameraMotion | None:
    """An estimator for ``"flow"`` or ``"ecc"``; ``None`` for what needs no image.

    Example:
        >>> still = np.zeros((48, 64, 3), np.uint8)
        >>> flow = camera_motion_by_name("flow")
        >>> flow.estimate(still, np.empty((0, 4))) is None, flow.estimate(still, np.empty((0, 4))) is None
        (True, True)
    """
    return _ESTIMATORS[name]() if name in _ESTIMATORS else None


def _background(shape: tuple[int, ...], xyxy: Floats) -> Image:
    """255 where no box is."""
    mask = np.full(shape[:2], 255, np.uint8)
    boxes = xyxy[np.isfinite(xyxy).all(axis=1)]
    high = np.array([shape[1], shape[0]] * 2)
    low = np.clip(np.floor(boxes[:, :2]), 0, high[:2]).astype(np.int64)
    top = np.clip(np.ceil(boxes[:, 2:]), 0, high[2:]).astype(np.int64)
    for (x1, y1), (x2, y2) in zip(low.tolist(), top.tolist(), strict=True):
        mask[y1:y2, x1:x2] = 0
    return mask


def _detail(grey: Image) -> npt.NDArray[np.float32]:
    """An image without its broad shades, which fit nearly as well a little beside their place."""
    import cv2

    fine = grey.astype(np.float32)
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), 4.0))


def _full_size(warp: Floats, scale: float) -> Floats:
    """A warp of the small image as one of the full image; pixel centres are at whole numbers in both."""
    offset = np.full(2, 0.5 * (scale - 1))
    full = warp.copy()
    full[:, 2] = (warp[:, :2] @ offset + warp[:, 2] - offset) / scale
    return full


def _plausible(warp: Floats, size: tuple[int, ...]) -> bool:
    """Finite, no great zoom, and at least half of the picture still in sight."""
    if not np.isfinite(warp).all():
        return False
    scale = float(np.sqrt(abs(np.linalg.det(warp[:, :2]))))
    centre = np.array([size[1], size[0]]) / 2
    moved = np.abs(warp[:, :2] @ centre + warp[:, 2] - centre)
    return _SCALES[0] < scale < _SCALES[1] and bool((moved < centre).all())
