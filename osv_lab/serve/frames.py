"""The shapes of what is asked and answered about frames that follow each other: streams and sources."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from osv_lab.serve.documents import Detection, ErrorDetail, ImageSize, ModelName
from osv_lab.serve.schemas import Options, Share

TrackOption = bool | str | dict[str, bool | int | float | str | None]


class FrameOptions(Options):
    """How frames that follow each other are looked at."""

    confidence_threshold: Share = Field(
        default=0.1,
        description="Drop detections scored below this, 0 to 1. When absent, 0.1 where there is a tracker, which has a "
        "use for weak ones, else the model's own.",
    )
    track: TrackOption | None = Field(
        default=None,
        description="The tracker: true or 'bytetrack', 'botsort', an object with 'algorithm' and its settings, or "
        "false for detections alone. The server's own when absent.",
    )


class StreamOptions(FrameOptions):
    """How the frames of ``WS /stream`` are looked at; its first message, as JSON text."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"confidence_threshold": 0.3, "classes": ["person"], "frame_rate": 25}]},
    )

    every_frame: bool = Field(
        default=False,
        description="Answer every frame: further ones are read when there is room, and none is dropped.",
    )
    frame_rate: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Frames per second of what is sent; when absent, frames are timed as they arrive.",
    )


class SourceRequest(FrameOptions):
    """A source to watch."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"source": "videos/cars.mp4", "name": "cars"}]}
    )

    source: str = Field(min_length=1, max_length=300, description="One of ``available`` in GET /sources.")
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="What requests call it; after the source when absent.",
    )


class SourceTrouble(BaseModel):
    """What went wrong last, and when, in seconds since 1970."""

    at: float
    what: str


class SourceStatus(BaseModel):
    """What a source does."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "gate",
                    "source": "gate",
                    "state": "running",
                    "live": True,
                    "fps": 14.8,
                    "source_fps": 25.0,
                    "width": 1280,
                    "height": 720,
                    "frames": 5312,
                    "frames_dropped": 3650,
                    "frames_failed": 0,
                    "reconnects": 1,
                    "counts": {"car": 41, "person": 7},
                    "last_error": {"at": 1764100000.0, "what": "stalled: no data for 3.3 s"},
                }
            ]
        }
    )

    name: str
    source: str
    state: Literal["stopped", "opening", "running", "reconnecting", "ended", "failed"]
    live: bool
    fps: float = Field(description="Frames looked at per second, of late.")
    source_fps: float = Field(description="As the source says.")
    width: int
    height: int
    frames: int = Field(description="Frames that were looked at.")
    frames_dropped: int = Field(description="Frames of a live source that came too fast.")
    frames_failed: int
    reconnects: int
    counts: dict[str, int] = Field(description="Tracks so far, by class.")
    last_error: SourceTrouble | None


class SourcesAnswer(BaseModel):
    """What the server watches, and what it may."""

    sources: list[SourceStatus]
    available: list[str]
    max_running: int


class TrackedDetection(Detection):
    """One object of a frame."""

    track_id: int | None = Field(default=None, description="From 1; the same object has the same one.")


class FrameAnswer(BaseModel):
    """What was found in one frame of a source or stream, or why nothing could be."""

    source: str | None = None
    frame: int
    dropped: list[int]
    timestamp_s: float
    model: ModelName | None = None
    image: ImageSize | None = None
    predictions: list[TrackedDetection] | None = None
    timing_ms: dict[str, float] | None = None
    error: ErrorDetail | None = None
