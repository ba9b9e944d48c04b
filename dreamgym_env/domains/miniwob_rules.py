"""What a MiniWoB page asks for now, and whether an action on it ends the episode, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dreamgym_env.domains.miniwob_aims import Aim
from dreamgym_env.domains.miniwob_games import GAMES, Game
from dreamgym_env.domains.web_actions import Call, parse_call
from dreamgym_env.domains.web_page import Element, Line, WebPage, page_of
from dreamgym_env.domains.web_sites import End
from dreamgym_env.domains.web_trail import stays, typed
from dreamgym_env.types import StepContext, Transition

CLICKS, DOT = frozenset(("click", "dblclick")), "•"


def game_of(page: WebPage) -> Game | None:
    """The game that a page belongs to, where it is one of these."""
    return GAMES.get(page.url.removeprefix("miniwob/").removesuffix(".html"))


def aim_of(page: WebPage, instruction: str, texts: Mapping[str, str] = MappingProxyType({})) -> Aim | None:
    """What is to be done on the page now; None where its text does not tell.

    Args:
        texts: what was typed into the elements of this page, by their numbers: a password's box shows dots alone.
    """
    game = game_of(page)
    found = re.fullmatch(game.instruction, instruction) if game else None
    return game.aim(unmasked(page, texts), found) if game and found else None


def typed_on(history: Sequence[Transition]) -> dict[str, str]:
    """What was typed last into each element, by its number, since another address was opened."""
    texts: dict[str, str] = {}
    for step in history:
        call = parse_call(step.action) if step.possible else None
        if address_of(step.state) != address_of(step.next_state):
            texts.clear()
        elif call is not None and call.name == "fill":
            texts[call.targets[0]] = call.arguments[1]
    return texts


def address_of(state: str) -> str:
    """The line of a state that tells its address."""
    return state.split("\n", 2)[1] if "\n" in state else ""


def unmasked(page: WebPage, texts: Mapping[str, str]) -> WebPage:
    """The page with what was typed in place of dots, and with the spaces that it does not show."""

    def told(line: Line) -> Line:
        text = texts.get(str(line.number)) if isinstance(line, Element) else None
        if text is None or not isinstance(line, Element):
            return line
        return replace(line, value=text) if line.value in (DOT * len(text), " ".join(text.split())) else line

    return replace(page, lines=tuple(told(line) for line in page.lines))


@dataclass(frozen=True)
class MiniWoBRules:
    """MiniWoB's, of the pages of `GAMES`: the page itself ends the episode."""

    def answer(self, context: StepContext, page: WebPage, call: Call) -> WebPage | None:
        game, end = game_of(page), self.end(context, page, call)
        if game is None or end.ends is not False or game.touch:
            return None
        if stays(page, call):
            return page
        if game.form:
            return typed(page, call) or _marked(page, call)
        same = (step for step in reversed(context.history) if step.state == context.state and step.possible)
        before = next((step for step in same if parse_call(step.action) == call), None)
        return page_of(before.next_state) if before else None

    def target(self, context: StepContext, call: Call) -> str | None:
        return None

    def end(self, context: StepContext, page: WebPage, call: Call) -> End:
        game, aim = game_of(page), aim_of(page, context.task.instruction, typed_on(context.history))
        if game is None or aim is None:
            return End(None)
        element = page.elements.get(call.targets[0]) if call.targets else None
        touches = element is not None and (call.name in CLICKS or (game.touch and call.name != "hover"))
        closes = element is not None and touches and game.closes(element, page, aim)
        if element is None or not closes:
            return End(None if closes is None else False)
        return _ended(game, aim, element, page)

    def untouched(self, context: StepContext) -> bool:
        return False  # every episode draws a page of its own

    def filled(self, context: StepContext, page: WebPage) -> WebPage:
        return unmasked(page, typed_on(context.history))


def _ended(game: Game, aim: Aim, element: Element, page: WebPage) -> End:
    """How the episode ends with a click on the element. Which element it is, the checks say where another one would
    end the episode too."""
    if not aim.asked or (not aim.click and aim.last):
        return End(True)
    right = aim.last and str(element.number) in aim.click
    met = sum(want.met for want in aim.wants)
    checks = [(f"{want.asked or 'nothing'} {want.shown or 'nothing'}", want.met) for want in aim.wants]
    success = right and (2 * met > len(aim.wants) if game.most else met == len(aim.wants))
    if game.most:
        checks.append((f"{met} of {len(aim.wants)}", success))
    others = (one for one in page.elements.values() if str(one.number) not in aim.click)
    if not aim.wants or any(game.closes(one, page, aim) for one in others):
        checks.append((f"{aim.asked} {element.name}", right))
    return End(True, success, tuple(checks))


def _marked(page: WebPage, call: Call) -> WebPage | None:
    """The page after a click on one of its boxes to mark; of radio buttons one alone is marked."""
    element = page.elements[call.targets[0]] if call.targets else None
    if call.name != "click" or element is None or element.role not in ("checkbox", "radio"):
        return None
    on = element.role == "radio" or "checked" not in element.flags

    def told(line: Line) -> Line:
        if not isinstance(line, Element) or line.role != element.role:
            return line
        if line.number != element.number:
            return replace(line, flags=_flags(line, False)) if line.role == "radio" else line
        return replace(line, flags=_flags(line, on))

    return replace(page, lines=tuple(map(told, page.lines)))


def _flags(element: Element, checked: bool) -> tuple[str, ...]:
    others = tuple(flag for flag in element.flags if flag != "checked")
    return ("checked", *others) if checked else others
