"""A dream's latest step for people: plain text, or a rich panel in the terminal."""

from __future__ import annotations

from dreamgym_env.dream import Dream


def text(dream: Dream) -> str:
    """Task, last action, reasoning trace, state and end, as plain text."""
    lines = [f"Task: {dream.task.instruction}"]
    if dream.transitions:
        last = dream.transitions[-1]
        lines.append(f"Step {last.step_index + 1}: {last.action}")
        if last.reasoning_trace:
            lines.append(f"Reasoning: {last.reasoning_trace}")
        if not last.possible:
            lines.append("(impossible here: nothing happens)")
    lines.append(dream.state)
    if dream.end_reason:
        lines.append(f"End: {dream.end_reason}")
    return "\n".join(lines)


def show(dream: Dream) -> None:
    """Prints a panel; brackets in states are text, not markup."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    title = dream.end_reason or f"step {len(dream.transitions)}"
    Console().print(Panel(Text(text(dream)), title=title, title_align="left"))
