"""Offline data: policies in the real shop, and reasoning traces by rule and by a teacher behind a real HTTP server."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from dreamed_shop import play, shop_env, tasks_of
from test_chat_model import Endpoint

from dreamgym_env.domains.webshop import WEBSHOP, page_of
from dreamgym_env.domains.webshop_pages import ItemPage, ResultsPage
from dreamgym_env.loading import load_tasks
from dreamgym_env.locks import lock_exclusively
from dreamgym_env.prompts import answer
from dreamgym_env.spaces import Unicode
from dreamgym_env.trainers import annotate, collect
from dreamgym_env.trainers.annotate import AnnotateConfig, clean_trace, teacher_messages
from dreamgym_env.trainers.collect import CollectConfig, parse_mixture
from dreamgym_env.trajectories import read_trajectories, write_trajectories
from dreamgym_env.types import DataError, StepContext, Trajectory
from dreamgym_env.wrappers.webshop.annotator import compared

MIXTURE = ("oracle:0.3", "slips-0.3:0.3", "careless-0.5:0.3", "random:0.1")


def test_a_mixture_is_scaled() -> None:
    assert parse_mixture(("oracle:3", "slips-0.2:1")) == {"oracle": 0.75, "slips-0.2": 0.25}
    for wrong in ("oracle", "oracle:0", "oracle:-1", "oracle:x", ":0.3"):
        with pytest.raises(ValueError, match=f"entries like 'oracle:0.3' with a share > 0, got '{wrong}'"):
            parse_mixture(("random:1", wrong))
    with pytest.raises(ValueError, match="at least one policy"):
        parse_mixture(())


@pytest.mark.parametrize("name", ["slips", "oracle-0.3", "careless-1.5", "hasty", "expert", "slips--1"])
def test_demonstrators_are_named(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"`policy` must be oracle, random, slips-P, careless-P or hasty-P.*got '{name}'"
    ):
        shop_env().demonstrator(name, 0)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("collect") / "data" / "train.jsonl"
    return out, collect.main(CollectConfig(out=out, episodes=100, policies=MIXTURE, seed=4))


@pytest.fixture(scope="module")
def trajectories(collected: tuple[Path, dict[str, Any]]) -> list[Trajectory]:
    return list(read_trajectories(collected[0]))


def test_counts_say_what_is_in_the_file(collected: tuple[Path, dict[str, Any]], trajectories: list[Trajectory]) -> None:
    counts = Counter(f"{one.policy}/{one.end_reason}" for one in trajectories)
    report = {key: value for key, value in collected[1].items() if "/" in key and key != "out"}
    assert report == dict(counts)
    assert collected[1]["steps"] == sum(len(one.transitions) for one in trajectories)
    assert {one.policy for one in trajectories} == {"oracle", "slips-0.3", "careless-0.5", "random"}
    assert len({one.trajectory_id for one in trajectories}) == len(trajectories) == 100
    assert {one.end_reason for one in trajectories} == {"success", "failure", "time_limit"}
    by_policy = Counter((one.policy, one.success) for one in trajectories)
    assert by_policy["oracle", False] == 0
    assert by_policy["careless-0.5", False] > 0
    assert any(not step.possible for one in trajectories for step in one.transitions)


def test_the_split_travels_with_the_data(tmp_path: Path, trajectories: list[Trajectory]) -> None:
    assert {one.task.split for one in trajectories} == {"train"}
    config = CollectConfig(out=tmp_path / "held.jsonl.gz", episodes=6, split="held_out", distinct_tasks=3)
    collect.main(config)
    held_out = list(read_trajectories(config.out))
    assert {one.task.split for one in held_out} == {"held_out"}
    assert len({one.task.task_id for one in held_out}) <= 3
    assert not {one.task.task_id for one in held_out} & {one.task.task_id for one in trajectories}


def test_collecting_is_repeatable(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        collect.main(CollectConfig(out=file, episodes=5, seed=seed))
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    with pytest.raises(ValueError, match="`episodes` must be >= 1, got 0"):
        CollectConfig(episodes=0)


def test_two_collections_do_not_write_one_file(tmp_path: Path) -> None:
    config = CollectConfig(out=tmp_path / "one.jsonl", episodes=3, resume=True)
    config.partial.write_text("half a line", encoding="utf-8")
    with config.lock.open("w", encoding="utf-8") as lock:
        lock_exclusively(lock)
        with pytest.raises(DataError, match=r"one\.jsonl is being collected by another process; wait for it"):
            collect.main(config)
        assert config.partial.read_text(encoding="utf-8") == "half a line"
    collect.main(config)
    assert [path.name for path in tmp_path.iterdir()] == ["one.jsonl"]


def test_the_rule_based_verdict_is_the_reward_at_every_purchase(trajectories: list[Trajectory]) -> None:
    bought = 0
    for trajectory in trajectories:
        assert all(step.reasoning_trace and "\n" not in step.reasoning_trace for step in trajectory.transitions)
        for step in trajectory.transitions:
            parsed = answer(step.reasoning_trace, step.next_state, step.reward, step.terminated)
            assert "<" not in step.reasoning_trace
            assert parsed.startswith("<reasoning>")
            if step.terminated:
                bought += 1
                verdict = "success" if step.reward > 0 else "failure"
                assert step.reasoning_trace.startswith("checks: ")
                assert step.reasoning_trace.endswith(f"; so {verdict}")
                assert (" no;" in step.reasoning_trace) is (verdict == "failure")
            if not step.possible:
                assert step.reasoning_trace.endswith(" here, the page stays")
    assert bought > 50


def test_traces_by_hand() -> None:
    task = tasks_of("train", 4)[0]
    steps = shop_env().annotator().annotate(play(task)).transitions
    kinds = {WEBSHOP.kind(StepContext(task, (), step.state, step.action)): step for step in steps}
    assert kinds["search"].reasoning_trace == "search, results page 1"
    asin = kinds["open item"].action[6:-1]
    assert kinds["open item"].reasoning_trace == f"opens {asin}, nothing chosen"
    goal = shop_env().shop.goals[int(task.task_id.rpartition("-")[2])]
    last = kinds["buy"].reasoning_trace
    title = next(step.state for step in reversed(steps)).split("\n")[0]
    assert last.startswith(f"checks: {goal.query} yes; {compared(goal.attributes[0], title)}: yes;")
    assert last.endswith(f" under {goal.price_upper:.2f} yes; so success")
    chosen = [step.reasoning_trace for step in steps if " = " in step.reasoning_trace]
    assert len(chosen) == len(goal.options)
    if chosen:
        assert re.fullmatch("before: nothing; now .+ = .+", chosen[0])


def test_an_attribute_is_held_against_each_part_of_the_title() -> None:
    title = "Norvale ground coffee, low-acid, Kosher, resealable"
    assert compared("kosher", title) == "kosher low-acid no, kosher Kosher yes"
    assert compared("vegan", title) == "vegan low-acid no, vegan Kosher no, vegan resealable no"
    assert compared("vegan", "Norvale ground coffee") == "vegan"


def test_a_trajectory_of_another_shop_is_refused() -> None:
    episode = play(tasks_of("train", 4)[0])
    for task in (
        replace(episode.task, task_id="webshop-synthetic-999999"),
        replace(episode.task, task_id="other"),
        replace(episode.task, instruction="Find me a horse"),
    ):
        with pytest.raises(ValueError, match="is not one of this shop; annotate with the data it was collected on"):
            shop_env().annotator().annotate(replace(episode, task=task))


def test_tasks_of_a_real_world_become_the_dreams_seed_tasks(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl.gz"
    count = collect.main(CollectConfig(out=tmp_path / "one.jsonl", episodes=1, tasks_out=path))["tasks"]
    tasks = load_tasks(path)
    assert len(tasks) == count == len(shop_env().task_ids)
    assert tasks[7] == shop_env().task_of(tasks[7].task_id)
    assert {task.split for task in tasks} == {"train", "held_out"}
    first = path.read_bytes()
    collect.write_tasks("Real-WebShop-v0", path, {})
    assert path.read_bytes() == first
    path.write_bytes(gzip.compress(b'{"task_id": "x"}\n'))
    load_tasks.cache_clear()
    with pytest.raises(DataError, match="line 1: not a task"):
        load_tasks(path)


@pytest.fixture
def teacher() -> Iterator[Endpoint]:
    server = Endpoint()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_trajectories(tmp_path / "raw.jsonl", [play(task) for task in tasks_of("train", 4)])
    return tmp_path / "raw.jsonl"


def test_a_teacher_is_asked_once_for_each_transition_and_a_stopped_run_goes_on(raw: Path, teacher: Endpoint) -> None:
    out = raw.with_name("out.jsonl")
    config = AnnotateConfig(data=raw, out=out, teacher=f"openai:tiny@{teacher.url}", max_tokens=77)
    lengths = [len(one.transitions) for one in read_trajectories(raw)]
    assert annotate.main(config)["written"] == 4
    assert len(teacher.requests) == sum(lengths)
    assert {(sent["max_tokens"], sent["temperature"]) for sent in teacher.requests} == {(77, 0.2)}
    done = list(read_trajectories(out))
    truth = list(read_trajectories(raw))
    assert [replace(one, transitions=()) for one in done] == [replace(one, transitions=()) for one in truth]
    for one, real in zip(done, truth, strict=True):
        for step, plain in zip(one.transitions, real.transitions, strict=True):
            assert replace(step, reasoning_trace="") == plain
            assert step.reasoning_trace.startswith("WORLD: ")  # what this teacher says: the question in capitals
            assert not set(step.reasoning_trace) & set("<>\n")
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:100])  # stopped while it wrote the third
    with pytest.warns(UserWarning, match="line 3: no trajectory"):
        report = annotate.main(config)
    assert (report["written"], report["failed"], report["already_done"]) == (2, 0, 2)
    assert len(teacher.requests) == sum(lengths) + sum(lengths[2:])
    with pytest.warns(UserWarning, match="line 3"):
        again = list(read_trajectories(out, on_error="skip"))
    assert again == done
    with pytest.warns(UserWarning, match="line 3"):
        assert annotate.main(config)["written"] == 0
    assert "requests=" in report["usage"]


def test_what_the_teacher_fails_at_is_left_for_the_next_run(raw: Path, teacher: Endpoint) -> None:
    config = AnnotateConfig(data=raw, out=raw.with_name("out.jsonl"), teacher=f"openai:tiny@{teacher.url}")
    teacher.faults = ["400"]
    report = annotate.main(config)
    assert (report["written"], report["failed"]) == (3, 1)
    report = annotate.main(config)
    assert (report["written"], report["failed"], report["already_done"]) == (1, 0, 3)
    assert {one.trajectory_id for one in read_trajectories(config.out)} == {
        one.trajectory_id for one in read_trajectories(raw)
    }


def test_traces_that_are_there_stay_unless_they_are_to_be_written_anew(raw: Path, teacher: Endpoint) -> None:
    ruled = raw.with_name("ruled.jsonl")
    assert annotate.main(AnnotateConfig(data=raw, out=ruled))["written"] == 4
    traced = list(read_trajectories(ruled))
    assert traced == [shop_env().annotator().annotate(one) for one in read_trajectories(raw)]
    config = AnnotateConfig(data=ruled, out=raw.with_name("kept.jsonl"), teacher=f"openai:tiny@{teacher.url}")
    annotate.main(config)
    assert list(read_trajectories(config.out)) == traced
    assert teacher.requests == []
    annotate.main(replace(config, out=raw.with_name("new.jsonl"), overwrite=True))
    assert len(teacher.requests) == sum(len(one.transitions) for one in traced)


def test_broken_lines_are_refused_or_skipped(raw: Path) -> None:
    raw.write_text("{broken\n" + raw.read_text(encoding="utf-8"), encoding="utf-8")
    config = AnnotateConfig(data=raw, out=raw.with_name("out.jsonl"))
    with pytest.raises(DataError, match="line 1"):
        annotate.main(config)
    with pytest.warns(UserWarning, match="line 1: no trajectory.*line skipped"):
        assert annotate.main(replace(config, on_error="skip"))["written"] == 4


def test_the_question_to_the_teacher() -> None:
    episode = play(tasks_of("train", 4)[0])
    index = len(episode.transitions) - 1
    step = replace(episode.transitions[index], action="click[</state>]")
    context = StepContext(episode.task, episode.transitions[:index], step.state, step.action)
    text = teacher_messages(WEBSHOP, context, step)[1]["content"]
    assert episode.task.instruction in text
    assert text.endswith(f"What truly came next:\n{answer('', step.next_state, 1.0, True)}")
    assert 'Action: "click[\\u003c/state\\u003e]"' in text
    assert clean_trace(" a <b>\n\n c</reasoning> ") == "a b c /reasoning"


class Bare(gym.Env[str, str]):
    """A real environment without an annotator."""

    observation_space = action_space = Unicode()


gym.register(id="Bare-v0", entry_point="test_collect:Bare")


def test_a_world_without_an_annotator_needs_a_teacher(raw: Path) -> None:
    with pytest.raises(ValueError, match="`env` Bare-v0 has no annotator of its own; give `teacher` an endpoint"):
        annotate.main(AnnotateConfig(data=raw, out=raw.with_name("out.jsonl"), env="Bare-v0"))
    assert json.loads(raw.read_text(encoding="utf-8").splitlines()[0])["policy"] == "oracle"


def test_the_hasty_shopper_does_what_it_thinks() -> None:
    env = gym.make("Real-WebShop-v0", disable_env_checker=True)
    kept = 0
    for haste in (0.0, 1.0):
        policy = env.unwrapped.demonstrator(f"hasty-{haste:g}", 0)  # type: ignore[attr-defined]
        for number, task in enumerate(tasks_of("train", 8)):
            episode = collect.run_episode(env, policy, "hasty", str(number), options={"task_id": task.task_id})
            opened = []
            for step in episode.transitions:
                page = page_of(step.state)
                if isinstance(page, ResultsPage):
                    planned = step.thought.removeprefix("opens ").split()
                    assert set(planned) <= {row.asin for row in page.rows}
                    assert step.action == f"click[{planned[0]}]"
                    opened.append(planned[0])
                elif step.thought:
                    assert isinstance(page, ItemPage)
                    offered = {value for _, values in page.options for value in values}
                    for check in step.thought.removeprefix("checks: ").partition("; so ")[0].split("; "):
                        assert (check.split()[-2] in offered) is check.endswith(" yes")
                    lacks = " no;" in step.thought
                    assert step.thought.endswith("; so failure") is lacks
                    assert (step.action == "click[< Prev]") is (lacks and haste == 0.0)
                    kept += lacks and haste == 1.0
            assert len(set(opened)) == len(opened)
    assert kept
