"""Further training templates on all local sites: pages to be shown and forms to be sent. They come last, so that the
numbers of the tasks before them stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import cycle

from .content import USERS
from .shop_admin import MONTHS
from .tasks import DONE, Made, at, button, fill, find, follow, link, opened, pick, select, shows, template


@template("shopping", "Open my order {{order}}.")
def open_order(db: sqlite3.Connection) -> Iterator[Made]:
    for (number,) in pick(db, f"SELECT number FROM orders WHERE email='{USERS['shopping']}' ORDER BY day", 5):
        plan = [link("My Orders"), link("View Order", after=number), DONE]
        yield {"order": number}, opened(at("shopping", f"/order/{number}")), plan


@template("shopping", "Write the review '{{text}}' of {{product}} with the summary '{{summary}}'.")
def long_review(db: sqlite3.Connection) -> Iterator[Made]:
    words = (
        ("Bent at once", "I sent it back."), ("Light and quiet", "We use it daily."), ("Nice colour", "A bit dear."),
        ("Came late", "Three weeks of waiting."), ("Good value", "Second one in my house."), ("No lid", "Ask for one!"),
    )  # fmt: skip
    names = pick(db, "SELECT name FROM products ORDER BY price, sku", len(words))
    for (name,), (summary, text) in zip(names, cycle(words), strict=False):
        plan = [*find(name), fill("Summary", summary), fill("Review", text), button("Submit Review"), DONE]
        slots = {"text": text, "product": name, "summary": summary}
        yield slots, shows(at("shopping", "/reviews"), f"{name}\t5 stars\t{summary}\t{text}"), plan


@template("shopping_admin", "Show me the orders with the status {{status}}.")
def orders_with(db: sqlite3.Connection) -> Iterator[Made]:
    for status in ("Canceled", "Complete", "Pending", "Processing"):
        plan = [link("Orders"), select("Status", status), button("Filter"), DONE]
        yield {"status": status}, opened(f"{at('shopping_admin', '/orders')}?status={status}"), plan


@template("shopping_admin", "Show me the bestsellers of {{month}} 2023.")
def bestsellers_of(db: sqlite3.Connection) -> Iterator[Made]:
    for month in MONTHS:
        plan = [link("Bestsellers"), select("Month", month), button("Show Report"), DONE]
        yield {"month": month}, opened(f"{at('shopping_admin', '/bestsellers')}?month={month}"), plan


@template("shopping_admin", "Sell {{product}} for ${{price}} and set its stock to {{stock}}.")
def price_and_stock(db: sqlite3.Connection) -> Iterator[Made]:
    for sku, name, price, stock in pick(db, "SELECT sku, name, price, stock FROM products ORDER BY sku DESC", 6):
        new, pieces = f"{price + 1.15:.2f}", str(stock + 20)
        plan = [link("Products"), fill("Search products", name), button("Search"), link(name)]
        plan += [fill("New price", new), fill("New stock", pieces), button("Save Product"), DONE]
        scored = shows(at("shopping_admin", f"/product/{sku}"), f"Price: ${new}", f"Stock: {pieces} left")
        yield {"product": name, "price": new, "stock": pieces}, scored, plan


@template("gitlab", "Open the issue '{{title}}' of {{project}}.")
def show_issue(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT project, number, title FROM issues WHERE state='open' ORDER BY number DESC, project"
    for project, number, title in pick(db, rows, 8):
        plan = [*follow(project, "Issues", title), DONE]
        yield {"title": title, "project": project}, opened(at("gitlab", f"/{project}/issue/{number}")), plan


@template("gitlab", "Show me the members of {{project}}.")
def members_of(db: sqlite3.Connection) -> Iterator[Made]:
    for (project,) in db.execute("SELECT name FROM projects ORDER BY name"):
        yield {"project": project}, opened(at("gitlab", f"/{project}/members")), [*follow(project, "Members"), DONE]


@template("gitlab", "Show me the {{state}} issues of {{project}}.")
def issues_in_state(db: sqlite3.Connection) -> Iterator[Made]:
    for index, (project,) in enumerate(db.execute("SELECT name FROM projects ORDER BY name").fetchall()):
        state = ("closed", "any")[index % 2]
        plan = [*follow(project, "Issues"), select("State", state), button("Filter"), DONE]
        url = f"{at('gitlab', f'/{project}/issues')}?label=any&state={state}"
        yield {"state": state, "project": project}, opened(url), plan


@template("gitlab", "Open an issue in {{project}} with the title '{{title}}' and the description '{{text}}'.")
def described_issue(db: sqlite3.Connection) -> Iterator[Made]:
    words = (
        ("Slow start", "It takes a minute."), ("Wrong units", "Feet and metres are mixed."),
        ("No help text", "See -h."), ("Broken link", "On the first page."), ("Odd colours", "Red on green."),
        ("Lost lines", "After the third file."),
    )  # fmt: skip
    names = db.execute("SELECT name FROM projects ORDER BY name DESC").fetchall()
    for (project,), (title, text) in zip(names, words, strict=True):
        plan = [
            *follow(project, "Issues"),
            fill("Title", title),
            fill("Description", text),
            button("Create Issue"),
            DONE,
        ]
        scored = shows(at("gitlab", f"/{project}/issue/13"), title, text)
        yield {"project": project, "title": title, "text": text}, scored, plan


@template("reddit", "Open the post '{{title}}' in the forum {{forum}}.")
def open_post(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, number, title in pick(db, "SELECT forum, id, title FROM posts ORDER BY body, day, id", 8):
        yield (
            {"title": title, "forum": forum},
            opened(at("reddit", f"/f/{forum}/{number}")),
            [*follow(forum, title), DONE],
        )


@template("reddit", "Upvote the post '{{title}}' in the forum {{forum}}.")
def upvote_post(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, number, title in pick(db, "SELECT forum, id, title FROM posts ORDER BY author DESC, id", 8):
        plan = [*follow(forum, title), button("Upvote"), DONE]
        yield {"title": title, "forum": forum}, shows(at("reddit", f"/f/{forum}/{number}"), "You upvoted this"), plan


@template("reddit", "Comment '{{text}}' on the post with the most points in the forum {{forum}}.")
def comment_top(db: sqlite3.Connection) -> Iterator[Made]:
    words = ("I did the same.", "Not again.", "Tell us more!", "How far is it?", "Nothing to add.")
    for text, (forum,) in zip(words, db.execute("SELECT name FROM forums ORDER BY about").fetchall(), strict=True):
        number, title = db.execute("SELECT id, title FROM posts WHERE forum=? ORDER BY votes DESC", (forum,)).fetchone()
        plan = [link(forum), select("Sort by", "Top"), button("Sort"), link(title)]
        plan += [fill("Your comment", text), button("Comment"), DONE]
        scored = shows(at("reddit", f"/f/{forum}/{number}"), f"{USERS['reddit']}\t{text}")
        yield {"text": text, "forum": forum}, scored, plan


@template("reddit", "Post '{{title}}' in the forum {{forum}}.")
def short_post(db: sqlite3.Connection) -> Iterator[Made]:
    words = ("Cracks in every loaf", "Birds took the peas", "Comet this week", "Any valves left?", "Mud up to the knee")
    (last,) = db.execute("SELECT MAX(id) FROM posts").fetchone()
    forums = ("homebaking", "smallgardens", "nightsky", "oldradios", "trailnotes")
    for title, forum in zip(words, forums, strict=True):
        plan = [link("Submit"), select("Forum", forum), fill("Title", title), button("Create Post"), DONE]
        yield {"title": title, "forum": forum}, shows(at("reddit", f"/f/{forum}/{last + 1}"), title), plan
