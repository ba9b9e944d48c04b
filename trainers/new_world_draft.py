"""A first draft of a world: action patterns, horizon and ends read off trajectories, and a small example world."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dreamgym_env.domains.declared_grammar import Grammar, Pattern
from dreamgym_env.types import Split, Task, Trajectory, Transition

_JOINTS = frozenset(("at", "from", "in", "into", "of", "on", "onto", "to", "under", "using", "with"))
_CALL = re.compile(r"(\w+)([\[(])(.*)([\])])")
_SLOTS = ("thing", "place", "other")
_FEW, _OFTEN = 6, 3
"""Values of a placeholder are listed where there are at most so many, each seen at least so often."""


@dataclass(frozen=True)
class Draft:
    """What a world file says, as far as it is known; the rest is left to its comments."""

    description: str
    horizon: int
    actions: tuple[str, ...]
    placeholders: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    """Placeholder to its values, or "free"."""
    available: str = "recorded"
    impossible: str = "same state"
    outcomes: tuple[str, ...] = ("success", "failure")
    ends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def draft_of(trajectories: Sequence[Trajectory]) -> Draft:
    """The draft that fits the trajectories; what is impossible in them is no action of the world."""
    steps = [step for one in trajectories for step in one.transitions]
    possible = [step for step in steps if step.possible] or steps
    actions, placeholders = patterns_of(possible)
    refused = {step.next_state for step in steps if not step.possible and step.next_state != step.state}
    outcomes = tuple(one for one in ("success", "failure") if any(t.end_reason == one for t in trajectories))
    return Draft(
        description="say in one sentence what the agent is, where it is and what it can do there.",
        horizon=max(len(one.transitions) for one in trajectories),
        actions=actions,
        placeholders=placeholders,
        impossible=refused.pop() if len(refused) == 1 else "same state",
        outcomes=outcomes or ("success", "failure"),
        ends=ends_of(trajectories, actions, outcomes),
    )


def patterns_of(steps: Sequence[Transition]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...] | str]]:
    """Patterns that read every action of the steps, most frequent first, and what is known of their placeholders.

    Words around `in`, `to`, `with` and the like become placeholders where they differ between actions.
    """
    shapes: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    shown: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for step in steps:
        shape, values = _shape(" ".join(step.action.split()))
        shapes[shape].append(values)
        named = all(value.lower() in step.state.lower() for value in values)
        shown[shape, named] += 1
    patterns: dict[str, None] = {}
    values_of: dict[str, Counter[str]] = defaultdict(Counter)
    free: set[str] = set()
    for shape, rows in sorted(shapes.items(), key=lambda item: -len(item[1])):
        unseen = shown[shape, False] > shown[shape, True]
        names = ["text" if unseen and len(rows[0]) == 1 else slot for slot in _SLOTS]
        fixed = [len({row[index] for row in rows}) == 1 for index in range(len(rows[0]))]
        words = [value if fixed[index] else f"{{{names[index]}}}" for index, value in enumerate(rows[0])]
        patterns.setdefault(_written(shape, words))
        for index, is_fixed in enumerate(fixed):
            if not is_fixed and names[index] == "text":
                free.add("text")
            elif not is_fixed:
                values_of[names[index]].update(row[index] for row in rows)
    listed: dict[str, tuple[str, ...] | str] = dict.fromkeys(sorted(free), "free")
    for name, counts in values_of.items():
        if len(counts) <= _FEW and min(counts.values()) >= _OFTEN:
            listed[name] = tuple(sorted(counts))
    return tuple(patterns), listed


def _shape(action: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The action's words that stay, with "" where something is named, and what is named there."""
    if call := _CALL.fullmatch(action):
        return (f"{call[1]}{call[2]}", "", call[4]), (call[3],)
    first, *rest = action.split()
    shape, values, current = [first], list[str](), list[str]()
    for index, word in enumerate([*rest, ""]):
        is_joint = word in _JOINTS and (bool(current) or index == 0) and len(values) + bool(current) < len(_SLOTS)
        if not word or is_joint:
            if current:
                shape.append("")
                values.append(" ".join(current))
            current = []
            shape += [word] if word else []
        else:
            current.append(word)
    return tuple(shape), tuple(values)


def _written(shape: Sequence[str], words: Sequence[str]) -> str:
    filled = iter(words)
    pieces = [piece or next(filled) for piece in shape]
    return "".join(pieces) if shape[0].endswith(("[", "(")) else " ".join(pieces)


def ends_of(
    trajectories: Sequence[Trajectory], actions: Sequence[str], outcomes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Outcome to the patterns that brought it, where those are at most three and not all there are."""
    grammar = Grammar(tuple(Pattern(text) for text in actions))
    found: dict[str, dict[str, None]] = {outcome: {} for outcome in outcomes}
    for one in trajectories:
        if one.end_reason in found and (read := grammar.read(one.transitions[-1].action)):
            found[one.end_reason].setdefault(read[0].text)
    return {outcome: tuple(texts) for outcome, texts in found.items() if 0 < len(texts) <= min(3, len(actions) - 1)}


def example_draft() -> Draft:
    """A world of one lamp in one of two rooms."""
    return Draft(
        description="a flat of two rooms, a kitchen and a hall; in one of them stands a lamp.",
        horizon=10,
        actions=("go to {room}", "switch on {thing}"),
        placeholders={"room": ("kitchen", "hall")},
        available="grammar",
        impossible="Nothing happens.",
        outcomes=("success",),
        ends={"success": ("switch on {thing}",)},
    )


def example_trajectories(name: str) -> list[Trajectory]:
    """Four episodes of the example, two of them on held-out tasks."""
    return [_example(name, number, room) for number, room in enumerate(("kitchen", "hall", "kitchen", "hall"))]


def _example(name: str, number: int, lamp: str) -> Trajectory:
    split: Split = "train" if number < 2 else "held_out"
    empty = "hall" if lamp == "kitchen" else "kitchen"
    start = f"You are in the {empty if number % 3 else lamp}. " + ("It is empty." if number % 3 else "A lamp is here.")
    task = Task(f"lamp-{number}", name, "Switch on the lamp.", start, split=split)
    rows = [(f"go to {lamp}", f"You are in the {lamp}. A lamp is here.", False)] if number % 3 else []
    rows = [("open window", "Nothing happens.", False), *rows, ("switch on lamp", "The lamp is on.", True)]
    steps: list[Transition] = []
    for action, after, end in rows:
        state = steps[-1].next_state if steps else start
        possible = after != "Nothing happens."
        steps.append(Transition(task, len(steps), state, action, after, float(end), end, possible=possible))
    return Trajectory(task, tuple(steps), "success", "example", f"example-{number}")
