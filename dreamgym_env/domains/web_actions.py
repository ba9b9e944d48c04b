"""BrowserGym's actions on web pages: which there are, how they are written, and which of them a page can do."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import Any

from dreamgym_env.domains.web_page import Element, WebPage, find_element, heading_over

TYPED = frozenset(("textbox", "searchbox", "spinbutton", "date", "datetime", "inputtime", "colorwell"))
LISTS = frozenset(("combobox", "listbox"))
ENDS = frozenset(("send_msg_to_user", "report_infeasible"))
"""Actions that end a WebArena episode: the agent's answer, or that there is none."""

Grammar = dict[str, tuple[tuple[Any, ...], ...]]

_ELEMENT = ("click", "dblclick", "hover", "focus", "clear")
ONE_PAGE: Grammar = {
    **dict.fromkeys(_ELEMENT, ((str,),)),
    "fill": ((str, str), (str, str, bool)),
    "press": ((str, str),),
    "select_option": ((str, (str, list)),),
    "drag_and_drop": ((str, str),),
    "scroll": (((int, float), (int, float)),),
    "noop": ((), ((int, float),)),
}
"""Actions within one page: each name with the types of its arguments, one tuple for each number of them."""
ALL: Grammar = {
    **ONE_PAGE,
    "goto": ((str,),),
    "go_back": ((),),
    "go_forward": ((),),
    "new_tab": ((),),
    "tab_close": ((),),
    "tab_focus": ((int,),),
    "send_msg_to_user": ((str,),),
    "report_infeasible": ((str,),),
}
"""Those, and moving between pages and tabs, and answering."""

_CALL = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
_WAIT_MS, _SCROLL_PX, _CHARACTERS = 3000, 10_000, 2000


@dataclass(frozen=True)
class Call:
    """An action as a name and its arguments, literals all."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def text(self) -> str:
        return f"{self.name}({', '.join(repr(one) for one in self.arguments)})"

    @property
    def targets(self) -> tuple[str, ...]:
        """The numbers of the elements that it acts on."""
        count = 2 if self.name == "drag_and_drop" else 1
        return self.arguments[:count] if self.name in ONE_PAGE and self.name not in ("scroll", "noop") else ()

    def aimed(self, targets: dict[str, str]) -> Call:
        """The same call on other names of the same elements."""
        count = len(self.targets)
        return Call(self.name, (*(targets[one] for one in self.targets), *self.arguments[count:]))


def parse_call(action: str, grammar: Grammar = ALL) -> Call | None:
    """`click('12')` and the like. Nothing but one call of a known name on literals is read; spaces do not matter, and
    neither do brackets around an element's number. A number may stand without quotes; what else may name an element is
    for `numbered` to say."""
    text = action.strip()
    if not _CALL.fullmatch(text) or len(text) > _CHARACTERS * 2:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that Python would warn of are the agent's
            call = ast.parse(text, mode="eval").body
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.keywords:
                return None
            values = [ast.literal_eval(one) for one in call.args]
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return _checked(call.func.id, values, grammar)


def _checked(name: str, values: list[Any], grammar: Grammar) -> Call | None:
    if name not in grammar:
        return None
    count = 2 if name == "drag_and_drop" else 1
    if name in ONE_PAGE and name not in ("scroll", "noop"):
        values[:count] = [_number(one) for one in values[:count]]
    for types in grammar[name]:
        if len(types) == len(values) and all(_fits(one, kind) for one, kind in zip(values, types, strict=True)):
            return Call(name, tuple(values))
    return None


def _number(value: Any) -> Any:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text.strip().removeprefix("[").removesuffix("]") if text else value


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, str) and len(value) > _CHARACTERS:
        return False
    if isinstance(value, list):
        return kind == (str, list) and bool(value) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind) and (not isinstance(value, float) or abs(value) < 1e9)


def numbered(page: WebPage, call: Call) -> Call:
    """The call with the numbers of those elements that it names in words: by role and name, `click('link Orders')`, the
    first that is so called; or also by the row or text before, `click('link View of 000000170')` (see
    `find_element`). Words that nothing on the page is called stay."""
    return call.aimed({one: _number_of(page, one) for one in call.targets})


def _number_of(page: WebPage, words: str) -> str:
    if words in page.elements:
        return words
    role, _, rest = words.strip().partition(" ")
    parts = rest.split(" of ")
    for count in range(len(parts), 0, -1):
        if found := find_element(page, role, " of ".join(parts[:count]), " of ".join(parts[count:])):
            return str(found.number)
    return words


def worded(page: WebPage, call: Call) -> Call:
    """The call with its elements named in words where `numbered` finds these again."""
    return call.aimed({one: _words_of(page, one) for one in call.targets})


def _words_of(page: WebPage, number: str) -> str:
    element = page.elements.get(number)
    if element is None:
        return number
    over = heading_over(page, element)
    before = over.text.split(" | ")[0] if over else ""
    words = f"{element.role} {element.name}"
    return next((one for one in (words, f"{words} of {before}") if _number_of(page, one) == number), number)


def can(page: WebPage, call: Call) -> bool:
    """Whether the page offers what the action needs: the element is listed, not disabled, and of the right kind."""
    found = [page.elements.get(one) for one in call.targets]
    if any(one is None or "disabled" in one.flags for one in found):
        return False
    match call.name:
        case "fill" | "clear":
            return _takes_text(found[0])
        case "select_option":
            return _offers(found[0], call.arguments[1])
        case "goto":
            return bool(re.match(r"https?://\S+$", call.arguments[0]))
        case "tab_focus":
            return call.arguments[0] in range(max(len(page.tabs), 1))
        case "noop":
            return not call.arguments or bool(0 <= call.arguments[0] <= _WAIT_MS)
        case "scroll":
            return all(abs(one) <= _SCROLL_PX for one in call.arguments)
    return True


def _takes_text(element: Element | None) -> bool:
    return element is not None and (element.role in TYPED or (element.role == "combobox" and element.options is None))


def _offers(element: Element | None, asked: str | list[str]) -> bool:
    if element is None or element.options is None:
        return False
    wanted = [asked] if isinstance(asked, str) else asked
    return element.more_options > 0 or all(one in element.options for one in wanted)


def offered(page: WebPage, grammar: Grammar = ALL) -> list[str]:
    """What an agent would do on the page, one action for each element, then the rest; free text is a placeholder."""
    actions = []
    for element in page.elements.values():
        if "disabled" in element.flags:
            continue
        if _takes_text(element):
            actions.append(f"fill('{element.number}', '<text>')")
        elif element.options is not None:
            actions += [f"select_option('{element.number}', {one!r})" for one in element.options]
        else:
            actions.append(f"click('{element.number}')")
    actions += ["scroll(0, 500)"] if page.below else []
    actions += ["scroll(0, -500)"] if page.above else []
    if "send_msg_to_user" in grammar:
        actions += [f"tab_focus({index})" for index in range(len(page.tabs)) if index != page.tab]
        actions += ["go_back()", "send_msg_to_user('<answer>')", "report_infeasible('<reason>')"]
    return actions
