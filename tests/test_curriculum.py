"""The curriculum: Eq. 7 by hand, lambda in every batch, coverage, choice, lineage, exact resume."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dreamgym_env.curriculum import Curriculum, reward_entropy
from dreamgym_env.types import DataError, Task

SEEDS = [Task(f"s{i}", "webshop", f"buy thing {i}", "WebShop") for i in range(7)]


def generated(n: int, parent: str = "s0") -> list[Task]:
    return [replace(SEEDS[0], task_id=f"{parent}~{i}", origin="generated", parent_id=parent) for i in range(1, n + 1)]


@pytest.mark.parametrize(
    ("rewards", "value"),
    [
        ([1, 0], 0.25),
        ([1, 0, 0, 0], 0.1875),  # mean 1/4: (9/16 + 3 * 1/16) / 4 = 12/64
        ([1, 1, 1], 0.0),
        ([0.0], 0.0),
        ([0.5, 1.0, 0.0], 1 / 6),  # mean 1/2: (0 + 1/4 + 1/4) / 3
        ([2.0, 4.0], 1.0),
    ],
)
def test_reward_entropy_by_hand(rewards: list[float], value: float) -> None:
    assert reward_entropy(rewards) == pytest.approx(value, abs=1e-15)
    assert reward_entropy(rewards) == pytest.approx(float(np.var(rewards)), abs=1e-15)


def test_no_rewards_have_no_entropy() -> None:
    with pytest.raises(ValueError, match="`rewards` must hold at least one"):
        reward_entropy([])


def test_lambda_bounds_every_batch() -> None:
    """Over random lambdas, batch sizes, numbers of tasks and values."""
    rng = np.random.default_rng(0)
    reached = 0
    for trial in range(150):
        lam = float(rng.choice([0, 1, 0.1, 0.29, 0.3, 1 / 3, 0.5, 0.7, float(rng.random())]))
        curriculum = Curriculum(SEEDS[: int(rng.integers(1, 8))], lam, seed=trial)
        curriculum.add_generated(generated(int(rng.integers(0, 40))))
        for task in list(curriculum.tasks.values())[::3]:
            curriculum.update(task, [float(one) for one in rng.integers(0, 2, 4)])
        for n in rng.integers(0, 34, 6).tolist():
            batch = curriculum.sample(n)
            share = sum(task.origin == "generated" for task in batch)
            assert len(batch) == n
            assert share <= lam * n
            assert share / max(n, 1) <= lam
            assert share == min(math.floor(lam * n), len(curriculum.tasks) - len(curriculum._seeds))
            reached += share
    assert reached > 500


def test_seed_tasks_are_covered_before_any_repeats() -> None:
    curriculum = Curriculum(SEEDS, lam=0.0, seed=1)
    counts = dict.fromkeys((task.task_id for task in SEEDS), 0)
    batches = [[task.task_id for task in curriculum.sample(n)] for n in (3, 3, 3, 5, 7, 1, 6)]
    for batch in batches:
        assert len(set(batch)) == len(batch)
        for name in batch:
            counts[name] += 1
        assert max(counts.values()) - min(counts.values()) <= 1
    assert len({tuple(batch) for batch in batches[:3]}) == 3
    assert len(curriculum.sample(20)) == 20


def test_valuable_generated_tasks_come_more_often_and_none_twice_a_batch() -> None:
    curriculum = Curriculum(SEEDS, lam=0.5, seed=2)
    tasks = generated(4)
    curriculum.add_generated(tasks)
    for task, rewards in zip(tasks, [[1, 0], [1, 1], [0, 0], [1, 0, 0, 0]], strict=True):
        curriculum.update(task, rewards)
    counts: Counter[str] = Counter()
    for _ in range(600):
        names = [task.task_id for task in curriculum.sample(2) if task.origin == "generated"]
        assert len(names) == 1
        counts.update(names)
    # Weights 0.26, 0.01, 0.01, 0.1975 of 0.4775.
    assert counts["s0~1"] == pytest.approx(600 * 0.5445, abs=50)
    assert counts["s0~4"] == pytest.approx(600 * 0.4136, abs=50)
    assert counts["s0~2"] > 0
    assert len({task.task_id for task in curriculum.sample(8) if task.origin == "generated"}) == 4


def test_variation_takes_feasible_and_challenging_tasks_first() -> None:
    curriculum = Curriculum(SEEDS)
    for task, rewards in zip(SEEDS, [[1, 1], [0, 0], [1, 0, 0, 0], [1, 0], [0, 1, 1, 1], [1.0]], strict=False):
        curriculum.update(task, rewards)
    assert [task.task_id for task in curriculum.select_for_variation(9)] == ["s3", "s2", "s4"]
    assert [task.task_id for task in curriculum.select_for_variation(1)] == ["s3"]
    assert curriculum.select_for_variation(0) == []
    curriculum.update(SEEDS[3], [1, 1])  # solved by now
    assert [task.task_id for task in curriculum.select_for_variation(9)] == ["s2", "s4"]


def test_lineage_survives_dropping() -> None:
    curriculum = Curriculum(SEEDS, max_generated=2)
    curriculum.add_generated(generated(1))
    curriculum.add_generated(generated(1, "s0~1"))
    curriculum.update(curriculum.tasks["s0~1"], [1, 1])
    curriculum.add_generated(generated(1, "s0~1~1"))
    assert "s0~1" not in curriculum.tasks
    assert curriculum.lineage("s0~1~1~1") == ["s0~1~1~1", "s0~1~1", "s0~1", "s0"]
    assert curriculum.lineage("s3") == ["s3"]
    with pytest.raises(ValueError, match="got 'x'"):
        curriculum.lineage("x")


def test_resume_is_exact() -> None:
    def run(curriculum: Curriculum, rounds: int) -> list[str]:
        names = []
        for step in range(rounds):
            for task in curriculum.sample(5):
                names.append(task.task_id)
                curriculum.update(task, [float((len(names) + step) % 2), 0.0])
        return names

    first = Curriculum(SEEDS, 0.4, seed=5)
    first.add_generated(generated(6))
    run(first, 3)
    state = json.loads(json.dumps(first.state_dict()))
    second = Curriculum(SEEDS, 0.4, seed=99)
    second.load_state_dict(state)
    assert run(second, 5) == run(first, 5)
    assert second.values == first.values
    assert second.state_dict() == first.state_dict()


def test_a_foreign_state_is_refused_and_changes_nothing() -> None:
    curriculum = Curriculum(SEEDS[:2])
    curriculum.sample(1)
    before = curriculum.state_dict()
    other = Curriculum(SEEDS)
    other.sample(1)
    broken = {key: value for key, value in other.state_dict().items() if key != "rng"}
    for state, message in (
        (other.state_dict(), "other seed tasks"),
        (broken, "KeyError: 'rng'"),
        ({"a": 1}, "not the"),
    ):
        with pytest.raises(DataError, match=message):
            curriculum.load_state_dict(state)
    assert curriculum.state_dict() == before


def test_tasks_are_checked() -> None:
    curriculum = Curriculum(SEEDS)
    child = generated(1)[0]
    for task, message in [
        (replace(child, origin="seed"), "must have origin 'generated'"),
        (replace(child, split="held_out"), "held out and must not be trained on"),
        (replace(child, parent_id="nobody"), "`parent_id` of 's0~1' must be a known task, got 'nobody'"),
        (replace(child, task_id="s1"), "`task_id` must be new, got 's1'"),
    ]:
        with pytest.raises(ValueError, match=message):
            curriculum.add_generated([task])
    assert len(curriculum.tasks) == 7
    with pytest.raises(ValueError, match="add it with add_generated"):
        curriculum.update(child, [1.0])
    with pytest.raises(ValueError, match="different ids"):
        Curriculum([SEEDS[0], SEEDS[0]])
    with pytest.raises(ValueError, match="at least one task"):
        Curriculum([])
    with pytest.raises(ValueError, match=r"`lam` must be in \[0, 1\], got 1.5"):
        Curriculum(SEEDS, 1.5)
    with pytest.raises(ValueError, match="`n` must be >= 0"):
        curriculum.sample(-1)
