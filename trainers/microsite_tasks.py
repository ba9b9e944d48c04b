"""Tasks on micro-sites, solved, as demonstrations for an agent of the web.

A small policy that has only its demonstrations learns their names by heart. On these sites every word is drawn at
random, so all that can be learned is what such tasks need anywhere: to find the element that the task names, to copy
texts into forms, to read the cell under a column and to see when it is done. The thoughts are those of the local
sites' demonstrators (`wrappers/webarena/local/oracle.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from dreamgym_env.domains.web_page import Element, Line, Text, WebPage
from dreamgym_env.types import Task, Trajectory, Transition

from .microsites import Column, MicroSite, SiteWords, Walk

_QUESTIONS = (
    ("What is the {} of {}?", "It is {}."),
    ("Tell me the {} of {}.", "{}"),
    ("Give me the {} of {}.", "{}"),
    ("Which {} has {}?", "That is {}."),
    ("What {} does {} have?", "It is {}."),
)
"""What is asked, and how it is answered."""


def _begins(site: MicroSite, *usual: str) -> str:
    """How a task begins: in the usual words or in any, where the rest of it tells what is to be done."""
    return site.rng.choice(usual if site.rng.random() < 0.6 else site.words.capitals)


def _reach(site: MicroSite, name: str, page: WebPage, searched: float = 0.2) -> Walk:
    """An episode whose agent has opened the page of a thing: from the list or, in a share of them, by a search."""
    search: list[Line] = [Element(0, "textbox", "Search"), Element(0, "button", "Search")]
    if site.rng.random() < searched:
        walk = site.begin(site.list_page(search))
        walk.act("fill", "textbox", "Search", name)
        found = site.list_page(search, [name], "?q=" + name.replace(" ", "+"))
        walk.act("click", "button", "Search", leads=found)
    else:
        walk = site.begin(site.list_page())
    site.open(walk, name, page)
    return walk


def _options(site: MicroSite, source: Sequence[str], label: tuple[str, str]) -> Column:
    """A list of values to choose from."""
    return Column(label, "word", tuple(site.rng.sample(source, site.rng.randint(2, 5))))


def _fill(walk: Walk, field: Column, name: str, value: str) -> None:
    verb, role = ("select_option", "combobox") if field.options else ("fill", "textbox")
    walk.act(verb, role, name, value)


def _asked(field: Column, value: str) -> str:
    """A value as a task names it."""
    return f"'{value}'" if field.kind == "name" else field.tell(value)


def read_cell(site: MicroSite) -> tuple[str, Walk]:
    """What a column of the list says of a thing."""
    name, cells = site.rng.choice(site.rows)
    index = site.rng.randrange(len(cells))
    column = site.columns[index]
    value = column.tell(cells[index])
    walk = site.begin(site.list_page())
    question, answer = site.rng.choice(_QUESTIONS)
    walk.say(
        f"text {site.told(cells)[index]!r}" if site.feed else f"row {site.row(name, cells)!r}", answer.format(value)
    )
    return question.format(column.label[1], site.quoted(name)), walk


def find_row(site: MicroSite) -> tuple[str, Walk]:
    """Which thing of the list has a value in a column that no other has; the first thing where there is none such."""
    index = site.rng.randrange(len(site.columns))
    column, values = site.columns[index], Counter(cells[index] for _, cells in site.rows)
    alone = [(name, cells) for name, cells in site.rows if values[cells[index]] == 1]
    name, cells = site.rng.choice(alone or site.rows[:1])
    walk = site.begin(site.list_page())
    answer = site.rng.choice(("{}", "It is {}.", "That is {}.")).format(name)
    walk.say(f"link {site.link_of(name)!r}" if site.feed else f"row {site.row(name, cells)!r}", answer)
    which = f"Which {site.thing[1]}{site.scope}" if alone else f"Which is the first {site.thing[1]}{site.scope} that"
    return f"{which} has the {column.label[1]} {column.tell(cells[index])}?", walk


def press_row(site: MicroSite) -> tuple[str, Walk]:
    """A button in the row of a thing, of those that each row has."""
    rng, name = site.rng, site.rng.choice(site.names)
    buttons = [site.verb[0], *(one[0] for one in rng.sample(site.words.labels, rng.randint(0, 2)))]
    buttons = list(dict.fromkeys(rng.sample(buttons, len(buttons))))

    def page(rows: Sequence[tuple[str, list[str]]], told: Sequence[str]) -> WebPage:
        lines: list[Line] = [Text("text", one) for one in told]
        for row in rows:
            lines += [Text("row", site.row(*row)), *(Element(0, "button", button) for button in buttons)]
        return site.page(site.things, f"/{site.things.lower()}", lines)

    told = f"1 {site.thing[1]} {site.verb[1]}d"
    walk = site.begin(page(site.rows, []))
    walk.act(
        "click", "button", site.verb[0], leads=page([row for row in site.rows if row[0] != name], [told]), row=name
    )
    walk.say(f"text {told!r}", "Done.")
    return f"{site.verb[0]} {site.quoted(name)}.", walk


def read_page(site: MicroSite) -> tuple[str, Walk]:
    """What the page of a thing says of it, which the list does not tell."""
    name = site.rng.choice(site.names)
    hidden = site.fields[0]
    value = hidden.tell(site.value(hidden))
    other = site.fields[1]
    told = [f"{hidden.label[0]}: {value}", f"{other.label[0]}: {other.tell(site.value(other))}"]
    walk = _reach(site, name, site.thing_page(name, [], site.rng.sample(told, 2)))
    question, answer = site.rng.choice(_QUESTIONS)
    walk.say(f"text {told[0]!r}", answer.format(value))
    return question.format(hidden.label[1], site.quoted(name)), walk


def open_page(site: MicroSite) -> tuple[str, Walk]:
    """The page of a thing, which is searched for or in the list."""
    name = site.rng.choice(site.names)
    walk = _reach(site, name, site.thing_page(name, []), searched=0.5)
    walk.say(f"URL: {walk.page.url}", "Done.")
    return f"{_begins(site, 'Open', 'Show me')} the page of {site.quoted(name)}.", walk


def press(site: MicroSite) -> tuple[str, Walk]:
    """A button on the page of a thing."""
    name, (capital, plain) = site.rng.choice(site.names), site.verb
    wanted = site.rng.choice((capital, f"{capital} {site.thing[0]}"))
    buttons = [wanted, *(site.capitals(one) for one in site.rng.sample(site.words.labels, site.rng.randint(1, 3)))]
    buttons = list(dict.fromkeys(site.rng.sample(buttons, len(buttons))))
    before = site.thing_page(name, [Element(0, "button", one) for one in buttons])
    told = site.rng.choice((f"You {plain}d this", f"{site.thing[0]} state: {plain}", f"{site.other[0]}: {plain}"))
    rest = [Element(0, "button", one) for one in buttons if one != wanted]
    undo = f"Un{plain}" if site.rng.random() < 0.3 else ""
    after = site.thing_page(name, [Element(0, "button", undo), *rest]) if undo else site.thing_page(name, rest, [told])
    walk = _reach(site, name, before)
    walk.act("click", "button", wanted, leads=after)
    walk.say(f"button {undo!r}" if undo else f"text {told!r}", "Done.")
    return f"{capital} {site.rng.choice(('', '', 'one '))}{site.quoted(name)}.", walk


def set_field(site: MicroSite) -> tuple[str, Walk]:
    """One field of a form on the page of a thing."""
    name, field = site.rng.choice(site.names), site.rng.choice(site.fields)
    prefix = site.rng.choice(("", "New ", "Your "))
    names = [prefix + (one.label[1] if prefix else one.label[0]) for one in site.fields]
    value = site.value(field)
    button = site.rng.choice((f"Save {site.thing[0]}", f"{site.verb[0]}", f"Set {site.verb[0]}"))
    told = f"{field.label[0]}: {field.tell(value)}"
    walk = _reach(site, name, site.thing_page(name, site.form(site.fields, names, button)))
    _fill(walk, field, names[site.fields.index(field)], value)
    walk.act("click", "button", button, leads=site.thing_page(name, site.form(site.fields, names, button), [told]))
    walk.say(f"text {told!r}", "Done.")
    start = _begins(site, "Set", "Change")
    return f"{start} the {field.label[1]} of {site.quoted(name)} to {_asked(field, value)}.", walk


def set_own(site: MicroSite) -> tuple[str, Walk]:
    """One field of the agent's own form: in view, or behind a link of the start page that the task names."""
    field, button = site.rng.choice(site.fields), f"Save {site.other[0]}"
    value, link = site.value(field), f"My {site.other[0]}"
    form = site.form(site.fields, [one.label[0] for one in site.fields], button)
    path, told = f"/{site.other[1]}", f"{field.label[0]}: {field.tell(value)}"
    first, begins = site.page(link, path, form), _begins(site, "Set", "Change", "Update")
    if site.rng.random() < 0.5:
        walk, asked = Walk(first), f"{begins} my {field.label[1]}"
    else:
        walk, asked = Walk(site.start([link, *site.names[:3]])), f"{begins} the {field.label[1]} of my {site.other[1]}"
        walk.act("click", "link", link, leads=first)
    _fill(walk, field, field.label[0], value)
    walk.act("click", "button", button, leads=site.page(link, path, [Text("text", told), *form]))
    walk.say(f"text {told!r}", "Done.")
    return f"{asked} to {_asked(field, value)}.", walk


def fill_form(site: MicroSite) -> tuple[str, Walk]:
    """Some fields of a form that makes something new, on a page of its own or on that of a thing."""
    rng, field_names = site.rng, [one.label[0] for one in site.fields]
    chosen = sorted(rng.sample(range(len(site.fields)), rng.randint(1, min(3, len(site.fields)))))
    made = rng.choice(site.words.labels)
    button = rng.choice((f"{site.verb[0]} {made[0]}", f"Create {made[0]}", f"Submit {made[0]}"))
    form = site.form(site.fields, field_names, button)
    values = {index: site.value(site.fields[index]) for index in chosen}
    if rng.random() < 0.6:
        name = rng.choice(site.names)
        place = f" {rng.choice(('in', 'for', 'to'))} {site.quoted(name)}"
        walk = site.begin(site.list_page())
        site.open(walk, name, site.thing_page(name, form))
    else:
        place, link = "", rng.choice((site.verb[0], made[0], f"New {made[1]}"))
        walk = Walk(site.start([link, *site.names[:3]]))
        walk.act("click", "link", link, leads=site.page(link, f"/{made[1]}", form))
    for index, value in values.items():
        _fill(walk, site.fields[index], field_names[index], value)
    shown = {index: site.fields[index].tell(value) for index, value in values.items()}
    row = " | ".join([made[0], *shown.values()])
    walk.act("click", "button", button, leads=site.page(f"{made[0]}s", f"/{made[1]}s", [Text("row", row)]))
    walk.say(f"row {row!r}", "Done.")
    bare = [index for index in chosen if site.fields[index].options and rng.random() < 0.4][:1]
    asked = [
        f"the {site.fields[index].label[1]} {_asked(site.fields[index], value)}"
        for index, value in values.items()
        if index not in bare
    ]
    ends = f" with {' and '.join(rng.sample(asked, len(asked)))}" if asked else ""
    ends += "".join(f" as {values[index]}" for index in bare)
    return f"{_begins(site, site.verb[0], 'Create', 'Open', 'Add')} a {made[1]}{place}{ends}.", walk


def add(site: MicroSite) -> tuple[str, Walk]:
    """A text or a person into the one box on the page of a thing, perhaps with a choice from a list."""
    rng, (capital, plain) = site.rng, site.verb
    name = rng.choice(site.names)
    text = " ".join([rng.choice(site.words.capitals), *rng.sample(site.words.plain, rng.randint(1, 5))])
    text, person = text + rng.choice((".", "?", "!", "", "")), rng.random() < 0.4
    value = rng.choice(site.words.plain) if person else text
    box, noun = rng.choice(((f"Your {plain}", plain), site.other))
    fields, shown = [Column((box, noun), "name")], [value]
    if rng.random() < 0.4:
        fields.append(
            _options(site, rng.choice((site.words.capitals, site.words.plain)), rng.choice(site.words.labels))
        )
    form = site.form(fields, [one.label[0] for one in fields], capital)
    walk = _reach(site, name, site.thing_page(name, form))
    shown += [rng.choice(one.options) for one in fields[1:]]
    for field, text_or_choice in zip(fields, shown, strict=True):
        _fill(walk, field, field.label[0], text_or_choice)
    ends = "".join(f" as {chosen}" for chosen in shown[1:])
    row = " | ".join(shown if person else [rng.choice(site.words.plain), *shown])
    walk.act("click", "button", capital, leads=site.thing_page(name, [Text("row", row), *form]))
    walk.say(f"row {row!r}", "Done.")
    begins = rng.choice((capital, f"{_begins(site, 'Write', 'Add', 'Leave')} the {noun}"))
    where = rng.choice(("on", "to", "under", "in"))
    return f"{begins} {value if person else repr(text)} {where} {site.quoted(name)}{ends}.", walk


def read_row(site: MicroSite) -> tuple[str, Walk]:
    """Which of the rows on the page of a thing has a value."""
    rng, (first, second) = site.rng, site.fields[:2]
    name = rng.choice(site.names)
    rows = {second.tell(site.value(second)): first.tell(site.value(first)) for _ in range(rng.randint(2, 7))}
    what, who = rng.choice(list(rows.items()))
    lines = [f"{first.label[0]} | {second.label[0]}", *(f"{one} | {other}" for other, one in rows.items())]
    walk = _reach(site, name, site.thing_page(name, [Text("row", line) for line in lines]))
    walk.say(f"row {f'{who} | {what}'!r}", rng.choice(("{}", "It is {}.", "That was {}.")).format(who))
    asks = rng.choice(("Who", f"Which {first.label[1]}"))
    if rng.random() < 0.5:
        return f"{asks} {site.verb[1]}d {site.quoted(name)} {what}?", walk
    return f"{asks} has the {second.label[1]} {what} on the page of {site.quoted(name)}?", walk


def choose(site: MicroSite) -> tuple[str, Walk]:
    """The things of the list for which a column has a value, or in an order: shown, counted, or the first one."""
    rng, many = site.rng, f"{site.thing[1]}s{site.scope}"
    label, sorts = rng.choice(site.words.labels), rng.random() < 0.4
    source = [one[0] for one in site.words.labels] if sorts else rng.choice((site.words.capitals, site.words.plain))
    column = _options(site, source, label)
    value = rng.choice(column.options)
    name, button = ("Sort by", "Sort") if sorts else (label[0], rng.choice(("Filter", "Show")))
    found = rng.sample(site.names, len(site.names) if sorts else rng.randint(0, len(site.names)))
    form = site.form([column], [name], button)
    walk = site.begin(site.list_page(form))
    if value != column.options[0]:
        walk.act("select_option", "combobox", name, value)
    chosen = [replace(one, value=value) if isinstance(one, Element) and one.options else one for one in form]
    walk.act("click", "button", button, leads=site.list_page(chosen, found, f"?{label[1]}={value}"))
    which = f"with the {label[1]} {value}"
    if not sorts and rng.random() < 0.4:
        walk.say(f"text '{len(found)} {site.thing[1]}s found'", str(len(found)))
        return f"How many {many} have the {label[1]} {value}?", walk
    if found and rng.random() < 0.5:
        site.open(walk, found[0], site.thing_page(found[0], []))
        walk.say(f"URL: {walk.page.url}", "Done.")
        asked = f"with the most {value.lower()}" if sorts else which
        return f"Open the {'' if sorts else 'first '}{site.thing[1]}{site.scope} {asked}.", walk
    walk.say(f"URL: {walk.page.url}", "Done.")
    return f"Show me the {many}{f', sorted by {value}' if sorts else f' {which}'}.", walk


TASKS: tuple[Callable[[MicroSite], tuple[str, Walk]], ...] = (
    read_cell,
    find_row,
    read_page,
    open_page,
    press,
    press_row,
    set_field,
    set_own,
    fill_form,
    add,
    read_row,
    choose,
)


def draw_demonstration(rng: random.Random, words: SiteWords, domain: str, most: int = 45) -> Trajectory:
    """A task on a site of its own, solved. `domain` names whose task it is; a list has 2 to `most` things: two in three
    have 7 on average, the others as many as that may be."""
    few = 2 + int(rng.expovariate(0.2))
    site = MicroSite(rng, words, min(most, rng.randint(2, most) if rng.random() < 0.35 else few))
    instruction, walk = rng.choice(TASKS)(site)
    task = Task("micro-site", domain, instruction, walk.steps[0][0])
    last = len(walk.steps) - 1
    steps = tuple(
        Transition(task, index, state, action, after, float(index == last), index == last, thought=thought)
        for index, (state, thought, action, after) in enumerate(walk.steps)
    )
    return Trajectory(task, steps, "success", "micro-site")
