"""Agents for offline data on the local sites: an oracle that follows a task's plan, weaker ones, one at random."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dreamgym_env.domains.web_actions import ENDS
from dreamgym_env.domains.web_goals import reached
from dreamgym_env.domains.web_page import Element, Text, WebPage, find_element
from dreamgym_env.domains.web_trail import Key, link_key, target_key
from dreamgym_env.types import Task, Transition

from .tasks import Move, plan_of

_NAME = re.compile(r"(oracle|random|crawler|surveyor|slips|careless)(?:-(0?\.\d+|[01]))?$")
LONG = 4000
"""Pixels of one scroll; more than a cut page shows."""


class Oracle:
    """Follows the plan of the episode's task by what the page shows, scrolls where that is cut, and begins again from
    the start page where the plan does not fit what it sees."""

    def __init__(self, slip: float = 0.0, seed: int = 0) -> None:
        self.slip, self.rng = slip, random.Random(seed)
        self.done, self.scrolled = 0, False
        self.thought = ""
        """What the last action was meant to do, or what an answer rests on; "" where it was none of the plan."""

    def act(self, env: Any) -> str:
        """The next action, as text."""
        real = env.unwrapped
        self.thought = ""
        if not real.transitions:
            self.done, self.scrolled = 0, False
        if self.rng.random() < self.slip:
            return self._slip(real)
        plan = plan_of(int(real.task.task_id.removeprefix("local-")))
        move = plan[self.done]
        if not move.role:
            message = self._said(real.page, move)
            self.thought = grounds(real.task, real.transitions, message)
            return f"{move.verb}({message!r})"
        element = find_element(real.page, move.role, move.name, move.after)
        if element is not None:
            self.done, self.scrolled = self.done + 1, False
            action = self._done(real.page, move, element)
            self.thought = thought_of(move) if action == action_on(move, element) else ""
            return action
        if real.page.below and not self.scrolled:
            self.scrolled = True
            return f"scroll(0, {LONG})"
        self.done, self.scrolled = 0, False
        return f"goto({real.page.url.split('/')[0] + '//' + real.page.url.split('/')[2]!r})"

    def _done(self, page: WebPage, move: Move, element: Element) -> str:
        """The move as an action on its element."""
        return action_on(move, element)

    def _said(self, page: WebPage, move: Move) -> str:
        """What is said at the end."""
        return move.value

    def _slip(self, real: Any) -> str:
        """Something that the page offers and that does not end the episode, or one time in six something impossible."""
        if self.rng.random() < 1 / 6:
            return self.rng.choice(("click('999')", "fill('1', 'lamp')", "press enter", "click('0')"))
        offered = [one for one in real.domain.available_actions(real.state, ()) if one.partition("(")[0] not in ENDS]
        return str(self.rng.choice(offered)).replace("<text>", self.rng.choice(("lamp", "bread", "today", "42")))


def action_on(move: Move, element: Element) -> str:
    """The move as an action on this element."""
    rest = f", {move.value!r}" if move.verb in ("fill", "select_option") else ""
    return f"{move.verb}('{element.number}'{rest})"


def thought_of(move: Move) -> str:
    """What the move means to do, and in whose row where several elements have the name."""
    return f"{move.verb} {move.role} {move.name}" + (f" of {move.after}" if move.after else "")


def grounds(task: Task, history: Sequence[Transition], message: str) -> str:
    """The line of a page that a right answer rests on (`row 'Ada Castell | 4 stars | Gift'`), without its number; ""
    for a wrong one."""
    found = reached(task, history, message)
    return re.sub(r"^\[\d+\] ", "", found.lines[-1]) if found.met and found.lines else ""


class Careless(Oracle):
    """Does a move of the plan wrongly with probability `careless` (another element, option, text or answer) and goes on
    as if it had been right, or says that it is done too early."""

    def __init__(self, careless: float, seed: int) -> None:
        super().__init__(0.0, seed)
        self.careless = careless

    def act(self, env: Any) -> str:
        """The next action, as text."""
        if self.rng.random() < self.careless / 6:
            return f"send_msg_to_user({self._other_text(env.unwrapped.page, 'Done.')!r})"
        return super().act(env)

    def _done(self, page: WebPage, move: Move, element: Element) -> str:
        if self.rng.random() >= self.careless:
            return super()._done(page, move, element)
        if move.verb == "fill":
            return f"fill('{element.number}', {self._other_text(page, '42')!r})"
        if move.verb == "select_option":
            return f"select_option('{element.number}', {self.rng.choice(element.options or (move.value,))!r})"
        alike = [one for one in page.elements.values() if one.role == element.role and "disabled" not in one.flags]
        return f"click('{self.rng.choice(alike).number}')"

    def _said(self, page: WebPage, move: Move) -> str:
        wrong = move.value != "Done." and self.rng.random() < self.careless
        return self._other_text(page, "None.") if wrong else move.value

    def _other_text(self, page: WebPage, rest: str) -> str:
        """Something that the page shows, or one time in three what is said anyway."""
        texts = [cell for line in page.lines if isinstance(line, Text) for cell in line.text.split(" | ")]
        return self.rng.choice(texts) if texts and self.rng.random() < 2 / 3 else rest


class Random(Oracle):
    """Anything that the page offers, answers included."""

    def __init__(self, seed: int) -> None:
        super().__init__(1.0, seed)

    def _slip(self, real: Any) -> str:
        if self.rng.random() < 0.03:
            return "send_msg_to_user('Done.')"
        return super()._slip(real)


class Crawler(Oracle):
    """Opens link after link, each once in an episode and sooner those that few of its pages have shown (a site's menu
    is on all of them), and goes back; one time in eight it does anything else. It is done after about 14 steps."""

    def __init__(self, seed: int) -> None:
        super().__init__(0.0, seed)
        self.seen, self.opened = Counter[Key](), set[Key]()

    def act(self, env: Any) -> str:
        """The next action, as text."""
        real = env.unwrapped
        if not real.transitions:
            self.seen, self.opened = Counter(), set()
        links = {
            link_key(real.page, one): f"click('{one.number}')"
            for one in real.page.elements.values()
            if one.role == "link" and "disabled" not in one.flags
        }
        self.seen.update(links.keys())
        if real.transitions and self.rng.random() < 1 / 14:
            return "send_msg_to_user('Done.')"
        if self.rng.random() < 1 / 8:
            return self._slip(real)
        fresh = [key for key in links if key not in self.opened]
        weights = [self.seen[key] ** -2 for key in fresh]
        if real.transitions and self.rng.random() < 0.25 / (0.25 + sum(weights)):
            return "go_back()"
        if not fresh:
            return self._slip(real)
        (key,) = self.rng.choices(fresh, weights)
        self.opened.add(key)
        return links[key]


class Surveyor(Oracle):
    """Opens each link of the sites once in all of the episodes that share `survey`: one that is in view, else it goes
    to the address of a page that has one. It is done after about 14 steps.

    Args:
        survey: where each link stands that was seen, None of those that were opened; is added to.
    """

    def __init__(self, seed: int, survey: dict[Key, str | None]) -> None:
        super().__init__(0.0, seed)
        self.survey = survey

    def act(self, env: Any) -> str:
        """The next action, as text."""
        real = env.unwrapped
        page: WebPage = real.page
        links = {target_key(page, one): one for one in page.elements.values() if one.role == "link"}
        for key in links:
            self.survey.setdefault(key, page.url)
        fresh = [key for key in links if self.survey[key] is not None]
        if real.transitions and self.rng.random() < 1 / 14:
            return "send_msg_to_user('Done.')"
        if fresh:
            key = self.rng.choice(fresh)
            self.survey[key] = None
            return f"click('{links[key].number}')"
        if page.below:
            return f"scroll(0, {LONG})"
        self.survey.update({key: None for key, url in self.survey.items() if url == page.url})  # they are gone
        url = next((one for one in self.survey.values() if one is not None), None)
        return f"goto({url!r})" if url else "send_msg_to_user('Done.')"


def demonstrator(name: str, seed: int, survey: dict[Key, str | None]) -> Oracle:
    """An agent by name: `oracle`, `slips-0.3` (the oracle, which does something else three times in ten and makes it
    good), `careless-0.3` (does three moves in ten wrongly and goes on), `crawler`, `surveyor` (which shares `survey`
    with those before it) or `random`.

    Raises:
        ValueError: no such name, or a number outside [0, 1].
    """
    match = _NAME.match(name)
    if not match or (match[1] in ("slips", "careless")) != bool(match[2]):
        known = "oracle, crawler, surveyor, random, slips-P or careless-P, P in [0, 1]"
        raise ValueError(f"`policy` must be {known}, got {name!r}")
    if match[1] == "careless":
        return Careless(float(match[2]), seed)
    if match[1] == "surveyor":
        return Surveyor(seed, survey)
    if match[1] in ("crawler", "random"):
        return Crawler(seed) if match[1] == "crawler" else Random(seed)
    return Oracle(float(match[2] or 0), seed)
