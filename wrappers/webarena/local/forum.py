"""The local forum: forums with posts, votes and comments, subscriptions, and the user's biography."""

from __future__ import annotations

from html import escape

from .web import Request, Response, Site, address, area, choice, form, link, paragraph, redirect, table, textbox

FORUM = Site(
    "reddit", "Common Room",
    {"Forums": "/", "Subscribed": "/subscribed", "Submit": "/submit", "My Page": "/me"},
    "/login", "Username", "Log in",
)  # fmt: skip
SORTS = {"New": "day DESC", "Top": "votes DESC", "Most commented": "talk DESC, votes DESC"}
NAME = "([a-z]+)"


@FORUM.get("/")
def forums(request: Request) -> Response:
    return FORUM.page(request, "Forums", _forums(request, "1"))


@FORUM.get("/subscribed")
def subscribed(request: Request) -> Response:
    return FORUM.page(request, "Subscribed forums", _forums(request, "subscribed=1"))


def _forums(request: Request, where: str) -> str:
    rows = request.db.execute(f"SELECT name, about FROM forums WHERE {where} ORDER BY name")
    return table(("Forum", "About"), [(link(request, f"/f/{name}", name), escape(about)) for name, about in rows])


@FORUM.get(f"/f/{NAME}")
def forum(request: Request, name: str) -> Response:
    row = request.db.execute("SELECT about, subscribed FROM forums WHERE name=?", (name,)).fetchone()
    if row is None:
        return FORUM.page(request, "Not found", paragraph("There is no such forum."), 404)
    sort = request.values.get("sort", "New")
    posts = request.db.execute(
        "SELECT id, title, author, day, votes, (SELECT COUNT(*) FROM comments WHERE post=posts.id) AS talk FROM posts"
        f" WHERE forum=? ORDER BY {SORTS.get(sort, 'day DESC')}",
        (name,),
    )
    body = paragraph(row[0]) + form(request, f"/f/{name}/subscribe", "", "Unsubscribe" if row[1] else "Subscribe")
    body += form(request, f"/f/{name}", choice("Sort by", "sort", SORTS, sort), "Sort", "get")
    body += table(
        ("Post", "By", "Date", "Votes", "Comments"),
        [
            (link(request, f"/f/{name}/{number}", title), author, day, f"{votes} points", f"{talk} comments")
            for number, title, author, day, votes, talk in posts
        ],
    )
    return FORUM.page(request, f"/f/{name}", body)


@FORUM.post(f"/f/{NAME}/subscribe")
def subscribe(request: Request, name: str) -> Response:
    request.db.execute("UPDATE forums SET subscribed=1-subscribed WHERE name=?", (name,))
    return redirect(request, f"/f/{name}")


@FORUM.get(f"/f/{NAME}/([0-9]+)")
def post(request: Request, name: str, number: str) -> Response:
    row = request.db.execute(
        "SELECT title, author, day, body, votes, mine FROM posts WHERE id=? AND forum=?", (int(number), name)
    ).fetchone()
    if row is None:
        return FORUM.page(request, "Not found", paragraph("There is no such post."), 404)
    title, author, day, text, votes, mine = row
    body = paragraph(f"Posted by {author} on {day}", f"{votes} points", text)
    said = "You upvoted this" if mine > 0 else "You downvoted this" if mine < 0 else "You have not voted"
    body += paragraph(said) + "".join(form(request, f"/f/{name}/{number}/{way}", "", way.title()) for way in _VOTES)
    talk = request.db.execute("SELECT author, body FROM comments WHERE post=? ORDER BY id", (int(number),)).fetchall()
    body += f"<h2>{len(talk)} comments</h2>" + table(
        ("By", "Comment"), [(escape(one), escape(two)) for one, two in talk]
    )
    return FORUM.page(
        request, title, body + form(request, f"/f/{name}/{number}/comment", area("Your comment", "body"), "Comment")
    )


_VOTES = {"upvote": 1, "downvote": -1}


@FORUM.post(f"/f/{NAME}/([0-9]+)/(upvote|downvote)")
def vote(request: Request, name: str, number: str, way: str) -> Response:
    request.db.execute(
        "UPDATE posts SET votes=votes - mine + ?, mine=? WHERE id=?", (_VOTES[way], _VOTES[way], int(number))
    )
    return redirect(request, f"/f/{name}/{number}")


@FORUM.post(f"/f/{NAME}/([0-9]+)/comment")
def comment(request: Request, name: str, number: str) -> Response:
    if body := request.values.get("body", "").strip():
        request.db.execute("INSERT INTO comments VALUES (NULL,?,?,?)", (int(number), request.user, body))
    return redirect(request, f"/f/{name}/{number}")


@FORUM.get("/submit")
def submit(request: Request) -> Response:
    names = [name for (name,) in request.db.execute("SELECT name FROM forums ORDER BY name")]
    fields = choice("Forum", "forum", names) + textbox("Title", "title") + area("Body", "body")
    return FORUM.page(request, "Create a post", form(request, "/submit", fields, "Create Post"))


@FORUM.post("/submit")
def create(request: Request) -> Response:
    name, title, body = (request.values.get(one, "") for one in ("forum", "title", "body"))
    if not title or not request.db.execute("SELECT 1 FROM forums WHERE name=?", (name,)).fetchone():
        return redirect(request, "/submit")
    row = (name, request.user, "2023-07-01", title, body, 1)
    number = request.db.execute("INSERT INTO posts VALUES (NULL,?,?,?,?,?,?,1)", row).lastrowid
    return redirect(request, f"/f/{name}/{number}")


@FORUM.get("/me")
def me(request: Request) -> Response:
    (bio,) = request.db.execute("SELECT bio FROM people WHERE user=?", (request.user,)).fetchone()
    body = paragraph(f"User: {request.user}", f"Biography: {bio or 'empty'}")
    return FORUM.page(
        request, "My Page", body + form(request, "/me", area("Edit biography", "bio", bio), "Save Biography")
    )


@FORUM.post("/me")
def save_me(request: Request) -> Response:
    request.db.execute("UPDATE people SET bio=? WHERE user=?", (request.values.get("bio", ""), request.user))
    return redirect(request, address("/me"))
