"""One Chromium for all web environments of a process: found where the system or Playwright keeps it, started once."""

from __future__ import annotations

import atexit
import inspect
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dreamgym_env.types import DreamGymError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What a system calls its Chromium, in the order in which they are tried."""
ARGUMENTS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-features=OverlayScrollbars,ExtendedOverlayScrollbars",
)  # fmt: skip
_running: dict[str, Any] = {}


class BrowserError(DreamGymError):
    """There is no browser, or it does not start; the message says what to install."""


def find_chromium(own: str = "") -> str:
    """The path of a Chromium: `DREAMGYM_CHROMIUM`, else Playwright's `own` where it is installed, else the system's.

    Raises:
        BrowserError: there is none; nothing is ever installed from here.
    """
    asked = os.environ.get("DREAMGYM_CHROMIUM")
    if asked:
        if not Path(asked).is_file():
            raise BrowserError(f"DREAMGYM_CHROMIUM must be a browser's executable, got {asked!r}")
        return asked
    found = own if own and Path(own).is_file() else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise BrowserError(
            "no Chromium was found: install the system's (`apt-get install chromium`) or Playwright's own"
            " (`playwright install chromium`), or set DREAMGYM_CHROMIUM to its executable"
        )
    return found


def browser() -> Any:
    """The running browser, started at the first call; a fork or a crash gets a new one.

    Raises:
        BrowserError: there is none, or it does not start.
    """
    if _running.get("pid") == os.getpid() and _running["browser"].is_connected():
        return _running["browser"]
    from browsergym.core import _get_global_playwright
    from browsergym.core.constants import BROWSERGYM_ID_ATTRIBUTE
    from playwright.sync_api import Error

    if _running and _running["pid"] != os.getpid():
        raise BrowserError("a browser does not survive a fork; use processes that are spawned, not forked")
    _lighten_playwright()
    playwright = _get_global_playwright()
    playwright.selectors.set_test_id_attribute(BROWSERGYM_ID_ATTRIBUTE)  # how BrowserGym's actions find elements
    path = find_chromium(playwright.chromium.executable_path)
    try:
        started = playwright.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), ignore_default_args=["--hide-scrollbars"]
        )
    except Error as error:
        raise BrowserError(f"{path} does not start: {error}") from error
    if not _running:
        atexit.register(_stop)
    _running.update(pid=os.getpid(), browser=started, playwright=playwright)
    return started


def _lighten_playwright() -> None:
    """Playwright 1.44 notes the whole stack at every call, twice and with source lines, for which `inspect` looks
    through all loaded modules: seconds a step where transformers is loaded. It uses frames and names alone."""
    for name in ("_sync_base", "_connection"):
        import_module(f"playwright._impl.{name}").inspect = SimpleNamespace(stack=_stack)  # type: ignore[attr-defined]


def _stack() -> list[inspect.FrameInfo]:
    """`inspect.stack()` of the caller, without source lines."""
    frames, frame = [], sys._getframe(1)
    while frame:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def _stop() -> None:
    if _running["pid"] == os.getpid():
        _running["browser"].close()
        _running["playwright"].stop()
