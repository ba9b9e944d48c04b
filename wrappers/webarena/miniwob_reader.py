"""Agents on MiniWoB's pages that read states and instruction only, and so can act in a dream as well as for real."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from dreamgym_env.domains.miniwob_aims import Aim
from dreamgym_env.domains.miniwob_rules import aim_of, typed_on
from dreamgym_env.domains.web_page import Element, WebPage, page_of
from dreamgym_env.types import Task, Transition

_NAME = re.compile(r"(oracle|random|slips|careless)(?:-(0?\.\d+|[01]))?$")


class MiniWoBReader:
    """Does what the page asks for (`miniwob_rules.aim_of`). With probability `slip` it does anything else that the page
    offers, one time in six something impossible; with probability `careless` it does its own next step wrongly, or goes
    to the last click at once. `thought` is what it thought before its last action."""

    def __init__(self, slip: float, seed: int, careless: float = 0.0) -> None:
        self.slip, self.careless, self.rng, self.thought = slip, careless, random.Random(seed), ""

    def act(self, task: Task, state: str, available: Sequence[str], history: Sequence[Transition]) -> str:
        """The next action, as text."""
        self.thought = ""
        page = page_of(state)
        typed = typed_on(history)
        aim = aim_of(page, task.instruction, typed) if page else None
        if page is None or aim is None or self.rng.random() < self.slip:
            return self._wander(available)
        if self.rng.random() < self.careless:
            return self._wrong(page, aim, available)
        return self._right(page, aim)

    def _right(self, page: WebPage, aim: Aim) -> str:
        todo = next((want for want in aim.wants if not want.met), None)
        if todo is not None:
            self.thought = f"{todo.asked}, now {todo.shown or 'nothing'}"
            return todo.action
        if not aim.click:
            return "noop()"
        self.thought = f"{aim.asked}: {page.elements[aim.click[0]].line()}"
        return f"click('{aim.click[0]}')"

    def _wrong(self, page: WebPage, aim: Aim, available: Sequence[str]) -> str:
        todo = next((want for want in aim.wants if not want.met), None)
        if todo is None or self.rng.random() < 1 / 3:
            return self._click_like(page, aim, available)
        target = page.elements[todo.action.split("'")[1]]
        if todo.action.startswith("fill"):
            return f"fill('{target.number}', {self._other(todo.asked)!r})"
        if target.options:
            return f"select_option('{target.number}', {self.rng.choice(target.options)!r})"
        return f"click('{self._like(page, target).number}')"

    def _click_like(self, page: WebPage, aim: Aim, available: Sequence[str]) -> str:
        """The last click too early, or one on another element of its kind."""
        if not aim.click:
            return self._wander(available)
        meant = page.elements[aim.click[0]]
        early = not all(want.met for want in aim.wants)
        return f"click('{meant.number if early else self._like(page, meant).number}')"

    def _like(self, page: WebPage, element: Element) -> Element:
        return self.rng.choice([one for one in page.elements.values() if one.role == element.role])

    def _other(self, text: str) -> str:
        """Something like the text: cut, in other letters, or another word."""
        return self.rng.choice((text[:-1], text.lower(), text.upper(), text + "a", "Ivan", "42")) or "x"

    def _wander(self, available: Sequence[str]) -> str:
        if not available or self.rng.random() < 1 / 6:
            return self.rng.choice(
                ("click('99')", "press enter", "fill('1', 42)", "click('0')", "select_option('1', 'x')")
            )
        return self.rng.choice(list(available)).replace("<text>", self.rng.choice(("Ivan", "42", "sed", "Amy")))


class Demonstrator:
    """A reader as a policy for offline data."""

    def __init__(self, reader: MiniWoBReader) -> None:
        self.reader = reader

    @property
    def thought(self) -> str:
        return self.reader.thought

    def act(self, env: Any) -> str:
        """The next action, as text."""
        real = env.unwrapped
        available = real.domain.available_actions(real.state, ())
        return self.reader.act(real.task, real.state, available, real.transitions)


def demonstrator(name: str, seed: int) -> Demonstrator:
    """An agent by name: `oracle`, `slips-0.3` (does something else three times in ten), `careless-0.3` (does what it
    means to do wrongly three times in ten) or `random`.

    Raises:
        ValueError: no such name, or a number outside [0, 1].
    """
    match = _NAME.match(name)
    if not match or (match[1] in ("slips", "careless")) != bool(match[2]):
        raise ValueError(f"`policy` must be oracle, random, slips-P or careless-P, P in [0, 1], got {name!r}")
    share = float(match[2] or (match[1] == "random"))
    careless = match[1] == "careless"
    return Demonstrator(MiniWoBReader(0.0 if careless else share, seed, share if careless else 0.0))
