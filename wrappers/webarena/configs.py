"""WebArena's tasks: the 812 of the webarena package, a file's, or the local sites'; and which are WebArena-Lite's."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dreamgym_env.types import DataError, Split

Config = Mapping[str, Any]
"""One task as WebArena writes it: `sites`, `task_id`, `start_url`, `intent`, `intent_template_id`, `eval`, ..."""
SitesName = Literal["real", "local"]
Subset = Literal["all", "lite"]
SplitName = Literal["train", "valid_seen", "held_out", "all"]

# fmt: off
LITE = (
    4, 7, 15, 20, 23, 27, 33, 37, 43, 44, 48, 56, 58, 65, 69, 71, 75, 77, 82, 88, 93, 95, 96, 97, 98, 103, 109,
    115, 117, 118, 123, 125, 127, 131, 135, 139, 144, 149, 155, 156, 157, 162, 167, 169, 173, 182, 190, 196,
    202, 205, 211, 215, 220, 221, 225, 227, 235, 236, 240, 247, 250, 254, 258, 259, 268, 270, 276, 283, 285,
    287, 288, 296, 300, 311, 313, 318, 321, 324, 333, 335, 348, 349, 354, 357, 361, 367, 368, 369, 374, 376,
    381, 382, 383, 384, 386, 387, 392, 401, 404, 415, 419, 423, 426, 431, 440, 448, 454, 458, 464, 466, 470,
    476, 485, 488, 491, 497, 505, 506, 509, 514, 516, 521, 524, 528, 534, 538, 548, 566, 567, 574, 577, 582,
    599, 601, 605, 612, 619, 626, 631, 641, 645, 652, 657, 668, 673, 678, 682, 686, 693, 704, 710, 714, 720,
    729, 733, 741, 745, 748, 760, 762, 768, 791, 798, 809, 811,
)
# fmt: on
"""WebArena-Lite (THUDM/VisualAgentBench): 165 of the 812, each of another template."""


def read_configs(sites: SitesName, task_file: str | Path | None = None) -> dict[str, Config]:
    """All tasks by id (`webarena-17`, `local-17`).

    Raises:
        DataError: the file is missing or holds no tasks of WebArena's form.
    """
    if sites == "local":
        from .local.tasks import local_configs

        return {f"local-{one['task_id']}": one for one in local_configs()}
    if task_file is None:
        import webarena

        text = importlib.resources.files(webarena).joinpath("test.raw.json").read_text(encoding="utf-8")
        return {f"webarena-{one['task_id']}": one for one in json.loads(text)}
    try:
        found = json.loads(Path(task_file).read_text(encoding="utf-8"))
        return {f"webarena-{one['task_id']}": one for one in found if one["intent"] and one["eval"]["eval_types"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{task_file} must be a JSON list of tasks in WebArena's form: {error!r}") from error


def split_of(task_id: str, config: Config) -> Split:
    """What is not to be trained on is held out: WebArena's own by WebArena-Lite, the local ones by `split`."""
    if task_id.startswith("local-"):
        return "train" if config["split"] == "train" else "held_out"
    return "held_out" if config.get("old_task_id", config["task_id"]) in LITE else "train"


def judged(config: Config) -> bool:
    """Whether a language model may have to judge the answer."""
    return "fuzzy_match" in (config["eval"].get("reference_answers") or {})


def tokenized(config: Config) -> bool:
    """Whether the evaluator splits the answer into words, for which it needs NLTK's `punkt_tab`."""
    wanted = (config["eval"].get("reference_answers") or {}).get("must_include", ())
    return len(wanted) == 1 and len(wanted[0].strip("'\"")) == 1


def filled(config: Config, urls: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with the sites' addresses in place of `__SHOPPING__` and the like."""
    text = json.dumps(config)
    for site, url in urls.items():
        text = text.replace(f"__{site.upper()}__", url)
    done: dict[str, Any] = json.loads(text)
    return done


def chosen(
    configs: Mapping[str, Config], subset: Subset, split: SplitName | None, tasks: Sequence[str] | None
) -> list[str]:
    """The ids that an environment draws from.

    Raises:
        ValueError: an id is unknown, or nothing is left.
    """
    if tasks is not None:
        if unknown := [one for one in tasks if one not in configs]:
            raise ValueError(f"a task id must be one of {next(iter(configs))!r}, ..., got {unknown[0]!r}")
        ids = list(tasks)
    else:
        wanted = split or ("all" if subset == "lite" else "train")
        ids = [
            one for one, config in configs.items() if wanted in ("all", config.get("split") or split_of(one, config))
        ]
        lite = {f"webarena-{number}" for number in LITE}
        ids = [one for one in ids if subset == "all" or one in lite or "old_task_id" in configs[one]]
    if not ids:
        raise ValueError(
            f"`subset`, `split` and `tasks` must leave at least one task, got {subset!r}, {split!r}, {tasks}"
        )
    return ids
