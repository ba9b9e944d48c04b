"""Further training templates on all local sites, on the pages and forms that held-out ones use too. They come last, so
that the numbers of the tasks before them stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from .content import USERS
from .shop_admin import BESTSELLERS, MONTHS
from .tasks import (
    DONE,
    Made,
    answer,
    at,
    button,
    exactly,
    fill,
    find,
    follow,
    link,
    opened,
    pick,
    say,
    select,
    shows,
    template,
    to_commit,
)
from .web import money


@template("shopping", "How many stars did {{author}} give {{product}}?")
def stars_given(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT author, name, stars FROM reviews JOIN products USING (sku) WHERE status='approved'"
    for author, name, stars in pick(db, f"{rows} ORDER BY author, id", 10):
        yield {"author": author, "product": name}, exactly(str(stars)), [*find(name), say(str(stars))]


@template("shopping", "Change my city to {{city}}.")
def city(db: sqlite3.Connection) -> Iterator[Made]:
    for name in ("Oakhollow", "Pinebridge", "Marlow End", "Stonefield", "Westhaven", "Lower Fenn"):
        plan = [link("My Account"), fill("City", name), button("Save Account"), DONE]
        yield {"city": name}, shows(at("shopping", "/account"), f"City: {name}"), plan


@template("shopping", "Order {{quantity}} of {{product}}.")
def order_many(db: sqlite3.Connection) -> Iterator[Made]:
    (last,) = db.execute("SELECT MAX(number) FROM orders").fetchone()
    for index, (name, price) in enumerate(pick(db, "SELECT name, price FROM products ORDER BY description, name", 8)):
        pieces = str(index + 2)
        plan = [*find(name), fill("Quantity", pieces), button("Add to Cart"), button("Place Order"), DONE]
        scored = shows(at("shopping", f"/order/{int(last) + 1:09d}"), f"{name}\t{money(price)}\t{pieces} pieces")
        yield {"quantity": pieces, "product": name}, scored, plan


@template("shopping", "What is the rating of {{product}} in the category {{category}}?")
def rating(db: sqlite3.Connection) -> Iterator[Made]:
    rows = (
        "SELECT name, category, ROUND(AVG(stars), 1) FROM products JOIN reviews USING (sku) WHERE status='approved'"
        " GROUP BY sku ORDER BY name DESC"
    )
    for name, category, stars in pick(db, rows, 8):
        yield {"product": name, "category": category}, exactly(str(stars)), [link(category), say(str(stars))]


@template("shopping_admin", "How many pieces of the bestseller of {{month}} 2023 were sold?")
def best_pieces(db: sqlite3.Connection) -> Iterator[Made]:
    for number, month in enumerate(MONTHS, 1):
        first, *_ = db.execute(BESTSELLERS, (f"2023-{number:02d}-%",)).fetchall()
        plan = [link("Bestsellers"), select("Month", month), button("Show Report"), say(str(first[1]))]
        yield {"month": month}, exactly(str(first[1])), plan


@template("shopping_admin", "What is the phone number of the customer {{name}}?")
def customer_phone(db: sqlite3.Connection) -> Iterator[Made]:
    for name, number in pick(db, "SELECT name, phone FROM customers ORDER BY phone", 8):
        yield {"name": name}, answer(number), [link("Customers"), say(f"It is {number}.")]


@template("shopping_admin", "In which city does the customer {{name}} live?")
def customer_city(db: sqlite3.Connection) -> Iterator[Made]:
    for name, where in pick(db, "SELECT name, city FROM customers ORDER BY city, name", 8):
        yield {"name": name}, answer(where), [link("Customers"), say(f"In {where}.")]


@template("shopping_admin", "Ship order {{order}}.")
def ship(db: sqlite3.Connection) -> Iterator[Made]:
    open_ones = "SELECT number FROM orders WHERE status IN ('Pending', 'Processing') ORDER BY email, number"
    for (number,) in pick(db, open_ones, 6):
        plan = [*follow("Orders", f"View {number}"), button("Ship Order"), DONE]
        yield {"order": number}, shows(at("shopping_admin", f"/order/{number}"), "Order status: Complete"), plan


@template("shopping_admin", "Set the stock of {{product}} to {{stock}}.")
def set_stock(db: sqlite3.Connection) -> Iterator[Made]:
    for sku, name, stock in pick(db, "SELECT sku, name, stock FROM products ORDER BY price DESC, sku", 6):
        new = str(stock + 11)
        plan = [link("Products"), fill("Search products", name), button("Search"), link(name), fill("New stock", new)]
        scored = shows(at("shopping_admin", f"/product/{sku}"), f"Stock: {new} left")
        yield {"product": name, "stock": new}, scored, [*plan, button("Save Product"), DONE]


@template("gitlab", "On which day was '{{message}}' committed to {{project}}?")
def commit_day(db: sqlite3.Connection) -> Iterator[Made]:
    for project, message, day in pick(db, "SELECT project, message, day FROM commits ORDER BY sha", 10):
        plan = [*to_commit(db, project, message), say(f"On {day}.")]
        yield {"message": message, "project": project}, answer(day), plan


@template("gitlab", "Invite {{user}} to {{project}}.")
def invite_guest(db: sqlite3.Connection) -> Iterator[Made]:
    for index, (project,) in enumerate(pick(db, "SELECT name FROM projects ORDER BY name DESC", 6)):
        (user,) = db.execute(
            "SELECT user FROM people WHERE user NOT IN (SELECT user FROM members WHERE project=?) ORDER BY user DESC",
            (project,),
        ).fetchall()[index]
        plan = [*follow(project, "Members"), fill("Username", user), button("Invite"), DONE]
        scored = shows(at("gitlab", f"/{project}/members"), f"{user}\tRole: Guest")
        yield {"user": user, "project": project}, scored, plan


@template("gitlab", "How many stars has the project {{project}}?")
def project_stars(db: sqlite3.Connection) -> Iterator[Made]:
    for project, stars in db.execute("SELECT name, stars FROM projects ORDER BY name"):
        yield {"project": project}, exactly(str(stars)), [say(str(stars))]


@template("gitlab", "Reopen the issue '{{title}}' of {{project}}.")
def reopen(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT project, number, title FROM issues WHERE state='closed' ORDER BY title, project"
    for project, number, title in pick(db, rows, 6):
        plan = [*follow(project, "Issues"), select("State", "closed"), button("Filter"), link(title)]
        plan += [button("Reopen Issue"), DONE]
        scored = shows(at("gitlab", f"/{project}/issue/{number}"), "State: open")
        yield {"title": title, "project": project}, scored, plan


@template("gitlab", "Who opened the issue '{{title}}' of {{project}}?")
def issue_author(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT project, title, author FROM issues WHERE state='open' ORDER BY author, project, number"
    for project, title, author in pick(db, rows, 8):
        plan = [*follow(project, "Issues"), say(f"That was {author}.")]
        yield {"title": title, "project": project}, answer(author), plan


@template("reddit", "Comment '{{text}}' on the newest post in the forum {{forum}}.")
def comment_newest(db: sqlite3.Connection) -> Iterator[Made]:
    words = ("Well done.", "Where was that?", "I would wait.", "Same here, sadly.", "Thanks for the warning.")
    for text, (forum,) in zip(words, db.execute("SELECT name FROM forums ORDER BY name").fetchall(), strict=True):
        number, title = db.execute("SELECT id, title FROM posts WHERE forum=? ORDER BY day DESC", (forum,)).fetchone()
        plan = [*follow(forum, title), fill("Your comment", text), button("Comment"), DONE]
        scored = shows(at("reddit", f"/f/{forum}/{number}"), f"{USERS['reddit']}\t{text}")
        yield {"text": text, "forum": forum}, scored, plan


@template("reddit", "Downvote the post '{{title}}' in the forum {{forum}}.")
def downvote(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, number, title in pick(db, "SELECT forum, id, title FROM posts ORDER BY title, id", 8):
        plan = [*follow(forum, title), button("Downvote"), DONE]
        scored = shows(at("reddit", f"/f/{forum}/{number}"), "You downvoted this")
        yield {"title": title, "forum": forum}, scored, plan


@template("reddit", "How many points has the post '{{title}}' in the forum {{forum}}?")
def post_points(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, title, votes in pick(db, "SELECT forum, title, votes FROM posts ORDER BY votes", 8):
        yield {"title": title, "forum": forum}, exactly(str(votes)), [link(forum), say(str(votes))]


@template("reddit", "Who wrote the post '{{title}}' in the forum {{forum}}?")
def post_author(db: sqlite3.Connection) -> Iterator[Made]:
    for forum, title, author in pick(db, "SELECT forum, title, author FROM posts ORDER BY author, id", 8):
        yield {"title": title, "forum": forum}, answer(author), [link(forum), say(f"That was {author}.")]


@template("reddit", "Show me the forum {{forum}}, sorted by {{key}}.")
def sorted_forum(db: sqlite3.Connection) -> Iterator[Made]:
    names = db.execute("SELECT name FROM forums ORDER BY name").fetchall()
    for (forum,), key in zip(names, ("Top", "New", "Top", "New", "Top"), strict=True):
        plan = [link(forum), select("Sort by", key), button("Sort"), DONE]
        yield {"forum": forum, "key": key}, opened(f"{at('reddit', f'/f/{forum}')}?sort={key}"), plan


@template("reddit", "What is my user name in the forums?")
def my_name(db: sqlite3.Connection) -> Iterator[Made]:
    yield {}, answer(USERS["reddit"]), [link("My Page"), say(f"It is {USERS['reddit']}.")]
