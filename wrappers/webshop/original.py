"""`backend="original"`: drives the user's own installation of WebShop's `web_agent_site`, with our ids and pages."""

from __future__ import annotations

import io
import itertools
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dreamgym_env.domains.webshop_pages import (
    DonePage,
    ItemPage,
    Page,
    ResultsPage,
    Row,
    SearchPage,
    SubPage,
    SubPageName,
)

from .engine import label, parse_action
from .goals import GoalKind
from .text import line

_HEADER = re.compile(r"Page (\d+) \(Total results: (\d+)\)")
_SUB_PAGES: tuple[tuple[str, SubPageName], ...] = (
    ("p.attribute", "Attributes"),
    ("[name=reviews]", "Reviews"),
    ("[name=bulletpoints]", "Features"),
)
_visits = itertools.count()


class OriginalVisit:
    """One episode in the original, over a server that all visits share."""

    def __init__(self, server: Any, goal_index: int) -> None:
        from web_agent_site.envs.web_agent_text_env import WebAgentTextEnv

        self._env = WebAgentTextEnv(observation_mode="text", server=server, session_prefix=f"visit{next(_visits)}-")
        server.user_sessions.pop(self._env.session, None)  # the constructor has begun a random session
        self._env.reset(session=goal_index)
        self._score: float | None = None

    def __reduce__(self) -> Any:
        raise TypeError("an episode of backend='original' cannot be pickled; pickle the environment before reset()")

    def __del__(self) -> None:
        env = getattr(self, "_env", None)
        if env is not None:  # the original keeps every session for ever
            env.server.user_sessions.pop(env.session, None)

    @property
    def score(self) -> float | None:
        return self._score

    def act(self, action: str) -> bool:
        possible = self._possible(action)
        _, reward, done, _ = self._env.step(action)
        if done:
            self._score = float(reward)
        return possible

    def _possible(self, action: str) -> bool:
        name, argument = parse_action(action)
        clickables = self.available()["clickables"]
        return argument is not None and (
            name == "search" or (name == "click" and argument.lower() in clickables and argument.lower() != "search")
        )

    def page(self) -> Page:
        chosen = self._env.server.user_sessions[self._env.session]["options"]
        return page_of_html(self._env.browser.page_source, chosen)

    def simple_text(self) -> str:
        return str(self._env.convert_html_to_text(self._env.browser.page_source, simple=True))

    def rich_text(self) -> str:
        return str(self._env.convert_html_to_text(self._env.browser.page_source, simple=False))

    def available(self) -> dict[str, Any]:
        return dict(self._env.get_available_actions())


class OriginalBackend:
    """The original's server with its goals; loaded once in a process for each set of arguments."""

    def __init__(self, num_products: int | None, goals: GoalKind, seed: int, show_attributes: bool) -> None:
        self._key = (num_products, goals, seed, show_attributes)
        self._server = _server(*self._key)

    def __reduce__(self) -> Any:
        return OriginalBackend, self._key

    @property
    def instructions(self) -> Sequence[str]:
        return tuple(goal["instruction_text"] for goal in self._server.goals)

    def visit(self, goal_index: int, rng: random.Random) -> OriginalVisit:
        return OriginalVisit(self._server, goal_index)


@lru_cache(maxsize=2)
def _server(num_products: int | None, goals: GoalKind, seed: int, show_attributes: bool) -> Any:
    """The original draws prices from the global generator: it is seeded here and put back afterwards."""
    try:
        from rich.console import Console
        from web_agent_site.envs.web_agent_text_env import SimServer
        from web_agent_site.utils import DEFAULT_FILE_PATH
    except ImportError as error:
        raise ImportError(
            f"backend='original' needs WebShop's own code with its requirements on the path ({error}); "
            "see https://github.com/princeton-nlp/WebShop, or use backend='native'"
        ) from error
    Console(file=io.StringIO()).print("")  # rich draws a random number at its first use, which would shift the prices
    state = random.getstate()
    random.seed(seed)
    try:
        return SimServer(
            "http://127.0.0.1:3000",
            DEFAULT_FILE_PATH,
            num_products=num_products,
            human_goals=goals == "human",
            show_attrs=show_attributes,
        )
    finally:
        random.setstate(state)


def page_of_html(html: str, chosen: Mapping[str, str]) -> Page:
    """The abstract page that one of the original's HTML pages shows; `chosen` maps option names to chosen values."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    if soup.find(id="search_input"):
        return SearchPage()
    if soup.find(id="thankyou"):
        return DonePage()
    if header := _HEADER.search(_first_text(soup.find("h3"))):
        rows = zip(*(soup.select(f".product-{part}") for part in ("link", "title", "price")), strict=True)
        shown = tuple(Row(*(line(_first_text(part)) for part in row)) for row in rows)
        return ResultsPage(int(header[1]), int(header[2]), shown)
    return _item_page(soup, chosen) if soup.select(".purchase") else _sub_page(soup)


def _first_text(tag: Any) -> str:
    """Only the first text: the original closes its headings wrongly, so that later elements count as theirs."""
    return str(tag.contents[0]) if tag is not None and tag.contents else ""


def _item_page(soup: Any, chosen: Mapping[str, str]) -> ItemPage:
    options: dict[str, list[str]] = {}
    for radio in soup.select("input[type=radio]"):
        options.setdefault(radio["name"], []).append(radio["value"])
    facts = [_first_text(tag) for tag in soup.find_all("h4")]
    price, rating = (
        next(fact.removeprefix(name) for fact in facts if fact.startswith(name)) for name in ("Price: ", "Rating: ")
    )
    labels = {label(name): tuple(filter(None, map(label, values))) for name, values in options.items()}
    buttons = {button.get_text() for button in soup.select(".btn")}
    names: tuple[SubPageName, ...] = ("Description", "Features", "Reviews", "Attributes")
    return ItemPage(
        title=line(_first_text(soup.find("h2"))),
        price=price,
        rating=rating,
        options=tuple((name, values) for name, values in labels.items() if values),
        chosen=tuple((label(name), label(chosen[name])) for name in options if name in chosen),
        sub_pages=tuple(name for name in names if name in buttons),
    )


def _sub_page(soup: Any) -> SubPage:
    name: SubPageName = next((name for selector, name in _SUB_PAGES if soup.select(selector)), "Description")
    texts = [line(tag.get_text()) for tag in soup.select("p.product-info, p.attribute, h5")]
    return SubPage(name, tuple(text for text in texts if text))
