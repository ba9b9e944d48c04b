"""Which addresses are an episode's sites, how pages name them, what is wrong with a page, and who logs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dreamgym_env.domains.web_page import WebPage
from dreamgym_env.types import EndReason

PUBLIC = {
    "shopping": "http://onestopmarket.com",
    "shopping_admin": "http://luma.com/admin",
    "reddit": "http://reddit.com",
    "gitlab": "http://gitlab.com",
    "wikipedia": "http://wikipedia.org",
    "map": "http://openstreetmap.org",
    "homepage": "http://homepage.com",
}
"""The names under which WebArena shows its sites to agents, wherever they run."""
LOGINS = {
    "shopping": "/customer/account/login",
    "gitlab": "/users/sign_in",
    "reddit": "/login",
    "shopping_admin": "/login",
}
"""Where each site asks who one is."""


class SiteMap:
    """The addresses of one environment's sites."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = dict(urls)
        self._longest = sorted(self.urls.items(), key=lambda pair: -len(pair[1]))

    def site_of(self, url: str) -> str | None:
        """The site that an address belongs to; None for another."""
        return next((name for name, base in self._longest if _under(url, base)), None)

    def public(self, url: str) -> str:
        """The address as pages show it, the same wherever the site runs."""
        site = self.site_of(url)
        return PUBLIC[site] + url[len(self.urls[site]) :] if site else url

    def private(self, url: str) -> str:
        """The address as the browser needs it."""
        for name, base in sorted(PUBLIC.items(), key=lambda pair: -len(pair[1])):
            if name in self.urls and _under(url, base):
                return self.urls[name] + url[len(base) :]
        return url

    def inside(self, url: str) -> bool:
        """Whether an agent may be there: on a site's host, or on an empty tab. Local sites share their host with those
        of other environments, so there it must be the site itself."""
        if url in ("", "about:blank", "chrome://newtab/") or self.site_of(url):
            return True
        hosts = {urlsplit(base).netloc for base in self.urls.values()}
        return len(hosts) > 1 and urlsplit(url).netloc in hosts


def problem_of(
    page: WebPage, url: str, others: list[str], status: int | None, sites: SiteMap
) -> tuple[EndReason, str] | None:
    """Why an episode cannot go on, and in words; None where nothing is wrong.

    Args:
        url: the address in view, `others` those of all tabs.
        status: the HTTP status that the page in view came with, None where it came with none (an empty tab).
    """
    if url.startswith("chrome-error://"):
        return "site_error", "no answer from the site"
    if outside := [one for one in others if not sites.inside(one) and not one.startswith("chrome-error://")]:
        return "left_sites", f"outside the task's sites: {outside[0]}"
    if status is not None and status >= 500:
        return "site_error", f"HTTP status {status} from {url}"
    if asks_login(page, url, sites):
        return "login_expired", f"a login is asked for at {url}"
    return None


def problem_of_answers(answers: Sequence[tuple[str, int]], sites: SiteMap) -> tuple[EndReason, str] | None:
    """Why pages that evaluators opened tell nothing of the agent, and in words; None where nothing is wrong.

    Args:
        answers: address and HTTP status of each, in order.
    """
    for url, status in answers:
        if status >= 500:
            return "site_error", f"HTTP status {status} from {url}, which the evaluator opened"
        if _is_login(url, sites):
            return "login_expired", f"a login is asked for at {url}, which the evaluator opened"
    return None


def asks_login(page: WebPage, url: str, sites: SiteMap) -> bool:
    """Whether the page is the login page of its site. The shop's administration shows it under any address."""
    if _is_login(url, sites):
        return True
    typed = any(one.role == "textbox" and one.name.startswith("Password") for one in page.elements.values())
    enter = any(one.role == "button" and one.name == "Sign in" for one in page.elements.values())
    return sites.site_of(url) == "shopping_admin" and typed and enter


class LocalLogin:
    """Takes the place of BrowserGym's `WebArenaInstance` for the local sites: their addresses, and logins by cookie."""

    def __init__(self, urls: Mapping[str, str], cookies: list[Any]) -> None:
        self.urls, self.home_url, self._cookies = dict(urls), "", cookies

    def ui_login(self, site: str, page: Any) -> None:
        page.context.add_cookies([one for one in self._cookies if one["url"] == self.urls[site]])


def _is_login(url: str, sites: SiteMap) -> bool:
    """Whether an address is where its site asks who one is."""
    site = sites.site_of(url)
    if site is None or site not in LOGINS:
        return False
    return urlsplit(url).path[len(urlsplit(sites.urls[site]).path) :].rstrip("/") == LOGINS[site]


def _under(url: str, base: str) -> bool:
    return url == base or url.startswith((base + "/", base + "?", base + "#"))
