"""Re-identification: what turns boxes of a frame into embeddings, by a network or without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError, nearest
from osv_lab.detect.providers import open_session
from osv_lab.track.descriptor import ClassicalEmbedder, crop_boxes
from osv_lab.track.tracks import Floats

Image = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_USUAL_SIZE = (128, 256)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@runtime_checkable
class Embedder(Protocol):
    """What looks at boxes."""

    def embed(self, frame: Image, xyxy: Floats) -> npt.NDArray[Any]:
        """Embeddings of boxes; those of one object have a small cosine distance.

        Args:
            frame: (h, w, 3) BGR, uint8.
            xyxy: (n, 4) corners, absolute pixels; also none.

        Returns:
            (n, d) float, any length; a row of zeros resembles nothing.
        """


class OnnxEmbedder:
    """A re-identification network in an ``.onnx`` file: crops in, embeddings out.

    Crops are resized without regard to their proportions, as such networks are trained (OSNet, FastReID, SBS).

    Args:
        path: The file: one input (n, 3, h, w), one output (n, d) (or (n, d, 1, 1)).
        size: Width and height of the input where the model takes any; 128 x 256 by default.
        rgb: Whether the network wants RGB instead of BGR.
        scale: Pixels are multiplied by this first: 1/255 or 1.
        mean, std: Then the mean is taken off per channel, and the rest divided by this; ImageNet's by default.
        batch: At most so many crops at a time.
        providers, threads: See :func:`osv_lab.detect.providers.open_session`.

    Raises:
        NotFoundError: no such file.
        InvalidDataError: not a model, or not of that shape.
        UnavailableError: ONNX Runtime is not installed.

    Example:
        >>> embedder = OnnxEmbedder("reid.onnx")
        >>> embedder.embed(image, detections.xyxy).shape
        (2, 8)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int] | None = None,
        rgb: bool = True,
        scale: float = 1 / 255,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        batch: int = 32,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise NotFoundError("no such model", str(path), 'or use embedder="classical"')
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or scale <= 0 or batch < 1:
            found = f"mean {tuple(mean)}, std {tuple(std)}, scale {scale}, batch {batch}"
            raise UsageError("no way to normalise colour images", found, "give three values each, std above 0")
        self.rgb = rgb
        self._factor = (scale / np.array(std)).astype(np.float32)
        self._offset = (np.array(mean) / np.array(std)).astype(np.float32)
        self._session = open_session(self.path, providers=providers, threads=threads)
        inputs = self._session.get_inputs()
        shape = [value if isinstance(value, int) and value > 0 else None for value in inputs[0].shape]
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, None) or inputs[0].type not in _TYPES:
            found = ", ".join(f"{item.name} {item.shape} {item.type}" for item in inputs)
            raise InvalidDataError(
                "the model does not take crops", f"{self.path.name}: {found}", "(n, 3, h, w) float"
            )
        own = (shape[3], shape[2]) if shape[2] and shape[3] else None
        if own and size and own != tuple(size):
            raise UsageError(
                "the model's input size is fixed", f"{own}, asked for {tuple(size)}", "leave size out"
            )
        self.size: tuple[int, int] = own or size or _USUAL_SIZE
        self._fixed_batch = shape[0]
        self.batch = shape[0] or batch
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self.dimensions = self._run(np.zeros((1, self.size[1], self.size[0], 3), np.uint8)).shape[1]

    def embed(self, frame: Image, xyxy: Floats) -> Vectors:
        """(n, d) embeddings of the (n, 4) boxes in a BGR frame; zeros for a box outside of it."""
        crops, usable = crop_boxes(frame, xyxy, self.size)
        vectors = np.zeros((len(crops), self.dimensions), np.float32)
        rows = usable.nonzero()[0]
        for first in range(0, len(rows), self.batch):
            chosen = rows[first : first + self.batch]
            vectors[chosen] = self._run(crops[chosen])
        return vectors

    def _run(self, crops: Image) -> Vectors:
        images = crops[..., ::-1] if self.rgb else crops
        tensor = np.ascontiguousarray(
            (images * self._factor - self._offset).transpose(0, 3, 1, 2), dtype=self._type
        )
        count = len(tensor)
        if self._fixed_batch and count < self._fixed_batch:
            tensor = np.concatenate((tensor, np.zeros((self._fixed_batch - count, *tensor.shape[1:]), self._type)))
        try:
            output = np.asarray(self._session.run(None, {self._input: tensor})[0])
        except Exception as error:  # noqa: BLE001 - the runtime's exceptions share no base; all are turned into ours
            text = " ".join(str(error).split())[:300]
            raise UnavailableError("the embedder failed while running", f"input {tensor.shape}: {text}") from None
        flat = (
            output.reshape(len(output), -1)
            if output.ndim in (2, 4) and output[0].size == output.shape[1]
            else None
        )
        if flat is None or len(flat) < count:
            found = f"{output.shape} for {count} crops"
            raise InvalidDataError("the model gives no embeddings", found, "its output is (n, d)")
        return np.asarray(flat[:count], dtype=np.float32)


def open_embedder(embedder: Any) -> Embedder | None:
    """An embedder as users name it.

    Args:
        embedder: ``"classical"``, the path of an ``.onnx`` file, an object with ``embed(frame, xyxy)``, a function of
            the same, or ``None``.

    Raises:
        UsageError: none of these.
    """
    if embedder is None or isinstance(embedder, Embedder):
        return embedder
    if isinstance(embedder, str | Path):
        if str(embedder) == "classical":
            return ClassicalEmbedder()
        if Path(embedder).suffix.lower() == ".onnx":
            return OnnxEmbedder(embedder)
        fix = nearest(str(embedder), ("classical",))
        raise UsageError("unknown embedder", repr(str(embedder)), f"{fix}; or give the path of an .onnx file")
    if callable(embedder):
        return _Function(embedder)
    raise UsageError("not an embedder", repr(embedder), "give a name, a path, or a function of frame and boxes")


class _Function:
    """A plain function as an :class:`Embedder`."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def embed(self, frame: Image, xyxy: Floats) -> npt.NDArray[Any]:
        return np.asarray(self.function(frame, xyxy))
