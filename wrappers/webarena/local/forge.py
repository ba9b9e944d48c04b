"""The local code host: projects with commits, issues, members and stars, and the user's profile."""

from __future__ import annotations

from html import escape
from itertools import groupby

from .content import LABELS
from .web import Request, Response, Site, area, choice, form, link, paragraph, redirect, table, textbox

FORGE = Site(
    "gitlab", "Forgeworks",
    {"Projects": "/", "Starred": "/starred", "My Profile": "/profile"},
    "/users/sign_in", "Username or email", "Sign in",
)  # fmt: skip
ROLES = ("Guest", "Reporter", "Developer", "Maintainer")
NAME = "([a-z]+)"


@FORGE.get("/")
def projects(request: Request) -> Response:
    return FORGE.page(request, "Projects", _listed(request, "1"))


@FORGE.get("/starred")
def starred(request: Request) -> Response:
    return FORGE.page(request, "Starred projects", _listed(request, "starred=1"))


def _listed(request: Request, where: str) -> str:
    rows = request.db.execute(f"SELECT name, description, stars FROM projects WHERE {where} ORDER BY name")
    cells = [(link(request, f"/{name}", name), escape(about), f"{stars} stars") for name, about, stars in rows]
    return table(("Project", "About", "Stars"), cells)


def _missing(request: Request, project: str) -> Response | None:
    if request.db.execute("SELECT 1 FROM projects WHERE name=?", (project,)).fetchone():
        return None
    return FORGE.page(request, "Not found", paragraph("There is no such project."), 404)


@FORGE.get("/profile")
def profile(request: Request) -> Response:
    bio, status = request.db.execute("SELECT bio, status FROM people WHERE user=?", (request.user,)).fetchone()
    body = paragraph(f"Current status: {status or 'none'}", f"About: {bio or 'nothing yet'}")
    return FORGE.page(
        request, "My Profile", body + form(request, "/profile", textbox("Your status", "status", status), "Set Status")
    )


@FORGE.post("/profile")
def set_status(request: Request) -> Response:
    request.db.execute("UPDATE people SET status=? WHERE user=?", (request.values.get("status", ""), request.user))
    return redirect(request, "/profile")


@FORGE.get(f"/{NAME}")
def project(request: Request, name: str) -> Response:
    if missing := _missing(request, name):
        return missing
    about, stars, mine = request.db.execute(
        "SELECT description, stars, starred FROM projects WHERE name=?", (name,)
    ).fetchone()
    (commits,) = request.db.execute("SELECT COUNT(*) FROM commits WHERE project=?", (name,)).fetchone()
    body = paragraph(about, f"{stars} stars") + form(request, f"/{name}/star", "", "Unstar" if mine else "Star")
    parts = {f"{commits} Commits": "commits", "Issues": "issues", "Members": "members"}
    body += "".join(f"<p>{link(request, f'/{name}/{path}', text)}</p>" for text, path in parts.items())
    return FORGE.page(request, name, body)


@FORGE.post(f"/{NAME}/star")
def star(request: Request, name: str) -> Response:
    request.db.execute(
        "UPDATE projects SET stars=stars + CASE starred WHEN 1 THEN -1 ELSE 1 END, starred=1-starred WHERE name=?",
        (name,),
    )
    return redirect(request, f"/{name}")


@FORGE.get(f"/{NAME}/commits")
def commits(request: Request, name: str) -> Response:
    rows = request.db.execute(
        "SELECT day, sha, message, author FROM commits WHERE project=? ORDER BY day DESC, rowid DESC", (name,)
    ).fetchall()
    body = ""
    for day, group in groupby(rows, key=lambda row: str(row[0])):
        entries = (
            f"<li>{link(request, f'/{name}/commit/{sha}', message)} by {author}</li>"
            for _, sha, message, author in group
        )
        body += f"<h2>{day}</h2><ul>{''.join(entries)}</ul>"
    return _missing(request, name) or FORGE.page(request, f"Commits of {name}", body)


@FORGE.get(f"/{NAME}/commit/([0-9a-f]+)")
def commit(request: Request, name: str, sha: str) -> Response:
    row = request.db.execute(
        "SELECT author, day, message, files FROM commits WHERE sha=? AND project=?", (sha, name)
    ).fetchone()
    if row is None:
        return FORGE.page(request, "Not found", paragraph("There is no such commit."), 404)
    author, day, message, files = row
    body = paragraph(f"Message: {message}", f"Author: {author}", f"Date: {day}", f"{files} files changed")
    return FORGE.page(request, f"Commit {sha}", body)


@FORGE.get(f"/{NAME}/issues")
def issues(request: Request, name: str) -> Response:
    label, state = request.values.get("label", "any"), request.values.get("state", "open")
    rows = request.db.execute(
        "SELECT number, title, label, author, state FROM issues WHERE project=? AND (label=? OR ?='any')"
        " AND (state=? OR ?='any') ORDER BY number DESC",
        (name, label, label, state, state),
    ).fetchall()
    fields = choice("Label", "label", ("any", *LABELS), label) + choice(
        "State", "state", ("open", "closed", "any"), state
    )
    body = form(request, f"/{name}/issues", fields, "Filter", "get") + paragraph(f"{len(rows)} issues found")
    body += table(
        ("Issue", "Label", "By", "State"),
        [(link(request, f"/{name}/issue/{number}", title), one, by, kind) for number, title, one, by, kind in rows],
    )
    new = textbox("Title", "title") + area("Description", "body") + choice("New label", "label", LABELS)
    body += "<h2>New issue</h2>" + form(request, f"/{name}/issues", new, "Create Issue")
    return _missing(request, name) or FORGE.page(request, f"Issues of {name}", body)


@FORGE.post(f"/{NAME}/issues")
def new_issue(request: Request, name: str) -> Response:
    title, body, label = (request.values.get(one, "") for one in ("title", "body", "label"))
    (number,) = request.db.execute("SELECT MAX(number) + 1 FROM issues WHERE project=?", (name,)).fetchone()
    if not title or label not in LABELS or number is None:
        return redirect(request, f"/{name}/issues")
    request.db.execute(
        "INSERT INTO issues VALUES (?,?,?,?,?,'open',?)", (name, number, title, label, request.user, body)
    )
    return redirect(request, f"/{name}/issue/{number}")


@FORGE.get(f"/{NAME}/issue/([0-9]+)")
def issue(request: Request, name: str, number: str) -> Response:
    row = request.db.execute(
        "SELECT title, label, author, state, body FROM issues WHERE project=? AND number=?", (name, int(number))
    ).fetchone()
    if row is None:
        return FORGE.page(request, "Not found", paragraph("There is no such issue."), 404)
    title, label, author, state, text = row
    body = paragraph(f"State: {state}", f"Label: {label}", f"Opened by {author}", text)
    button = "Close Issue" if state == "open" else "Reopen Issue"
    return FORGE.page(request, title, body + form(request, f"/{name}/issue/{number}", "", button))


@FORGE.post(f"/{NAME}/issue/([0-9]+)")
def turn_issue(request: Request, name: str, number: str) -> Response:
    request.db.execute(
        "UPDATE issues SET state=CASE state WHEN 'open' THEN 'closed' ELSE 'open' END WHERE project=? AND number=?",
        (name, int(number)),
    )
    return redirect(request, f"/{name}/issue/{number}")


@FORGE.get(f"/{NAME}/members")
def members(request: Request, name: str) -> Response:
    rows = request.db.execute("SELECT user, role FROM members WHERE project=? ORDER BY user", (name,))
    body = table(("User", "Role"), [(escape(user), f"Role: {role}") for user, role in rows])
    fields = textbox("Username", "user") + choice("Role", "role", ROLES)
    return _missing(request, name) or FORGE.page(
        request, f"Members of {name}", body + "<h2>Invite</h2>" + form(request, f"/{name}/members", fields, "Invite")
    )


@FORGE.post(f"/{NAME}/members")
def invite(request: Request, name: str) -> Response:
    user, role = request.values.get("user", ""), request.values.get("role", "")
    known = request.db.execute("SELECT 1 FROM people WHERE user=?", (user,)).fetchone()
    if known and role in ROLES and user != request.user:
        request.db.execute("INSERT OR REPLACE INTO members VALUES (?,?,?)", (name, user, role))
    return redirect(request, f"/{name}/members")
