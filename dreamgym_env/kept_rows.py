"""`KeptRows`: which slot holds which token ids, so that a conversation that has grown is read from where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

STRIDE = 64
"""Rows can be found, and copied from, at every multiple of this many tokens."""
WORTH_COPYING = 32
"""Tokens that a copy must spare from being read."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_Key = tuple[int, int]  # a length and the hash of that many ids


class SlotStore(Protocol):
    """What holds the values: see `incremental.IncrementalDecoder`."""

    def copy(self, source: int, target: int, length: int) -> None: ...

    def swap(self, one: int, other: int) -> None: ...


@dataclass(eq=False)
class _Row:
    """Ids that one slot holds, where it may be taken up again, under which keys it is found, when it was last used."""

    ids: Any
    ends: tuple[int, ...]
    keys: list[_Key]
    slot: int
    used: int


class KeptRows:
    """Finds kept prefixes by hash, places a batch in neighbouring slots, forgets the least recently used row.

    A row is taken up again after all of its ids or after its prompt but the last token (so the same prompt, or one
    whose answer was re-tokenised otherwise, is not read again either). A prompt that shares less with it, a system
    message say, gets a copy of what they share, in strides.
    """

    def __init__(self, store: SlotStore) -> None:
        self.store = store
        self.rows: list[_Row | None] = []
        self.clock = 0
        self.powers = np.ones(1, dtype=np.uint64)
        self.index: dict[_Key, dict[int, _Row]] = {}  # rows by their id()

    def __len__(self) -> int:
        return sum(row is not None for row in self.rows)

    def clear(self) -> None:
        """Forget every row."""
        self.rows = [None] * len(self.rows)
        self.index.clear()

    def resize(self, slots: int) -> None:
        """Set the number of slots. Where there are fewer than before, the least recently used rows are forgotten."""
        rows = sorted((row for row in self.rows if row), key=lambda row: -row.used)
        for row in rows[slots:]:
            self._drop(row)
        free = [slot for slot in range(min(slots, len(self.rows))) if self.rows[slot] is None]
        for row in rows[:slots]:
            if row.slot >= slots:
                self._move(row, free.pop(0))
        self.rows = self.rows[:slots] + [None] * (slots - len(self.rows))

    def place(self, prompts: Sequence[Sequence[int]]) -> tuple[int, list[int], list[int]]:
        """Put each prompt in a slot of its own, in `first`, ..., `first + len(prompts) - 1`, in any order.

        Returns:
            `first`, the slot of each prompt, and how many of its ids that slot already holds (fewer than all).
            Until `keep` the slots are nobody's: they are found by no other prompt.
        """
        lengths = sorted({length for length, _ in self.index}, reverse=True)
        found = [self._matches(np.asarray(prompt, dtype=np.int64), lengths) for prompt in prompts]
        owner: dict[int, tuple[_Row, int]] = {}
        shared: dict[int, tuple[_Row, int]] = {}
        claimed: set[int] = set()
        for item in sorted(range(len(prompts)), key=lambda item: -found[item][0]):
            length, rows = found[item]
            free = next((row for row in rows if length in row.ends and id(row) not in claimed), None)
            if free is not None:
                owner[item] = free, length
                claimed.add(id(free))
            elif rows and length >= WORTH_COPYING:
                shared[item] = rows[0], length
        first = self._window(len(prompts), [row.slot for row, _ in owner.values()])
        return first, *self._settle(len(prompts), first, owner, shared)

    def keep(self, slot: int, ids: Sequence[int], prompt_length: int) -> None:
        """Say which ids the slot holds now, the first `prompt_length` of them a prompt."""
        self._free(slot)
        self.clock += 1
        ends = tuple(sorted({end for end in (prompt_length - 1, len(ids)) if 0 < end <= len(ids)}))
        if not ends:
            return
        array = np.asarray(ids, dtype=np.int64)
        row = _Row(array, ends, self._keys(array, ends), slot, self.clock)
        self.rows[slot] = row
        for key in row.keys:
            self.index.setdefault(key, {})[id(row)] = row

    def siblings(self, prompts: Sequence[Sequence[int]], kept: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Prompts that begin like an earlier one of the same batch: item to (that item, tokens to copy from it).

        What is copied from is never itself in the answer's keys, so it can be read first.
        """
        leaders: dict[_Key, int] = {}
        found: dict[int, tuple[int, int]] = {}
        for item, prompt in enumerate(prompts):
            array = np.asarray(prompt, dtype=np.int64)
            keys = self._keys(array, (len(array) - 1,)) if len(array) > 1 else []
            known = next((key for key in sorted(keys, reverse=True) if key in leaders), None)
            length = known[0] if known else 0
            if (
                known
                and length - kept[item] >= WORTH_COPYING
                and list(prompts[leaders[known]][:length]) == list(prompt[:length])
            ):
                found[item] = leaders[known], length
                continue
            for key in keys:
                leaders.setdefault(key, item)
        return found

    def _settle(
        self,
        count: int,
        first: int,
        owner: dict[int, tuple[_Row, int]],
        shared: dict[int, tuple[_Row, int]],
    ) -> tuple[list[int], list[int]]:
        window = range(first, first + count)
        inside = {row.slot for row, _ in owner.values() if row.slot in window}
        spare = [slot for slot in window if slot not in inside]
        for row, _ in owner.values():
            if row.slot not in window:
                self._move(row, spare.pop())
        slots, kept = [0] * count, [0] * count
        for item in range(count):
            if item in owner:
                slots[item], kept[item] = owner[item][0].slot, owner[item][1]
                continue
            slots[item] = spare.pop()
            self._vacate(slots[item], window)
            source, length = shared.get(item, (None, 0))
            if source is not None and self.rows[source.slot] is source:  # it may have had to give way meanwhile
                self.store.copy(source.slot, slots[item], length)
                kept[item] = length
        for slot in window:
            self._free(slot)
        return slots, kept

    def _matches(self, prompt: Any, lengths: Sequence[int]) -> tuple[int, list[_Row]]:
        """The longest kept prefix that leaves a token to read, and the rows that hold it."""
        hashes = self._hashes(prompt)
        for length in lengths:
            rows = self.index.get((length, int(hashes[length - 1])), {}) if length < len(prompt) else {}
            same = [row for row in rows.values() if np.array_equal(row.ids[:length], prompt[:length])]
            if same:
                return length, sorted(same, key=lambda row: len(row.ids) != length)
        return 0, []

    def _hashes(self, ids: Any) -> Any:
        """Hash of every prefix, (len(ids),): a polynomial modulo 2^64, hence one running sum."""
        if len(self.powers) < len(ids):
            self.powers = np.cumprod(np.full(2 * len(ids), _MULTIPLIER, dtype=np.uint64), dtype=np.uint64)
        return np.cumsum((ids.astype(np.uint64) + np.uint64(1)) * self.powers[: len(ids)], dtype=np.uint64)

    def _keys(self, ids: Any, ends: Iterable[int]) -> list[_Key]:
        """Length and hash at `ends` and at every stride, all but the whole of it unless that is an end."""
        hashes = self._hashes(ids)
        return [(end, int(hashes[end - 1])) for end in sorted({*ends, *range(STRIDE, len(ids), STRIDE)})]

    def _window(self, count: int, wanted: Sequence[int]) -> int:
        """The start of `count` neighbouring slots that hold most of the wanted ones: the fewest rows to move."""
        hits = np.zeros(len(self.rows) + 1, dtype=np.int64)
        hits[np.asarray(wanted, dtype=np.int64) + 1] = 1
        total = np.cumsum(hits)
        return int(np.argmax(total[count:] - total[: len(total) - count]))

    def _vacate(self, slot: int, window: range) -> None:
        """Free a slot of the window. What it held moves to a free slot outside, or to that of an older row."""
        row = self.rows[slot]
        if row is None:
            return
        outside = [other for other in range(len(self.rows)) if other not in window]
        ages = [other_row.used if (other_row := self.rows[other]) else -1 for other in outside]
        if ages and min(ages) < row.used:
            target = outside[int(np.argmin(ages))]
            self._free(target)
            self.store.copy(slot, target, len(row.ids))
            self.rows[target], self.rows[slot], row.slot = row, None, target
        else:
            self._drop(row)

    def _move(self, row: _Row, slot: int) -> None:
        """Exchange a row with whatever the slot holds."""
        other = self.rows[slot]
        self.store.swap(row.slot, slot)
        self.rows[row.slot], self.rows[slot] = other, row
        if other is not None:
            other.slot = row.slot
        row.slot = slot

    def _free(self, slot: int) -> None:
        row = self.rows[slot]
        if row is not None:
            self._drop(row)

    def _drop(self, row: _Row) -> None:
        self.rows[row.slot] = None
        for key in row.keys:
            del self.index[key][id(row)]
            if not self.index[key]:
                del self.index[key]
