"""What a MiniWoB page asks for now, and whether an action on it ends the episode, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dreamgym_env.domains.miniwob_games import GAMES, Aim, Game
from dreamgym_env.domains.web_actions import Call, parse_call
from dreamgym_env.domains.web_page import Element, Line, WebPage
from dreamgym_env.types import Transition

CLICKS, DOT = frozenset(("click", "dblclick")), "•"


def game_of(page: WebPage) -> Game | None:
    """The game that a page belongs to, where it is one of these."""
    return GAMES.get(page.url.removeprefix("miniwob/").removesuffix(".html"))


def aim_of(page: WebPage, instruction: str, typed: Mapping[str, str] = MappingProxyType({})) -> Aim | None:
    """What is to be done on the page now; None where its text does not tell.

    Args:
        typed: what was typed into the elements of this page, by their numbers: a password's box shows dots alone.
    """
    game = game_of(page)
    found = game.instruction.fullmatch(instruction) if game else None
    return game.aim(unmasked(page, typed), found) if game and found else None


def typed_on(history: Sequence[Transition]) -> dict[str, str]:
    """What was typed last into each element, by its number, since another address was opened."""
    typed: dict[str, str] = {}
    for step in history:
        call = parse_call(step.action) if step.possible else None
        if address_of(step.state) != address_of(step.next_state):
            typed.clear()
        elif call is not None and call.name == "fill":
            typed[call.targets[0]] = call.arguments[1]
    return typed


def address_of(state: str) -> str:
    """The line of a state that tells its address."""
    return state.split("\n", 2)[1] if "\n" in state else ""


def unmasked(page: WebPage, typed: Mapping[str, str]) -> WebPage:
    """The page with what was typed in place of dots."""

    def told(line: Line) -> Line:
        text = typed.get(str(line.number)) if isinstance(line, Element) else None
        if text is None or not isinstance(line, Element) or line.value != DOT * len(text):
            return line
        return replace(line, value=text)

    return replace(page, lines=tuple(told(line) for line in page.lines))


@dataclass(frozen=True)
class Verdict:
    """Whether an action ends the episode, and with success; `success` is None where the page does not tell. `checks`
    hold what the task asks for against what is so, one by one."""

    ends: bool
    success: bool | None
    checks: tuple[tuple[str, bool], ...] = ()


def verdict(page: WebPage, instruction: str, call: Call, typed: Mapping[str, str]) -> Verdict | None:
    """What comes of a possible action; None on pages that nothing is known of."""
    game, aim = game_of(page), aim_of(page, instruction, typed)
    if game is None or aim is None:
        return None
    element = page.elements.get(call.targets[0]) if call.targets else None
    touches = element is not None and (call.name in CLICKS or (game.touch and call.name != "hover"))
    if element is None or not touches or not game.closes(element):
        return Verdict(False, False)
    if not aim.asked or (not aim.click and aim.last):
        return Verdict(True, None)
    checks = [(f"{want.asked} {want.shown or 'nothing'}", want.met) for want in aim.wants]
    met = sum(want.met for want in aim.wants)
    enough = 2 * met > len(aim.wants) if game.most else met == len(aim.wants)
    if not aim.wants:
        enough = aim.last and str(element.number) in aim.click
        checks = [(f"{aim.asked} {element.name}", enough)]
    elif game.most:
        checks.append((f"{met} of {len(aim.wants)}", enough))
    return Verdict(True, enough, tuple(checks))
