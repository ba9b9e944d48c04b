"""Pools of training sequences: every trajectory in turn, the same pools whoever draws them, and the same training."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launching import launch

from dreamgym_env.trainers import collect, experience
from dreamgym_env.trainers.collect import CollectConfig
from dreamgym_env.trainers.corpus import Corpus
from dreamgym_env.trainers.corpus_supply import AheadSupply, open_supply
from dreamgym_env.trainers.experience import load_model, read_training_data
from dreamgym_env.trainers.experience_config import ExperienceTrainingConfig
from dreamgym_env.trainers.logs import read_metrics
from dreamgym_env.trainers.names import name_classes
from dreamgym_env.trainers.scratch import SmallConfig
from dreamgym_env.trainers.supervised import Example, SupervisedConfig
from dreamgym_env.types import DataError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperienceTrainingConfig:
    """A tiny experience model on ten episodes of the real shop."""
    folder = tmp_path_factory.mktemp("supply")
    collect.main(CollectConfig(out=folder / "train.jsonl", episodes=10, seed=3))
    return ExperienceTrainingConfig(
        data=(folder / "train.jsonl",),
        out=folder / "model",
        million_tokens=0.03,
        permute_share=0.5,
        model=SmallConfig(hidden_size=64, heads=2, layers=2, attention=(1,), feed_forward=96, max_positions=4096),
        training=SupervisedConfig(batch_tokens=1024, warmup_steps=2, log_every=3, device="cpu"),
    )


def ids_of(pool: list[Example]) -> list[list[int]]:
    return [example.ids.tolist() for example in pool]


def test_pools_go_through_the_trajectories_in_turn(config: ExperienceTrainingConfig) -> None:
    found = read_training_data(config)
    corpus, drawn = Corpus(replace(config, top_k=0), found), []
    for number in range(5):
        corpus.begin(number, 6)
        drawn += list(reversed(corpus.order))
    assert len(found) == 10
    passes = [drawn[start : start + 10] for start in (0, 10, 20)]
    assert all(Counter(one) == Counter(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_workers_draw_the_same_pools(config: ExperienceTrainingConfig) -> None:
    corpora = [Corpus(config, read_training_data(config))]
    _, tokenizer, _ = load_model(config, corpora)
    classes = name_classes(tokenizer, frozenset())
    with open_supply(config, corpora, tokenizer, classes) as here:
        wanted = [ids_of(list(here.draw(0))) for _ in range(4)]
        assert len({str(pool) for pool in wanted}) == 4
        state = here.state()
        here.restore({**state, "number": 1})
        assert ids_of(list(here.draw(0))) == wanted[1]
        here.restore({"of": [3], "number": 0})  # other data: it goes on with its own
        assert here.state()["number"] == 2
    with open_supply(replace(config, workers=2), corpora, tokenizer, classes) as ahead:
        assert isinstance(ahead, AheadSupply)
        assert [ids_of(list(ahead.draw(0))) for _ in range(3)] == wanted[:3]
        ahead.restore({**state, "number": 1})
        assert ids_of(list(ahead.draw(0))) == wanted[1]
        assert ahead.state()["number"] == 2


def test_training_is_the_same_with_workers(config: ExperienceTrainingConfig) -> None:
    from safetensors.torch import load_file

    experience.main(config)
    experience.main(replace(config, out=config.out.with_name("ahead"), workers=1))
    one, other = (load_file(config.out.with_name(name) / "model.safetensors") for name in ("model", "ahead"))
    assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in one)


def test_a_checkpoint_of_another_version_is_told(config: ExperienceTrainingConfig, tmp_path: Path) -> None:
    config = replace(config, out=tmp_path / "old", training=replace(config.training, save_every=2))
    experience.main(config)
    (checkpoint,) = (config.out / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text("utf-8"))
    del state["pool"]["supply"]["of"]
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")
    told = (checkpoint / "state.json").read_bytes()
    manifest = json.loads((checkpoint / "manifest.json").read_text("utf-8"))
    manifest["state.json"] = {"bytes": len(told), "sha256": hashlib.sha256(told).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match="another version wrote it; train on from its folder `policy`"):
        experience.main(replace(config, resume=True, million_tokens=0.05))


def test_two_processes_make_the_steps_of_one_on_what_the_first_draws(
    config: ExperienceTrainingConfig, tmp_path: Path
) -> None:
    config = replace(config, out=tmp_path / "one", workers=1, training=replace(config.training, log_every=1))
    experience.main(config)
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path, PosixPath\n"
        "from dreamgym_env.trainers import experience\n"
        "from dreamgym_env.trainers.experience_config import ExperienceTrainingConfig, SmallConfig, SupervisedConfig\n"
        "if __name__ == '__main__':\n"
        f"    experience.main({replace(config, out=tmp_path / 'two')!r})\n",
        encoding="utf-8",
    )
    launch(program)
    one, two = ([line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("one", "two"))
    assert len(one) > 2
    assert two == pytest.approx(one, rel=1e-3)


def test_a_count_below_zero_is_refused(config: ExperienceTrainingConfig) -> None:
    with pytest.raises(ValueError, match="`workers` must be >= 0, got -1"):
        replace(config, workers=-1)


def test_a_worker_that_is_killed_ends_the_training_with_an_error(config: ExperienceTrainingConfig) -> None:
    corpora = [Corpus(config, read_training_data(config))]
    _, tokenizer, _ = load_model(config, corpora)

    def train() -> None:
        with open_supply(replace(config, workers=1), corpora, tokenizer, []) as ahead:
            ahead.draw(0)
            (worker,) = multiprocessing.active_children()
            worker.kill()
            for _ in range(5):
                ahead.draw(0)

    with pytest.raises(DataError, match="`workers` = 1 processes drew sequences, and one of them was ended"):
        train()
