"""A very small web framework for the local sites: requests, routes, pages and forms."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from .content import PASSWORD


@dataclass(frozen=True)
class Request:
    """`base`: the path that all of the site's addresses begin with; `path` is what follows it."""

    method: str
    path: str
    base: str
    values: dict[str, str]
    db: sqlite3.Connection
    user: str | None


@dataclass(frozen=True)
class Response:
    """An answer; `body` is HTML."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[..., Response]


class Site:
    """One site: its routes, its title, its menu, its login page. Without a login every page leads there."""

    def __init__(self, name: str, title: str, menu: dict[str, str], login: str, who: str, button: str) -> None:
        self.name, self.title, self.menu, self.login, self.who, self.button = name, title, menu, login, who, button
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def get(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._route("GET", pattern)

    def post(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._route("POST", pattern)

    def answer(self, request: Request) -> Response:
        if request.path == self.login:
            return self._log_in(request)
        if request.user is None:
            return redirect(request, self.login)
        for method, pattern, handler in self.routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                return handler(request, *found.groups())
        return self.page(request, "Not found", "<p>There is no such page.</p>", 404)

    def page(self, request: Request, title: str, body: str, status: int = 200) -> Response:
        menu = " ".join(link(request, path, text) for text, path in self.menu.items())
        nav = f"<nav>{menu}</nav>" if request.user else ""
        return Response(
            f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)} - {escape(self.title)}"
            f"</title></head><body><header>{nav}</header><main><h1>{escape(title)}</h1>{body}</main></body></html>",
            status,
        )

    def _route(self, method: str, pattern: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append((method, re.compile(pattern), handler))
            return handler

        return add

    def _log_in(self, request: Request) -> Response:
        if request.method == "POST":
            user = request.values.get("user", "")
            known = [row[0] for row in request.db.execute("SELECT user FROM logins WHERE site=?", (self.name,))]
            if user in known and request.values.get("password") == PASSWORD:
                done = redirect(request, "/")
                return Response("", done.status, done.headers | {"Set-Cookie": f"login=start; Path={request.base}"})
        fields = textbox(self.who, "user") + textbox("Password", "password", kind="password")
        return self.page(request, self.button, form(request, self.login, fields, self.button))


def redirect(request: Request, path: str) -> Response:
    return Response("", 303, {"Location": request.base + path})


def link(request: Request, path: str, text: str) -> str:
    return f'<a href="{escape(request.base + path)}">{escape(text)}</a>'


def address(path: str, **query: Any) -> str:
    return quote(path) + ("?" + urlencode(query) if query else "")


def textbox(label: str, name: str, value: str = "", kind: str = "text") -> str:
    return f'<label>{escape(label)} <input type={kind} name={name} value="{escape(value)}"></label> '


def area(label: str, name: str, value: str = "") -> str:
    return f"<label>{escape(label)} <textarea name={name}>{escape(value)}</textarea></label> "


def choice(label: str, name: str, options: Iterable[Any], chosen: Any = None) -> str:
    inner = "".join(f"<option{' selected' if one == chosen else ''}>{escape(str(one))}</option>" for one in options)
    return f"<label>{escape(label)} <select name={name}>{inner}</select></label> "


def form(request: Request, path: str, fields: str, button: str, method: str = "post") -> str:
    return (
        f'<form method={method} action="{escape(request.base + path)}">{fields}<button>{escape(button)}</button></form>'
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML."""
    head = "".join(f"<th>{escape(one)}</th>" for one in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(*texts: str) -> str:
    return "".join(f"<p>{escape(one)}</p>" for one in texts)


def money(amount: float) -> str:
    return f"${amount:,.2f}"
