"""The local sites on loopback: one HTTP server for all environments of a process, a database in memory for each."""

from __future__ import annotations

import sqlite3
import threading
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .content import snapshot
from .forge import FORGE
from .forum import FORUM
from .shop import SHOP
from .shop_admin import SHOP_ADMIN
from .web import Request, Response, Site

SITES: dict[str, Site] = {site.name: site for site in (SHOP, SHOP_ADMIN, FORGE, FORUM)}
_numbers = count()
_worlds: dict[str, LocalSites] = {}
_server: list[ThreadingHTTPServer] = []
_starting = threading.Lock()


class LocalSites:
    """The four sites of one environment, in a state of their own. `urls`: each site's address by its name."""

    def __init__(self) -> None:
        self.key = f"w{next(_numbers)}"
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.lock = threading.Lock()
        self.reset()
        _worlds[self.key] = self
        host = f"http://127.0.0.1:{_port()}"
        self.urls = {site: f"{host}/{self.key}/{site}" for site in SITES}

    def reset(self) -> None:
        """Everything as at the start, everyone logged in."""
        with self.lock:
            self.db.deserialize(snapshot())

    def log_out(self) -> None:
        """What an expired login looks like: the browser's cookies are worth nothing any more."""
        with self.lock:
            self.db.execute("UPDATE logins SET token='another'")

    def cookies(self) -> list[Any]:
        """For Playwright's `add_cookies`: the logins."""
        return [{"name": "login", "value": "start", "url": url} for url in self.urls.values()]

    def close(self) -> None:
        _worlds.pop(self.key, None)
        self.db.close()

    def answer(self, method: str, site: str, path: str, values: dict[str, str], token: str | None) -> Response:
        """What the site says; a request is one transaction."""
        with self.lock, self.db:
            found = self.db.execute("SELECT user FROM logins WHERE site=? AND token=?", (site, token)).fetchone()
            base = f"/{self.key}/{site}"
            return SITES[site].answer(Request(method, path, base, values, self.db, found[0] if found else None))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True)))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, form: dict[str, str]) -> None:
        parts = urlsplit(self.path)
        _, key, site, *rest = [*unquote(parts.path).split("/"), "", ""]
        world = _worlds.get(key)
        if world is None or site not in SITES:
            response = Response("no such site", 404)
        else:
            values = dict(parse_qsl(parts.query, keep_blank_values=True)) | form
            path = "/" + "/".join(rest).strip("/")
            response = world.answer(self.command, site, path, values, self._token())
        body = response.body.encode("utf-8")
        self.send_response(response.status)
        for name, value in {"Content-Type": "text/html; charset=utf-8", **response.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _token(self) -> str | None:
        try:
            return SimpleCookie(self.headers.get("Cookie", ""))["login"].value
        except (KeyError, CookieError):
            return None


def _port() -> int:
    with _starting:
        if not _server:
            server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, name="local-webarena", daemon=True).start()
            _server.append(server)
        return _server[0].server_port
