"""Rules of a declared world: what a state offers, what to look up in an episode, what cannot come next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dreamgym_env.domains.declared_grammar import Bindings, Grammar, Offer, Pattern, expanded
from dreamgym_env.types import StepContext, Transition

_NAMED = re.compile(r"\{([A-Za-z_]\w*)\}")
_FLAGS = re.IGNORECASE | re.MULTILINE
_LONG_LINE = 160
"""Longer lines, in characters, are taken sentence by sentence."""

Read = Callable[[str], tuple[Pattern, dict[str, str]] | None]


@dataclass(frozen=True)
class Search:
    """A regular expression with `{name}` for what an action or an earlier search has bound. Capitals do not matter."""

    text: str

    def match(self, bindings: Bindings, state: str) -> re.Match[str] | None:
        """The first place in the state that fits, each `{name}` taken literally."""
        return re.search(self._filled(bindings), state, _FLAGS)

    def matches(self, state: str) -> Iterator[re.Match[str]]:
        """Every place in the state that fits."""
        return re.finditer(self.text, state, _FLAGS)

    def _filled(self, bindings: Bindings) -> str:
        return _NAMED.sub(lambda one: re.escape(bindings[one[1]]) if one[1] in bindings else one[0], self.text)

    def problem(self, known: Sequence[str]) -> str | None:
        """Why it is no regular expression, or which of its `{name}` nothing binds."""
        try:
            re.compile(self._filled(dict.fromkeys(known, "x")), _FLAGS)
        except re.error as error:
            return f"is no regular expression: {error}"
        return unbound(self.text, known)

    def groups(self) -> list[str]:
        """Names that a match binds."""
        return re.findall(r"\(\?P<(\w+)>", self.text)


def filled(text: str, bindings: Bindings) -> str:
    """The text with what is bound in place of each `{name}`."""
    return _NAMED.sub(lambda name: bindings.get(name[1], name[0]), text)


def unbound(text: str, known: Sequence[str]) -> str | None:
    """Which `{name}` of the text nothing binds, as words, or None."""
    names = [name for name in _NAMED.findall(text) if name not in known]
    return f"names {{{names[0]}}}, which nothing binds; known here: {sorted(known)}" if names else None


@dataclass(frozen=True)
class Offering:
    """Where actions are found: `always` there, or by `find` in the state, as `actions` or as a list to `split`."""

    always: tuple[Pattern, ...] = ()
    find: Search | None = None
    actions: tuple[str, ...] = ()
    split: str | None = None

    def offers(self, grammar: Grammar, state: str) -> Iterator[Offer]:
        """What the state offers by this rule; what the grammar cannot read is left out."""
        yield from expanded(self.always)
        for match in self.find.matches(state) if self.find else ():
            found = match.groupdict(default="")
            if self.split is not None:
                listed = (match["actions"] if "actions" in found else match[1]).rstrip(". ")
                texts = listed.split(self.split)
            else:
                texts = [filled(action, found) for action in self.actions]
            yield from filter(None, (grammar.offer(text) for text in texts))


@dataclass(frozen=True)
class Rule:
    """For actions of the patterns `when` (any where empty), and, where `find` is given, states in which it is found."""

    when: tuple[Pattern, ...] = ()
    find: Search | None = None

    def bind(self, read: Read, state: str, action: str) -> dict[str, str] | None:
        """What action and state bind, or None where the rule does not apply."""
        found = read(action)
        if self.when and (found is None or found[0] not in self.when):
            return None
        bindings = dict(found[1]) if found else {}
        if self.find:
            match = self.find.match(bindings, state)
            if match is None:
                return None
            bindings |= match.groupdict(default="")
        return bindings


@dataclass(frozen=True)
class Lookup(Rule):
    """Shows the latest earlier state in which `show` is found."""

    show: Search = Search("")

    def look(self, read: Read, state: str, action: str, earlier: Sequence[str]) -> str | None:
        """The newest of the states (newest first) that fits, or None."""
        bindings = self.bind(read, state, action)
        if bindings is None:
            return None
        return next((one for one in earlier if self.show.match(bindings, one)), None)


@dataclass(frozen=True)
class Demand(Rule):
    """What the next state `must` show and `never` shows; `because` is told to a model that is asked again."""

    must: tuple[Search, ...] = ()
    never: tuple[Search, ...] = ()
    because: str = ""

    def broken(self, read: Read, context: StepContext, next_state: str) -> str | None:
        """Why this next state cannot be, or None."""
        bindings = self.bind(read, context.state, context.action)
        if bindings is None:
            return None
        for search in self.must:
            if not search.match(bindings, next_state):
                return self.because or f"must show {search._filled(bindings)!r}"
        for search in self.never:
            if search.match(bindings, next_state):
                return self.because or f"must not show {search._filled(bindings)!r}"
        return None


@dataclass(frozen=True)
class Memory:
    """What an episode has shown stays so until an action of `changing`: the same action in the same state leads to the
    same one (`repeats`), and `lookups` find the state that an action leads back to."""

    changing: tuple[Pattern, ...] = ()
    repeats: bool = False
    lookups: tuple[Lookup, ...] = ()

    def recalled(self, read: Read, context: StepContext, action: str) -> str | None:
        """The next state where the episode has shown it since the last change, or None."""
        lasting = self._lasting(read, context.history)
        for step in lasting:
            if self.repeats and not step.terminated and (step.state, step.action) == (context.state, action):
                return step.next_state
        earlier = [context.state, *(step.state for step in lasting)]
        found = (one.look(read, context.state, action, earlier) for one in self.lookups)
        return next((one for one in found if one is not None), None)

    def _lasting(self, read: Read, history: Sequence[Transition]) -> list[Transition]:
        """The possible steps since the last change, newest first."""
        lasting = []
        for step in reversed([step for step in history if step.possible]):
            found = read(step.action)
            if found is None or found[0] in self.changing:
                break
            lasting.append(step)
        return lasting


def lines_about(words: Sequence[str], states: Sequence[str], most: int = 8) -> list[str]:
    """The first lines of the states that hold one of the words, each once; long lines sentence by sentence."""
    wanted = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE) for word in words if word]
    found: dict[str, None] = {}
    for state in states:
        for line in state.splitlines():
            for piece in re.split(r"(?<=[.!?]) +", line) if len(line) > _LONG_LINE else [line]:
                if piece.strip() and any(word.search(piece) for word in wanted):
                    found.setdefault(piece.strip())
        if len(found) >= most:
            break
    return list(found)[:most]
