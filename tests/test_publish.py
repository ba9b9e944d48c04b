"""Publishing a checkpoint: half-size weights, settings kept, a card that a person can read."""

from __future__ import annotations

import json
from pathlib import Path

from dreamgym_env.loading import SETTINGS_FILE
from dreamgym_env.trainers.publish import PublishConfig, card_text, figures, main, without_folders
from dreamgym_env.trainers.scratch import SmallConfig, Vocabulary, build_model, build_tokenizer


def small_checkpoint(folder: Path) -> int:
    tokenizer = build_tokenizer(Vocabulary((), ((" navy", 3), (" rug", 2))))
    model = build_model(SmallConfig(hidden_size=16, heads=2, layers=3, attention=(1,)), tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / SETTINGS_FILE).write_text(json.dumps({"kind": "experience", "experience": {"top_k": 1}}))
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_asset_is_half_the_size_and_keeps_its_settings(tmp_path: Path) -> None:
    parameters = small_checkpoint(tmp_path / "made")
    report = tmp_path / "measure.json"
    report.write_text(json.dumps({"config": {"steps": 5}, "parsed": {"count": 3, "n": 4}}))
    config = PublishConfig(
        tmp_path / "made",
        tmp_path / "asset",
        commands=("dreamgym measure",),
        reports=(report,),
        settings=("attempts=4",),
    )
    assert main(config)["parameters"] == parameters
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("made", "asset")]
    assert sizes[1] < 0.6 * sizes[0]
    card = json.loads((tmp_path / "asset" / SETTINGS_FILE).read_text())
    assert card["experience"] == {"top_k": 1, "attempts": 4}
    assert card["reports"]["measure"]["parsed"] == {"count": 3, "n": 4}
    text = (tmp_path / "asset" / "README.md").read_text()
    assert "| parsed | 0.750 (3 of 4) |" in text
    assert "dreamgym measure" in text
    assert "steps" not in text, "settings of the report are not figures"


def test_figures_tell_policies_apart_and_pass_over_shares_of_nothing() -> None:
    rows = figures({"policies": [{"policy": "reader", "denied": {"count": 0, "n": 0}}], "n": 7, "nested": {"a": 0.5}})
    assert rows == [
        "| reader: policy | reader |",
        "| reader: denied | - (0 of 0) |",
        "| n | 7 |",
        "| nested: a | 0.5 |",
    ]


def test_a_card_without_commands_or_reports_says_what_it_knows() -> None:
    card = {"parameters": 1234, "licence": "MIT", "commands": [], "versions": {"torch": "2"}, "reports": {}}
    text = card_text("A policy", card)
    assert text.startswith("# A policy\n\n1,234 parameters, licence MIT.")
    assert "Made by" not in text


def test_a_card_names_no_folder_of_this_machine() -> None:
    told = {
        "data": ["/home/me/runs/train.jsonl"],
        "settings": ("experience_model=/home/me/x",),
        "url": "http://a/b/c",
        "n": 1,
    }
    assert without_folders(told) == {
        "data": ["train.jsonl"],
        "settings": ["experience_model=x"],
        "url": "http://a/b/c",
        "n": 1,
    }
