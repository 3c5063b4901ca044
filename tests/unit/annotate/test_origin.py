"""The text that travels with every object says which it is, how sure a model was and which model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from osv_lab.annotate.origin import origin_of, origin_text

UIDS = st.one_of(st.none(), st.text("0123456789abcdef", min_size=24, max_size=24))
MODELS = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)
)


@given(UIDS, st.one_of(st.none(), st.floats(0, 1)), MODELS)
def test_it_comes_back_as_it_went(uid: str | None, confidence: float | None, model: str | None) -> None:
    text = origin_text(uid, confidence, model)
    # CVAT cuts white space off the ends.
    assert origin_of(text.strip()) == (uid, confidence, model)


@given(st.text())
def test_whatever_a_person_makes_of_it_is_read(text: str) -> None:
    origin_of(text)


def test_a_long_reference_stays_within_what_cvat_keeps() -> None:
    text = origin_text("0" * 24, 0.123456789012345, "m" * 9000)
    assert len(text) <= 4096
    assert origin_of(text)[:2] == ("0" * 24, 0.123456789012345)
