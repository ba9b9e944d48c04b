"""The HTML report of `dreamgym demo`: one self-contained file without scripts; every foreign text is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dreamgym_env.types import Trajectory, Transition

from .evaluate import Evaluation
from .intervals import difference_interval
from .report_curve import Point, interval, learning_curve

STYLE = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5b6676; --paper: #fff; --card: #f5f7fa; --rule: #dfe4ea;
  --dream: #6d4bc3; --real: #0b7a5c; --good: #0b7a5c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b6; --paper: #14181f; --card: #1d232d;
  --rule: #323b48; --dream: #ab92f0; --real: #4fc9a4; --good: #4fc9a4; --bad: #f2938c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 960px; padding: 40px 24px 80px; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 44px 0 12px; }
p { margin: 0 0 12px; }
.soft { color: var(--soft); }
.small { font-size: 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 28px 0; }
.card { background: var(--card); border-radius: 10px; padding: 14px 16px; }
.card b { display: block; font-size: 21px; line-height: 1.4; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 8px 16px 8px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td + td { white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: 14px; }
.good { color: var(--good); } .bad { color: var(--bad); }
svg { width: 100%; height: auto; }
.grid { stroke: var(--rule); } .tick { fill: var(--soft); font-size: 12px; }
.name { font-size: 14px; font-weight: 600; }
.line { fill: none; stroke-width: 2.5; } .band { opacity: .14; }
.dream .line { stroke: var(--dream); stroke-dasharray: 7 4; } .real .line { stroke: var(--real); }
.dream .band, .dream .mark, .name.dream { fill: var(--dream); }
.real .band, .real .mark, .name.real { fill: var(--real); }
details { border: 1px solid var(--rule); border-radius: 10px; margin: 12px 0; padding: 0 16px; }
summary { cursor: pointer; padding: 12px 0; font-weight: 600; }
ol { list-style: none; margin: 0; padding: 0; }
li { border-top: 1px solid var(--rule); padding: 14px 0; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
code { background: var(--card); border-radius: 5px; padding: 2px 6px; overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 8px; padding: 10px 12px; margin: 8px 0 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.trace { border-left: 3px solid var(--dream); padding-left: 12px; margin: 8px 0 0; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Told:
    """An episode to show, with a heading and a remark (what a replay in the real environment gave, for example)."""

    title: str
    remark: str
    trajectory: Trajectory


@dataclass(frozen=True)
class Report:
    """What the report tells. `before` and `after` are the first and last of `points`, with their full number of
    tasks; `audit` has rows (share, value, target, met or None)."""

    title: str
    lead: str
    points: Sequence[Point]
    audit_source: str
    audit: Sequence[tuple[str, str, str, bool | None]]
    episodes: Sequence[Told]
    facts: Mapping[str, str]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def before(self) -> Point:
        return self.points[0]

    @property
    def after(self) -> Point:
        return self.points[-1]


def render(report: Report) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(report.title)}</h1><p class='soft'>{escape(report.lead)}</p>",
        _cards(report),
        "<h2>Learning curve</h2><p class='soft small'>Success on held-out tasks, the same ones at each evaluation; the "
        "bands are 95% Wilson intervals. The gap between the lines is what the dream gets wrong.</p>",
        learning_curve(report.points),
        "<h2>Before and after</h2>",
        _table(("", "starting policy", "trained policy", "change"), comparison(report.before, report.after)),
        f"<h2>Can the dream be trusted?</h2><p class='soft small'>{escape(report.audit_source)}</p>",
        _audit(report.audit),
        "<h2>Episodes</h2><p class='soft small'>Held-out tasks, dreamed. The reasoning traces are the experience "
        "model's: what it thinks before it says what comes next.</p>",
        *(_episode(told, index == 0) for index, told in enumerate(report.episodes)),
        "<h2>Settings and versions</h2>",
        _table(("", ""), [(key, value) for key, value in report.versions.items()]),
        f"<details><summary>All settings</summary><pre>{escape(json.dumps(report.settings, indent=1, default=str))}"
        "</pre></details>",
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def comparison(before: Point, after: Point) -> list[tuple[str, str, str, str]]:
    """Rows (environment, starting policy, trained policy, change), as plain text; rates with 95% intervals."""
    rows = []
    pairs = (("real", before.real, after.real), ("dream", before.dream, after.dream))
    for name, first, last in pairs:
        n = f"n = {first.n}" if first.n == last.n else f"n = {first.n} and {last.n}"
        rows.append((f"success, {name} ({n})", interval(first), interval(last), change_text(first, last)))
    for name, first, last in pairs:
        steps = (f"{first.mean_steps:.1f}", f"{last.mean_steps:.1f}", f"{last.mean_steps - first.mean_steps:+.1f}")
        rows.append((f"steps per episode, {name}", *steps))
    for name, first, last in pairs:
        start, end = (100 * (found.invalid_rate + found.impossible_rate) for found in (first, last))
        shares = (f"{start:.1f}%", f"{end:.1f}%", f"{end - start:+.1f} points")
        rows.append((f"actions without effect, {name}", *shares))
    rows.append(("dreams given up (masked)", _given_up(before.dream), _given_up(after.dream), ""))
    return rows


def _given_up(dream: Evaluation) -> str:
    broken = dream.broken
    return f"{broken} of {dream.n + broken}"


def change_text(before: Evaluation, after: Evaluation) -> str:
    """`+12.5 points [3.1, 21.6]`."""
    change, low, high = (100 * value for value in difference_interval(before, after))
    return f"{change:+.1f} points [{low:.1f}, {high:.1f}]"


def _cards(report: Report) -> str:
    before, after = report.before, report.after
    cards = {
        "real success": f"{100 * before.real.success_rate:.1f}% → {100 * after.real.success_rate:.1f}%",
        "dreamed success": f"{100 * before.dream.success_rate:.1f}% → {100 * after.dream.success_rate:.1f}%",
        **report.facts,
    }
    cells = (f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>' for name, value in cards.items())
    return f'<div class="cards">{"".join(cells)}</div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    header = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{header}<tbody>{body}</tbody></table></div>'


def _audit(rows: Sequence[tuple[str, str, str, bool | None]]) -> str:
    marks = {True: '<td class="good">met</td>', False: '<td class="bad">missed</td>', None: "<td></td>"}
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td><td>{escape(target)}</td>{marks[met]}</tr>"
        for name, value, target, met in rows
    )
    head = "<thead><tr><th>share</th><th>found [95% interval]</th><th>target</th><th></th></tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _episode(told: Told, is_open: bool) -> str:
    task = told.trajectory.task
    steps = "".join(_step(transition) for transition in told.trajectory.transitions)
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(told.title)}</summary>"
        f"<p>{escape(task.instruction)}</p><p class='soft small'>{escape(told.remark)}</p><ol>{steps}</ol></details>"
    )


def _step(transition: Transition) -> str:
    thought = _told("the agent's thought", transition.thought)
    trace = _told("the dream's reasoning trace", transition.reasoning_trace)
    note = "" if transition.possible else ' <span class="bad small">impossible here: nothing happens</span>'
    end = ""
    if transition.terminated:
        verdict, kind = ("success", "good") if transition.reward > 0 else ("failure", "bad")
        end = f' <span class="{kind}">→ {verdict}</span>'
    return (
        f"<li>{thought}<span class='soft small'>{transition.step_index + 1}</span> "
        f"<code>{escape(transition.action)}</code>{note}{end}{trace}<pre>{escape(transition.next_state)}</pre></li>"
    )


def _told(what: str, text: str) -> str:
    return f'<p class="trace"><span class="soft small">{what}</span><br>{escape(text)}</p>' if text else ""
