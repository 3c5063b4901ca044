"""Which answers are worth capturing: one small rule per reason, each with a limit of its own.

As text, ``random=0.01,near=0.1,few=0,classes=helmet|vest``; or as a YAML, JSON or TOML file, where each rule may
say more:

    max_bytes: 1073741824          # the spool, as a whole; see osv_lab.serve.spool
    max_files: 10000
    rules:
      - random: 0.01               # this share of all answers
      - near: 0.1                  # a score within 0.1 of the threshold
        threshold: 0.5             # (of this one; by default of the request's own)
        per_hour: 30
      - classes: [helmet, vest]    # any of these was found
      - few: 0                     # at most so many detections
      - many: 50                   # at least so many
      - disagreement: true         # the tracker doubts the detections
      - novelty: 12                # looks like nothing captured lately: so many of 64 bits differ

Example:
    >>> [rule.name for rule in parse_rules("random=0.01,near=0.1")]
    ['random', 'near']
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.detect.confidence import limit_of
from osv_lab.serve.observe import Observation

PER_HOUR = 60
"""Most images that one rule captures in an hour, unless it says otherwise."""

MAX_BYTES = 2**30
MAX_FILES = 10_000
"""How large a spool becomes, unless the rules say otherwise."""

_NOVELTY = 12
"""Of 64 bits. Near duplicates differ in up to about 10 (N. Krawetz, "Kind of Like That", 2013)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to capture an answer.

    Attributes:
        kind: ``random``, ``near``, ``classes``, ``few``, ``many``, ``disagreement`` or ``novelty``.
        value: Share, margin, class names, count or bits; see the module.
        per_hour: Most images that it captures in any hour.
        threshold: Of ``near``: the score that matters; by default the request's threshold.
        name: What metrics and samples call it; its kind unless it says otherwise.
    """

    kind: str
    value: Any
    per_hour: int = PER_HOUR
    threshold: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a rules file says.

    Attributes:
        rules: The rules; all are asked about every answer.
        max_bytes: Most bytes in the spool.
        max_files: Most images in the spool.
    """

    rules: tuple[Rule, ...]
    max_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES


@dataclass(slots=True)
class Memory:
    """What rules compare an answer with.

    Attributes:
        hashes: Of what was captured lately, newest last.
        chance: Where ``random`` takes its numbers from.
    """

    hashes: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.SystemRandom)


def reason(rule: Rule, seen: Observation, memory: Memory) -> str:
    """Why the rule would capture an answer; empty where it would not.

    Example:
        >>> seen = Observation("m", 10, 10, 0.5, ((0, 0, 5, 5),), (0.31,), ("car",), threshold=0.25)
        >>> reason(Rule("near", 0.1), seen, Memory())
        'car scored 0.31, the threshold is 0.25'
    """
    return _KINDS[rule.kind].reason(rule, seen, memory)


def _random(rule: Rule, seen: Observation, memory: Memory) -> str:
    return f"a random share of {rule.value:g}" if memory.chance.random() < rule.value else ""


def _near(rule: Rule, seen: Observation, memory: Memory) -> str:
    limits = seen.threshold if rule.threshold is None else rule.threshold
    pairs = zip(seen.confidence, seen.class_name, strict=True)
    distance, score, name = min(
        ((abs(score - limit_of(limits, name)), score, name) for score, name in pairs), default=(math.inf, 0.0, "")
    )
    # Scores have four places, and 0.6 - 0.5 is a little more than 0.1.
    near = distance <= rule.value + 1e-9
    return f"{name} scored {score:g}, the threshold is {limit_of(limits, name):g}" if near else ""


def _classes(rule: Rule, seen: Observation, memory: Memory) -> str:
    found = [name for name in dict.fromkeys(seen.class_name) if name in rule.value]
    return f"{', '.join(found)} found" if found else ""


def _few(rule: Rule, seen: Observation, memory: Memory) -> str:
    # Of a request for some classes the others are not known.
    few = len(seen.xyxy) <= rule.value and not seen.partial
    return f"{len(seen.xyxy)} detections, at most {rule.value}" if few else ""


def _many(rule: Rule, seen: Observation, memory: Memory) -> str:
    return f"{len(seen.xyxy)} detections, at least {rule.value}" if len(seen.xyxy) >= rule.value else ""


def _disagreement(rule: Rule, seen: Observation, memory: Memory) -> str:
    return seen.disagreement if rule.value else ""


def _novelty(rule: Rule, seen: Observation, memory: Memory) -> str:
    nearest_bits = min((bits_between(seen.hash, other) for other in memory.hashes), default=64)
    return f"{nearest_bits} of 64 bits from anything captured lately" if nearest_bits >= rule.value else ""


def bits_between(one: int, other: int) -> int:
    """In how many bits two hashes differ.

    Example:
        >>> bits_between(0b1011, 0b0001)
        2
    """
    return (one ^ other).bit_count()


def _share(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError("give a number from 0 to 1")
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 0:
        raise ValueError("give a whole number, 0 or more")
    return int(value)


def _names(value: Any) -> frozenset[str]:
    names = value.split("|") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set, frozenset)) or not names or not all(names):
        raise ValueError("give class names")
    return frozenset(str(name).strip() for name in names)


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("", "1", "true", "yes", "0", "false", "no"):
        raise ValueError("give true or false")
    return text in ("", "1", "true", "yes")


def _bits(value: Any) -> int:
    bits = _NOVELTY if value in ("", True) else _count(value)
    if not 1 <= bits <= 64:
        raise ValueError("give 1 to 64")
    return bits


@dataclass(frozen=True, slots=True)
class _Kind:
    parse: Callable[[Any], Any]
    reason: Callable[[Rule, Observation, Memory], str]


_KINDS: Mapping[str, _Kind] = {
    "random": _Kind(_share, _random),
    "near": _Kind(_share, _near),
    "classes": _Kind(_names, _classes),
    "few": _Kind(_count, _few),
    "many": _Kind(_count, _many),
    "disagreement": _Kind(_flag, _disagreement),
    "novelty": _Kind(_bits, _novelty),
}
_OPTIONS = {"per_hour", "threshold", "name"}


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Rules of the short form, ``random=0.01,near=0.1,novelty``.

    Raises:
        UsageError: naming the rule that is none.
    """
    written = [one.strip().partition("=") for one in text.split(",") if one.strip()]
    return _named([{kind.strip(): value.strip()} for kind, _, value in written])


def load_settings(source: str | Path | Mapping[str, Any] | Settings) -> Settings:
    """What is to be captured: of a file, of the short form, or of a mapping as a file holds it.

    Args:
        source: A path that ends in ``.yaml``, ``.yml``, ``.json`` or ``.toml``; text such as ``random=0.01``; or a
            mapping.

    Raises:
        NotFoundError: there is no such file.
        UsageError: it cannot be read as rules.

    Example:
        >>> load_settings("random=0.05").rules[0].value
        0.05
    """
    if isinstance(source, Settings):
        return source
    if isinstance(source, Mapping):
        return _settings(source)
    path = Path(source)
    if isinstance(source, str) and path.suffix.lower() not in (".yaml", ".yml", ".json", ".toml"):
        return Settings(parse_rules(source))
    return _settings(_read(path))


def _read(path: Path) -> Mapping[str, Any]:
    import tomllib

    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        # JSON is YAML.
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else yaml.safe_load(text)
    except FileNotFoundError:
        raise NotFoundError("there is no such file of capture rules", path) from None
    except (OSError, UnicodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            "the capture rules cannot be read", f"{path.name}: {error}", "see osv serve --help"
        ) from None
    if isinstance(content, list):
        content = {"rules": content}
    if not isinstance(content, Mapping):
        raise UsageError("the capture rules cannot be read", path.name, "write 'rules:' and a list of rules")
    return content


def _settings(content: Mapping[str, Any]) -> Settings:
    known = ("rules", "max_bytes", "max_files")
    for name in content:
        if name not in known:
            raise UsageError("the capture rules have an unknown setting", repr(name), nearest(str(name), known))
    limits = {name: content[name] for name in known[1:] if name in content}
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a whole number, 1 or more", repr(value))
    rules = content.get("rules")
    if not isinstance(rules, Sequence) or isinstance(rules, str) or not all(isinstance(r, Mapping) for r in rules):
        raise UsageError("capture needs a list of rules", repr(rules), "for example: rules: [{random: 0.01}]")
    return Settings(_named(rules), **limits)


def _named(written: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    rules = [_rule(one) for one in written]
    if not rules:
        raise UsageError("there is no capture rule", "", "for example random=0.01,near=0.1")
    names = [rule.name for rule in rules]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(
            "two capture rules have the same name", repeated[0], "give one a name of its own: name: ..."
        )
    return tuple(rules)


def _rule(written: Mapping[str, Any]) -> Rule:
    kinds = [str(name) for name in written if name not in _OPTIONS]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        found = ", ".join(kinds) or "none"
        fix = nearest(kinds[0], _KINDS) if len(kinds) == 1 else "write each as '- kind: value'"
        raise UsageError("this is no capture rule", found, fix)
    kind = kinds[0]
    try:
        value = _KINDS[kind].parse(written[kind])
        per_hour = _count(written.get("per_hour", PER_HOUR))
        threshold = None if written.get("threshold") is None else _share(written["threshold"])
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the capture rule '{kind}' cannot be used", repr(dict(written)), str(error)) from None
    name = str(written.get("name", kind))
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40:
        raise UsageError("this is no name for a capture rule", repr(name), "use letters, digits and dashes")
    return Rule(kind, value, per_hour, threshold, name)
