"""The multi-index search against the definition; hashes of small changes stay near."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import UsageError
from osv_lab.curate.duplicates import near_pairs
from osv_lab.curate.hamming import pairs_within
from osv_lab.curate.hashes import difference_hash, frequency_hash, from_hex, to_hex


@st.composite
def near_hashes(draw: st.DrawFn) -> list[int]:
    """Hashes in clusters: some bits of earlier ones turned."""
    hashes = [draw(st.integers(0, 2**64 - 1))]
    for _ in range(draw(st.integers(0, 20))):
        base = draw(st.sampled_from(hashes))
        flips = draw(st.lists(st.integers(0, 63), max_size=14))
        hashes.append(base ^ sum({1 << bit for bit in flips}))
    return sorted(set(hashes))


@given(near_hashes(), st.integers(0, 15))
def test_pairs_are_those_of_comparing_all_and_each_comes_once(hashes: list[int], radius: int) -> None:
    found = [
        (int(a), int(b), int(d))
        for i, j, distance in pairs_within(np.array(hashes, np.uint64), radius)
        for a, b, d in zip(i, j, distance, strict=True)
    ]
    expected = {
        (i, j, distance)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (distance := (hashes[i] ^ hashes[j]).bit_count()) <= radius
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_memory_is_bounded_by_a_block_also_where_hashes_crowd() -> None:
    random = np.random.default_rng(51)
    crowd = np.unique(random.integers(0, 2**16, 4_000).astype(np.uint64))
    tracemalloc.start()
    pairs = sum(len(i) for i, _, _ in pairs_within(crowd, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs > 10_000
    assert peak < 150 * 2**20


def test_equal_hashes_are_paired_with_the_first_of_them_only() -> None:
    hashes = np.array([9, 5, 9, 9, 5], np.uint64)
    pairs = list(near_pairs([hashes], radius=0))
    assert sorted(pairs) == [(0, 2), (0, 3), (1, 4)]


def test_a_radius_that_the_parts_cannot_serve_is_refused() -> None:
    with pytest.raises(UsageError, match="0 to 15"):
        next(pairs_within(np.zeros(1, np.uint64), 16))


@given(st.integers(0, 2**64 - 1))
def test_hashes_are_stored_without_loss(value: int) -> None:
    assert int(from_hex([to_hex(value)])[0]) == value


def test_hashes_hardly_change_with_size_compression_and_brightness() -> None:
    random = np.random.default_rng(3)
    picture = cv2.resize(random.integers(0, 256, (12, 16), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    other = cv2.resize(random.integers(0, 256, (12, 16), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)
    changed = (jpeg, cv2.resize(picture, (320, 240)), cv2.convertScaleAbs(picture, alpha=0.8, beta=20))
    for hashed in (difference_hash, frequency_hash):
        assert all((hashed(picture) ^ hashed(one)).bit_count() <= 6 for one in changed)
        assert (hashed(picture) ^ hashed(other)).bit_count() > 15
