"""Values of a world file's keys as rules: texts, patterns, offers, lookups, demands; each checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dreamgym_env.domains.declared_grammar import Grammar, Pattern
from dreamgym_env.domains.declared_rules import Demand, Lookup, Memory, Offering, Search, unbound


def text_of(value: Any, key: str) -> str:
    """The value where it is a text with something in it.

    Raises:
        ValueError: it is not; YAML reads some bare words (yes, no, 3) as other things.
    """
    if not isinstance(value, str) or not value.strip():
        hint = "; put it in quotes" if isinstance(value, bool | int | float) else ""
        raise ValueError(f"`{key}` must be a text, got {'nothing' if value is None else repr(value)}{hint}")
    return value


def texts_of(value: Any, key: str) -> list[str]:
    """A text, or a list of at least one, as a list.

    Raises:
        ValueError: it is neither.
    """
    found = value if isinstance(value, list) else [value]
    if not found:
        raise ValueError(f"`{key}` must hold at least one text, got an empty list")
    return [text_of(one, key) for one in found]


def patterns_of(value: Any, grammar: Grammar, key: str) -> tuple[Pattern, ...]:
    """The patterns of the grammar that the value names.

    Raises:
        ValueError: one is none of the grammar's.
    """
    try:
        return tuple(grammar.pattern(text) for text in texts_of(value, key))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("`") else f"`{key}` {error}") from error


def offerings_of(value: Any, grammar: Grammar) -> Literal["grammar", "recorded"] | tuple[Offering, ...]:
    """What `available` says.

    Raises:
        ValueError: it is not of a known form.
    """
    if value == "grammar" or value == "recorded":
        return "grammar" if value == "grammar" else "recorded"
    if not isinstance(value, list) or not value:
        raise ValueError(f"`available` must be 'grammar', 'recorded' or a list of rules, got {value!r}")
    return tuple(_offering(entry, grammar) for entry in value)


def _offering(entry: Any, grammar: Grammar) -> Offering:
    keys = _keys(entry, "available", ("always", "find", "action", "split"))
    if keys == {"always"}:
        return Offering(always=patterns_of(entry["always"], grammar, "available: always"))
    if keys not in ({"find", "action"}, {"find", "split"}):
        raise ValueError(f"`available` must hold `always`, `find` with `action`, or `find` with `split`, got {entry!r}")
    find = _search(entry["find"], (), "available: find")
    if keys == {"find", "split"}:
        if "(" not in find.text:
            raise ValueError(f"`available: find` must have a group ( ) around the list to split, got {find.text!r}")
        if not isinstance(entry["split"], str) or not entry["split"]:
            raise ValueError(f"`available: split` must be the text between two actions, got {entry['split']!r}")
        return Offering(find=find, split=entry["split"])
    actions = tuple(texts_of(entry["action"], "available: action"))
    for action in actions:
        if problem := unbound(action, find.groups()):
            raise ValueError(f"`available: action` {action!r} {problem}; bind it in `find` as (?P<name>...)")
    return Offering(find=find, actions=actions)


def recall_of(value: Any, grammar: Grammar) -> tuple[bool, tuple[Lookup, ...]]:
    """What `recall` says: whether lines that share the action's names are recalled, and the rules.

    Raises:
        ValueError: it is not of a known form.
    """
    if value in ("names", "none"):
        return value == "names", ()
    if not isinstance(value, list):
        raise ValueError(f"`recall` must be 'names', 'none' or a list of 'names' and rules, got {value!r}")
    return "names" in value, tuple(_lookup(one, grammar, "recall") for one in value if one != "names")


def memory_of(value: Any, grammar: Grammar) -> Memory | None:
    """What `known` says, None for nothing.

    Raises:
        ValueError: it is not of a known form.
    """
    if value is None:
        return None
    keys = _keys(value, "known", ("changing", "repeats", "lookups"))
    if "changing" not in keys:
        raise ValueError("`known` must list as `changing` the actions after which earlier states no longer hold")
    changing = patterns_of(value["changing"], grammar, "known: changing") if value["changing"] else ()
    lookups = tuple(_lookup(one, grammar, "known") for one in value.get("lookups") or ())
    if not isinstance(value.get("repeats", False), bool):
        raise ValueError(f"`known: repeats` must be true or false, got {value['repeats']!r}")
    return Memory(changing, value.get("repeats", False), lookups)


def demands_of(value: Any, grammar: Grammar) -> tuple[Demand, ...]:
    """What `contradictions` says.

    Raises:
        ValueError: it is not of a known form.
    """
    if value is not None and not isinstance(value, list):
        raise ValueError(f"`contradictions` must be a list of rules, got {value!r}")
    return tuple(_demand(entry, grammar) for entry in value or ())


def _demand(entry: Any, grammar: Grammar) -> Demand:
    key = "contradictions"
    keys = _keys(entry, key, ("when", "find", "must", "never", "because"))
    if not keys & {"must", "never"}:
        raise ValueError(f"`{key}` must say what a next state `must` or `never` shows, got {entry!r}")
    when, find, known = _conditions(entry, grammar, key)
    must, never = (
        tuple(_search(one, known, f"{key}: {name}") for one in texts_of(entry[name], name)) if name in keys else ()
        for name in ("must", "never")
    )
    because = text_of(entry["because"], f"{key}: because") if "because" in keys else ""
    return Demand(when, find, must, never, because)


def _lookup(entry: Any, grammar: Grammar, key: str) -> Lookup:
    keys = _keys(entry, key, ("when", "find", "show"))
    if "show" not in keys:
        raise ValueError(f"`{key}` must say which earlier state to `show`, got {entry!r}")
    when, find, known = _conditions(entry, grammar, key)
    return Lookup(when, find, _search(entry["show"], known, f"{key}: show"))


def _conditions(
    entry: Mapping[str, Any], grammar: Grammar, key: str
) -> tuple[tuple[Pattern, ...], Search | None, list[str]]:
    """The rule's `when` and `find`, and the names that they bind."""
    when = patterns_of(entry["when"], grammar, f"{key}: when") if "when" in entry else ()
    shared = set.intersection(*(set(pattern.names) for pattern in when)) if when else set()
    find = _search(entry["find"], sorted(shared), f"{key}: find") if "find" in entry else None
    return when, find, sorted(shared) + (find.groups() if find else [])


def _search(value: Any, known: Sequence[str], key: str) -> Search:
    found = Search(text_of(value, key))
    if problem := found.problem(known):
        raise ValueError(f"`{key}` {found.text!r} {problem}")
    return found


def _keys(entry: Any, key: str, allowed: tuple[str, ...]) -> set[str]:
    if not isinstance(entry, dict):
        raise ValueError(f"`{key}` must hold rules with some of the keys {allowed}, got {entry!r}")
    if unknown := set(entry) - set(allowed):
        raise ValueError(f"`{key}` takes {allowed}, got {sorted(map(str, unknown))}")
    return set(entry)
