"""Training an experience model on real trajectories: what enters, what is learned, and that the result dreams."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dreamed_shop import play, shop_env, tasks_of

from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.experience_model import ExperienceModel
from dreamgym_env.loading import embedded_trajectories_path, load_experience_model
from dreamgym_env.parsing import parse_prediction
from dreamgym_env.prompts import answer, experience_messages, user_turn
from dreamgym_env.task_generator import parse_task
from dreamgym_env.trainers import experience, measure
from dreamgym_env.trainers.corpus import (
    Corpus,
    contexts_of,
    conversation,
    corpora_of,
)
from dreamgym_env.trainers.experience import load_model, read_training_data
from dreamgym_env.trainers.experience_config import ExperienceTrainingConfig
from dreamgym_env.trainers.names import common_pieces, format_words, permuted
from dreamgym_env.trainers.scratch import SmallConfig
from dreamgym_env.trainers.supervised import Example, SupervisedConfig, answer_spans
from dreamgym_env.trajectories import read_trajectories, write_trajectories
from dreamgym_env.types import Message, ParseError, Prediction, StepContext, Trajectory

TINY = SmallConfig(hidden_size=64, heads=2, layers=2, attention=(1,), feed_forward=96, max_positions=4096)


def episodes(split: str, count: int) -> list[Trajectory]:
    annotator = shop_env().annotator()
    return [
        annotator.annotate(play(task, policy, 6)) for task in tasks_of(split, count) for policy in ("oracle", "random")
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and held-out episodes, and one that broke."""
    train = episodes("train", 4)
    broken = replace(train[0], end_reason="model_error", trajectory_id="broken")
    path = tmp_path_factory.mktemp("data") / "all.jsonl"
    write_trajectories(path, [*train, *episodes("held_out", 3), broken])
    return path


def config_of(data: Path, **settings: Any) -> ExperienceTrainingConfig:
    training = SupervisedConfig(batch_tokens=1024, warmup_steps=2, log_every=2)
    basic = ExperienceTrainingConfig(data=(data,), million_tokens=0.006, model=TINY, training=training)
    return replace(basic, **settings)


def test_held_out_and_broken_episodes_never_enter(data: Path, tmp_path: Path) -> None:
    found = read_training_data(config_of(data))
    assert {one.trajectory_id for one in found} == {one.trajectory_id for one in episodes("train", 4)}
    corpus = Corpus(config_of(data, top_k=2, demonstration_share=1.0), found)
    text = json.dumps([corpus.draw(60), corpus.task_chats(60)])
    for task in tasks_of("held_out", 3):
        assert task.instruction not in text
    assert all(task.instruction in text for task in tasks_of("train", 4))
    only = tmp_path / "held.jsonl"
    write_trajectories(only, episodes("held_out", 3))
    with pytest.raises(ValueError, match=r"must hold trajectories of training tasks, got 6 in .* none usable"):
        read_training_data(config_of(only))


def test_a_training_chat_is_what_the_dream_will_ask(data: Path) -> None:
    """The last question of the chat equals what the experience model would build at that step."""
    (episode, *_) = episodes("train", 4)
    shown = [[episode.transitions[0]] for _ in episode.transitions]
    full = [False] * len(shown)
    chat = conversation(WEBSHOP, episode, shown, recall=True, traces=True, brief=full)
    assert [message["role"] for message in chat] == ["system"] + ["user", "assistant"] * len(episode.transitions)
    for step, message in zip(episode.transitions, chat[2::2], strict=True):
        found = parse_prediction(message["content"])
        assert (found.reasoning_trace, found.next_state) == (step.reasoning_trace, step.next_state)
        assert (found.reward, found.terminated) == (step.reward, step.terminated)
    steps = []
    for context, step in zip(contexts_of(episode), episode.transitions, strict=True):
        action = WEBSHOP.parse_action(step.state, step.action)
        assert action is not None
        prompt = user_turn(action.text, WEBSHOP.recall(context), [episode.transitions[0]])
        steps.append(replace(step, prompt=prompt))
    last = steps[-1]
    asked = StepContext(episode.task, tuple(steps[:-1]), last.state, last.action)
    assert chat[:-1] == experience_messages(WEBSHOP, asked, last.prompt)
    bare = conversation(WEBSHOP, episode, [[] for _ in shown], recall=False, traces=False, brief=full)
    assert not any(word in str(bare) for word in ("Seen before", "Similar steps", "<reasoning>s"))


def test_shares_of_the_augmentation(data: Path) -> None:
    found = read_training_data(config_of(data))

    def share(word: str, **settings: Any) -> float:
        chats = Corpus(config_of(data, **settings), found).draw(40)
        return sum(word in str(chat) for chat in chats) / len(chats)

    assert share("Similar steps") > 0.5
    assert share("Similar steps", demonstration_share=0.0) == share("Similar steps", top_k=0) == 0
    assert share("Seen before", recall_share=1.0) > 0.4
    assert (
        share(" here, the page stays", impossible_share=1.0) > share(" here, the page stays", impossible_share=0.0) == 0
    )
    assert share("Seen before", recall_share=0.0) == 0
    assert share("search, results page 1", trace_share=0.0) == 0
    assert share("search, results page 1") > 0.9


def test_one_model_for_two_worlds(data: Path, tmp_path: Path) -> None:
    """As many sequences of each, one vocabulary for both; each world keeps its own rules, buffer and instructions."""
    rooms = tmp_path / "rooms.jsonl"
    write_trajectories(rooms, list(itertools.islice(read_trajectories(embedded_trajectories_path("alfworld")), 6)))
    config = replace(config_of(data, out=tmp_path / "both"), domain=("webshop", "alfworld"), data=(data, rooms))
    corpora = corpora_of(config, read_training_data(config))
    assert [corpus.domain.name for corpus in corpora] == ["webshop", "alfworld"]
    assert [len(corpus.trajectories) for corpus in corpora] == [8, 6]
    for corpus in corpora:
        assert {chat[0]["content"] for chat in corpus.draw(8)} == {corpus.domain.experience_instruction}
    _, tokenizer, _ = load_model(config, corpora)
    for word in ("Buy Now", "countertop"):
        assert any(word in piece for piece in tokenizer.get_vocab())
    experience.main(config)
    for domain in config.domain:
        model = load_experience_model(domain, str(config.out), None, top_k=0)
        assert model.domain.name == domain
    with pytest.raises(ValueError, match=r"each `domain`, got none of \['miniwob'\], only of \['alfworld'"):
        corpora_of(replace(config, domain=("webshop", "miniwob")), read_training_data(config))


def test_known_steps_in_brief_are_not_learned(data: Path) -> None:
    """`click[Back to Search]` is known; in brief it stands without recalled lines and trace, and weighs nothing."""
    (episode, *_) = episodes("train", 4)
    search = episode.transitions[0]
    back = replace(search, step_index=1, state=search.next_state, action="click[Back to Search]")
    back = replace(back, next_state=search.state, reasoning_trace="back to search")
    twice = replace(episode, transitions=(search, back, replace(search, step_index=2)))

    def drawn(share: float) -> tuple[list[Message], list[float]]:
        config = config_of(data, brief_share=share, top_k=0, impossible_share=1.0, recall_share=1.0)
        ((chat, factors),) = Corpus(config, [twice])._draw(1)
        return chat, factors

    full, factors = drawn(0.0)
    assert factors == [0.3, 1.0, 0.3]
    assert "<reasoning>back to search</reasoning>" in full[4]["content"]
    brief, factors = drawn(1.0)
    assert factors == [0.3, 0.0, 0.0]
    assert [message["content"] for message in brief[3:5]] == [
        'Action: "click[Back to Search]"',
        answer("", search.state, 0.0, False),
    ]
    assert brief[:3] == full[:3]


def test_a_variation_is_another_task_like_the_last_one_shown(data: Path) -> None:
    found = read_training_data(config_of(data))
    told = {
        "lamp": [
            "Find me dimmable desk lamps, and price lower than 30.00",
            "Find me desk lamps, and price lower than 20.00",
        ],
        "tea": [
            "Find me organic green tea, and price lower than 9.00",
            "Find me loose green tea, and price lower than 8.00",
        ],
    }
    owners = {text: kind for kind, texts in told.items() for text in texts}
    corpus = Corpus(
        config_of(data),
        [replace(found[0], task=replace(found[0].task, instruction=text)) for text in owners],
    )
    chats = corpus.task_chats(20)
    for _, question, reply in chats:
        shown, variation = question["content"].splitlines(), parse_task(reply["content"])
        assert variation is not None
        assert len(shown) == 3
        assert variation != shown[-1]
        assert owners[variation] == owners[shown[-1]]
    assert len({chat[-1]["content"] for chat in chats}) == 4


def test_names_of_tasks_are_not_exchanged(data: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    found = read_training_data(config_of(data))
    seen: list[Example] = []
    corpus = Corpus(config_of(data, tasks_share=0.5, longest=10**6), found)
    examples = corpus.examples(tokenizer, 40, lambda example: (seen.append(example), example)[1])
    others = [tokenizer.decode(one.ids) for one in examples if not any(one is example for example in seen)]
    assert 8 < len(others) < 32
    assert len(seen) + len(others) == 40
    assert all(WEBSHOP.task_instruction in text for text in others)


def test_demonstrations_are_never_of_the_same_trajectory(data: Path) -> None:
    found = read_training_data(config_of(data))
    corpus = Corpus(config_of(data, top_k=3), found)
    contexts = [context for one in found for context in contexts_of(one)]
    owners = [one.trajectory_id for one in found for _ in one.transitions]
    for owner, row in zip(owners, corpus.buffer.retrieve(contexts, 3, exclude_trajectory_ids=owners), strict=True):
        assert all(one.transition_id.rpartition(":")[0] != owner for one in row)
        assert all(one.transition.possible for one in row)


def test_every_trajectory_comes_before_any_comes_again(data: Path) -> None:
    found = read_training_data(config_of(data))
    config = config_of(data, top_k=0, recall_share=1.0, impossible_share=1.0)
    corpus, same, other = Corpus(config, found), Corpus(config, found), Corpus(replace(config, seed=1), found)
    first, second = ([str(chat) for chat in corpus.draw(len(found))] for _ in range(2))
    assert len(set(first)) == len(found)
    assert set(first) == set(second)
    assert [str(chat) for chat in same.draw(len(found))] == first
    assert [str(chat) for chat in other.draw(len(found))] != first


def test_permuted_is_one_bijection_throughout() -> None:
    ids = np.asarray([1, 5, 2, 5, 9, 7, 1, 3], np.int32)
    example = Example(ids, np.arange(8, dtype=np.float32))
    classes = [[(1,), (2,), (3,)], [(5,), (6,), (7,), (8,)]]
    tables = set()
    for seed in range(20):
        found = permuted(example, classes, 10, random.Random(seed))
        table = dict(zip(ids.tolist(), found.ids.tolist(), strict=True))
        assert [table[one] for one in ids.tolist()] == found.ids.tolist()
        assert len(set(table.values())) == len(table)
        assert {table[1], table[2], table[3]} == {1, 2, 3}
        assert {table[5], table[7]} <= {5, 6, 7, 8}
        assert table[9] == 9
        assert np.array_equal(found.weights, example.weights)
        tables.add(tuple(found.ids.tolist()))
    assert len(tables) > 5
    assert ids.tolist() == [1, 5, 2, 5, 9, 7, 1, 3]


def test_both_ids_of_a_letter_go_together() -> None:
    example = Example(np.asarray([1, 11, 2, 12, 3, 13], np.int32), np.ones(6, np.float32))
    found = [permuted(example, [[(1, 11), (2, 12), (3, 13)]], 20, random.Random(seed)).ids for seed in range(20)]
    assert all((ids[1::2] == ids[::2] + 10).all() for ids in found)
    assert len({tuple(ids.tolist()) for ids in found}) > 3


def test_common_pieces_stay(data: Path) -> None:
    class Words:
        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [f"t{one}" for one in ids]

    weights = np.zeros(2, np.float32)
    examples = [Example(np.asarray([1, number], np.int32), weights) for number in (2, 3, 4, 4)]
    assert common_pieces(Words(), examples, share=0.5) == {"t1", "t4"}  # type: ignore[arg-type]


def test_what_tasks_ask_for_is_a_name_however_common(data: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    text = "Page 1 of kosher tea"
    example = Example(np.asarray(tokenizer(text)["input_ids"], np.int32), np.zeros(1, np.float32))
    pieces = set(tokenizer.convert_ids_to_tokens(example.ids))
    asked = ["Find me 1 of these, kosher", "Find me 1 of those", "Find me 1 thing"]
    said = [set(tokenizer.convert_ids_to_tokens(tokenizer(one)["input_ids"])) for one in asked]
    sometimes = {piece for piece in set.union(*said) if 2 * sum(piece in one for one in said) < len(said)}
    assert format_words(tokenizer, [example], asked) == pieces - sometimes
    assert pieces & sometimes
    assert pieces - sometimes


def test_outcomes_weigh_more_and_open_pages_less(data: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    oracles = [one for one in read_training_data(config_of(data)) if one.success]
    corpus = Corpus(config_of(data, tasks_share=0.0, top_k=0, open_weight=0.25, outcome_weight=4.0), oracles)
    for example in corpus.examples(tokenizer, len(oracles)):
        spans = answer_spans(example.weights)
        weights = [set(example.weights[start:end].tolist()) for start, end in spans]
        assert (weights[0], weights[-1]) == ({0.25}, {4.0})
        assert all(one == {1.0} for one in weights[1:-1])
        assert len(weights) > 2


@pytest.mark.parametrize(("knowing", "learned"), [(("oracle",), False), (("random", "slips"), True)])
def test_what_no_history_determines_is_not_learned_from_those_who_know(
    data: Path, trained: tuple[Path, dict[str, Any]], knowing: tuple[str, ...], learned: bool
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    oracles = [one for one in read_training_data(config_of(data)) if one.success and one.policy.startswith("oracle")]
    assert oracles
    corpus = Corpus(config_of(data, tasks_share=0.0, top_k=0, open_weight=0.25, knowing_policies=knowing), oracles)
    for example in corpus.examples(tokenizer, len(oracles)):
        weights = set(example.weights.tolist())
        assert (0.25 in weights) == learned
        assert 1.0 in weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outcome_weight": 0.0}, "`outcome_weight` must be > 0, got 0"),
        ({"recall_share": 1.2}, "`recall_share` must be in .0, 1., got 1.2"),
        ({"permute_share": -0.1}, "`permute_share` must be in"),
        ({"lora_rank": 4}, "`lora_rank` needs `vocabulary='keep'`"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExperienceTrainingConfig(**settings)


def test_what_is_too_long_is_said_and_never_trained_on_forever() -> None:
    def example(*weights: float) -> Example:
        return Example(np.zeros(len(weights), np.int32), np.asarray(weights, np.float32))

    examples = [example(0, 1, 1), example(0, 1, 1, 0, 0.3, 1, 1, 0), example(0)]
    assert experience.longest_answer(examples) == 3
    assert experience.longest_answer([]) == 0
    assert experience.check_lengths(examples, 8) == 0
    with pytest.warns(UserWarning, match="1 of 3 episodes are longer than `longest` = 7 tokens and left out; .* has 8"):
        assert experience.check_lengths(examples, 7) == 1
    with pytest.raises(ValueError, match="`longest` must be above 3 tokens, the shortest episode, got 2"):
        experience.check_lengths(examples[:2], 2)


@pytest.mark.parametrize("vocabulary", ["keep", "fit"])
def test_weights_stored_in_bfloat16_are_trained_in_float32(data: Path, tmp_path: Path, vocabulary: str) -> None:
    config = ExperienceTrainingConfig(data=(data,), model=TINY)
    corpora = [Corpus(config, read_training_data(config))]
    model, tokenizer, _ = load_model(config, corpora)
    model.bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _, _ = load_model(replace(config, base=str(tmp_path), vocabulary=vocabulary), corpora)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_a_base_reads_as_many_tokens_as_it_is_trained_on(data: Path, tmp_path: Path) -> None:
    config = ExperienceTrainingConfig(data=(data,), model=TINY)
    corpora = [Corpus(config, read_training_data(config))]
    model, tokenizer, _ = load_model(config, corpora)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for longest in (TINY.max_positions + 100, TINY.max_positions - 100):
        kept, _, _ = load_model(replace(config, base=str(tmp_path), vocabulary="keep", longest=longest), corpora)
        assert kept.config.max_position_embeddings == max(longest, TINY.max_positions)


def test_keeping_a_vocabulary_needs_a_checkpoint(data: Path) -> None:
    config = config_of(data, vocabulary="keep", top_k=0)
    with pytest.raises(ValueError, match="`vocabulary='keep'` needs `base`"):
        load_model(config, [Corpus(config, read_training_data(config))])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("trained") / "model"
    return out, experience.main(config_of(data, out=out, top_k=2))


def dreams(model: ExperienceModel) -> None:
    """It answers every context with a value, whatever it has learned."""
    task = tasks_of("held_out", 3)[0]
    contexts = contexts_of(play(task))
    results = model.predict(contexts)
    assert len(results) == len(contexts)
    assert all(isinstance(one, Prediction | ParseError) for one in results)
    assert model.counts["completions"] + model.counts["known"] >= len(contexts)


def test_a_trained_checkpoint_loads_as_an_experience_model(trained: tuple[Path, dict[str, Any]], data: Path) -> None:
    out, card = trained
    saved = json.loads((out / "dreamgym.json").read_text(encoding="utf-8"))
    assert saved == card
    assert (card["kind"], card["experience"], card["trajectories"]) == (
        "experience",
        {"top_k": 2, "max_tokens": 400, "brief_known": False},
        8,
    )
    assert card["transitions"] == sum(len(one.transitions) for one in episodes("train", 4))
    assert card["tokens"] >= 6000
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(np.isfinite(json.loads(line)["loss"]) for line in lines)
    model = load_experience_model("webshop", str(out), None, max_tokens=8, attempts=2)
    assert model.config.top_k == 2
    dreams(model)
    assert load_experience_model("webshop", str(out), None, top_k=1).config.top_k == 1


def test_it_is_measured_by_command(trained: tuple[Path, dict[str, Any]], data: Path, monkeypatch: Any) -> None:
    short = load_experience_model("webshop", str(trained[0]), None, top_k=0, max_tokens=4, attempts=1, use_known=False)
    monkeypatch.setattr(measure, "load_experience_model", lambda *_, **__: short)
    report = measure.main(measure.MeasureConfig(data=(data,), model=str(trained[0]), steps=5))
    assert report["parsed"]["n"] >= 5
    assert report["parsed"]["count"] == 0


@pytest.mark.parametrize("way", ["graft", "lora"])
def test_training_goes_on_from_a_checkpoint(
    way: str, trained: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"base": str(trained[0]), "out": tmp_path / way, "million_tokens": 0.002, "top_k": 0}
    if way == "lora":
        pytest.importorskip("peft")
        settings |= {"vocabulary": "keep", "lora_rank": 2}
    card = experience.main(config_of(data, **settings))
    if way == "graft":
        assert card["graft"]["kept"] > 300
    else:
        assert (tmp_path / way / "adapter_config.json").exists()
    dreams(load_experience_model("webshop", str(tmp_path / way), None, max_tokens=4, attempts=1))
