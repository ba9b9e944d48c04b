"""Micro-sites: procedurally generated web sites, whose every word is drawn at random, and how one walks through them.

A menu, a list of things, a page for each, forms; what is to be done there is in `microsite_tasks.py`. The states are
those of `web_page`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamgym_env.domains.web_page import Element, Line, Text, WebPage, find_element, render

from .scratch import is_name

_KINDS = ("word", "word", "name", "number", "price", "date", "person", "phone", "mail")


@dataclass(frozen=True)
class SiteWords:
    """The words that sites are made of: `labels` have a form with and one without a capital, `capitals` and `plain`
    words name things, and so do `codes`, numbers of six and more digits, if there are any."""

    labels: tuple[tuple[str, str], ...]
    capitals: tuple[str, ...]
    plain: tuple[str, ...]
    codes: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any) -> SiteWords:
        """The words of a vocabulary (`dreamgym fit-vocabulary`).

        Raises:
            ValueError: it has too few.
        """
        words = sorted(token.strip() for token in tokenizer.get_vocab() if is_name(token) and len(token) > 2)
        known = frozenset(words)
        labels = tuple((word, word.lower()) for word in words if word.istitle() and word.lower() in known)
        capitals = tuple(word for word in words if word.istitle())
        codes = sorted(code for token in tokenizer.get_vocab() if len(code := token.strip()) > 5 and code.isdecimal())
        found = cls(labels, capitals, tuple(word for word in words if word.islower()), tuple(codes))
        if len(labels) < 60 or len(found.plain) < 60:
            raise ValueError(
                f"the vocabulary must have at least 60 words with and without a capital and 60 plain ones, got "
                f"{len(labels)} and {len(found.plain)}; `dreamgym fit-vocabulary --plain-forms` makes one that has"
            )
        return found


@dataclass(frozen=True)
class Column:
    """What a table tells of each thing: `label` with and without a capital, of a kind; `options` where few values."""

    label: tuple[str, str]
    kind: str
    options: tuple[str, ...] = ()

    def tell(self, value: str) -> str:
        """A value as a page tells it."""
        return f"${value}" if self.kind == "price" else value


class Walk:
    """An episode as it is lived: the page in view and the steps so far."""

    def __init__(self, page: WebPage) -> None:
        self.page = page
        self.steps: list[tuple[str, str, str, str]] = []

    def act(
        self, verb: str, role: str, name: str, value: str = "", leads: WebPage | None = None, row: str = ""
    ) -> None:
        """Acts on the first element of this role and name, in the row of the thing `row` if given; `leads` is the page
        that this opens, the same one with the value in it where it opens none."""
        element = find_element(self.page, role, name, row)
        assert element is not None, f"no {role} {name!r} on the page"
        given = f", {value!r}" if verb in ("fill", "select_option") else ""
        if leads is None:
            filled = replace(element, value=value)
            leads = replace(self.page, lines=tuple(filled if one is element else one for one in self.page.lines))
        thought = f"{verb} {role} {name}" + (f" of {row}" if row else "")
        self._step(thought, f"{verb}('{element.number}'{given})", leads)

    def say(self, grounds: str, answer: str) -> None:
        """Ends with an answer that rests on a line of the page."""
        self._step(grounds, f"send_msg_to_user({answer!r})", self.page)

    def _step(self, thought: str, action: str, leads: WebPage) -> None:
        self.steps.append((render(self.page), thought, action, render(leads)))
        self.page = leads


class MicroSite:
    """One site: a menu, one kind of thing in a list, a page for each thing, forms. Its list has `size` >= 2 things, or
    fewer where names fall together."""

    def __init__(self, rng: random.Random, words: SiteWords, size: int) -> None:
        self.rng, self.words = rng, words
        labels = rng.sample(words.labels, 24)
        self.thing, self.verb, self.other = labels[:3]
        self.things = f"{self.thing[0]}s"
        self.site = " ".join(rng.sample(words.capitals, rng.randint(1, 2)))
        self.address = f"http://{rng.choice(words.plain)}.com"
        self.menu = [self.capitals(one) for one in labels[3 : 3 + rng.randint(2, min(9, size + 1))]]
        self.columns = [self._column(label) for label in labels[12 : 12 + rng.randint(1, 4)]]
        self.fields = [self._column(label) for label in labels[17 : 17 + rng.randint(2, 4)]]
        self.pool = rng.sample(words.capitals, 5), rng.sample(words.plain, 6)
        self.style = rng.choice(("title", "sentence", "number", "plain"))
        self.names = self._names(size)
        self.rows = [(name, [self.value(one) for one in self.columns]) for name in self.names]
        self.place = rng.choice(words.plain if rng.random() < 0.5 else words.capitals)
        self.path = rng.choice(((), (self.things,), (self.place,), (self.place, self.things)))
        """Links from the start page to the list."""
        self.link = rng.choice(("{}", "{}", "{}", f"{labels[20][0]} {{}}", f"{labels[20][0]} {self.thing[0]}"))
        """A thing's link: its name, after a word, or the same words for each."""
        self.feed = "{}" in self.link and rng.random() < 0.25
        """Whether the list has a link and texts for each thing instead of rows."""

    def capitals(self, label: tuple[str, str]) -> str:
        """A label as a menu or a button writes it."""
        return self.rng.choice((label[0], f"My {label[0]}", f"{label[0]} {self.rng.choice(self.words.labels)[0]}"))

    def _column(self, label: tuple[str, str]) -> Column:
        if self.rng.random() < 0.25:
            word = self.rng.choice(self.words.plain)
            label = (f"{label[0]} {word}", f"{label[1]} {word}")
        kind = self.rng.choice(_KINDS)
        source = self.words.capitals if self.rng.random() < 0.5 else self.words.plain
        return Column(label, kind, tuple(self.rng.sample(source, self.rng.randint(3, 5))) if kind == "word" else ())

    def _names(self, size: int) -> list[str]:
        if self.style == "number":
            codes = self.words.codes
            if len(codes) >= size and self.rng.random() < 0.5:
                return self.rng.sample(codes, size)
            first, step = self.rng.randrange(10**5), self.rng.choice((1, 1, 7))
            return [f"{first + step * place:09d}" for place in reversed(range(size))]
        drawn = dict.fromkeys(self._name() for _ in range(2 * size))
        return list(drawn)[:size] if len(drawn) > 1 else self.rng.sample(self.words.plain, size)

    def _name(self) -> str:
        capitals, plain = self.pool
        if self.style == "plain":
            return self.rng.choice(self.words.plain)
        if self.style == "title":
            return " ".join(self.rng.sample(capitals, self.rng.randint(2, 4)))
        return " ".join([self.rng.choice(capitals), *self.rng.sample(plain, self.rng.randint(1, 4))])

    def value(self, column: Column) -> str:
        """A value as a form or a cell has it, without the sign of its price."""
        rng = self.rng
        if column.kind == "word":
            return rng.choice(column.options)
        if column.kind == "number":
            return str(rng.randint(0, 99))
        if column.kind == "price":
            return f"{rng.randint(3, 99)}.{rng.choice((25, 49, 50, 75, 95, 99))}"
        if column.kind == "date":
            return f"2023-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        if column.kind == "person":
            return rng.choice(self.words.plain)
        if column.kind == "phone":
            return f"{rng.randint(100, 999)}-{rng.randint(1000, 9999)}"
        if column.kind == "mail":
            return f"{rng.choice(self.words.plain)}@{rng.choice(self.words.plain)}.com"
        return " ".join([rng.choice(self.words.capitals), *rng.sample(self.words.plain, rng.randint(1, 3))])

    def quoted(self, name: str) -> str:
        """The thing as a task names it."""
        kind = self.rng.choice(("", f"the {self.thing[1]} ")) if self.style != "number" else f"{self.thing[1]} "
        return (f"{kind}'{name}'" if self.style == "sentence" else f"{kind}{name}") + self.scope

    @property
    def scope(self) -> str:
        """Where the list is, as a task says it."""
        kind = self.rng.choice(("", f"the {self.other[1]} "))
        return f" {self.rng.choice(('in', 'of'))} {kind}{self.place}" if self.place in self.path else ""

    def page(self, title: str, path: str, lines: Sequence[Line]) -> WebPage:
        """A page of the site, its elements numbered."""
        body = [*(link_to(one) for one in self.menu), Text("heading", title), *lines]
        numbers = iter(range(1, len(body) + 1))
        numbered = [replace(one, number=next(numbers)) if isinstance(one, Element) else one for one in body]
        return WebPage(f"{title} - {self.site}", f"{self.address}{path}", tuple(numbered))

    def link_of(self, name: str) -> str:
        return self.link.format(name)

    def open(self, walk: Walk, name: str, page: WebPage) -> None:
        """Follows the link of a thing in the list, which opens this page."""
        walk.act("click", "link", self.link_of(name), leads=page, row="" if "{}" in self.link else name)

    def list_page(self, head: Sequence[Line] = (), names: Sequence[str] | None = None, query: str = "") -> WebPage:
        """The list, or the things of these names, with these lines before and an address that ends so."""
        cells_of = dict(self.rows)
        shown = [(name, cells_of[name]) for name in (self.names if names is None else names)]
        title = " | ".join([self.thing[0], *(one.label[0] for one in self.columns)])
        lines = [*head, Text("text", f"{len(shown)} {self.thing[1]}s found")]
        if self.feed:
            for name, cells in shown:
                lines += [link_to(self.link_of(name)), *(Text("text", one) for one in self.told(cells))]
        else:
            lines.append(Text("row", title))
            for name, cells in shown:
                lines += [Text("row", self.row(name, cells)), link_to(self.link_of(name))]
        path = "".join(f"/{one.lower()}" for one in self.path)
        return self.page(self.path[-1] if self.path else self.things, path + query, lines)

    def row(self, name: str, cells: Sequence[str]) -> str:
        return " | ".join([name, *(one.tell(cell) for one, cell in zip(self.columns, cells, strict=True))])

    def told(self, cells: Sequence[str]) -> list[str]:
        """What is told of a thing, each with its label."""
        return [f"{one.label[0]}: {one.tell(cell)}" for one, cell in zip(self.columns, cells, strict=True)]

    def thing_page(self, name: str, rest: Sequence[Line], more: Sequence[str] = ()) -> WebPage:
        """The page of a thing: what is told of it, then these lines."""
        lines = [*(Text("text", one) for one in [*self.told(dict(self.rows)[name]), *more]), *rest]
        return self.page(name, f"/{self.thing[1]}/{self.names.index(name)}", lines)

    def form(self, fields: Sequence[Column], names: Sequence[str], button: str) -> list[Line]:
        """Boxes and lists to fill in, and the button that sends them."""
        lines: list[Line] = []
        for field, name in zip(fields, names, strict=True):
            if field.options:
                lines.append(Element(0, "combobox", name, field.options[0], field.options, flags=("collapsed",)))
            else:
                lines.append(Element(0, "textbox", name))
        return [*lines, Element(0, "button", button)]

    def start(self, links: Sequence[str]) -> WebPage:
        """The start page with these links, in any order."""
        return self.page(f"Welcome to {self.site}", "", [link_to(one) for one in self.rng.sample(links, len(links))])

    def begin(self, first: WebPage) -> Walk:
        """An episode whose agent has opened the list."""
        if not self.path:
            return Walk(first)
        walk = Walk(self.start([self.path[0], *self.rng.sample(self.words.plain, self.rng.randint(0, 4))]))
        if len(self.path) > 1:
            inner = [link_to(one) for one in self.rng.sample([self.things, self.other[0]], 2)]
            walk.act("click", "link", self.place, leads=self.page(self.place, f"/{self.place.lower()}", inner))
        walk.act("click", "link", self.path[-1], leads=first)
        return walk


def link_to(name: str) -> Element:
    """A link that has no number yet."""
    return Element(0, "link", name)
