"""The embedded encoder: hashed words and character n-grams under a signed random projection, without a download."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import shake_128
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
STATE_MARK = "\nState:\n"
"""What parts action and state in `encoders.state_action_text`."""
_WORD = re.compile(r"[a-z0-9]+(?:[.'][a-z0-9]+)*|[^\W_a-z0-9]+")
_EMPTY = "\x00empty"


class HashedEncoder:
    """The embedded default: hashed words and character n-grams under a signed random projection; needs no download.

    The vector has two halves, one for the action and one for the state, joined with squared weights `action_weight`
    and `1 - action_weight`, so that the cosine of two vectors is about that weighted mean of the two cosines. Each half
    sums its words' vectors by 1 + ln(count). A word's vector is a fixed random sign vector of the word and, weaker, of
    its character 3-grams and 4-grams, which brings `cover` and `covers` together. The action's verb counts `_VERB`
    times, since what happens depends on it first. Identifiers (letters and digits mixed, such as B0A1B2C3D4) also count
    as "an identifier": any click on a product then resembles any other, and one on the same product even more. Bare
    numbers and short words, which say little, weigh less. Two unrelated texts have cosine 0 with standard deviation
    about 1 / sqrt(dimension).

    Deterministic across processes and machines. Not safe to share between threads.

    Args:
        dimension: length of the vectors, a multiple of 16, at least 32.
        action_weight: share of the action in the squared length, in [0, 1].
        seed: which random projection, any integer.
        max_words: words whose vectors are kept (1 KiB each at dimension 512), at least 1.
    """

    def __init__(
        self, dimension: int = 256, action_weight: float = 0.6, seed: int = 0, max_words: int = 100_000
    ) -> None:
        if dimension < 32 or dimension % 16:
            raise ValueError(f"`dimension` must be a multiple of 16 and at least 32, got {dimension}")
        if not 0 <= action_weight <= 1:
            raise ValueError(f"`action_weight` must be in [0, 1], got {action_weight}")
        if max_words < 1:
            raise ValueError(f"`max_words` must be >= 1, got {max_words}")
        self.name = f"embedded-1-{dimension}-{action_weight:g}-{seed}"
        self.dimension = dimension
        self._weights = np.sqrt(np.array([action_weight, 1 - action_weight], dtype=np.float32))
        self._words = _WordVectors(dimension // 2, seed, max_words)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), dimension], every row of length 1."""
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        actions, states = zip(*(_split(text.lower()) for text in texts), strict=True)
        halves = [self._half(_action, actions), self._half(_state, states)]
        joined = np.concatenate([half * weight for half, weight in zip(halves, self._weights, strict=True)], axis=1)
        blank = ~joined.any(axis=1)
        if blank.any():
            joined[blank] = np.tile(self._words.sums([{_EMPTY: 1.0}]), 2)
        return unit(joined)

    def _half(self, count: Callable[[str], dict[str, float]], parts: Sequence[str]) -> Vectors:
        """Float32 [len(parts), dimension / 2], rows of length 1 or 0; a part that comes again is encoded once."""
        rows = {part: row for row, part in enumerate(dict.fromkeys(parts))}
        different = list(rows)
        sums = np.empty((len(different), self.dimension // 2), dtype=np.float32)
        for start in range(0, len(different), 256):  # bounds the memory of the gathered word vectors
            some = slice(start, start + 256)
            sums[some] = self._words.sums([count(part) for part in different[some]])
            self._words.forget_surplus()
        return unit(sums)[[rows[part] for part in parts]]


_VERB = 1.5


def _split(text: str) -> tuple[str, str]:
    """Action and state of a lower-cased `state_action_text`; any other text is taken for a state."""
    head, separator, state = text.partition(STATE_MARK.lower())
    return (head.removeprefix("action: "), state) if separator else ("", text)


def _state(text: str) -> dict[str, float]:
    counts = Counter(_WORD.findall(text))
    return dict(counts)


def _action(text: str) -> dict[str, float]:
    words = _WORD.findall(text)
    counts: dict[str, float] = dict(Counter(words[1:]))
    if words:
        counts[f"\x00verb {words[0]}"] = np.exp(_VERB - 1)  # so that 1 + ln(count) is `_VERB`
    return counts


class _WordVectors:
    """Word vectors, made when first met and kept; `sums` adds those of many texts at once."""

    def __init__(self, dimension: int, seed: int, max_words: int) -> None:
        self._dimension, self._seed, self._max_words = dimension, seed, max_words
        self._rows: dict[str, int] = {}
        self._vectors = np.empty((1024, dimension), dtype=np.float32)

    def sums(self, counts: Sequence[dict[str, float]]) -> Vectors:
        """Float32 [len(counts), dimension]: the sum over a text's words of (1 + ln(count)) * vector."""
        words = list(chain.from_iterable(counts))
        self._learn({word for word in words if word not in self._rows})
        lengths = np.array([len(one) for one in counts])
        rows = np.fromiter(map(self._rows.__getitem__, words), np.intp, len(words))
        tf = np.fromiter(chain.from_iterable(one.values() for one in counts), np.float32, len(words))
        result = np.zeros((len(counts), self._dimension), dtype=np.float32)
        if words:
            gathered = self._vectors[rows] * (1 + np.log(tf))[:, None]
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            filled = lengths > 0  # reduceat would copy a neighbour into an empty segment
            result[filled] = np.add.reduceat(gathered, starts[filled], axis=0)
        return result

    def _learn(self, words: set[str]) -> None:
        for word in sorted(words):
            row = self._rows[word] = len(self._rows)
            if row == len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._vectors[row] = self._vector(word)

    def forget_surplus(self) -> None:
        """Starts anew once there are more than `max_words`, so that memory stays bounded."""
        if len(self._rows) > self._max_words:
            self._rows, self._vectors = {}, self._vectors[:1024].copy()

    def _vector(self, word: str) -> Vectors:
        grams = _grams(word)
        vector = self._signs(f"w {word}")
        if grams:
            vector = vector + 0.7 * self._signs(*grams) / np.sqrt(len(grams), dtype=np.float32)
        if _is_identifier(word):
            vector = vector + self._signs("an identifier")
        return np.asarray(_weight(word) * vector, dtype=np.float32)

    def _signs(self, *features: str) -> Vectors:
        """The sum of the features' sign vectors, each in {-1, 1}^dimension, read from the bits of a hash."""
        data = b"".join(
            shake_128(f"{self._seed} {feature}".encode(errors="surrogatepass")).digest(self._dimension // 8)
            for feature in features
        )
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).reshape(len(features), self._dimension)
        return np.asarray((2.0 * bits - 1.0).sum(axis=0), dtype=np.float32)


def _grams(word: str) -> list[str]:
    if word.startswith("\x00") or not word.isalpha():
        return []
    framed = f"<{word[:40]}>"
    return [framed[start : start + size] for size in (3, 4) for start in range(len(framed) - size + 1)]


def _is_identifier(word: str) -> bool:
    return len(word) >= 6 and not word.isalpha() and not word.replace(".", "").isdigit() and word.isalnum()


def _weight(word: str) -> float:
    if word.startswith("\x00"):
        return 1.0
    if word.replace(".", "").isdigit():
        return 0.3
    return 0.5 if len(word) <= 3 else 1.0


def unit(vectors: Vectors) -> Vectors:
    """The rows at length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
