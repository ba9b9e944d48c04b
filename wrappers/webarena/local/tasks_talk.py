"""Templates of tasks on the local code host and in the local forum."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import date
from itertools import cycle

from .content import USERS
from .tasks import (
    DONE,
    Made,
    answer,
    at,
    button,
    exactly,
    fill,
    follow,
    link,
    opened,
    pick,
    say,
    select,
    shows,
    template,
)

_PROJECTS = "SELECT name FROM projects ORDER BY name"


@template("gitlab", "What is the message of the first commit of {{month}} 2023 in {{project}}?", held_out=True)
def first_commit(db: sqlite3.Connection) -> Iterator[Made]:
    for index, (project,) in enumerate(pick(db, _PROJECTS, 6)):
        month = date(2023, 2 + index % 4, 1)
        rows = db.execute(
            "SELECT day, message FROM commits WHERE project=? AND day LIKE ? ORDER BY day, rowid",
            (project, f"{month:%Y-%m}-%"),
        ).fetchall()
        if len(rows) > 1 and rows[0][0] != rows[1][0]:
            commits = len(db.execute("SELECT 1 FROM commits WHERE project=?", (project,)).fetchall())
            plan = [*follow(project, f"{commits} Commits"), link(rows[0][1]), say(f"Its message is: {rows[0][1]}")]
            yield {"month": f"{month:%B}", "project": project}, answer(rows[0][1]), plan


@template("gitlab", "Who made the latest commit in {{project}}?")
def latest_author(db: sqlite3.Connection) -> Iterator[Made]:
    for (project,) in pick(db, _PROJECTS, 6):
        rows = db.execute(
            "SELECT day, author, message FROM commits WHERE project=? ORDER BY day DESC, rowid DESC", (project,)
        ).fetchall()
        if rows[0][0] != rows[1][0]:
            plan = [*follow(project, f"{len(rows)} Commits", rows[0][2]), say(f"{rows[0][1]} made it.")]
            yield {"project": project}, answer(rows[0][1]), plan


@template("gitlab", "How many open issues of {{project}} have the label {{label}}?")
def count_issues(db: sqlite3.Connection) -> Iterator[Made]:
    query = (
        "SELECT project, label, COUNT(*) FROM issues WHERE state='open' GROUP BY project, label ORDER BY label, project"
    )
    for project, label, count in pick(db, query):
        plan = [*follow(project, "Issues"), select("Label", label), button("Filter"), say(str(count))]
        yield {"project": project, "label": label}, exactly(str(count)), plan


@template("gitlab", "Close the issue '{{title}}' of {{project}}.")
def close_issue(db: sqlite3.Connection) -> Iterator[Made]:
    for project, number, title in pick(
        db, "SELECT project, number, title FROM issues WHERE state='open' ORDER BY title"
    ):
        plan = [*follow(project, "Issues", title), button("Close Issue"), DONE]
        yield (
            {"title": title, "project": project},
            shows(at("gitlab", f"/{project}/issue/{number}"), "State: closed"),
            plan,
        )


@template("gitlab", "Open an issue in {{project}} with the title '{{title}}' and the label {{label}}.")
def open_issue(db: sqlite3.Connection) -> Iterator[Made]:
    titles = ("Crash on empty input", "Add a dark theme", "Explain the cache", "Which license is it?")
    labels = ("bug", "feature", "docs", "question")
    for (project,), title, label in zip(pick(db, _PROJECTS, 4), cycle(titles), cycle(labels), strict=False):
        plan = [
            *follow(project, "Issues"),
            fill("Title", title),
            select("New label", label),
            button("Create Issue"),
            DONE,
        ]
        scored = shows(at("gitlab", f"/{project}/issues"), f"{title}\t{label}\t{USERS['gitlab']}")
        yield {"project": project, "title": title, "label": label}, scored, plan


@template("gitlab", "Star the project {{project}}.")
def star(db: sqlite3.Connection) -> Iterator[Made]:
    for (project,) in pick(db, _PROJECTS, 4):
        yield {"project": project}, shows(at("gitlab", "/starred"), project), [link(project), button("Star"), DONE]


@template("gitlab", "Invite {{user}} to {{project}} as {{role}}.", held_out=True)
def invite(db: sqlite3.Connection) -> Iterator[Made]:
    for index, (project,) in enumerate(pick(db, _PROJECTS, 4)):
        (user,) = db.execute(
            "SELECT user FROM people WHERE user NOT IN (SELECT user FROM members WHERE project=?) ORDER BY user",
            (project,),
        ).fetchall()[index]
        role = ("Guest", "Reporter", "Developer", "Maintainer")[index]
        plan = [*follow(project, "Members"), fill("Username", user), select("Role", role), button("Invite"), DONE]
        scored = shows(at("gitlab", f"/{project}/members"), f"{user}\tRole: {role}")
        yield {"user": user, "project": project, "role": role}, scored, plan


@template("gitlab", "Set my status to '{{status}}'.")
def set_status(db: sqlite3.Connection) -> Iterator[Made]:
    for status in ("Busy", "On a train", "Reviewing", "Out until Monday"):
        plan = [link("My Profile"), fill("Your status", status), button("Set Status"), DONE]
        yield {"status": status}, shows(at("gitlab", "/profile"), f"Current status: {status}"), plan


@template("gitlab", "Show me the open issues of {{project}} with the label {{label}}.")
def filtered_issues(db: sqlite3.Connection) -> Iterator[Made]:
    labels = cycle(("question", "docs", "bug", "feature"))
    for (project,), label in zip(pick(db, _PROJECTS, 4), labels, strict=False):
        plan = [*follow(project, "Issues"), select("Label", label), button("Filter"), DONE]
        url = f"{at('gitlab', f'/{project}/issues')}?label={label}&state=open"
        yield {"project": project, "label": label}, opened(url), plan


@template("reddit", "Post '{{title}}' in the forum {{forum}}, with the text '{{body}}'.")
def submit(db: sqlite3.Connection) -> Iterator[Made]:
    said = (
        ("homebaking", "Oven too hot", "What can I do?"), ("nightsky", "Clear on Friday", "Bring a red lamp."),
        ("oldradios", "Found a dial", "Who needs one?"), ("trailnotes", "Bridge is closed", "Use the ford."),
    )  # fmt: skip
    (last,) = db.execute("SELECT MAX(id) FROM posts").fetchone()
    for forum, title, body in said:
        plan = [
            link("Submit"),
            select("Forum", forum),
            fill("Title", title),
            fill("Body", body),
            button("Create Post"),
            DONE,
        ]
        slots = {"title": title, "forum": forum, "body": body}
        yield slots, shows(at("reddit", f"/f/{forum}/{last + 1}"), title, body), plan


@template("reddit", "Upvote the newest post in the forum {{forum}}.")
def upvote(db: sqlite3.Connection) -> Iterator[Made]:
    for (forum,) in db.execute("SELECT name FROM forums ORDER BY name").fetchall():
        number, title = db.execute("SELECT id, title FROM posts WHERE forum=? ORDER BY day DESC", (forum,)).fetchone()
        plan = [*follow(forum, title), button("Upvote"), DONE]
        yield {"forum": forum}, shows(at("reddit", f"/f/{forum}/{number}"), "You upvoted this"), plan


@template("reddit", "How many comments has the post with the most points in the forum {{forum}}?")
def talk(db: sqlite3.Connection) -> Iterator[Made]:
    for (forum,) in db.execute("SELECT name FROM forums ORDER BY name").fetchall():
        number, title = db.execute("SELECT id, title FROM posts WHERE forum=? ORDER BY votes DESC", (forum,)).fetchone()
        (count,) = db.execute("SELECT COUNT(*) FROM comments WHERE post=?", (number,)).fetchone()
        plan = [link(forum), select("Sort by", "Top"), button("Sort"), link(title), say(str(count))]
        yield {"forum": forum}, exactly(str(count)), plan


@template("reddit", "Open the post with the most points in the forum {{forum}}.")
def open_top(db: sqlite3.Connection) -> Iterator[Made]:
    for (forum,) in db.execute("SELECT name FROM forums ORDER BY about").fetchall():
        number, title = db.execute("SELECT id, title FROM posts WHERE forum=? ORDER BY votes DESC", (forum,)).fetchone()
        plan = [link(forum), select("Sort by", "Top"), button("Sort"), link(title), DONE]
        yield {"forum": forum}, opened(at("reddit", f"/f/{forum}/{number}")), plan


@template("reddit", "Write the comment '{{text}}' under the post '{{title}}' in the forum {{forum}}.", held_out=True)
def comment(db: sqlite3.Connection) -> Iterator[Made]:
    words = ("Mine too.", "Have a look at the manual.", "Which one?", "Great picture!", "I sold it.")
    for text, (forum, number, title) in zip(
        words, pick(db, "SELECT forum, id, title FROM posts ORDER BY id"), strict=True
    ):
        plan = [*follow(forum, title), fill("Your comment", text), button("Comment"), DONE]
        scored = shows(at("reddit", f"/f/{forum}/{number}"), f"{USERS['reddit']}\t{text}")
        yield {"text": text, "title": title, "forum": forum}, scored, plan


@template("reddit", "Subscribe to the forum {{forum}}.")
def subscribe(db: sqlite3.Connection) -> Iterator[Made]:
    for (forum,) in pick(db, "SELECT name FROM forums ORDER BY name", 4):
        yield {"forum": forum}, shows(at("reddit", "/subscribed"), forum), [link(forum), button("Subscribe"), DONE]


@template("reddit", "Change my biography to '{{text}}'.", held_out=True)
def biography(db: sqlite3.Connection) -> Iterator[Made]:
    for text in ("Bakes on Sundays", "Lives by the sea", "Collects maps", "Asks too much"):
        plan = [link("My Page"), fill("Edit biography", text), button("Save Biography"), DONE]
        yield {"text": text}, shows(at("reddit", "/me"), f"Biography: {text}"), plan
