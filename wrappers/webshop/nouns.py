"""The nouns of a product title, for the reward's title score: by spaCy's tagger, or by rules where it is missing."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

Tagger = Literal["auto", "rules", "spacy"]
SPACY_MODEL = "en_core_web_sm"
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_ADJECTIVE = re.compile(r".*(?:able|ible|proof|less|ful|ous|ive|ed|ing|weight|ly)$")
_NO_NOUNS_TEXT = (
    "a about above after all an and any are as at be best big black blue bold both brown but by can cheap clean clear "
    "comfy compatible cool cute dark deep different dry durable each easy elastic extra fast fine fit for free fresh "
    "from full gold great green grey gray hard healthy heavy high hot hypoallergenic i if in into is it its kosher "
    "large light long loose low mini modern more most multi natural new nice no not of off old on one only or orange "
    "organic other our out over per perfect pink plus portable premium pure purple real red round safe sexy sharp "
    "short slim small smart soft solid strong super sweet tall that the their them these thick thin this to two ultra "
    "under unisex universal up vegan vintage warm was we white wide will with without yellow you your"
)
_NO_NOUNS = frozenset(_NO_NOUNS_TEXT.split())


def choose_tagger(tagger: Tagger) -> Literal["rules", "spacy"]:
    """ "auto" is spaCy where it and its model `en_core_web_sm` are installed, else rules.

    Raises:
        ValueError: the name is unknown, or spaCy was asked for and is missing.
    """
    if tagger not in ("auto", "rules", "spacy"):
        raise ValueError(f"`tagger` must be 'auto', 'rules' or 'spacy', got {tagger!r}")
    if tagger == "rules":
        return "rules"
    available = _spacy() is not None
    if tagger == "spacy" and not available:
        raise ValueError(f"`tagger` 'spacy' needs spaCy and its model: `python -m spacy download {SPACY_MODEL}`")
    return "spacy" if available else "rules"


@lru_cache(maxsize=1)
def _spacy() -> Any | None:
    try:
        import spacy

        return spacy.load(SPACY_MODEL)
    except (ImportError, OSError):
        return None


@lru_cache(maxsize=65536)
def nouns(title: str, tagger: Literal["rules", "spacy"] = "rules") -> tuple[str, ...]:
    """The title's nouns in lower case, in order, repeats kept.

    The rules count every word as a noun except numbers, function words and common adjectives, and, where written in
    lower case, hyphenated modifiers (`machine-washable`) and words with an adjective's ending (`foldable`). Words in
    capitals are mostly tagged as proper nouns by spaCy, and product titles are full of them.
    """
    if tagger == "spacy":
        return tuple(token.text.lower() for token in _spacy()(title) if token.pos_ in ("NOUN", "PROPN"))  # type: ignore[misc]
    return tuple(part for word in _WORD.findall(title) for part in _noun_parts(word))


def _noun_parts(word: str) -> list[str]:
    if word.islower() and ("-" in word or _ADJECTIVE.match(word)):
        return []
    return [part for part in word.lower().split("-") if part not in _NO_NOUNS and not any(map(str.isdigit, part))]
