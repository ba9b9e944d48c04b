"""Templates of tasks in the local shop and in its administration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from .content import USERS
from .shop_admin import BESTSELLERS, MONTHS
from .tasks import (
    DONE,
    Made,
    Move,
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
)
from .web import money

_MINE = f"FROM orders JOIN items USING (number) WHERE email='{USERS['shopping']}' GROUP BY number"
_BY_SKU = "ORDER BY sku"


@template("shopping", "What is the price of {{product}}?")
def price(db: sqlite3.Connection) -> Iterator[Made]:
    for name, amount in pick(db, f"SELECT name, price FROM products {_BY_SKU}"):
        yield {"product": name}, answer(f"{amount:.2f}"), [*find(name), say(f"It is {money(amount)}.")]


@template("shopping", "Open the page of {{product}}.")
def open_product(db: sqlite3.Connection) -> Iterator[Made]:
    for sku, name in pick(db, "SELECT sku, name FROM products ORDER BY name", 4):
        yield {"product": name}, opened(at("shopping", f"/product/{sku}")), [*find(name), DONE]


@template("shopping", "Add {{product}} to my wish list.")
def wish(db: sqlite3.Connection) -> Iterator[Made]:
    for (name,) in pick(db, "SELECT name FROM products ORDER BY price"):
        yield (
            {"product": name},
            shows(at("shopping", "/wishlist"), name),
            [*find(name), button("Add to Wish List"), DONE],
        )


@template("shopping", "Put {{quantity}} of {{product}} into my cart.")
def to_cart(db: sqlite3.Connection) -> Iterator[Made]:
    for index, (name,) in enumerate(pick(db, "SELECT name FROM products ORDER BY stock")):
        pieces = str(index + 2)
        plan = [*find(name), fill("Quantity", pieces), button("Add to Cart"), DONE]
        yield {"quantity": pieces, "product": name}, shows(at("shopping", "/cart"), name, f"{pieces} pieces"), plan


@template("shopping", "How much did I pay in all for order {{order}}?")
def paid(db: sqlite3.Connection) -> Iterator[Made]:
    for number, total in pick(db, f"SELECT number, SUM(quantity * price) {_MINE} ORDER BY number", 4):
        plan = [link("My Orders"), link("View Order", after=number), say(f"You paid {money(total)}.")]
        yield {"order": number}, answer(money(total).lstrip("$")), plan


@template("shopping", "Who gave {{product}} {{stars}} stars?", held_out=True)
def reviewer(db: sqlite3.Connection) -> Iterator[Made]:
    rows = "SELECT name, stars, author FROM reviews JOIN products USING (sku) WHERE status='approved' ORDER BY id"
    for name, stars, author in pick(db, rows):
        yield {"product": name, "stars": stars}, answer(author), [*find(name), say(f"That was {author}.")]


@template("shopping", "Change my phone number to {{phone}}.", held_out=True)
def phone(db: sqlite3.Connection) -> Iterator[Made]:
    for number in ("555-7001", "555-7342", "555-8090", "555-9913"):
        plan = [link("My Account"), fill("Phone number", number), button("Save Account"), DONE]
        yield {"phone": number}, shows(at("shopping", "/account"), f"Phone: {number}"), plan


@template("shopping", "Show me the category {{category}}, sorted by {{key}}.")
def sorted_category(db: sqlite3.Connection) -> Iterator[Made]:
    for category, key in (("Kitchen", "Price"), ("Garden", "Stars"), ("Office", "Price"), ("Sport", "Stars")):
        plan = [link(category), select("Sort by", key), button("Sort"), DONE]
        yield {"category": category, "key": key}, opened(f"{at('shopping', f'/category/{category}')}?sort={key}"), plan


@template("shopping", "Review {{product}} with {{stars}} stars and the summary '{{summary}}'.")
def review(db: sqlite3.Connection) -> Iterator[Made]:
    words = ("Does its work", "Broke in a week", "Better than the old one", "Too small for us")
    for index, (name,) in enumerate(pick(db, "SELECT name FROM products ORDER BY description, sku", 4)):
        stars, summary = str(1 + index % 4), words[index % 4]
        plan = [*find(name), select("Rating", stars), fill("Summary", summary), button("Submit Review"), DONE]
        slots = {"product": name, "stars": stars, "summary": summary}
        yield slots, shows(at("shopping", "/reviews"), f"{name}\t{stars} stars\t{summary}"), plan


@template("shopping", "Order one {{product}}.", held_out=True)
def order(db: sqlite3.Connection) -> Iterator[Made]:
    (last,) = db.execute("SELECT MAX(number) FROM orders").fetchone()
    for (name,) in pick(db, "SELECT name FROM products WHERE stock > 0 ORDER BY price DESC", 4):
        plan = [*find(name), button("Add to Cart"), button("Place Order"), DONE]
        yield {"product": name}, shows(at("shopping", f"/order/{int(last) + 1:09d}"), f"{name}\t"), plan


@template("shopping_admin", "How many orders are there with the status {{status}}?")
def count_orders(db: sqlite3.Connection) -> Iterator[Made]:
    for status, count in db.execute("SELECT status, COUNT(*) FROM orders GROUP BY status ORDER BY status"):
        plan = [link("Orders"), select("Status", status), button("Filter"), say(str(count))]
        yield {"status": status}, exactly(str(count)), plan


@template("shopping_admin", "Cancel order {{order}}.")
def cancel(db: sqlite3.Connection) -> Iterator[Made]:
    for (number,) in pick(db, "SELECT number FROM orders WHERE status IN ('Pending', 'Processing') ORDER BY number"):
        plan = [*follow("Orders", f"View {number}"), button("Cancel Order"), DONE]
        yield {"order": number}, shows(at("shopping_admin", f"/order/{number}"), "Order status: Canceled"), plan


@template("shopping_admin", "Set the price of {{product}} to ${{price}}.")
def set_price(db: sqlite3.Connection) -> Iterator[Made]:
    for sku, name, amount in pick(db, "SELECT sku, name, price FROM products ORDER BY stock DESC"):
        new = f"{amount + 3.3:.2f}"
        plan = [link("Products"), fill("Search products", name), button("Search"), link(name), fill("New price", new)]
        plan += [button("Save Product"), DONE]
        yield {"product": name, "price": new}, shows(at("shopping_admin", f"/product/{sku}"), f"Price: ${new}"), plan


@template("shopping_admin", "Approve the review of {{author}} that waits for it.")
def approve(db: sqlite3.Connection) -> Iterator[Made]:
    for (author,) in pick(db, "SELECT author FROM reviews WHERE status='pending' ORDER BY author", 4):
        plan: list[Move] = [link("Pending Reviews"), button("Approve", after=author), DONE]
        yield {"author": author}, shows(at("shopping_admin", "/reviews/approved"), f"Waiting: {author}"), plan


@template("shopping_admin", "What is the email address of the customer {{name}}?")
def email(db: sqlite3.Connection) -> Iterator[Made]:
    for name, mail in pick(db, "SELECT name, email FROM customers ORDER BY email"):
        yield {"name": name}, answer(mail), [link("Customers"), say(f"It is {mail}")]


@template("shopping_admin", "Which product sold best in {{month}} 2023?", held_out=True)
def bestseller(db: sqlite3.Connection) -> Iterator[Made]:
    for number, month in enumerate(MONTHS, 1):
        first, second, *_ = db.execute(BESTSELLERS, (f"2023-{number:02d}-%",)).fetchall()
        if first[1] > second[1]:
            plan = [link("Bestsellers"), select("Month", month), button("Show Report"), say(f"{first[0]} sold best.")]
            yield {"month": month}, answer(first[0]), plan
