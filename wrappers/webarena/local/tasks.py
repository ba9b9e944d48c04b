"""The local sites' tasks, in WebArena's own form, each with a plan that solves it: templates over the sites' data."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from .content import snapshot


@dataclass(frozen=True)
class Move:
    """One step of a plan: an action on the first element of that role and name that follows a text with `after`."""

    verb: str
    role: str = ""
    name: str = ""
    value: str = ""
    after: str = ""


Slots = dict[str, Any]
Made = tuple[Slots, dict[str, Any], list[Move]]
"""The slots of one task, WebArena's `eval`, and the plan."""
Maker = Callable[[sqlite3.Connection], Iterator[Made]]


@dataclass(frozen=True)
class Template:
    """Tasks that differ in their slots; those of a `held_out` one are never trained on."""

    site: str
    intent: str
    held_out: bool
    make: Maker


TEMPLATES: list[Template] = []


def template(site: str, intent: str, held_out: bool = False) -> Callable[[Maker], Maker]:
    """Adds a template: tasks for a site by an intent with `{{slots}}`."""

    def add(make: Maker) -> Maker:
        TEMPLATES.append(Template(site, intent, held_out, make))
        return make

    return add


_WIDER: ContextVar[int] = ContextVar("wider", default=1)
"""How many times as many rows `pick` gives."""


def pick(db: sqlite3.Connection, query: str, count: int = 5) -> list[Any]:
    """So many rows of a query, spread evenly."""
    rows = db.execute(query).fetchall()
    count = min(_WIDER.get() * count, len(rows))
    return [rows[(2 * index + 1) * len(rows) // (2 * count)] for index in range(count)]


def _eval(kind: str, **values: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"reference_answers": None, "reference_url": "", "program_html": []}
    return {"eval_types": [kind], **empty, **values}


def answer(*texts: str) -> dict[str, Any]:
    """The answer must hold these."""
    return _eval("string_match", reference_answers={"must_include": list(texts)})


def exactly(text: str) -> dict[str, Any]:
    """The answer must be this."""
    return _eval("string_match", reference_answers={"exact_match": text})


def opened(url: str) -> dict[str, Any]:
    """The page in view must be this."""
    return _eval("url_match", reference_url=url, url_note="GOLD in PRED")


def shows(url: str, *texts: str) -> dict[str, Any]:
    """A page must hold these, once the agent has said that it is done."""
    target = {"url": url, "locator": "document.querySelector('main').outerText"}
    return _eval("program_html", program_html=[target | {"required_contents": {"must_include": list(texts)}}])


def click(role: str, name: str, after: str = "") -> Move:
    return Move("click", role, name, after=after)


def link(name: str, after: str = "") -> Move:
    return click("link", name, after)


def button(name: str, after: str = "") -> Move:
    return click("button", name, after)


def fill(name: str, value: str) -> Move:
    return Move("fill", "textbox", name, value)


def select(name: str, value: str) -> Move:
    return Move("select_option", "combobox", name, value)


def say(text: str) -> Move:
    return Move("send_msg_to_user", value=text)


DONE = say("Done.")


def follow(*names: str) -> list[Move]:
    return [link(name) for name in names]


def find(product: str) -> list[Move]:
    """From the shop's first page to a product's."""
    return [fill("Search", product), button("Search"), link(product)]


def to_commit(db: sqlite3.Connection, project: str, message: str) -> list[Move]:
    """From the code host's first page to a commit's."""
    (commits,) = db.execute("SELECT COUNT(*) FROM commits WHERE project=?", (project,)).fetchone()
    return follow(project, f"{commits} Commits", message)


def at(site: str, path: str) -> str:
    return f"__{site.upper()}__{quote(path)}"


def _split(one: Template, place: int) -> str:
    """Held-out templates apart, every fourth task of the others is kept from training too."""
    if one.held_out:
        return "held_out"
    return "valid_seen" if place % 4 == 3 else "train"


def _drawn(db: sqlite3.Connection) -> Iterator[tuple[int, str, Made]]:
    """(template, split, task): the tasks in three splits, then more to train on: of each training template what else
    the sites offer, up to four times as much, with some of the first again."""
    for index, one in enumerate(TEMPLATES):
        for place, made in enumerate(one.make(db)):
            yield index, _split(one, place), made
    _WIDER.set(4)
    for index, one in enumerate(TEMPLATES):
        if not one.held_out:
            yield from ((index, "train", made) for made in one.make(db))


def _configs(db: sqlite3.Connection) -> Iterator[tuple[dict[str, Any], tuple[Move, ...]]]:
    known: set[str] = set()
    for index, split, (slots, scored, plan) in _drawn(db):
        one = TEMPLATES[index]
        intent = one.intent
        for name, value in slots.items():
            intent = intent.replace("{{" + name + "}}", str(value))
        assert "{{" not in intent, intent
        if intent in known:
            continue
        yield {
            "sites": [one.site], "task_id": len(known), "require_login": True, "storage_state": None,
            "start_url": f"__{one.site.upper()}__", "geolocation": None, "intent_template": one.intent,
            "instantiation_dict": slots, "intent": intent, "require_reset": False, "eval": scored,
            "intent_template_id": index, "split": split,
        }, tuple(plan)  # fmt: skip
        known.add(intent)


@lru_cache(maxsize=1)
def _all() -> tuple[tuple[dict[str, Any], ...], tuple[tuple[Move, ...], ...]]:
    from . import tasks_shop, tasks_talk  # noqa: F401, I001 (they add the templates, in this order)
    from . import tasks_more  # noqa: F401
    from . import tasks_asked, tasks_done  # noqa: F401

    with sqlite3.connect(":memory:") as db:
        db.deserialize(snapshot())
        configs, plans = zip(*copy_context().run(lambda: list(_configs(db))), strict=True)
    return configs, plans


def local_configs() -> Sequence[dict[str, Any]]:
    """All tasks, by number."""
    return _all()[0]


def plan_of(number: int) -> tuple[Move, ...]:
    """What solves a task, from its start page on."""
    return _all()[1][number]
