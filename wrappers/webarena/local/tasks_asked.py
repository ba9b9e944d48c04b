"""Further training templates on all local sites: questions that a page answers. They come after those of `tasks_more`,
so that the numbers of the tasks before them stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from .content import USERS
from .tasks import Made, Move, answer, button, exactly, fill, find, follow, link, pick, say, template, to_commit
from .web import money

_MINE = f"FROM orders JOIN items USING (number) JOIN products USING (sku) WHERE email='{USERS['shopping']}'"


def _my_order(number: str) -> list[Move]:
    return [link("My Orders"), link("View Order", after=number)]


@template("shopping", "On which day did I place order {{order}}?")
def my_day(db: sqlite3.Connection) -> Iterator[Made]:
    for number, day in pick(db, f"SELECT DISTINCT number, day {_MINE} ORDER BY number DESC", 6):
        yield {"order": number}, answer(day), [*_my_order(number), say(f"On {day}.")]


@template("shopping", "What is the status of my order {{order}}?")
def my_status(db: sqlite3.Connection) -> Iterator[Made]:
    for number, status in pick(db, f"SELECT DISTINCT number, status {_MINE} ORDER BY day", 6):
        yield {"order": number}, answer(status), [*_my_order(number), say(f"It is {status}.")]


@template("shopping", "What does {{author}} say about {{product}}?")
def said_of(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT author, name, title FROM reviews JOIN products USING (sku) WHERE status='approved'"
    for author, name, title in pick(db, f"{rows} ORDER BY name, author", 8):
        yield {"author": author, "product": name}, answer(title), [*find(name), say(title)]


@template("shopping", "What did one {{product}} cost in my order {{order}}?")
def paid_for_one(db: sqlite3.Connection) -> Iterator[Made]:
    for name, number, price in pick(db, f"SELECT name, number, items.price {_MINE} ORDER BY name, number", 6):
        plan = [*_my_order(number), say(f"It cost {money(price)}.")]
        yield {"product": name, "order": number}, answer(money(price).lstrip("$")), plan


@template("shopping", "How many pieces of {{product}} are in my order {{order}}?")
def pieces_of_mine(db: sqlite3.Connection) -> Iterator[Made]:
    for name, number, pieces in pick(db, f"SELECT name, number, quantity {_MINE} ORDER BY number, name", 6):
        yield {"product": name, "order": number}, exactly(str(pieces)), [*_my_order(number), say(str(pieces))]


@template("shopping_admin", "On which day was order {{order}} placed?")
def order_day(db: sqlite3.Connection) -> Iterator[Made]:
    for number, day in pick(db, "SELECT number, day FROM orders ORDER BY email, number", 8):
        yield {"order": number}, answer(day), [*follow("Orders", f"View {number}"), say(f"On {day}.")]


@template("shopping_admin", "What is the total of order {{order}}?")
def order_total(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT number, SUM(quantity * price) FROM orders JOIN items USING (number) GROUP BY number"
    for number, total in pick(db, f"{rows} ORDER BY status, number", 8):
        plan = [*follow("Orders", f"View {number}"), say(f"It is {money(total)}.")]
        yield {"order": number}, answer(money(total).lstrip("$")), plan


@template("shopping_admin", "How many pieces of {{product}} are left?")
def pieces_left(db: sqlite3.Connection) -> Iterator[Made]:
    for name, stock in pick(db, "SELECT name, stock FROM products ORDER BY stock, name", 8):
        plan = [link("Products"), fill("Search products", name), button("Search"), say(str(stock))]
        yield {"product": name}, exactly(str(stock)), plan


@template("shopping_admin", "Which customer has the phone number {{phone}}?")
def customer_of_phone(db: sqlite3.Connection) -> Iterator[Made]:
    for name, number in pick(db, "SELECT name, phone FROM customers ORDER BY name", 8):
        yield {"phone": number}, answer(name), [link("Customers"), say(f"That is {name}.")]


@template("gitlab", "How many files did the commit '{{message}}' in {{project}} change?")
def files_changed(db: sqlite3.Connection) -> Iterator[Made]:
    for project, message, files in pick(db, "SELECT project, message, files FROM commits ORDER BY message, sha", 8):
        plan = [*to_commit(db, project, message), say(str(files))]
        yield {"message": message, "project": project}, exactly(str(files)), plan


@template("gitlab", "Who committed '{{message}}' to {{project}}?")
def commit_author(db: sqlite3.Connection) -> Iterator[Made]:
    for project, message, author in pick(db, "SELECT project, message, author FROM commits ORDER BY files, sha", 8):
        plan = [*to_commit(db, project, message), say(f"That was {author}.")]
        yield {"message": message, "project": project}, answer(author), plan


@template("gitlab", "What is the role of {{user}} in {{project}}?")
def role_of(db: sqlite3.Connection) -> Iterator[Made]:
    for project, user, role in pick(db, "SELECT project, user, role FROM members ORDER BY user, project", 8):
        plan = [*follow(project, "Members"), say(role)]
        yield {"user": user, "project": project}, answer(role), plan


@template("gitlab", "What is the project {{project}} about?")
def project_about(db: sqlite3.Connection) -> Iterator[Made]:
    for project, about in db.execute("SELECT name, description FROM projects ORDER BY name"):
        yield {"project": project}, answer(about), [say(about)]


@template("gitlab", "Which label has the issue '{{title}}' of {{project}}?")
def label_of(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT project, title, label FROM issues WHERE state='open' ORDER BY title DESC, project"
    for project, title, label in pick(db, rows, 8):
        yield {"title": title, "project": project}, answer(label), [*follow(project, "Issues"), say(f"It is {label}.")]


@template("reddit", "On which day was the post '{{title}}' in the forum {{forum}} written?")
def post_day(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, title, day in pick(db, "SELECT forum, title, day FROM posts ORDER BY day, id", 8):
        yield {"title": title, "forum": forum}, answer(day), [link(forum), say(f"On {day}.")]


@template("reddit", "How many comments has the post '{{title}}' in the forum {{forum}}?")
def post_comments(db: sqlite3.Connection) -> Iterator[Made]:
    talk = "(SELECT COUNT(*) FROM comments WHERE post=posts.id)"
    for forum, title, count in pick(db, f"SELECT forum, title, {talk} FROM posts ORDER BY title DESC, id", 8):
        yield {"title": title, "forum": forum}, exactly(str(count)), [link(forum), say(str(count))]


@template("reddit", "What is the forum {{forum}} about?")
def forum_about(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, about in db.execute("SELECT name, about FROM forums ORDER BY name"):
        yield {"forum": forum}, answer(about), [say(about)]


@template("reddit", "What did {{author}} comment on the post '{{title}}' in the forum {{forum}}?")
def comment_of(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT comments.author, title, forum, comments.body FROM comments JOIN posts ON post=posts.id"
    for author, title, forum, text in pick(db, f"{rows} ORDER BY comments.author, comments.id", 8):
        yield {"author": author, "title": title, "forum": forum}, answer(text), [*follow(forum, title), say(text)]
