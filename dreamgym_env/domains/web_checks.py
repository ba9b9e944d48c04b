"""What a step on a web page rests on: the lines to recall, and the reasoning trace made of them.

Every check stands right before its answer, since small models learn no others (`docs/experience-model.md`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dreamgym_env.domains.web_actions import ENDS, Call, can
from dreamgym_env.domains.web_page import Element, Line, WebPage, heading_over
from dreamgym_env.domains.web_sites import End, Rules, form_of, is_field, told_fields
from dreamgym_env.types import StepContext

TYPING = frozenset(("fill", "clear", "select_option"))
_MOST_FIELDS = 8


def recalled(context: StepContext, page: WebPage, call: Call, rules: Rules) -> list[str]:
    """The elements that the action names, what they stand in, what their form holds, and what an end rests on."""
    elements = [page.elements[one] for one in call.targets if one in page.elements]
    lines = [one.line() for one in elements]
    if not can(page, call):
        return lines
    for element in elements:
        over = heading_over(page, element)
        if call.name not in TYPING and over is not None and over.text != element.name:
            lines.append(over.line())
        lines += _form(rules.filled(context, page), element, rules.end(context, page, call))
    if elements and (url := rules.target(context, call)):
        lines.append(f"URL: {url}")
    if call.name in ENDS:
        lines += rules.end(context, page, call).lines or (f"Page: {page.title!r}", f"URL: {page.url}")
    return lines


def _form(page: WebPage, element: Element, end: End) -> list[str]:
    """What a button sends: all that stands on a page that ends with it, else the fields before it."""
    if element.role not in ("button", "clickable"):
        return []
    whole = [one for one in page.elements.values() if is_field(one)]
    return [one.line() for one in (whole if end.ends and end.checks else form_of(page, element))[:_MOST_FIELDS]]


def trace(
    context: StepContext, page: WebPage, call: Call | None, rules: Rules, shown: WebPage, success: bool | None
) -> str:
    """The reasoning trace of a step that led to the page `shown`; `success` is None where the episode goes on."""
    if call is None:
        return "no such action; the page stays"
    if not can(page, call):
        return f"{_lacking(page, call)}; the page stays"
    end = rules.end(context, page, call)
    said = _told(context, page, call, rules, shown)
    if success is None:
        return f"{said}; {_verdicts(end)}so it goes on" if end.ends else said
    explained = end.success is success
    return f"{said}; {_verdicts(end) if explained else ''}so {'success' if success else 'failure'}"


def _verdicts(end: End) -> str:
    return "".join(f"{text} {'yes' if holds else 'no'}; " for text, holds in end.checks)


def _lacking(page: WebPage, call: Call) -> str:
    """Why an action is impossible: what its element is."""
    named = [f"[{one}] {_brief(page.elements[one]) if one in page.elements else 'none'}" for one in call.targets]
    return ", ".join([f"{call.name} not possible", *named])


def _brief(element: Element) -> str:
    return " ".join([element.role, repr(element.name), *(flag for flag in element.flags if flag == "disabled")])


def _told(context: StepContext, page: WebPage, call: Call, rules: Rules, shown: WebPage) -> str:
    """What the action is and what it leads to."""
    if call.name in ENDS:
        return f"says {call.arguments[0]!r}"
    elements = [page.elements[one] for one in call.targets]
    if call.name in TYPING:
        value = repr(call.arguments[1]) if len(call.arguments) > 1 else "nothing"
        return f"{', '.join(map(_brief, elements))} = {value}; {_effect(page, shown)}"
    named = _named(page, elements)
    sent = [one for one in elements if one.role == "button" and call.name in ("click", "press")]
    fields = told_fields(form_of(rules.filled(context, page), sent[0])) if sent else ""
    parts = [call.name if not named else f"{call.name} {named}", f"sends {fields}" if fields else ""]
    return "; ".join([*filter(None, parts), _effect(page, shown)])


def _named(page: WebPage, elements: Sequence[Element]) -> str:
    """What they are called, and the row that they stand in, where they do."""
    named = ", ".join(map(_brief, elements))
    over = next((over for one in elements if (over := heading_over(page, one)) and over.text != one.name), None)
    return f"{named} in {over.text!r}" if over is not None and over.kind == "row" else named


def in_words(page: WebPage, call: Call) -> str:
    """The action by its elements' roles and names, and the row that they stand in, where the page has them all."""
    if not call.targets or not all(one in page.elements for one in call.targets):
        return call.text
    rest = map(repr, call.arguments[len(call.targets) :])
    return " ".join([call.name, _named(page, [page.elements[one] for one in call.targets]), *rest])


def _effect(page: WebPage, shown: WebPage) -> str:
    """What another page, or the same one changed, tells of the step."""
    if shown == page:
        return "the page stays"
    if shown.url != page.url or shown.title != page.title:
        return f"opens {shown.title!r}"
    here, before = [_plain(one) for one in shown.lines], {_plain(one) for one in page.lines}
    new = [line for line in here if line not in before]
    return f"now {new[0]}" if new else "less on the page"


def _plain(line: Line) -> str:
    """A line without its number."""
    return line.line().partition("] ")[2] if isinstance(line, Element) else line.line()
