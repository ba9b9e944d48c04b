"""Action patterns of a declared world: `take {thing} from {place}` reads and writes actions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from dreamgym_env.domain import Action

_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
_LONGEST = 2_000
"""Longer actions, in characters, are read by no pattern."""
_EXPANDED = 200
"""Most actions that one pattern is written out as."""

Bindings = Mapping[str, str]
"""Placeholder to what stands there."""


@dataclass(frozen=True)
class Pattern:
    """One form of action. `values` are what a placeholder may stand for, where the world lists them; `free` are those
    that stand for any text (keywords, an answer) and name nothing of the world."""

    text: str
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    free: frozenset[str] = frozenset()
    names: tuple[str, ...] = field(init=False)
    """The placeholders, in order."""
    _regex: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = tuple(_PLACE.findall(self.text))
        if not self.text.strip() or _PLACE.sub("", self.text).count("{"):
            raise ValueError(f"an action must be words and placeholders such as 'take {{thing}}', got {self.text!r}")
        if len(set(names)) < len(names):
            raise ValueError(f"an action must name each placeholder once, got {self.text!r}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "_regex", re.compile("".join(self._pieces()), re.IGNORECASE))

    def _pieces(self) -> Iterator[str]:
        for index, piece in enumerate(_PLACE.split(" ".join(self.text.split()))):
            if index % 2 == 0:
                yield re.escape(piece)
            elif known := self.values.get(piece):
                longest_first = sorted(known, key=len, reverse=True)
                yield f"(?P<{piece}>{'|'.join(map(re.escape, longest_first))})"
            else:
                yield rf"(?P<{piece}>\S|\S.*?\S)"

    @property
    def name(self) -> str:
        """The words before the first placeholder (`take`), as `Action.name`."""
        return re.split(r"[^\w ]", _PLACE.split(self.text)[0])[0].strip().lower() or "act"

    @property
    def literal(self) -> int:
        """Characters that are no placeholder: of two patterns that fit, the one with more is meant."""
        return len(_PLACE.sub("", self.text))

    def read(self, action: str) -> dict[str, str] | None:
        """What stands in the placeholders of an action of this form, listed values as the world spells them."""
        match = self._regex.fullmatch(" ".join(action.split())) if len(action) <= _LONGEST else None
        if match is None:
            return None
        spelled = {name: {one.lower(): one for one in known} for name, known in self.values.items()}
        return {name: spelled.get(name, {}).get(text.lower(), text) for name, text in match.groupdict().items()}

    def named(self, bindings: Bindings) -> dict[str, str]:
        """The bindings that name something of the world."""
        return {name: value for name, value in bindings.items() if name not in self.free}

    def write(self, bindings: Bindings) -> str:
        """The action with what is bound; the rest as `<placeholder>`."""
        words = " ".join(self.text.split())
        return _PLACE.sub(lambda match: bindings.get(match[1], f"<{match[1]}>"), words)


@dataclass(frozen=True)
class Offer:
    """An action that can be done now; a placeholder that is not bound may hold anything that the pattern reads."""

    pattern: Pattern
    bindings: Bindings

    @property
    def text(self) -> str:
        return self.pattern.write(self.bindings)

    def covers(self, pattern: Pattern, bindings: Bindings) -> bool:
        """Whether an action of this pattern and these bindings is the one offered; capitals do not matter."""
        return pattern == self.pattern and all(
            bindings[name].lower() == value.lower() for name, value in self.bindings.items()
        )


@dataclass(frozen=True)
class Grammar:
    """All patterns of a world."""

    patterns: tuple[Pattern, ...]

    def read(self, action: str) -> tuple[Pattern, dict[str, str]] | None:
        """The pattern that reads the action, the most literal of those that do, and what stands in it."""
        for pattern in sorted(self.patterns, key=lambda one: -one.literal):
            if (bindings := pattern.read(action)) is not None:
                return pattern, bindings
        return None

    def parse(self, action: str) -> Action | None:
        """The same as `Action`; `argument` is what stands in the first placeholder, or ""."""
        found = self.read(action)
        if found is None:
            return None
        pattern, bindings = found
        argument = bindings[pattern.names[0]] if pattern.names else ""
        return Action(pattern.name, argument, pattern.write(bindings))

    def pattern(self, text: str) -> Pattern:
        """The pattern written so.

        Raises:
            ValueError: the grammar has none.
        """
        for one in self.patterns:
            if one.text.split() == text.split():
                return one
        raise ValueError(f"must be one of `actions`, {[one.text for one in self.patterns]}, got {text!r}")

    def offer(self, action: str) -> Offer | None:
        """The action as an offer, None where no pattern reads it."""
        found = self.read(action)
        return Offer(*found) if found else None


def expanded(patterns: Sequence[Pattern]) -> list[Offer]:
    """Each pattern as offers: one for each combination of listed values, up to 200; what is not listed stays open."""
    offers = []
    for pattern in patterns:
        names = [name for name in pattern.names if name in pattern.values]
        rows = list(product(*(pattern.values[name] for name in names)))
        if len(rows) > _EXPANDED:
            names, rows = [], [()]
        offers += [Offer(pattern, dict(zip(names, row, strict=True))) for row in rows]
    return offers
