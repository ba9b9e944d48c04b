"""What tests in a real browser need: Chromium and the extra, or a reason to skip; and a page server that misbehaves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import gymnasium as gym

import dreamgym_env  # noqa: F401 (registers the environments)


def missing(*packages: str) -> str | None:
    """Why there is no browser to test in, or None.

    Raises:
        RuntimeError: there is none although `DREAMGYM_TEST_BROWSER` says that there must be one, as .ci/run does.
    """
    reason = _missing(*packages)
    if reason and os.environ.get("DREAMGYM_TEST_BROWSER"):
        raise RuntimeError(reason)
    return reason


def _missing(*packages: str) -> str | None:
    for name in ("browsergym", "playwright", "miniwob", *packages):
        if find_spec(name) is None:
            return f"needs dreamgym-env[webarena]: {name} is not installed"
    from playwright.sync_api import sync_playwright

    from dreamgym_env.wrappers.webarena.browser import BrowserError, find_chromium

    try:
        find_chromium()
    except BrowserError:
        with sync_playwright() as playwright:
            try:
                find_chromium(playwright.chromium.executable_path)
            except BrowserError as error:
                return str(error)
    return None


def make_miniwob(**settings: Any) -> gym.Env[str, str]:
    return gym.make("Real-MiniWoB-v0", **settings)


def make_local(**settings: Any) -> gym.Env[str, str]:
    return gym.make("Real-WebArena-v0", sites="local", **settings)


class _Odd(BaseHTTPRequestHandler):
    """`/ok` and `/` answer, `/error` says 500, `/slow` says nothing for long, `/half` stops in the middle, `/private`
    asks for a login; links lead away, in the same tab and in a new one. Whatever is posted is refused with 501."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(20)
        if self.path == "/private":
            self.send_response(302)
            self.send_header("Location", "/login")
            self.end_headers()
            return
        self.send_response(500 if self.path.startswith("/error") else 200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        links = "".join(f"<p><a href='/{name}'>{name}</a></p>" for name in ("ok", "error", "slow", "half"))
        other = f"http://localhost:{self.server.server_address[1]}/ok"
        links += f"<p><a href='{other}'>away</a></p><p><a href='{other}' target='_blank'>new tab</a></p>"
        self.wfile.write(f"<title>{self.path}</title><h1>Odd</h1>{links}".encode())
        if self.path.startswith("/half"):
            self.wfile.flush()
            time.sleep(20)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def odd_site() -> Iterator[str]:
    """The address of a site where things go wrong."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
