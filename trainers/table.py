"""`dreamgym table1` and `dreamgym table2`: the paper's Tables 1 and 2 (arXiv:2511.03773) on a small scale, bit by bit.

Each cell, a row with a seed, is a folder. A finished cell is never run again, an unfinished one goes on where it
stopped, so that a table can be filled over many runs:

    dreamgym table1 --world webshop --rows grpo-dream grpo-real --seeds 0
    dreamgym table1 --world webshop

After each cell the table is written anew as Markdown, JSON and a figure, with what every row cost. `docs/tables.md`
tells what the rows do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import dreamgym_env
from dreamgym_env.types import DataError, DreamGymError

from .table_cells import Cell, fill_cell, read_cell, write_json
from .table_config import Table1Config, Table2Config, TableConfig
from .table_report import Pooled, as_data, as_markdown, draw, on_screen, pooled
from .table_rows import stages_of

SETTINGS_FILE = "settings.json"
NOT_SETTINGS = ("rows", "seeds", "output")
"""What may differ between runs over one folder."""


def main(config: Table1Config | Table2Config) -> Path:
    """Either table; the Markdown file."""
    return table1(config) if isinstance(config, Table1Config) else table2(config)


def table1(config: Table1Config) -> Path:
    """Fills what is asked for; the Markdown file.

    Raises:
        DataError: the folder was begun with other settings.
    """
    ways = ("dream", "sim-to-real")
    against = {f"{algorithm}-{way}": f"{algorithm}-real" for algorithm in ("grpo", "ppo") for way in ways}
    world = config.place.title
    facts = [
        f"N = {config.real_transitions:,} real transitions; sim-to-real may use {config.sim_to_real_budget:,} of them.",
        *_facts(config),
    ]
    return fill(config, "table1", f"Table 1 on {world}", facts, against)


def table2(config: Table2Config) -> Path:
    """Fills what is asked for; the Markdown file.

    Raises:
        DataError: the folder was begun with other settings.
    """
    full = f"{config.algorithm}-dream"
    against = {row: full for row in config.all_rows if row.startswith("no-")}
    title = f"Table 2 on {config.place.title}: {config.algorithm.upper()} in the dream, without one of its parts"
    return fill(config, "table2", title, _facts(config), against)


def fill(config: TableConfig, name: str, title: str, facts: list[str], against: Mapping[str, str]) -> Path:
    """Every chosen cell, the table written after each.

    Raises:
        DataError: cells could not be filled, as where no episode succeeded that SFT could learn from; all others are.
    """
    for row in config.chosen_rows:  # what is missing is told before hours of work, not after
        stages_of(config, row, config.seeds[0])
    keep_settings(config)
    console = Console()
    cells = [(row, seed) for seed in config.seeds for row in config.chosen_rows]  # whole tables, seed by seed
    failed: list[str] = []
    for number, (row, seed) in enumerate(cells, 1):
        console.rule(f"{title}: {row}, seed {seed} ({number} of {len(cells)})", align="left")
        try:
            fill_cell(config, row, seed)
        except DreamGymError as error:
            failed.append(f"{row}, seed {seed}: {error}")
            console.print(failed[-1], markup=False)
        else:
            write(config, name, title, facts, against)
    console.print(on_screen(title, finished_rows(config)))
    if failed:
        raise DataError(f"{len(failed)} of {len(cells)} cells could not be filled: {'; '.join(failed)}")
    return config.folder / f"{name}.md"


def keep_settings(config: TableConfig) -> None:
    """Notes the settings of a new folder, or compares them with those that it was begun with.

    Raises:
        DataError: one differs: its cells could not stand in one table.
    """
    file = config.folder / SETTINGS_FILE
    ours = json.loads(json.dumps({k: v for k, v in asdict(config).items() if k not in NOT_SETTINGS}, default=str))
    theirs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for key in ours.keys() & theirs.keys():
        if ours[key] != theirs[key]:
            raise DataError(
                f"{config.folder} was begun with `{key}` {theirs[key]}, got {ours[key]}: cells of other settings have "
                f"no place in one table; give the same, or another `output`"
            )
    write_json(file, theirs | ours)


def finished_rows(config: TableConfig) -> list[Pooled]:
    """The rows of which at least one cell is finished, by this run or an earlier one."""
    rows = []
    for row in config.all_rows:
        found: list[Cell] = []
        for folder in sorted((config.folder / row).glob("seed-*")):
            if (cell := read_cell(folder)) is not None:
                found.append(cell)
        if found:
            rows.append(pooled(found))
    return rows


def write(config: TableConfig, name: str, title: str, facts: list[str], against: Mapping[str, str]) -> None:
    """The table's three files, of all cells that are finished."""
    rows, folder = finished_rows(config), config.folder
    settings: dict[str, Any] = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    (folder / f"{name}.md").write_text(as_markdown(title, facts, rows, against), encoding="utf-8")
    write_json(folder / f"{name}.json", as_data(title, settings, rows, against))
    draw(title, rows, folder / f"{name}.png")


def _facts(config: TableConfig) -> list[str]:
    episodes = config.tasks_per_update * config.group_size
    return [
        f"Updates in the dream: {config.dream_updates}, of {episodes} episodes each, at most {100 * config.lam:.0f}% "
        f"of the tasks generated, {'a growing' if config.grow_buffer else 'a fixed'} replay buffer.",
        f"Success in {config.place.real} on {config.eval_episodes} held-out episodes for each seed, broken ones left "
        "out; brackets are 95% Wilson intervals, which take all episodes as independent.",
        "Costs are the means of a seed, evaluation left out; what rows share (dream phase, real episodes) counts in "
        "each of them. CPU hours are process time, all threads.",
        f"dreamgym-env {dreamgym_env.__version__}; all settings are in {SETTINGS_FILE}.",
    ]
