"""What the local sites hold at the start of an episode: invented goods, people, code and talk, drawn from one seed."""

from __future__ import annotations

import random
import sqlite3
from datetime import date, timedelta
from functools import lru_cache

SCHEMA = """
CREATE TABLE logins (site TEXT, token TEXT, user TEXT);
CREATE TABLE products (sku TEXT PRIMARY KEY, name TEXT, category TEXT, price REAL, stock INTEGER, description TEXT);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, sku TEXT, author TEXT, stars INTEGER, title TEXT, body TEXT, status TEXT);
CREATE TABLE customers (email TEXT PRIMARY KEY, name TEXT, phone TEXT, city TEXT);
CREATE TABLE orders (number TEXT PRIMARY KEY, email TEXT, day TEXT, status TEXT);
CREATE TABLE items (number TEXT, sku TEXT, quantity INTEGER, price REAL);
CREATE TABLE cart (sku TEXT PRIMARY KEY, quantity INTEGER);
CREATE TABLE wishes (sku TEXT PRIMARY KEY);
CREATE TABLE projects (name TEXT PRIMARY KEY, description TEXT, stars INTEGER, starred INTEGER);
CREATE TABLE commits (sha TEXT PRIMARY KEY, project TEXT, author TEXT, day TEXT, message TEXT, files INTEGER);
CREATE TABLE issues (project TEXT, number INTEGER, title TEXT, label TEXT, author TEXT, state TEXT, body TEXT);
CREATE TABLE members (project TEXT, user TEXT, role TEXT, PRIMARY KEY (project, user));
CREATE TABLE people (user TEXT PRIMARY KEY, bio TEXT, status TEXT);
CREATE TABLE forums (name TEXT PRIMARY KEY, about TEXT, subscribed INTEGER);
CREATE TABLE posts (id INTEGER PRIMARY KEY, forum TEXT, author TEXT, day TEXT, title TEXT, body TEXT, votes INTEGER,
                    mine INTEGER);
CREATE TABLE comments (id INTEGER PRIMARY KEY, post INTEGER, author TEXT, body TEXT);
"""
USERS = {"shopping": "mira.oland@example.com", "shopping_admin": "admin", "gitlab": "miraoland", "reddit": "miraoland"}
"""Who is logged in on each site."""
PASSWORD = "local-password"

_MAKERS = (
    "Norvale",
    "Tellin",
    "Osk & Rye",
    "Brindle",
    "Quarry Lane",
    "Havset",
    "Pellworth",
    "Umberly",
    "Korva",
    "Lintel",
)
_GOODS = {
    "Kitchen": ("Kettle", "Mixing Bowl", "Bread Knife", "Spice Rack", "Tea Strainer", "Baking Tray", "Pepper Mill"),
    "Garden": ("Watering Can", "Seed Tray", "Pruning Shears", "Bird Feeder", "Garden Lantern", "Plant Stand"),
    "Office": ("Desk Lamp", "Paper Tray", "Fountain Pen", "Wall Calendar", "Cable Box", "Book End"),
    "Sport": ("Yoga Mat", "Jump Rope", "Water Bottle", "Trail Backpack", "Foam Roller", "Bike Bell"),
}
_KINDS = ("Blue", "Slate", "Copper", "Oak", "Ivory", "Compact", "Large", "Folding")
_FIRST = (
    "Ada",
    "Bruno",
    "Celia",
    "Dario",
    "Elin",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kaia",
    "Leon",
    "Marta",
    "Nils",
)
_LAST = ("Abbas", "Brandt", "Castell", "Dunmore", "Ekholm", "Ferrant", "Galloway", "Hoss", "Ivarsen", "Jurado", "Keel")
_CITIES = ("Amberford", "Brackwater", "Coldspring", "Dunhaven", "Eastmere", "Fennbridge")
_PROJECTS = {
    "paperboat": "Turns folders of notes into a small web site",
    "tidepool": "A queue for jobs that may fail",
    "lanternfish": "Finds slow queries in log files",
    "cobblestone": "Layout of maps from plain text",
    "windrow": "Schedules irrigation from weather forecasts",
    "saltmarsh": "Checks data tables against rules",
}
_DOES = ("Add", "Fix", "Remove", "Document", "Test", "Speed up", "Rename", "Simplify")
_WHAT = (
    "the command line parser", "retry of failed jobs", "the export to PDF", "the cache of tiles", "error messages",
    "the migration notes", "time zones in reports", "the default settings", "unicode in file names", "the login page",
    "empty tables", "the progress bar", "the release script", "old configuration keys", "the index of words",
)  # fmt: skip
LABELS = ("bug", "feature", "docs", "question")
_FORUMS = {
    "homebaking": "Bread, cakes and what goes wrong with them",
    "smallgardens": "Growing things where there is no room",
    "nightsky": "Looking up, with and without a telescope",
    "oldradios": "Repair and collecting",
    "trailnotes": "Walks, routes and weather",
}
_ASKS = (
    "How do you keep",
    "What I learned about",
    "Is it worth it to repair",
    "Show us",
    "A question about",
    "Do not buy",
)
_TOPICS = {
    "homebaking": (
        "a sourdough starter",
        "rye crusts",
        "an old oven",
        "wet doughs",
        "cheap flour",
        "cold butter",
        "tins",
    ),
    "smallgardens": ("tomatoes in pots", "snails", "a balcony", "dry soil", "a rain barrel", "seedlings", "bean poles"),
    "nightsky": ("a tripod", "cloudy weeks", "star charts", "the summer meteors", "red lamps", "a first lens", "dew"),
    "oldradios": (
        "humming tubes",
        "a cracked case",
        "dial cord",
        "short wave",
        "loose knobs",
        "a flea market find",
        "wax",
    ),
    "trailnotes": (
        "wet boots",
        "the ridge path",
        "light tents",
        "early snow",
        "a paper map",
        "river crossings",
        "huts",
    ),
}


def _days(rng: random.Random, count: int, first: date, last: date) -> list[str]:
    span = (last - first).days
    return sorted((first + timedelta(days=rng.randrange(span))).isoformat() for _ in range(count))


def _shop(db: sqlite3.Connection, rng: random.Random) -> None:
    skus = []
    for category, goods in _GOODS.items():
        for number, (thing, kind) in enumerate((thing, kind) for thing in goods for kind in rng.sample(_KINDS, 2)):
            sku, name = f"{category[0]}{100 + number}", f"{rng.choice(_MAKERS)} {kind} {thing}"
            about = f"A {kind.lower()} {thing.lower()}, {rng.randint(10, 60)} cm, made to last."
            price = rng.randint(5, 90) + rng.choice((0.25, 0.5, 0.95, 0.99))
            db.execute(
                "INSERT INTO products VALUES (?,?,?,?,?,?)", (sku, name, category, price, rng.randint(0, 80), about)
            )
            skus.append(sku)
    people = [f"{one} {other}" for one, other in zip(_FIRST, rng.choices(_LAST, k=len(_FIRST)), strict=True)]
    for sku in skus:
        stars = rng.sample((1, 2, 3, 4, 5), 3)
        for author, star in zip(rng.sample(people, 3), stars, strict=True):
            row = (sku, author, star, rng.choice(("As shown", "After a month", "Gift", "Not sure")), "", "approved")
            db.execute("INSERT INTO reviews VALUES (NULL,?,?,?,?,?,?)", row)
    for author, sku in zip(people, rng.sample(skus, len(people)), strict=True):
        row = (sku, author, rng.randint(1, 5), f"Waiting: {author}", "", "pending")
        db.execute("INSERT INTO reviews VALUES (NULL,?,?,?,?,?,?)", row)
    customers = [(USERS["shopping"], "Mira Oland", "555-0100", "Amberford")]
    customers += [
        (f"{one.lower().replace(' ', '.')}@example.com", one, f"555-{rng.randint(1000, 9999)}", rng.choice(_CITIES))
        for one in people
    ]
    db.executemany("INSERT INTO customers VALUES (?,?,?,?)", customers)
    for number, day in enumerate(_days(rng, 60, date(2023, 1, 1), date(2023, 7, 1))):
        email = customers[0][0] if number % 5 == 0 else rng.choice(customers[1:])[0]
        status = rng.choice(("Complete", "Complete", "Pending", "Canceled", "Processing"))
        order = f"{1001 + number:09d}"
        db.execute("INSERT INTO orders VALUES (?,?,?,?)", (order, email, day, status))
        for sku in rng.sample(skus, rng.randint(1, 3)):
            (price,) = db.execute("SELECT price FROM products WHERE sku=?", (sku,)).fetchone()
            db.execute("INSERT INTO items VALUES (?,?,?,?)", (order, sku, rng.randint(1, 4), price))


def _forge(db: sqlite3.Connection, rng: random.Random) -> None:
    users = [f"{one.lower()}{other.lower()}" for one, other in zip(_FIRST, reversed(_LAST), strict=False)]
    for project, about in _PROJECTS.items():
        db.execute("INSERT INTO projects VALUES (?,?,?,0)", (project, about, rng.randint(3, 400)))
        messages = [f"{does} {what}" for does in _DOES for what in _WHAT]
        rng.shuffle(messages)
        days = _days(rng, 48, date(2023, 1, 1), date(2023, 7, 1))
        team = rng.sample(users, 4)
        for day, message in zip(days, messages, strict=False):
            commit = (f"{rng.getrandbits(32):08x}", project, rng.choice(team), day, message, rng.randint(1, 9))
            db.execute("INSERT INTO commits VALUES (?,?,?,?,?,?)", commit)
        for number, what in enumerate(rng.sample(_WHAT, 12), 1):
            state = "open" if number % 4 else "closed"
            title = f"{rng.choice(('Trouble with', 'Please improve', 'What about'))} {what}"
            issue = (project, number, title, rng.choice(LABELS), rng.choice(users), state, "Seen in the last release.")
            db.execute("INSERT INTO issues VALUES (?,?,?,?,?,?,?)", issue)
        db.executemany("INSERT INTO members VALUES (?,?,?)", [(project, one, "Developer") for one in team])
        db.execute("INSERT INTO members VALUES (?,?,?)", (project, USERS["gitlab"], "Owner"))
    db.executemany("INSERT INTO people VALUES (?,?,?)", [(one, "", "") for one in (USERS["gitlab"], *users)])


def _forum(db: sqlite3.Connection, rng: random.Random) -> None:
    users = [
        user for (user,) in db.execute("SELECT user FROM people WHERE user != ? ORDER BY user", (USERS["reddit"],))
    ]
    for forum, about in _FORUMS.items():
        db.execute("INSERT INTO forums VALUES (?,?,0)", (forum, about))
        titles = [f"{asks} {topic}" for asks in _ASKS for topic in _TOPICS[forum]]
        days = sorted({*_days(rng, 40, date(2023, 1, 1), date(2023, 7, 1))})  # no day twice, so one post is the newest
        for title, votes, day in zip(
            rng.sample(titles, 14), rng.sample(range(2, 400), 14), rng.sample(days, 14), strict=True
        ):
            row = (forum, rng.choice(users), day, title, "Tell me what you think.", votes)
            post = db.execute("INSERT INTO posts VALUES (NULL,?,?,?,?,?,?,0)", row).lastrowid
            for author in rng.sample(users, rng.randint(0, 6)):
                body = rng.choice(("I agree.", "Not for me.", "Thank you!", "Try it again in spring."))
                db.execute("INSERT INTO comments VALUES (NULL,?,?,?)", (post, author, body))


@lru_cache(maxsize=1)
def snapshot() -> bytes:
    """The database at the start of every episode; `sqlite3.Connection.deserialize` takes it in a millisecond."""
    rng = random.Random(2023)
    with sqlite3.connect(":memory:") as db:
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO logins VALUES (?,?,?)", [(site, "start", user) for site, user in USERS.items()])
        for part in (_shop, _forge, _forum):
            part(db, rng)
        db.commit()
        return db.serialize()
