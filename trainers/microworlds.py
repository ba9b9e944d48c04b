"""Micro-worlds: procedurally generated chats whose answers are lookups, copies, tracked facts and comparisons.

They play, for small models, the part that a pretrained LLM plays in the paper: names are drawn at random, so nothing
can be memorised, and what is left to learn is to find, copy, keep and compare. Later worlds start from a model trained
here (`python -m dreamgym_env.trainers.base`). Three families, each a conversation in the format of `prompts`:

- records: a listing, pages of its records, choices, and a verdict on stated conditions (the experience model's side);
- picks: the agent's side of the same listings: choose the record that meets all conditions, then its options, then end;
- rooms: places with contents that change as things are taken and put.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dreamgym_env.prompts import answer, opening, user_turn
from dreamgym_env.types import Message, Task, Transition

_ONSETS = (
    "b",
    "d",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "br",
    "dr",
    "gr",
    "kl",
    "pl",
    "st",
    "tr",
)
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "oo")
SYSTEM = "Answer for the world or for the agent, as asked. Names mean nothing; look them up."


def make_names(count: int, rng: random.Random, capital: bool = False) -> list[str]:
    """Distinct invented words."""
    words: dict[str, None] = {}
    while len(words) < count:
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((2, 2, 3))))
        word += rng.choice(("", "n", "s", "l", "-" + rng.choice(_ONSETS) + rng.choice(_VOWELS)))
        words[word.capitalize() if capital else word] = None
    return list(words)


@dataclass(frozen=True)
class Names:
    """The words that worlds are made of; fixed by a seed, so that a tokenizer can hold them all."""

    plain: tuple[str, ...]
    capital: tuple[str, ...]
    ids: tuple[str, ...]

    @classmethod
    def from_seed(cls, seed: int = 0, plain: int = 1500, capital: int = 200, ids: int = 1000) -> Names:
        rng = random.Random(seed)
        letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        codes = {"B0" + "".join(rng.choices(letters, k=8)): None for _ in range(ids)}
        return cls(tuple(make_names(plain, rng)), tuple(make_names(capital, rng, True)), tuple(codes))


@dataclass(frozen=True)
class Record:
    """Something that is listed: `price` in dollars, `options` by name, `notes` on a page of their own."""

    code: str
    title: str
    words: tuple[str, ...]
    price: float
    options: tuple[tuple[str, tuple[str, ...]], ...]
    note: str

    @property
    def row(self) -> str:
        return f"[{self.code}] {self.title} | ${self.price:.2f}"


@dataclass(frozen=True)
class Goal:
    """What is wanted: a kind of thing, words that it must carry, choices and a price bound."""

    kind: str
    words: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    bound: float

    @property
    def text(self) -> str:
        options = ", and ".join(f"{name}: {value}" for name, value in self.options)
        wanted = f" with {options}" if options else ""
        return f"Find me {', '.join(self.words)} {self.kind}{wanted}, and price lower than {self.bound:.2f} dollars"


def draw_records(rng: random.Random, names: Names, count: int) -> tuple[list[Record], list[str]]:
    """A listing of `count` records that share kinds and words, and the kinds."""
    kinds = [" ".join(rng.sample(names.plain, rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
    words = rng.sample(names.plain, rng.randint(3, 8))
    labels = rng.sample(names.plain, 2)
    values = rng.sample(names.plain, 8)
    pools = dict(zip(labels, (values[:4], values[4:]), strict=True))  # a value names one option, so a click is clear
    records = []
    for code in rng.sample(names.ids, count):
        kind, carried = rng.choice(kinds), tuple(rng.sample(words, rng.randint(1, 3)))
        price = rng.randint(3, 149) + rng.choice((0.0, 0.49, 0.99))
        options = tuple(
            (label, tuple(rng.sample(pools[label], rng.randint(2, 4)))) for label in labels[: rng.randint(0, 2)]
        )
        title = f"{rng.choice(names.capital)} {kind}, {', '.join(carried)}"
        note = " ".join(rng.sample(names.plain, 4))
        records.append(Record(code, title, (kind, *carried), price, options, note))
    return records, kinds


def draw_goal(rng: random.Random, record: Record) -> Goal:
    """Conditions that the record meets, some stated and some not."""
    words = tuple(rng.sample(record.words[1:], rng.randint(1, min(2, len(record.words) - 1))))
    options = tuple((name, rng.choice(values)) for name, values in record.options)
    bound = 10.0 * (int(record.price // 10) + rng.randint(1, 3))
    return Goal(record.words[0], words, options, bound)


def checks(goal: Goal, record: Record, chosen: dict[str, str]) -> tuple[str, bool]:
    """The conditions one by one, each question right before its answer, and whether all hold.

    A word is held against each word of the record in turn: that two neighbours are equal is learned, that a word
    stands somewhere in a line hardly is (`docs/experience-model.md`).
    """
    said = [(f"{goal.kind} {record.words[0]}", goal.kind == record.words[0])]
    said += [(f"{_compared(word, record.words[1:])}:", word in record.words[1:]) for word in goal.words]
    said += [(f"{name} {value}", chosen.get(name) == value) for name, value in goal.options]
    said.append((f"${record.price:.2f} under {goal.bound:.2f}", record.price <= goal.bound))
    verdict = all(holds for _, holds in said)
    text = "; ".join(f"{question} {_yes(holds)}" for question, holds in said)
    return f"checks: {text}; so {'success' if verdict else 'failure'}", verdict


def _compared(asked: str, words: Sequence[str]) -> str:
    """`asked` beside each of the words, up to the one that it equals."""
    pairs = []
    for word in words:
        pairs.append(f"{asked} {word} {_yes(word == asked)}")
        if word == asked:
            break
    return ", ".join(pairs)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def record_page(record: Record, chosen: dict[str, str]) -> str:
    """Title, price, options and what was chosen, one a line."""
    lines = [record.title, f"Price: ${record.price:.2f}"]
    lines += [f"{name}: " + " ".join(f"[{value}]" for value in values) for name, values in record.options]
    if chosen:
        lines.append("Chosen: " + "; ".join(f"{name} = {chosen[name]}" for name, _ in record.options if name in chosen))
    return "\n".join([*lines, "[Back] [Note] [End]"])


def listing_page(records: Sequence[Record]) -> str:
    """All rows, one a line."""
    return "\n".join(["Listing", *(record.row for record in records)])


def records_chat(rng: random.Random, names: Names, size: int) -> list[Message]:
    """The experience model's side: every state follows from what has been said."""
    records, _ = draw_records(rng, names, size)
    goal = draw_goal(rng, rng.choice(records))
    world = _RecordsWorld(rng, records, goal)
    task = Task("micro", "micro", goal.text, listing_page(records))
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    head = opening(task, task.initial_state)
    while not world.over and len(messages) < 26:
        turn, reply = world.step()
        messages += [{"role": "user", "content": head + turn}, {"role": "assistant", "content": reply}]
        head = ""
    return messages


class _RecordsWorld:
    """Walks at random over listing, record and note pages, biased towards finishing what it began."""

    def __init__(self, rng: random.Random, records: list[Record], goal: Goal) -> None:
        self.rng, self.records, self.goal = rng, records, goal
        self.current: Record | None = None
        self.chosen: dict[str, str] = {}
        self.on_note = self.over = False

    def step(self) -> tuple[str, str]:
        """A user turn and its answer."""
        if self.current is None:
            return self._open()
        if self.on_note:
            self.on_note = False
            return self._say("Back", "back to the item", record_page(self.current, self.chosen))
        left = [name for name, _ in self.current.options if name not in self.chosen]
        draw = self.rng.random()
        if draw < 0.12:
            self.on_note = True
            page = f"Note\n{self.current.note}\n[Back]"
            return self._say("Note", "the note of the item", page, shown=[("Note", page)])
        if draw < 0.24:
            self.current, self.chosen = None, {}
            recalled = listing_page(self.records).split("\n") if self.rng.random() < 0.5 else []
            return self._say("Back", "back to the listing", listing_page(self.records), recalled)
        if (left and draw < 0.8) or (self.current.options and draw < 0.4):
            return self._choose(self.rng.choice(left or [name for name, _ in self.current.options]))
        return self._end(self.current)

    def _open(self) -> tuple[str, str]:
        record = self.current = self.rng.choice(self.records)
        page = record_page(record, {})
        recalled = [record.row] if self.rng.random() < 0.5 else []
        shown = [(record.code, page)]
        if self.rng.random() < 0.3:
            other = self.rng.choice(self.records)
            shown.append((other.code, record_page(other, {})))
        return self._say(record.code, f"opens {record.row[1:].replace(']', ':', 1)}", page, recalled, shown)

    def _choose(self, name: str) -> tuple[str, str]:
        assert self.current is not None
        wanted = dict(self.goal.options)
        values = dict(self.current.options)[name]
        value = wanted[name] if wanted.get(name) in values and self.rng.random() < 0.6 else self.rng.choice(values)
        kept = "; ".join(f"{key} = {self.chosen[key]}" for key, _ in self.current.options if key in self.chosen)
        self.chosen[name] = value
        trace = f"before: {kept or 'nothing'}; now {name} = {value}"
        return self._say(value, trace, record_page(self.current, self.chosen))

    def _end(self, record: Record) -> tuple[str, str]:
        self.over = True
        trace, good = checks(self.goal, record, self.chosen)
        recalled = record_page(record, self.chosen).split("\n")[:-1] if self.rng.random() < 0.7 else []
        return user_turn("click[End]", recalled, ()), answer(trace, "The end", float(good), True)

    def _say(
        self,
        argument: str,
        trace: str,
        page: str,
        recalled: Sequence[str] = (),
        shown: Sequence[tuple[str, str]] = (),
    ) -> tuple[str, str]:
        nobody = Task("micro", "micro", "", "")
        demonstrations = [Transition(nobody, 0, "", f"click[{name}]", state) for name, state in shown]
        return user_turn(f"click[{argument}]", recalled, demonstrations), answer(trace, page, 0.0, False)


def picks_chat(rng: random.Random, names: Names, size: int) -> list[Message]:
    """The agent's side: open the one record that meets the goal, choose its options, end."""
    records, _ = draw_records(rng, names, size)
    goal = draw_goal(rng, rng.choice(records))
    wanted = dict(goal.options)
    fits = [r for r in records if checks(goal, r, {n: wanted[n] for n, v in r.options if wanted.get(n) in v})[1]]
    target, chosen = fits[0], {}
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    head = f"Task: {goal.text}\nState:\n{listing_page(records)}"
    todo = [target.code, *(value for _, value in goal.options), "End"]
    for argument in todo:
        messages += [
            {"role": "user", "content": head},
            {"role": "assistant", "content": f"<action>click[{argument}]</action>"},
        ]
        chosen.update({name: value for name, value in goal.options if value == argument})
        head = f"State:\n{record_page(target, chosen)}"
    return messages


def rooms_chat(rng: random.Random, names: Names, size: int) -> list[Message]:
    """Places whose contents change: go, take, put, with what was seen recalled on a first visit."""
    places = rng.sample(names.plain, size)
    things = rng.sample(names.plain, 4 * size)
    contents = {place: things[4 * i : 4 * i + rng.randint(0, 4)] for i, place in enumerate(places)}
    thing = rng.choice([thing for held in contents.values() for thing in held] or ["nothing"])
    goal = (thing, rng.choice([place for place in places if thing not in contents[place]]))  # else done unseen
    task = Task(
        "micro", "micro", f"put {goal[0]} in {goal[1]}", "Places: " + ", ".join(f"[{place}]" for place in places)
    )
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    head, here, held, seen = opening(task, task.initial_state), "", "", set[str]()
    for _ in range(rng.randint(6, 14)):
        things = contents.get(here, [])
        recalled: list[str] = []
        if here and things and not held and rng.random() < 0.4:
            held = goal[0] if goal[0] in things else rng.choice(things)
            things.remove(held)
            action, trace = f"take[{held}]", f"at {here}; has {held} yes"
        elif here and held and rng.random() < 0.4:
            things.append(held)
            action, trace, held = f"put[{held}]", f"at {here}; hold {held}", ""
        else:
            here = rng.choice([place for place in places if place != here])
            if here not in seen:
                recalled = [_room(here, contents[here])]
            action, trace = f"go[{here}]", f"been {here} {'yes' if here in seen else 'no'}; hold {held or 'nothing'}"
            seen.add(here)
        done = goal[0] in contents[goal[1]]
        reply = answer(trace, _room(here, contents[here]), float(done), done)
        messages += [
            {"role": "user", "content": head + user_turn(action, recalled, ())},
            {"role": "assistant", "content": reply},
        ]
        head = ""
        if done:
            break
    return messages


def _room(place: str, things: Sequence[str]) -> str:
    return f"In {place}: {', '.join(things) if things else 'nothing'}"


FAMILIES = {"records": records_chat, "picks": picks_chat, "rooms": rooms_chat}


def draw_chat(
    rng: random.Random, names: Names, level: float, families: Sequence[str] = tuple(FAMILIES)
) -> list[Message]:
    """One conversation; `level` in [0, 1] sets how large worlds may be (small ones first make recall click sooner)."""
    largest = 3 + round(7 * min(max(level, 0.0), 1.0))
    return FAMILIES[rng.choice(families)](rng, names, rng.randint(2, largest))
