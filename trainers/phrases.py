"""Turns of phrase of a templated world, to be one token each: pairs of neighbouring words joined, most frequent first.

Byte-pair encoding over words. What an episode looks up is never joined: numbers, names that carry a number
(`drawer 2`), and words that few texts have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

_WORDS = re.compile(r"[ \w,.;:'\"-]*[A-Za-z,.;:'\"-]")
_DIGIT = re.compile(r"\d")
Run = tuple[str, ...]


def find_phrases(
    texts: Iterable[Sequence[str]], count: int, text_share: float = 0.15, names: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """At most `count` phrases, longest first.

    Args:
        texts: each as its pieces (words with the blank before them, punctuation, new lines).
        text_share: a piece is joined with others only if it stands in this share of the texts.
        names: pieces that are joined with nothing.
    """
    runs = _runs(list(texts), text_share, names)
    smallest = sum(runs.values()) / 3000  # a phrase that is rarer saves nothing
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for run, times in runs.items():
            for pair in pairwise(run):
                pairs[pair] += times
        if not pairs:
            break
        pair, times = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        if times < smallest:
            break
        runs = _joined(runs, pair)
    found = {piece for run in runs for piece in run if len(re.findall(r" |\w+|[^\w ]", piece.strip())) > 1}
    return tuple(sorted(found, key=lambda phrase: (-len(phrase), phrase)))


def _runs(texts: Sequence[Sequence[str]], share: float, names: frozenset[str]) -> Counter[Run]:
    """Stretches of pieces that may be joined, and how often each occurs."""
    present: Counter[str] = Counter()
    total, numbered = Counter[str](), Counter[str]()
    for pieces in texts:
        present.update(set(pieces))
        total.update(pieces)
        numbered.update(one for one, after in pairwise(pieces) if _DIGIT.search(after))
    kept = {
        piece
        for piece, times in present.items()
        if times >= share * len(texts)
        and piece not in names
        and _WORDS.fullmatch(piece)
        and piece.strip() != "'"  # what is quoted is a name, and has to be the same without the quotation marks
        and not _DIGIT.search(piece)
        and (not piece.strip().isalpha() or numbered[piece] < 0.2 * total[piece])
    }
    runs: Counter[Run] = Counter()
    for pieces in texts:
        run: list[str] = []
        for piece in (*pieces, ""):
            if piece in kept:
                run.append(piece)
                continue
            if len(run) > 1:
                runs[tuple(run)] += 1
            run = []
    return runs


def _joined(runs: Counter[Run], pair: tuple[str, str]) -> Counter[Run]:
    found: Counter[Run] = Counter()
    for run, times in runs.items():
        joined: list[str] = []
        for piece in run:
            if joined and (joined[-1], piece) == pair:
                joined[-1] += piece
            else:
                joined.append(piece)
        found[tuple(joined)] += times
    return found


def phrase_pattern(phrases: Sequence[str]) -> str:
    """A regular expression for any of the phrases as whole words, the longest that fits; "" for none."""
    return rf"(?:{'|'.join(map(re.escape, phrases))})(?!\w)|" if phrases else ""
