"""What tasks on the local sites ask for, as far as the pages of an episode tell whether it is so.

A rule reads an instruction's slots; where it must be shown on a page, a line is written as `row {product} | *`: the
line's kind or role and its text, `*` for anything, `<>` for what an answer must say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamgym_env.domains.web_page import Element, Line, Text, WebPage, page_of
from dreamgym_env.types import Task, Transition

Slots = Mapping[str, str]
Check = tuple[str, bool]
"""What is asked for beside what is so, and whether they agree."""


@dataclass(frozen=True)
class Rule:
    """A form of instruction and what it asks for.

    `kind`: "answer" (the message says what `<>` stands for on the newest such page), "shown" (some page, as it was seen
    last, shows all `lines` and none of `absent`) or "open" (such a page is in view at the end). A page that does not
    show `sure` tells nothing. `page`: the title and the address, joined by a blank. `exact`: the answer is nothing
    else. `first`: of several lines the first one counts. `post`: which one of a list of posts or commits gives the
    slots `post` or `message`.
    """

    instruction: str
    kind: Literal["answer", "shown", "open"]
    page: str
    lines: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    sure: str = ""
    exact: bool = False
    first: bool = False
    post: Literal["", "newest", "top", "first commit"] = ""


RULES = (
    Rule("What is the price of {product}?", "answer", "{product} - Market Hall *", ("text Price: $<>",)),
    Rule("Open the page of {product}.", "open", "{product} - Market Hall http://onestopmarket.com/product/*"),
    Rule("Add {product} to my wish list.", "shown", "My Wish List - *", ("row {product} | *",)),
    Rule("Put {quantity} of {product} into my cart.", "shown", "My Cart - *",
         ("row {product} | * | {quantity} pieces*",)),
    Rule("How much did I pay in all for order {order}?", "answer", "Order {order} - Market Hall *",
         ("text Grand Total: $<>",)),
    Rule("Who gave {product} {stars} stars?", "answer", "{product} - Market Hall *", ("row <> | {stars} stars | *",)),
    Rule("Change my phone number to {phone}.", "shown", "My Account - *", ("text Phone: {phone}",)),
    Rule("Show me the category {category}, sorted by {key}.", "open",
         "* http://onestopmarket.com/category/{category}?sort={key}"),
    Rule("Review {product} with {stars} stars and the summary '{summary}'.", "shown", "My Reviews - *",
         ("row {product} | {stars} stars | {summary} | *",)),
    Rule("Order one {product}.", "shown", "Order * - Market Hall *",
         ("text Date: 2023-07-01", "text Status: Pending", "row {product} | *")),
    Rule("How many orders are there with the status {status}?", "answer", "* http://luma.com/admin/orders?status={status}",
         ("text <> orders found",), exact=True),
    Rule("Cancel order {order}.", "shown", "Order {order} - Market Hall Admin *", ("text Order status: Canceled",)),
    Rule("Set the price of {product} to ${price}.", "shown", "{product} - Market Hall Admin *",
         ("text Price: ${price}",)),
    Rule("Approve the review of {author} that waits for it.", "shown", "Pending Reviews - *",
         absent=("row {author} | *",), sure="text 0 reviews were rejected"),
    Rule("What is the email address of the customer {name}?", "answer", "Customers - *", ("row {name} | <> | *",)),
    Rule("Which product sold best in {month} 2023?", "answer", "Bestsellers of {month} 2023 - *", ("row <> | * sold",),
         first=True),
    Rule("What is the message of the first commit of {month} 2023 in {project}?", "answer", "Commits of {project} - *",
         ("link <>",), post="first commit"),
    Rule("Who made the latest commit in {project}?", "answer", "Commits of {project} - *", ("text by <>",), first=True),
    Rule("How many open issues of {project} have the label {label}?", "answer",
         "* http://gitlab.com/{project}/issues?label={label}&state=open", ("text <> issues found",), exact=True),
    Rule("Close the issue '{title}' of {project}.", "shown", "{title} - Forgeworks http://gitlab.com/{project}/issue/*",
         ("text State: closed",)),
    Rule("Open an issue in {project} with the title '{title}' and the label {label}.", "shown",
         "{title} - Forgeworks http://gitlab.com/{project}/issue/*", ("text State: open", "text Label: {label}")),
    Rule("Star the project {project}.", "shown", "* http://gitlab.com/{project}", ("button Unstar",)),
    Rule("Invite {user} to {project} as {role}.", "shown", "Members of {project} - *", ("row {user} | Role: {role}",)),
    Rule("Set my status to '{status}'.", "shown", "My Profile - *", ("text Current status: {status}",)),
    Rule("Show me the open issues of {project} with the label {label}.", "open",
         "* http://gitlab.com/{project}/issues?label={label}&state=open"),
    Rule("Post '{title}' in the forum {forum}, with the text '{body}'.", "shown",
         "{title} - Common Room http://reddit.com/f/{forum}/*", ("text {body}",)),
    Rule("Upvote the newest post in the forum {forum}.", "shown", "{post} - Common Room http://reddit.com/f/{forum}/*",
         ("text You upvoted this",), post="newest"),
    Rule("How many comments has the post with the most points in the forum {forum}?", "answer",
         "* http://reddit.com/f/{forum}*", ("row {post} | * | <> comments",), exact=True, post="top"),
    Rule("Open the post with the most points in the forum {forum}.", "open",
         "{post} - Common Room http://reddit.com/f/{forum}/*", post="top"),
    Rule("Write the comment '{text}' under the post '{title}' in the forum {forum}.", "shown",
         "{title} - Common Room http://reddit.com/f/{forum}/*", ("row * | {text}",)),
    Rule("Subscribe to the forum {forum}.", "shown", "/f/{forum} - *", ("button Unsubscribe",)),
    Rule("Change my biography to '{text}'.", "shown", "My Page - *", ("text Biography: {text}",)),
    Rule("How many stars did {author} give {product}?", "answer", "{product} - Market Hall *",
         ("row {author} | <> stars | *",), exact=True),
    Rule("Change my city to {city}.", "shown", "My Account - *", ("text City: {city}",)),
    Rule("Order {quantity} of {product}.", "shown", "Order * - Market Hall *",
         ("text Date: 2023-07-01", "text Status: Pending", "row {product} | * | {quantity} pieces")),
    Rule("What is the rating of {product} in the category {category}?", "answer", "{category} - Market Hall *",
         ("row {product} | * | <> stars",), exact=True),
    Rule("How many pieces of the bestseller of {month} 2023 were sold?", "answer", "Bestsellers of {month} 2023 - *",
         ("row * | <> sold",), exact=True),
    Rule("What is the phone number of the customer {name}?", "answer", "Customers - *", ("row {name} | * | <> | *",)),
    Rule("In which city does the customer {name} live?", "answer", "Customers - *", ("row {name} | * | * | <>",)),
    Rule("Ship order {order}.", "shown", "Order {order} - Market Hall Admin *", ("text Order status: Complete",)),
    Rule("Set the stock of {product} to {stock}.", "shown", "{product} - Market Hall Admin *",
         ("text Stock: {stock} left",)),
    Rule("On which day was '{message}' committed to {project}?", "answer",
         "Commit * - Forgeworks http://gitlab.com/{project}/*", ("text Date: <>",), sure="text Message: {message}"),
    Rule("Invite {user} to {project}.", "shown", "Members of {project} - *", ("row {user} | Role: Guest",)),
    Rule("How many stars has the project {project}?", "answer", "Projects - *", ("row {project} | * | <> stars",),
         exact=True),
    Rule("Reopen the issue '{title}' of {project}.", "shown",
         "{title} - Forgeworks http://gitlab.com/{project}/issue/*", ("text State: open",)),
    Rule("Who opened the issue '{title}' of {project}?", "answer", "Issues of {project} - *",
         ("row {title} | * | <> | *",)),
    Rule("Comment '{text}' on the newest post in the forum {forum}.", "shown",
         "{post} - Common Room http://reddit.com/f/{forum}/*", ("row * | {text}",), post="newest"),
    Rule("Downvote the post '{title}' in the forum {forum}.", "shown",
         "{title} - Common Room http://reddit.com/f/{forum}/*", ("text You downvoted this",)),
    Rule("How many points has the post '{title}' in the forum {forum}?", "answer", "* http://reddit.com/f/{forum}*",
         ("row {title} | * | <> points | *",), exact=True),
    Rule("Who wrote the post '{title}' in the forum {forum}?", "answer", "* http://reddit.com/f/{forum}*",
         ("row {title} | <> | *",)),
    Rule("Show me the forum {forum}, sorted by {key}.", "open", "* http://reddit.com/f/{forum}?sort={key}"),
    Rule("What is my user name in the forums?", "answer", "My Page - *", ("text User: <>",)),
    Rule("On which day did I place order {order}?", "answer", "Order {order} - Market Hall *", ("text Date: <>",)),
    Rule("What is the status of my order {order}?", "answer", "Order {order} - Market Hall *", ("text Status: <>",)),
    Rule("What does {author} say about {product}?", "answer", "{product} - Market Hall *",
         ("row {author} | * stars | <>",)),
    Rule("What did one {product} cost in my order {order}?", "answer", "Order {order} - Market Hall *",
         ("row {product} | $<> | * pieces",)),
    Rule("How many pieces of {product} are in my order {order}?", "answer", "Order {order} - Market Hall *",
         ("row {product} | * | <> pieces",), exact=True),
    Rule("On which day was order {order} placed?", "answer", "Order {order} - Market Hall Admin *", ("text Date: <>",)),
    Rule("What is the total of order {order}?", "answer", "Order {order} - Market Hall Admin *", ("text Total: $<>",)),
    Rule("How many pieces of {product} are left?", "answer", "Products - Market Hall Admin *",
         ("row {product} | * | <> left",), exact=True),
    Rule("Which customer has the phone number {phone}?", "answer", "Customers - *", ("row <> | * | {phone} | *",)),
    Rule("How many files did the commit '{message}' in {project} change?", "answer",
         "Commit * - Forgeworks http://gitlab.com/{project}/*", ("text <> files changed",),
         sure="text Message: {message}", exact=True),
    Rule("Who committed '{message}' to {project}?", "answer", "Commit * - Forgeworks http://gitlab.com/{project}/*",
         ("text Author: <>",), sure="text Message: {message}"),
    Rule("What is the role of {user} in {project}?", "answer", "Members of {project} - *", ("row {user} | Role: <>",)),
    Rule("What is the project {project} about?", "answer", "Projects - *", ("row {project} | <> | * stars",)),
    Rule("Which label has the issue '{title}' of {project}?", "answer", "Issues of {project} - *",
         ("row {title} | <> | * | *",)),
    Rule("On which day was the post '{title}' in the forum {forum} written?", "answer", "* http://reddit.com/f/{forum}*",
         ("row {title} | * | <> | * points | *",)),
    Rule("How many comments has the post '{title}' in the forum {forum}?", "answer", "* http://reddit.com/f/{forum}*",
         ("row {title} | * | <> comments",), exact=True),
    Rule("What is the forum {forum} about?", "answer", "Forums - *", ("row {forum} | <>",)),
    Rule("What did {author} comment on the post '{title}' in the forum {forum}?", "answer",
         "{title} - Common Room http://reddit.com/f/{forum}/*", ("row {author} | <>",)),
    Rule("Open my order {order}.", "open", "Order {order} - Market Hall http://onestopmarket.com/*"),
    Rule("Write the review '{text}' of {product} with the summary '{summary}'.", "shown", "My Reviews - *",
         ("row {product} | 5 stars | {summary} | {text} | *",)),
    Rule("Show me the orders with the status {status}.", "open", "* http://luma.com/admin/orders?status={status}"),
    Rule("Show me the bestsellers of {month} 2023.", "open", "* http://luma.com/admin/bestsellers?month={month}"),
    Rule("Sell {product} for ${price} and set its stock to {stock}.", "shown", "{product} - Market Hall Admin *",
         ("text Price: ${price}", "text Stock: {stock} left")),
    Rule("Open the issue '{title}' of {project}.", "open", "{title} - Forgeworks http://gitlab.com/{project}/issue/*"),
    Rule("Show me the members of {project}.", "open", "* http://gitlab.com/{project}/members"),
    Rule("Show me the {state} issues of {project}.", "open", "* http://gitlab.com/{project}/issues?label=any&state={state}"),
    Rule("Open an issue in {project} with the title '{title}' and the description '{text}'.", "shown",
         "{title} - Forgeworks http://gitlab.com/{project}/issue/*", ("text State: open", "text {text}")),
    Rule("Open the post '{title}' in the forum {forum}.", "open", "{title} - Common Room http://reddit.com/f/{forum}/*"),
    Rule("Upvote the post '{title}' in the forum {forum}.", "shown",
         "{title} - Common Room http://reddit.com/f/{forum}/*", ("text You upvoted this",)),
    Rule("Comment '{text}' on the post with the most points in the forum {forum}.", "shown",
         "{post} - Common Room http://reddit.com/f/{forum}/*", ("row * | {text}",), post="top"),
    Rule("Post '{title}' in the forum {forum}.", "shown", "{title} - Common Room http://reddit.com/f/{forum}/*",
         ("text Posted by *",)),
)  # fmt: skip
_READ = tuple(re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(rule.instruction))) for rule in RULES)
_POST = re.compile(r"(?P<post>.+) \| \w+ \| (?P<day>[\d-]+) \| (?P<points>\d+) points \| (?P<talk>\d+) comments")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip


@dataclass(frozen=True)
class Reached:
    """Whether a task is done: `met` is None where the pages do not tell. `lines` of pages are what it rests on.
    `asked`: whether it is known what the task asks for, so that pages could tell."""

    met: bool | None
    checks: tuple[Check, ...] = ()
    lines: tuple[str, ...] = ()
    asked: bool = True


def rule_of(instruction: str) -> tuple[Rule, dict[str, str]] | None:
    """The rule of an instruction, and its slots; None for one of another form."""
    for rule, pattern in zip(RULES, _READ, strict=True):
        if found := pattern.fullmatch(instruction.strip()):
            return rule, found.groupdict()
    return None


def reached(task: Task, history: Sequence[Transition], message: str) -> Reached:
    """Whether the task is done when the agent, after these steps, says this."""
    states = (task.initial_state, *(step.next_state for step in history))
    pages = [page for state in states if (page := page_of(state))]
    found = rule_of(task.instruction)
    if found is None or not pages:
        return Reached(None, asked=False)
    rule, slots = found
    if rule.post:
        more = _first_commit(slots, pages) if rule.post == "first commit" else _post(rule.post, slots, pages)
        if more is None:
            return Reached(None)
        slots = {**slots, **more}
    if rule.kind == "open":
        return _open(rule, slots, pages[-1])
    latest = list({page.url: page for page in pages if _fits(_told(page), rule.page, slots)}.values())
    return _answered(rule, slots, latest, message) if rule.kind == "answer" else _shown(rule, slots, latest)


def _told(page: WebPage) -> str:
    return f"{page.title} {page.url}"


def words(line: Line) -> str:
    """A line as rules name it: its kind or role, and its text."""
    return f"{line.kind} {line.text}" if isinstance(line, Text) else f"{line.role} {line.name}"


def _filled(template: str, slots: Slots) -> str:
    for name, value in slots.items():
        template = template.replace("{" + name + "}", value)
    return template


def _match(text: str, template: str, slots: Slots) -> re.Match[str] | None:
    pattern = re.escape(_filled(template, slots)).replace(r"\*", ".*").replace("<>", "([^|]+)")
    return re.fullmatch(pattern, text, re.DOTALL)


def _fits(text: str, template: str, slots: Slots) -> bool:
    return _match(text, template, slots) is not None


def _sure(rule: Rule, slots: Slots, page: WebPage) -> bool:
    """Whether a page tells anything."""
    return not rule.sure or any(_fits(words(one), rule.sure, slots) for one in page.lines)


def _open(rule: Rule, slots: Slots, page: WebPage) -> Reached:
    met = _fits(_told(page), rule.page, slots)
    return Reached(met, ((f"{_filled(rule.page, slots)}, here {_told(page)}", met),), _head(page))


def _head(page: WebPage) -> tuple[str, ...]:
    return (f"Page: {page.title!r}", f"URL: {page.url}")


def _answered(rule: Rule, slots: Slots, pages: Sequence[WebPage], message: str) -> Reached:
    for page in reversed(pages):
        if not _sure(rule, slots, page):
            continue
        found = [(line, _match(words(line), rule.lines[0], slots)) for line in page.lines]
        told = [(line, match[1]) for line, match in found if match]
        if rule.post == "first commit":
            told = [(line, value) for line, value in told if value == slots["message"]]
        if rule.first and page.above:
            return Reached(None)
        if rule.exact or rule.first:
            told = told[:1]
        if told and len({value for _, value in told}) == 1:
            line, value = told[0]
            said = _clean(message)
            met = said == value.lower() if rule.exact else value.lower() in said
            return Reached(met, ((f"{words(line)}: {value}, said {message}", met),), (*_head(page), line.line()))
    return Reached(None)


def _clean(message: str) -> str:
    return message.strip().strip("'\"").lower()


def _shown(rule: Rule, slots: Slots, pages: Sequence[WebPage]) -> Reached:
    """The newest page that shows all of it, else what the newest one lacks."""
    best = Reached(False, ((f"{_filled(rule.page, slots)}, not seen", False),))
    for page in pages:
        found = [next((one for one in page.lines if _fits(words(one), line, slots)), None) for line in rule.lines]
        checks = [
            (f"{_filled(line, slots)}, {words(one) if one else 'not shown'}", one is not None)
            for line, one in zip(rule.lines, found, strict=True)
        ]
        for line in rule.absent:
            there = next((one for one in page.lines if _fits(words(one), line, slots)), None)
            checks.append((f"no {_filled(line, slots)}, {words(there) if there else 'not shown'}", there is None))
        met = all(holds for _, holds in checks)
        if met or not best.met:
            shown = tuple(one.line() for one in found if one is not None)
            hidden = not _sure(rule, slots, page) if met else bool(page.above or page.below)
            best = Reached(None if hidden else met, tuple(checks), (*_head(page), *shown))
    return best


def _post(which: str, slots: Slots, pages: Sequence[WebPage]) -> dict[str, str] | None:
    """The newest post of a forum or the one with the most points, from any list of all its posts."""
    for page in reversed(pages):
        if (
            not re.fullmatch(rf"http://reddit\.com/f/{re.escape(slots['forum'])}(\?.*)?", page.url)
            or page.below
            or page.above
        ):
            continue
        rows = [found for line in page.lines if isinstance(line, Text) and (found := _POST.fullmatch(line.text))]
        if rows and which == "newest":
            return {"post": max(rows, key=lambda row: row["day"])["post"]}
        if rows:
            return {"post": max(rows, key=lambda row: int(row["points"]))["post"]}
    return None


def _first_commit(slots: Slots, pages: Sequence[WebPage]) -> dict[str, str] | None:
    """The message of a month's first commit: the last one in the list before the headings of earlier months begin."""
    month = f"2023-{_MONTHS.index(slots['month']) + 1:02d}" if slots["month"] in _MONTHS else ""
    for page in reversed(pages):
        if not page.title.startswith(f"Commits of {slots['project']} - "):
            continue
        day, last, whole = "", "", not page.below
        for line in page.lines:
            if isinstance(line, Text) and line.kind == "heading":
                day = line.text
                whole = whole or bool(re.match(r"\d{4}-", day) and day[:7] < month)
            elif isinstance(line, Element) and line.role == "link" and day.startswith(month):
                last = line.name
        if month and last and whole:
            return {"message": last}
    return None
