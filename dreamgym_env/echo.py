"""Guessing how an answer goes on by what followed when its last tokens were said before (prompt lookup decoding).

Much of a dreamed page stands in the conversation already: in the page before, in demonstrations, in recalled lines.
Tokens that are guessed are read together, and drawn as they would be one by one: the answers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MATCH = 3
"""How many tokens must have been said in a row."""
LONGEST = 16
"""Tokens guessed for one answer at a time, at most."""
TOGETHER = 128
"""Tokens that a CPU reads at once, at most, for the sake of guesses: beyond, a token more costs as much as a step."""


class Echo:
    """The tokens of a prompt and its answer so far, and where they said the same. `limit`: tokens of the answer."""

    def __init__(self, prompt: Sequence[int], limit: int) -> None:
        self.ids = np.empty(len(prompt) + limit, dtype=np.int64)
        self.ids[: len(prompt)] = prompt
        self.begin = self.size = len(prompt)

    def follow(self, answer: Sequence[int]) -> None:
        """Take in what was added to the answer."""
        size = self.begin + len(answer)
        self.ids[self.size : size] = answer[self.size - self.begin :]
        self.size = size

    def guess(self, count: int) -> list[int]:
        """`count` tokens that followed when the last `MATCH` were said before, round and round where these reach the
        end; [] where they never were."""
        said = self.ids[: self.size - 1]
        if len(said) < MATCH:
            return []
        last = self.ids[self.size - MATCH : self.size]
        ends = len(said) - MATCH + 1
        same = said[:ends] == last[0]
        for at in range(1, MATCH):
            same &= said[at : ends + at] == last[at]
        found = np.flatnonzero(same)
        if not len(found):
            return []
        begin = int(found[-1]) + MATCH
        followed: list[int] = np.resize(self.ids[begin : self.size], count).tolist()
        return followed


def tokens_at_once(parameters: int, device: str) -> int:
    """Tokens to read at once, at most, for the sake of guesses. A GPU takes a millisecond or more to start a step of
    any model, however small: time in which it reads as many tokens as have 2.5e11 parameters between them."""
    return TOGETHER if device != "cuda" else max(512, min(8192, 10**12 // (4 * parameters)))


def guess(echoes: Sequence[Echo], answers: Sequence[Sequence[int]], items: Sequence[int], most: int) -> list[list[int]]:
    """As many guessed tokens for each answer of `items`, with its last one `most` in all: zeros where it has no guess,
    none where no answer has one."""
    room = min(LONGEST, most // len(items) - 1)
    if room < 1:
        return [[] for _ in items]
    found = []
    for item in items:
        echoes[item].follow(answers[item])
        found.append(echoes[item].guess(room))
    return [one or [0] * room for one in found] if any(found) else found
