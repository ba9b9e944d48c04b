"""Pages as an experience model reads and writes them: elements without their numbers, and what repeats in one line.

Elements are numbered as they are listed, so their numbers need no telling. A page begins mostly like the one before (a
site's menu), and a form that was sent often changes a line or two.
"""

from __future__ import annotations

import re
from itertools import takewhile

SAME = "(the same page)"
_NUMBER = re.compile(r"\[\d+\] ")
_REPEATED = re.compile(r"\((\d+) lines as before\)")
_UNNUMBERED = ("heading ", "text ", "row ", "image ", "Tabs: ", "(")
_LEAST = 2
"""So many lines must be alike before they are named and not told."""


def shorten(before: str, state: str) -> str:
    """A state as it is told after the state `before`; that is "" where there is none."""
    if state == before:
        return SAME
    head, lines = _parts(state)
    _, known = _parts(before)
    first = _alike(known, lines)
    last = _alike(known[first:][::-1], lines[first:][::-1])
    if not first and last == len(lines):
        last = 0  # one mark alone means the beginning
    middle = lines[first : len(lines) - last]
    return "\n".join([*head, *_mark(first), *middle, *_mark(last)])


def restore(before: str, told: str) -> str:
    """The state that was told: `restore(before, shorten(before, state)) == state`.

    Raises:
        ValueError: more lines are said to be as before than there were.
    """
    if told.strip() == SAME:
        return before
    head, lines = _parts(told)
    _, known = _parts(before)
    if lines and (found := _REPEATED.fullmatch(lines[0])):
        lines = [*_taken(known, int(found[1])), *lines[1:]]
    if lines and (found := _REPEATED.fullmatch(lines[-1])):
        lines = [*lines[:-1], *_taken(known[::-1], int(found[1]))[::-1]]
    numbered, number = [], 0
    for line in lines:
        number += not line.startswith(_UNNUMBERED)
        numbered.append(line if line.startswith(_UNNUMBERED) else f"[{number}] {line}")
    return "\n".join([*head, *numbered])


def _parts(state: str) -> tuple[list[str], list[str]]:
    """Title and address, and all other lines without their numbers."""
    lines = state.split("\n")
    return lines[:2], [_NUMBER.sub("", line, count=1) if line.startswith("[") else line for line in lines[2:]]


def _alike(one: list[str], other: list[str]) -> int:
    """How many lines two lists begin with in common, where these are enough to be named."""
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return count if count >= _LEAST else 0


def _mark(count: int) -> list[str]:
    return [f"({count} lines as before)"] if count else []


def _taken(lines: list[str], count: int) -> list[str]:
    if count > len(lines):
        raise ValueError(f"{count} lines cannot be as before, the page before had {len(lines)}")
    return lines[:count]
