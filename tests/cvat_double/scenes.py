"""What conformance tests send to a CVAT server: pictures, boxes, writes; and any answer as it came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cvat_sdk import Client, models
from cvat_sdk.core.helpers import make_request_headers
from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction
from cvat_sdk.core.proxies.tasks import Task
from PIL import Image

PREDEFINED = {"sorting_method": "predefined", "image_quality": 80}
UID = models.AttributeRequest(name="osv_uid", mutable=False, input_type="text", values=[""], default_value="none")
MakeTask = Callable[..., Task]


def pictures(folder: Path, count: int) -> list[Path]:
    """Images whose names fall while their widths rise, so that a changed order shows."""
    paths = [folder / f"im{count - 1 - number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (64 + number, 48), (number * 9, 0, 0)).save(path)
    return paths


def box(label: Any, frame: int, points: Sequence[float] = (1.1, 2.0, 30.7, 40.25), **more: Any) -> Any:
    return models.LabeledShapeRequest(
        type="rectangle", frame=frame, label_id=label.id, points=list(points), **more
    )


def put(target: Any, shapes: Sequence[Any] = (), tags: Sequence[Any] = ()) -> None:
    target.set_annotations(models.LabeledDataRequest(version=0, shapes=list(shapes), tags=list(tags), tracks=[]))


def patch(target: Any, action: AnnotationUpdateAction, *shapes: Any) -> None:
    target.update_annotations(models.PatchedLabeledDataRequest(version=0, shapes=list(shapes)), action=action)


def raw(client: Client, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """An answer as it came, whatever its status."""
    response = client.api_client.rest_client.request(
        method,
        client.api_map.host + path,
        headers=make_request_headers(client.api_client),
        body=body,
        _check_status=False,
    )
    return response.status, response.data.decode()
