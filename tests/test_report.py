"""The demo's HTML report: its figures, its curve, and that nothing foreign becomes markup."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from dreamgym_env.trainers.evaluate import Evaluation
from dreamgym_env.trainers.intervals import difference_interval, wilson_interval
from dreamgym_env.trainers.report import Report, Told, change_text, comparison, render
from dreamgym_env.trainers.report_curve import HEIGHT, WIDTH, Point, interval, learning_curve
from dreamgym_env.types import Source, Task, Trajectory, Transition

EVIL = "</pre><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""
VOID = {"br", "meta", "line", "circle", "polygon", "polyline", "img"}


class Tags(HTMLParser):
    """Notes every element, checks that they nest, and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def names(self) -> list[str]:
        return [tag for tag, _ in self.found]


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags


def evaluation(successes: int, n: int, source: Source = "real", **changes: Any) -> Evaluation:
    low, high = wilson_interval(successes, n)
    values: dict[str, Any] = {
        "env_id": "X-v0", "source": source, "n": n, "successes": successes, "success_rate": successes / n, "low": low,
        "high": high, "mean_reward": successes / n, "mean_steps": 6.0, "mean_response_tokens": 30.0, "steps": 6 * n,
        "invalid_actions": 0, "impossible_actions": 0, "cut_responses": 0, "context_overflows": 0,
        "invalid_rate": 0.0, "impossible_rate": 0.0, "end_reasons": {},
    }  # fmt: skip
    return Evaluation(**{**values, **changes})


def point(update: int, dream: int, real: int, n: int = 100) -> Point:
    return Point(update, evaluation(dream, n, "dream"), evaluation(real, n))


def trajectory(text: str) -> Trajectory:
    task = Task(text, "webshop", text, text)
    steps = (
        Transition(task, 0, text, text, text, reasoning_trace=text, source="dream"),
        Transition(task, 1, text, text, text, possible=False, source="dream", thought=text),
        Transition(task, 2, text, text, text, reward=1.0, terminated=True, reasoning_trace=text, source="dream"),
    )
    return Trajectory(task, steps, "success")


def report(text: str = "plain", **changes: Any) -> Report:
    values: dict[str, Any] = {
        "title": text, "lead": text, "points": [point(0, 50, 40), point(4, 60, 45), point(9, 80, 60)],
        "audit_source": text, "audit": [(text, text, text, True), (text, text, "", None), ("z", "1", "2", False)],
        "episodes": [Told(text, text, trajectory(text))] * 3, "facts": {text: text},
        "settings": {"demo": {text: text}}, "versions": {text: text},
    }  # fmt: skip
    return Report(**{**values, **changes})


def test_nothing_foreign_becomes_markup() -> None:
    plain, evil = parse(render(report("plain"))), parse(render(report(EVIL)))
    assert evil.names() == plain.names()  # the same elements, whatever the texts say
    assert not {"script", "img", "a", "link", "iframe"} & set(evil.names())
    assert not any(name.startswith("on") for _, attributes in evil.found for name in attributes)
    assert evil.text.count("<script>alert('x')</script>") == plain.text.count("plain")


def test_the_page_needs_nothing_from_outside() -> None:
    page = render(report())
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_tells_what_a_reader_needs() -> None:
    text = parse(render(report(facts={"real interactions used by the RL": "0"}))).text
    assert "0real interactions used by the RL" in text
    assert "40.0% → 60.0%" in text  # real
    assert "50.0% → 80.0%" in text  # dream
    assert "impossible here: nothing happens" in text
    assert text.count("the agent's thought") == 3  # one in each of three episodes
    assert text.count("→ success") == 3
    assert ("met" in text, "missed" in text) == (True, True)


def test_difference_interval_by_hand() -> None:
    # Newcombe (1998), method 10, for 56/70 against 48/80: 0.2 [0.0524, 0.3339].
    change, low, high = difference_interval(evaluation(48, 80), evaluation(56, 70))
    assert change == pytest.approx(0.2)
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_comparison_rows() -> None:
    before = Point(0, evaluation(50, 100, "dream"), evaluation(40, 100, invalid_rate=0.1, impossible_rate=0.02))
    rows = comparison(before, point(9, 80, 60))
    assert rows[0][:3] == ("success, real (n = 100)", "40.0% [30.9, 49.8]", "60.0% [50.2, 69.1]")
    assert rows[0][3] == change_text(before.real, evaluation(60, 100))
    assert rows[0][3].startswith("+20.0 points [")
    assert rows[1][0] == "success, dream (n = 100)"
    broken = Point(9, evaluation(40, 90, "dream", end_reasons={"model_error": 10, "success": 40}), evaluation(60, 100))
    assert comparison(before, broken)[1][0] == "success, dream (n = 100 and 90)"
    assert comparison(before, broken)[-1] == ("dreams given up (masked)", "0 of 100", "10 of 100", "")
    assert rows[4] == ("actions without effect, real", "12.0%", "0.0%", "-12.0 points")


def coordinates(svg: str, name: str) -> list[tuple[float, float]]:
    group = re.search(rf'<g class="{name}">(.*?)</g>', svg)
    assert group
    line = re.search(r'<polyline class="line" points="([^"]*)"', group[1])
    assert line
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line[1].split())]


def test_curve_places_rates_where_they_belong() -> None:
    svg = learning_curve([point(0, 50, 0), point(5, 60, 50), point(10, 100, 100)])
    parse(svg)
    (x0, y0), (x1, y1), (x2, y2) = coordinates(svg, "real")
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)  # 0, 50 and 100% are evenly spaced, higher is better
    assert y0 > y1
    assert coordinates(svg, "dream")[2] == (x2, y2)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in [*coordinates(svg, "real"), *coordinates(svg, "dream")])
    assert "real, update 5: 50.0% [40.4, 59.6], n = 100" in svg


def test_curve_names_do_not_overlap() -> None:
    svg = learning_curve([point(0, 50, 50), point(1, 50, 50)])
    heights = [float(y) for y in re.findall(r'class="name \w+" x="[\d.]+" y="([\d.]+)"', svg)]
    assert math.isclose(abs(heights[0] - heights[1]), 18, abs_tol=0.2)


def test_curve_of_one_point_and_of_none() -> None:
    assert len(coordinates(learning_curve([point(0, 0, 0, n=1)]), "real")) == 1
    with pytest.raises(ValueError, match="`points` must hold at least one evaluation"):
        learning_curve([])


def test_interval_text() -> None:
    assert interval(evaluation(5, 10)) == "50.0% [23.7, 76.3]"
