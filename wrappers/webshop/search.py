"""Product search: BM25 over the text that the original indexes, and its special searches."""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .catalogue import Product

HITS = 50
_WORD = re.compile(r"[^\W_]+(?:['’.,][^\W_]+)*")
_STOP_TEXT = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
_STOP = frozenset(_STOP_TEXT.split())
_CACHED_QUERIES = 4096


def words(text: str) -> list[str]:
    """Lower-cased words without stop words, possessives and plural endings (`covers` -> `cover`)."""
    found = (word.lower().removesuffix("'s").removesuffix("’s") for word in _WORD.findall(text))
    return [_singular(word) for word in found if word not in _STOP]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def document(product: Product) -> str:
    """The text that the original indexes: title, description, first bullet point and options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    first = product.bullet_points[0] if product.bullet_points else ""
    return f"{product.title} {product.description} {first} {options}"


class Search:
    """Searches one catalogue; the index is built at the first search and shared by all sessions."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products = products
        self._index: Any = None
        self._cache: OrderedDict[tuple[str, ...], tuple[Product, ...]] = OrderedDict()

    def __call__(self, keywords: Sequence[str], rng: random.Random) -> tuple[Product, ...]:
        """The hits for space-separated keywords, best first: at most 50 for BM25 and `<r>`, else all that match.

        `<r>` draws 50 products at random, `<a> words` lists those with that attribute, `<c> word` those of that
        category (`beauty`, ...) and `<q> words` those of that query (`green tea`).
        """
        special, rest = keywords[0], " ".join(keywords[1:]).strip()
        if special == "<r>":
            return tuple(rng.sample(self.products, min(HITS, len(self.products))))
        if special == "<a>":
            return tuple(product for product in self.products if rest in product.attributes)
        if special == "<c>":
            category = keywords[1].strip() if len(keywords) > 1 else ""
            return tuple(product for product in self.products if product.category == category)
        if special == "<q>":
            return tuple(product for product in self.products if product.query == rest)
        return self._ranked(tuple(words(" ".join(keywords))))

    def _ranked(self, query: tuple[str, ...]) -> tuple[Product, ...]:
        if query in self._cache:
            self._cache.move_to_end(query)
            return self._cache[query]
        hits = tuple(self.products[index] for index in self._best(query))
        self._cache[query] = hits
        if len(self._cache) > _CACHED_QUERIES:
            self._cache.popitem(last=False)
        return hits

    def _best(self, query: tuple[str, ...]) -> list[int]:
        """Indices of the best hits with a score above 0; equal scores keep the catalogue's order."""
        index = self._built()
        known = [word for word in query if word in index.vocab_dict]
        if not known:
            return []
        scores = np.asarray(index.get_scores(known))
        order = np.argsort(-scores, kind="stable")[:HITS]
        return [int(position) for position in order if scores[position] > 0]

    def _built(self) -> Any:
        if self._index is None:
            import bm25s

            index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)  # Lucene's formula with pyserini's parameters
            index.index([words(document(product)) or [""] for product in self.products], show_progress=False)
            self._index = index
        return self._index
