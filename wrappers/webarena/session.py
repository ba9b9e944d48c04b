"""`Session`: BrowserGym's environment on the shared browser, with what a state text needs and nothing else."""

from __future__ import annotations

import time
from typing import Any

from browsergym.core.action import functions
from browsergym.core.action.highlevel import HighLevelActionSet
from browsergym.core.env import BrowserEnv
from browsergym.core.observation import (
    MarkingError,
    _post_extract,
    _pre_extract,
    extract_dom_extra_properties,
    extract_dom_snapshot,
    extract_merged_axtree,
)
from browsergym.core.task import AbstractBrowserTask
from playwright.sync_api import Error, Page, Request, Response
from playwright.sync_api import TimeoutError as TimeoutError_

from .axtree import css_names
from .browser import browser

_TRIES = 5
_TELL_ACTIVE = """(() => {
  const tell = () => window.browsergym_page_activated();
  const names = "focus focusin load pageshow mousemove mouseup mousedown wheel keyup keydown input touchstart touchend";
  tell();
  for (const name of names.split(" ")) window.addEventListener(name, tell, {capture: true});
  document.addEventListener("visibilitychange", () => document.hidden || tell(), {capture: true});
})()"""
"""Tells BrowserGym which tab is in view, in every page."""


class NotLoaded(Exception):
    """A page did not answer in time, or stopped in the middle."""


class Messages:
    """BrowserGym's chat without its browser window: what was said, as dictionaries with `role` and `message`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def add_message(self, role: str, msg: str) -> None:
        self.messages.append({"role": role, "timestamp": time.time(), "message": msg})

    def close(self) -> None:
        pass


class Session(BrowserEnv):  # type: ignore[misc]
    """One task at a time in one browser context. `begin` takes the place of BrowserGym's `reset`, which starts two
    browsers each time; `step` is BrowserGym's own. `settle`: seconds to wait after an action before looking."""

    browser: Any
    context: Any
    page: Any
    task: Any
    chat: Any

    def __init__(self, settle: float) -> None:
        super().__init__(AbstractBrowserTask, action_mapping=self._code, pre_observation_delay=settle)
        self.statuses: dict[Page, int] = {}
        self.answers: list[tuple[str, int]] = []
        """Address and HTTP status of each page that was opened in a tab, in order."""
        self._pending: set[Request] = set()

    def begin(self, task: AbstractBrowserTask, keep_context: bool) -> str:
        """Opens a task; returns its goal. `keep_context` keeps the context and one of its tabs, without cookies, which
        is faster and the same where pages store nothing else.

        Raises:
            playwright.sync_api.Error: a page of the task's setup does not open.
            NotLoaded: it does, but not in time or not whole.
        """
        started = browser()
        if self.context is not None and not (keep_context and self.context.browser is started and self._clean()):
            self._close_context()
        if self.task is not None:
            self.task.teardown()
        self.task, self.browser = task, started
        if self.context is None:
            self._open_context(task)
        if self.page is None:
            self.page = self.context.new_page()
        self.chat, self.start_time = Messages(), time.time()
        self.last_action = self.last_action_error = ""
        self.infeasible_message_received = False
        goal, _ = task.setup(page=self.page)
        self.chat.add_message("user", goal)
        self._wait_dom_loaded()
        self.context.cookies()  # lets waiting callbacks run
        self._active_page_check()
        return str(goal)

    def _code(self, action: str) -> str:
        """Python code for BrowserGym: its functions and the call, which `domains.web_actions` made of literals alone.

        BrowserGym gives a click half a second: too short on a busy machine, where one that would do seems impossible.
        Three are less than a page may take, or a page that does not answer would pass for a slow one.
        """
        longest = min(3000, self.task.timeout // 2)
        return f"{_ACTIONS.python_includes.replace('timeout=500', f'timeout={longest}')}\n{action}\n"

    def close(self) -> None:
        """Closes the context; the browser stays for others."""
        self._close_context()
        if self.task is not None:
            self.task.teardown()
        self.browser = self.task = self.chat = None

    def _open_context(self, task: AbstractBrowserTask) -> None:
        self.context = self.browser.new_context(viewport=task.viewport, locale="en-US", timezone_id="UTC")
        self.context.set_default_timeout(task.timeout)
        self.context.expose_binding(
            "browsergym_page_activated", lambda source: self._activate_page_from_js(source["page"])
        )
        self.context.add_init_script(_TELL_ACTIVE)
        self.context.on("request", self._asked)
        self.context.on("response", self._answered)
        self.context.on("requestfailed", lambda request: self._pending.discard(request))

    def _clean(self) -> bool:
        """Whether the context could be emptied for another task: one tab, no cookies."""
        try:
            for page in self.context.pages[:-1]:
                page.close()
            self.context.clear_cookies()
        except Error:
            return False
        self.page = self.context.pages[0] if self.context.pages else None
        self.page_history = {} if self.page is None else {self.page: None}
        self._forget()
        return True

    def _close_context(self) -> None:
        if self.context is not None and self.browser is not None and self.browser.is_connected():
            self.context.close()
        self.context = self.page = None
        self.page_history = {}
        self._forget()

    def _forget(self) -> None:
        self.statuses.clear()
        self.answers.clear()
        self._pending.clear()

    def _asked(self, request: Request) -> None:
        if request.is_navigation_request() and _page_of(request) is not None:
            self._pending.add(request)

    def _answered(self, response: Response) -> None:
        self._pending.discard(response.request)
        if response.request.is_navigation_request() and (page := _page_of(response.request)):
            self.statuses[page] = response.status
            self.answers.append((response.url, response.status))

    def _wait_dom_loaded(self) -> None:
        """Waits for the page in view: for an answer where one was asked for, then for all of it, for as long as the
        task's `timeout` says. Pictures and the like may be late, the text may not.

        Raises:
            NotLoaded: the answer, or its end, did not come. Such a page is not looked at: that would block.
        """
        deadline = time.monotonic() + self.task.timeout / 1000
        while self._pending and time.monotonic() < deadline:
            self.page.wait_for_timeout(20)
        if self._pending:
            raise NotLoaded(f"no answer in {self.task.timeout / 1000:g} s from {next(iter(self._pending)).url}")
        try:
            self.page.wait_for_load_state("load", timeout=1000 * max(deadline - time.monotonic(), 0.05))
        except TimeoutError_:
            if self.page.evaluate("document.readyState") == "loading":
                raise NotLoaded(f"only half a page in {self.task.timeout / 1000:g} s from {self.page.url}") from None

    def _get_obs(self) -> dict[str, Any]:
        """The accessibility tree, boxes and marks of the tab in view, and what tabs there are."""
        for left in reversed(range(_TRIES)):
            try:
                _pre_extract(self.page, tags_to_mark="standard_html", lenient=left == 0)
                dom = extract_dom_snapshot(self.page)
                tree = extract_merged_axtree(self.page)
                break
            except (Error, MarkingError):  # the page moved on while it was read
                if left == 0:
                    raise
                time.sleep(0.2)
                self._wait_dom_loaded()
        _post_extract(self.page)
        marks, names = extract_dom_extra_properties(dom, scale_factor=1.0), css_names(dom)
        return {
            "axtree_object": tree,
            "extra_element_properties": {key: mark | {"css": names.get(key, "")} for key, mark in marks.items()},
            "url": self.page.url,
            "open_pages_titles": [page.title() for page in self.context.pages],
            "active_page_index": self.context.pages.index(self.page),
        }


def _page_of(request: Request) -> Page | None:
    """The tab that a request is for where it is for the tab itself and not for a frame in it."""
    try:
        return request.frame.page if request.frame.parent_frame is None else None
    except Error:  # a tab that is just being opened has no frame yet
        return None


_ACTIONS = HighLevelActionSet(
    subsets=["bid", "nav", "tab", "chat", "infeas", "custom"], custom_actions=[functions.noop]
)
