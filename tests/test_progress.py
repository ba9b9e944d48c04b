"""How far something has come: lines in a log, none where a terminal shows a bar."""

from __future__ import annotations

import io

from rich.console import Console

from dreamgym_env.progress import ProgressBar


def lines_of(terminal: bool, seconds: float) -> list[str]:
    """What three steps of four leave in the output while they go on."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    with ProgressBar(console=console, seconds=seconds, auto_refresh=False) as bar:
        line = bar.add_task("playing", total=4, detail="loss 0.5")
        for _ in range(2):
            bar.advance(line)
        bar.update(line, completed=3)
    return [one for one in file.getvalue().splitlines() if not terminal or "s so far" in one]


def test_a_log_gets_lines() -> None:
    lines = lines_of(terminal=False, seconds=0)
    assert [one.split(",")[0] for one in lines] == ["playing: 25%", "playing: 50%", "playing: 75%"]
    assert all(one.endswith(", loss 0.5") for one in lines)


def test_a_log_gets_one_line_in_a_while() -> None:
    assert lines_of(terminal=False, seconds=3600) == []


def test_a_terminal_gets_a_bar_alone() -> None:
    assert lines_of(terminal=True, seconds=0) == []


def test_what_is_gone_through_is_told_in_a_log() -> None:
    file = io.StringIO()
    with ProgressBar(console=Console(file=file, force_terminal=False), seconds=0, auto_refresh=False) as bar:
        assert list(bar.track("abcd", description="annotating")) == list("abcd")
    assert [one.split(",")[0] for one in file.getvalue().splitlines()] == [
        f"annotating: {share}%" for share in (25, 50, 75, 100)
    ]
