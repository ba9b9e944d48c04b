"""Completions to typed values: `parse_prediction` reads what `prompts.answer` writes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dreamgym_env.prompts import CONTINUE, FAILURE, SUCCESS

_ANSWER = re.compile(
    r"\s*(?:<reasoning>(?P<reasoning>.*?)</reasoning>\s*)?<state>\n?(?P<state>.*?)\n?</state>\s*"
    r"<outcome>\s*(?P<outcome>\w+)\s*</outcome>\s*$",
    re.DOTALL,
)
_TAG = re.compile(r"</?(?:reasoning|state|outcome)>")


@dataclass(frozen=True)
class Answer:
    """A completion that could be read; `reward` is 1.0 for a success, else 0.0."""

    reasoning_trace: str
    next_state: str
    reward: float
    terminated: bool


def parse_prediction(text: str) -> Answer:
    """Reads one completion of the experience model.

    Raises:
        ValueError: tags are missing, out of order, nested or followed by more text, or the outcome is not one of the
            three.
    """
    match = _ANSWER.match(text)
    if not match:
        raise ValueError(f"expected <reasoning>, <state> and <outcome> in this order, got {_shorten(text)!r}")
    verdict = match["outcome"].lower()
    if verdict not in (CONTINUE, SUCCESS, FAILURE):
        raise ValueError(f"<outcome> must be continue, success or failure, got {verdict!r}")
    reasoning = (match["reasoning"] or "").strip()
    if tag := _TAG.search(reasoning + match["state"]):
        raise ValueError(f"<reasoning> and <state> must hold no other tag, got {tag[0]} in {_shorten(text)!r}")
    return Answer(reasoning, match["state"], float(verdict == SUCCESS), verdict != CONTINUE)


def _shorten(text: str, length: int = 120) -> str:
    return text if len(text) <= length else text[: length // 2] + " ... " + text[-length // 2 :]
