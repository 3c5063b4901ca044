"""A line of text to a view: ``class:RBC>=10 conf<0.4 -tag:reviewed split:train``.

A query is terms with spaces between them; a sample must match all. A term may begin with ``-``, which turns it around.

- ``class:NAME``: has a label of this class; ``class:NAME>=10``: that many (``= != < <= > >=``).
- ``count>20``: so many labels of any class.
- ``conf<0.4``: has a prediction of such a confidence, 0 to 1; beside ``pred:NAME``, of that class. It is read in the
  field ``predictions``, or the one that ``in:FIELD`` names.
- ``pred:NAME``, ``pred:NAME>=10``: as ``class``, among the predictions.
- ``tag:NAME``, ``split:train``: a sample tag; ``labeltag:NAME``: a tag of one of its labels.
- ``labelled:yes`` or ``labelled:no``: whether it has labels at all; an image with none in it is labelled.
- ``file:TEXT``: the path contains this.
- ``FIELD:VALUE``, ``FIELD>0.5``: a plain field of the samples, as in ``quality.sharpness<0.1``.

Names with spaces stand in double quotes: ``class:"red cell"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.settings import SPLITS

if TYPE_CHECKING:
    import fiftyone as fo

LABELS = "ground_truth"
PREDICTIONS = "predictions"
WORDS = ("class", "pred", "conf", "count", "tag", "split", "labeltag", "labelled", "file", "in")

_NAME = re.compile(r"[A-Za-z_][\w.]*")
_OPERATOR = re.compile(r"!=|>=|<=|=|<|>")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_QUOTED = re.compile(r'"([^"]*)"')
_BARE = re.compile(r'[^\s"<>=!]+')


@dataclass(frozen=True)
class Term:
    """One condition.

    Attributes:
        word: Before the colon or operator.
        value: After the colon; ``None`` where there is none.
        operator: ``""`` where there is none.
        number: After the operator.
        negated: Whether it began with ``-``.
        column: Where it begins in the query, from 1.
    """

    word: str
    value: str | None
    operator: str
    number: float
    negated: bool
    column: int


def parse(text: str) -> list[Term]:
    """The terms of a query.

    Raises:
        UsageError: it is not a query; the error points at the column.

    Example:
        >>> [(term.word, term.value, term.operator, term.number) for term in parse("class:RBC>=10 conf<0.4")]
        [('class', 'RBC', '>=', 10.0), ('conf', None, '<', 0.4)]
    """
    terms, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        term, at = _term(text, at)
        terms.append(term)
    return terms


def query(view: fo.SampleCollection, text: str, *, labels: str = LABELS, predictions: str = PREDICTIONS) -> Any:
    """The samples of a view that match a query.

    Args:
        view: A dataset or view.
        text: The query; see the module's text.
        labels: The field that ``class`` and ``count`` are about.
        predictions: The field that ``conf`` and ``pred`` are about, unless the query says ``in:FIELD``.

    Returns:
        A FiftyOne view. All conditions are one stage that MongoDB evaluates.

    Raises:
        UsageError: not a query, or about what the dataset does not have; the error points at the column.

    Example:
        >>> len(query(dataset, "class:WBC>=1 -tag:reviewed split:train"))
        5
    """
    terms = parse(text)
    for term in terms:
        if term.word == "in" and term.value:
            predictions = term.value
    build = _Builder(view, text, labels, predictions, terms)
    condition = None
    for term in terms:
        build.check(term)
        if term.word == "in":
            continue
        one = build(term)
        one = ~one if term.negated else one
        condition = one if condition is None else condition & one
    return view.view() if condition is None else view.match(condition)


def _term(text: str, at: int) -> tuple[Term, int]:
    begin = at
    negated = text[at] == "-"
    at += negated
    word = _NAME.match(text, at)
    if word is None:
        raise _error(text, at, "a word such as class, tag or conf must stand here")
    at, value = word.end(), None
    if text[at : at + 1] == ":":
        found = _QUOTED.match(text, at + 1) or _BARE.match(text, at + 1)
        if found is None:
            what = "this quote is not closed" if text[at + 1 : at + 2] == '"' else "a name must follow the colon"
            raise _error(text, at + 1, what)
        value, at = found.group(1) if found.re is _QUOTED else found.group(), found.end()
    operator, number = "", 0.0
    if sign := _OPERATOR.match(text, at):
        amount = _NUMBER.match(text, sign.end())
        if amount is None:
            raise _error(text, sign.end(), f"a number must follow {sign.group()}")
        operator, number, at = sign.group(), float(amount.group()), amount.end()
    if at < len(text) and not text[at].isspace():
        raise _error(text, at, "a space must stand here")
    if value is None and not operator:
        raise _error(text, at, f"'{word.group()}' wants a colon and a name, or a comparison with a number")
    return Term(word.group(), value, operator, number, negated, begin + 1), at


def _error(text: str, at: int, what: str) -> UsageError:
    return UsageError(f"the query cannot be read at column {at + 1}", what, f"\n  {text}\n  {' ' * at}^")


_COMPARE: dict[str, Callable[[Any, float], Any]] = {
    "=": lambda value, number: value == number,
    "!=": lambda value, number: value != number,
    "<": lambda value, number: value < number,
    "<=": lambda value, number: value <= number,
    ">": lambda value, number: value > number,
    ">=": lambda value, number: value >= number,
}


class _Builder:
    """Terms to aggregation expressions on one view."""

    def __init__(
        self, view: fo.SampleCollection, text: str, labels: str, predictions: str, terms: list[Term]
    ) -> None:
        self._view, self._text = view, text
        self._labels, self._predictions = labels, predictions
        self._predicted = [
            term for term in terms if term.word == "pred" and not term.negated and not term.operator
        ]

    def check(self, term: Term) -> None:
        """That nothing which the term says would be left out of account."""
        if term.operator and term.word in ("tag", "split", "labeltag", "labelled", "file", "in"):
            self._fail(term, f"{term.word} is compared with nothing: leave out {term.operator}{term.number:g}")
        if term.value is not None and term.operator and term.word in ("conf", "count"):
            beside = "pred" if term.word == "conf" else "class"
            self._fail(term, f"{term.word} wants no name: leave it out, and put {beside}:{term.value} beside it")
        if term.word == "in" and (term.negated or not term.value):
            self._fail(term, "in wants a colon and the name of a field, as in in:predictions")

    def __call__(self, term: Term) -> Any:
        from fiftyone import ViewField

        if term.word in ("class", "pred"):
            field = self._labels if term.word == "class" else self._predictions
            name = self._value(term)
            found = self._objects(field, term).filter(ViewField("label") == name).length()
            return self._compared(found, term) if term.operator else found > 0
        if term.word == "count":
            return self._compared(self._objects(self._labels, term).length(), term)
        if term.word == "conf":
            return self._confidence(term)
        if term.word in ("tag", "split"):
            name = self._value(term)
            if term.word == "split" and name not in SPLITS:
                self._fail(term, f"no split is called '{name}'; {nearest(name, SPLITS)}")
            return ViewField("tags").contains(name)
        if term.word == "labeltag":
            objects = self._objects(self._labels, term)
            return objects.filter(ViewField("tags").contains(self._value(term))).length() > 0
        if term.word == "labelled":
            return self._labelled(term)
        if term.word == "file":
            return ViewField("filepath").contains_str(self._value(term))
        return self._plain(term)

    def _confidence(self, term: Term) -> Any:
        from fiftyone import ViewField

        one = self._compared(ViewField("confidence"), term)
        for other in self._predicted:
            one = one & (ViewField("label") == other.value)
        known = (ViewField("confidence") != None) & one  # noqa: E711
        return self._objects(self._predictions, term).filter(known).length() > 0

    def _labelled(self, term: Term) -> Any:
        from fiftyone import ViewField

        value = self._value(term).lower()
        if value not in ("yes", "no"):
            self._fail(term, "labelled is yes or no")
        if self._view.get_field("labelled") is not None:
            yes = ViewField("labelled") == True  # noqa: E712
        else:
            yes = ViewField(self._labels) != None  # noqa: E711
        return yes if value == "yes" else ~yes

    def _objects(self, field: str, term: Term) -> Any:
        """The labels of a field as a list expression; of a sample that has none, an empty one."""
        import fiftyone as fo
        from fiftyone import ViewField

        declared = self._view.get_field(field)
        kind = getattr(declared, "document_type", None)
        key = {fo.Detections: "detections", fo.Polylines: "polylines", fo.Keypoints: "keypoints"}.get(kind)
        key = "classifications" if kind is fo.Classifications else key
        if key is None:
            names = self._view.get_field_schema(embedded_doc_type=fo.Label)
            has = nearest(field, names) if names else "it has no label fields"
            self._fail(term, f"the dataset has no field '{field}' with lists of labels; {has}")
        return (ViewField(f"{field}.{key}") != None).if_else(ViewField(f"{field}.{key}"), [])  # noqa: E711

    def _plain(self, term: Term) -> Any:
        import fiftyone as fo
        from fiftyone import ViewField

        declared = self._view.get_field(term.word)
        if not isinstance(declared, (fo.IntField, fo.FloatField, fo.StringField, fo.BooleanField)):
            self._fail(
                term, f"'{term.word}' is no word of queries and no plain field; {nearest(term.word, WORDS)}"
            )
        field = ViewField(term.word)
        if isinstance(declared, (fo.IntField, fo.FloatField)):
            if term.value is not None:
                self._fail(term, f"{term.word} holds numbers: compare it, as in {term.word}>=1")
            # Without a value there is nothing to compare; MongoDB has nothing less than any number.
            return (field != None) & self._compared(field, term)  # noqa: E711
        value: Any = self._value(term)
        if term.operator:
            self._fail(term, f"{term.word} holds no numbers: leave out {term.operator}{term.number:g}")
        if isinstance(declared, fo.BooleanField):
            if value.lower() not in ("yes", "true", "1", "no", "false", "0"):
                self._fail(term, f"{term.word} is yes or no")
            value = value.lower() in ("yes", "true", "1")
        return field == value

    def _value(self, term: Term) -> str:
        if term.value is None:
            self._fail(term, f"{term.word} wants a colon and a name")
        return str(term.value)

    def _compared(self, value: Any, term: Term) -> Any:
        if not term.operator:
            self._fail(term, f"{term.word} wants a comparison, as in {term.word}>=10")
        return _COMPARE[term.operator](value, term.number)

    def _fail(self, term: Term, what: str) -> None:
        raise _error(self._text, term.column - 1, what)
