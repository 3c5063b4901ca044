"""The images of a version: as they were, or what the steps make of them. Training images get their copies here."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.store.transforms.apply import augmented, preprocessed, random_of
from osv_lab.store.transforms.catalogue import Chosen
from osv_lab.store.transforms.item import Item, make_item
from osv_lab.store.transforms.labels import remapped
from osv_lab.store.versions.content import Entry

Source: TypeAlias = tuple[Entry, Path]
Made: TypeAlias = tuple[Entry, bytes | Path]

JPEG_QUALITY = 95
_LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})


class Generator:
    """Iterates over what a version consists of: each entry with its bytes, or the file that has them.

    Args:
        sources: Samples with their media files, in the order to go through them.
        before: Preprocessing.
        after: Augmentation.
        multiplier: Images per training image.
        seed: Where chance starts from.
        skeletons: Keypoint names per field.

    Raises:
        UsageError: there is something to augment with and no training image.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        before: Sequence[Chosen],
        after: Sequence[Chosen],
        multiplier: int,
        seed: int,
        skeletons: Mapping[str, Sequence[str]],
    ) -> None:
        self._sources, self._before, self._after = sources, before, after
        self._multiplier, self._seed, self._skeletons = multiplier, seed, skeletons
        self._pixels = [step for step in before if step.kind.run is not None]
        self._orient = any(step.name == "auto-orient" for step in before)
        self._train = [source for source in sources if source[0].split == "train"]
        self._filter = next((step for step in before if step.name == "filter-null"), None)
        self._taken = {entry.name.lower() for entry, _ in sources}
        if after and not self._train:
            raise UsageError(
                "there is no training image to augment",
                f"{len(sources)} samples",
                "tag some 'train', or give splits=",
            )
        self.total = len(sources) if self._filter is None else None

    def __iter__(self) -> Iterator[Made]:
        if self._filter is None:
            for made in self._all(self._sources):
                yield from (self._named(one) for one in made)
            return
        # Which images without a label may stay is known only when all have been counted: they are made once more.
        empty: list[tuple[bytes, int, int]] = []
        kept = 0
        for k, made in enumerate(self._all(self._sources)):
            for j, one in enumerate(made):
                if any(True for _ in one[0].all_labels()):
                    kept += 1
                    yield self._named(one)
                else:
                    order = random_of(self._seed, one[0].origin, one[0].variant).bytes(16)
                    empty.append((order, k, j))
        percent = self._filter.params["percent"]
        allowed = len(empty) if percent == 0 else math.floor(kept * (100 - percent) / percent + 1e-9)
        chosen = sorted((k, j) for _, k, j in sorted(empty)[:allowed])
        for made, (_, j) in zip(self._all([self._sources[k] for k, _ in chosen]), chosen, strict=True):
            yield self._named(made[j])

    def _all(self, sources: Sequence[Source]) -> Iterator[Sequence[Made]]:
        if not (self._pixels or self._orient or self._after):
            yield from ([(self._relabelled(entry), path)] for entry, path in sources)
            return
        workers = min(os.cpu_count() or 1, 8)
        pending = iter(sources)
        with ThreadPoolExecutor(workers) as pool:
            # A window, so that no more images are in memory than are being worked on.
            window = [pool.submit(self._make, *source) for source in islice(pending, 2 * workers)]
            while window:
                made = window.pop(0).result()
                window += [pool.submit(self._make, *source) for source in islice(pending, 1)]
                yield made

    def _relabelled(self, entry: Entry) -> Entry:
        if not any(step.name == "remap" for step in self._before):
            return entry
        frames = entry.frames
        return dataclasses.replace(entry, labels=remapped(entry.labels, self._before), frames=frames)

    def _make(self, entry: Entry, path: Path) -> list[Made]:
        """All images that come of one."""
        relabelled = self._relabelled(entry)
        copies = self._multiplier if self._after and entry.split == "train" else 1
        if not self._pixels and copies == 1 and not (self._orient and _is_turned(path)):
            return [(relabelled, path)]
        items = self._preprocessed(entry, path)
        made: list[Made] = []
        for item in items:
            if self._pixels or (self._orient and _is_turned(path)):
                made.append(_encoded(relabelled, item, item.part))
            else:
                made.append((relabelled, path))
            for k in range(1, copies):
                rng = random_of(self._seed, entry.origin, item.part, k)
                used: list[str] = []
                copy = augmented(item, self._after, rng, partial(self._other, rng, used), self._skeletons)
                variant = "_".join(filter(None, (item.part, f"augmented-{k}")))
                mixed = dataclasses.replace(relabelled, also=tuple(sorted(set(used) - {entry.origin})))
                made.append(_encoded(mixed, copy, variant))
        return made

    def _preprocessed(self, entry: Entry, path: Path) -> list[Item]:
        from osv_lab.detect.images import decode_image

        data = path.read_bytes()
        if bytes_digest(data) != entry.origin:
            raise InvalidDataError(
                "a media file is not what it was when it was ingested",
                path,
                "bring the old file back, or ingest it",
            )
        item = make_item(decode_image(data, name=str(path)), remapped(entry.labels, self._before))
        return preprocessed(item, self._before, self._skeletons)

    def _other(self, rng: np.random.Generator, used: list[str]) -> Item:
        """Another training image, for a mosaic. Whose pixels they are is noted in ``used``."""
        entry, path = self._train[int(rng.integers(len(self._train)))]
        used.append(entry.origin)
        items = self._preprocessed(entry, path)
        return items[int(rng.integers(len(items)))]

    def _named(self, made: Made) -> Made:
        """With a file name that no other sample of the version has."""
        entry, data = made
        if isinstance(data, Path):
            return made
        stem, suffix = Path(entry.name).stem, ".png" if Path(entry.name).suffix.lower() in _LOSSLESS else ".jpg"
        name = "_".join(filter(None, (stem, entry.variant))) + suffix
        if name.lower() in self._taken and not (not entry.variant and name == entry.name):
            name = f"{Path(name).stem}-{bytes_digest(f'{entry.origin} {entry.variant}'.encode())[:12]}{suffix}"
        self._taken.add(name.lower())
        return dataclasses.replace(entry, name=name), data


def _encoded(entry: Entry, item: Item, variant: str) -> Made:
    import cv2

    suffix = ".png" if Path(entry.name).suffix.lower() in _LOSSLESS else ".jpg"
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    done, buffer = cv2.imencode(suffix, item.image, quality)
    if not done:
        raise InvalidDataError("an image could not be written", f"{entry.name} as {suffix}", "leave it out")
    data = buffer.tobytes()
    width, height = item.size
    metadata = {
        "_cls": "ImageMetadata",
        "size_bytes": len(data),
        "mime_type": "image/png" if suffix == ".png" else "image/jpeg",
        "width": width,
        "height": height,
        "num_channels": 3,
    }
    # A field that was set stays set, with no label in it.
    labels = {name: item.labels.get(name, []) for name in entry.labels}
    made = dataclasses.replace(
        entry, media=bytes_digest(data), variant=variant, metadata=metadata, labels=labels, key=""
    )
    return made, data


def _is_turned(path: Path) -> bool:
    from osv_lab.detect.images import read_header

    return read_header(path.read_bytes(), name=str(path)).orientation != 1
