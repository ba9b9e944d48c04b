"""What an audit finds, the targets that a dream must reach before RL, and whether a model's card says that it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .intervals import Share


@dataclass(frozen=True)
class PolicyAudit:
    """What the audit found for one policy. Shares are over dreamed steps or episodes as their names say."""

    policy: str
    dreamed_success: Share
    """Episodes that the dream calls a success, of those that did not break."""
    real_success: Share
    """The same policy on the same tasks in the real environment."""
    confirmed: Share
    """Dreamed successes that the referee confirms, or, where it cannot tell, a replay that shows all of the dream's
    states."""
    denied: Share
    """Episodes that the referee, or such a replay, calls a success and the dream does not."""
    replay_success: Share
    """Dreamed successes whose actions, replayed for real, succeed too."""
    replay_same_state: Share
    """Dreamed steps whose replay shows the very same state."""
    impossible_accepted: Share
    """Impossible actions after which the dreamed page changed."""
    contradictions: Share
    """Dreamed steps that deny what the episode had said."""
    broken: Share
    """Episodes given up for want of a usable prediction."""
    dreamed_finds: Share = field(default=Share(0, 0))
    """Dreamed views that show for the first time what the task seeks, of all that could; a dream that knows what an
    agent seeks lays it where the agent looks."""
    real_finds: Share = field(default=Share(0, 0))
    """The same of the real episodes."""
    errors: dict[str, int] = field(default_factory=dict)
    """Dreamed steps by kind of error, as the referee names them."""


TARGETS = {
    "confirmed": (">=", 0.9),
    "denied": ("<=", 0.1),
    "impossible_accepted": ("<=", 0.05),
    "contradictions": ("<=", 0.01),
    "broken": ("<=", 0.05),
}
"""What a dream must reach before RL in it is allowed."""
LEAST_SUCCESSES = 20
"""Dreamed successes that must have been judged before a dream is trusted."""


def target_of(name: str) -> str:
    """The target of a share in words; "" where it has none."""
    return "not above real" if name == "dreamed_finds" else " ".join(map(str, TARGETS.get(name, ())))


def passes(audit: PolicyAudit) -> dict[str, bool | None]:
    """Each target, met or not; None where the share is one of nothing and so tells nothing.

    What is sought must not be found sooner than for real: `dreamed_finds` is missed where its interval lies above that
    of `real_finds`, and left out where the world's referee does not tell.
    """
    found: dict[str, bool | None] = {}
    for name, (sign, bound) in TARGETS.items():
        rate = getattr(audit, name).rate
        found[name] = None if rate is None else rate >= bound if sign == ">=" else rate <= bound
    dreamed, real = audit.dreamed_finds, audit.real_finds
    if dreamed.n and real.n:
        found["dreamed_finds"] = dreamed.interval[0] <= real.interval[1]
    return found


def distrust(card: Mapping[str, Any], policy: str = "") -> str | None:
    """Why the dream of a checkpoint with this card (`dreamgym.json`) is not to be trusted for RL, or None.

    `policy` asks for the audit under that policy; "" takes the best of those on record.
    """
    audits = [one for report in card.get("reports", {}).values() for one in report.get("policies", [])]
    audits = [one for one in audits if policy in ("", one["policy"])]
    if not audits:
        return "its card holds no audit; run `dreamgym audit` and publish the report"
    reasons = []
    for one in audits:
        missed = [name for name, met in one["passes"].items() if met is False]
        judged = one["confirmed"]["n"]
        if missed:
            reasons.append(f"under {one['policy']} it misses {', '.join(missed)}")
        elif judged < LEAST_SUCCESSES:
            reasons.append(f"under {one['policy']} only {judged} dreamed successes were judged, not {LEAST_SUCCESSES}")
        else:
            return None
    return "its audit fails: " + "; ".join(reasons)
