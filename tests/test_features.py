"""Texts as numbers: what each column says, which actions are kept, and that single, vector and dream agree."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from dreamed_shop import ShopModel, actions_of, tasks_of
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from dreamgym_env.domains.alfworld import ALFWORLD
from dreamgym_env.domains.webshop import WEBSHOP
from dreamgym_env.domains.webshop_pages import SEARCH_STATE
from dreamgym_env.hashed_encoder import HashedEncoder
from dreamgym_env.types import Task, Transition
from dreamgym_env.wrappers.features import SCALARS, Episode, Features, queries

INSTRUCTION = "Find me quick-dry bath towels with color: navy, and count: four-pack, and price lower than 30.00 dollars"
LISTING = (
    "Page 1 (Total results: 2)\n[Back to Search] [Next >]\n"
    "[B0QN3HP7NA] Avelor bath towels, quick-dry | $22.99\n[B04A351BO6] Norvale throw pillows, soft | $35.99"
)
ITEM = (
    "Avelor bath towels, quick-dry\nPrice: $22.99 | Rating: N.A.\ncolor: [navy] [red]\n"
    "Chosen: color = navy\n[Back to Search] [< Prev] [Description] [Features] [Reviews] [Buy Now]"
)
TASK = Task("t", "webshop", INSTRUCTION, SEARCH_STATE)


def look(state: str, history: list[Transition] | None = None, **changes: Any) -> dict[str, dict[str, float]]:
    """The columns of each action of a state, by name."""
    features = Features(HashedEncoder(64), **{"max_actions": 16, "horizon": 10, **changes})
    history = history or []
    episode = Episode(TASK, state, WEBSHOP.available_actions(state, tuple(history)), history)
    actions, lines, _ = features.choices(WEBSHOP, episode)
    rows = features.array(WEBSHOP, episode, actions, lines)[1:]
    assert not rows[len(actions) :].any()
    return {
        action: dict(zip(SCALARS, row[: len(SCALARS)].tolist(), strict=True))
        for action, row in zip(actions, rows, strict=False)
    }


def step(action: str, state: str, number: int = 0) -> Transition:
    return Transition(TASK, number, state, action, state)


def test_queries_are_made_of_the_instruction() -> None:
    assert queries(INSTRUCTION) == ["quick-dry bath towels", "quick-dry bath towels color navy count four-pack"]
    assert queries("Find me soft, washable rugs with size: 2x3, and price lower than 10.00 dollars.") == [
        "soft washable rugs", "washable rugs", "soft washable rugs size 2x3"
    ]  # fmt: skip
    assert queries("put a hot apple in fridge") == ["hot apple fridge"]
    assert queries("of the") == ["of the"]
    assert queries("") == ["anything"]


def test_a_blank_becomes_one_action_for_each_query() -> None:
    rows = look(SEARCH_STATE)
    assert list(rows) == [f"search[{query}]" for query in queries(INSTRUCTION)]
    assert all(row["query"] == row["available"] == 1 for row in rows.values())


def test_columns_by_hand() -> None:
    # The instruction's words without stop words: quick dry bath towels color navy count four pack 30.00, ten of them.
    rows = look(LISTING)
    good, bad = rows["click[B0QN3HP7NA]"], rows["click[B04A351BO6]"]
    # b0qn3hp7na avelor bath towels quick dry 22.99: four of seven are asked for, four of ten asked words are there.
    assert (good["asked"], good["fitting"]) == (pytest.approx(0.4), pytest.approx(4 / 7))
    assert (bad["asked"], bad["fitting"], bad["best"]) == (0, 0, pytest.approx(-0.4))
    assert (good["amount"], bad["amount"], rows["click[Next >]"]["amount"]) == (1, -1, 0)
    assert (good["lean"], good["best"], good["taken"], good["time"]) == (pytest.approx(4 / 7), 0, 0, 0)
    bought = look(ITEM, [step("click[navy]", ITEM)])
    chosen, other = bought["click[navy]"], bought["click[red]"]
    assert (chosen["taken"], chosen["last"], chosen["shown"]) == (0.5, 1, 1)
    assert chosen["lean"] == pytest.approx(1 - 2 * 0.5)
    assert (other["taken"], other["last"], other["shown"], other["time"]) == (0, 0, 0, pytest.approx(0.1))
    assert bought["click[Buy Now]"]["asked"] > rows["click[B0QN3HP7NA]"]["asked"]  # title, and the choice made


def test_row_0_tells_state_and_instruction() -> None:
    encoder = HashedEncoder(64)
    episode = Episode(TASK, SEARCH_STATE, [])
    seen = Features(encoder, 2, 10).array(WEBSHOP, episode, [], [])
    assert seen.shape == (3, len(SCALARS) + 64)
    assert np.array_equal(
        seen[0, len(SCALARS) :], encoder.encode([f"Action: {INSTRUCTION}\nState:\n{SEARCH_STATE}"])[0]
    )
    assert not seen[1:].any()


def test_too_many_actions_keep_what_is_asked_for_then_what_is_new_then_the_first() -> None:
    offered = [f"go to cabinet {number}" for number in range(1, 6)] + ["go to fridge 1", "take apple 1 from cabinet 1"]
    task = Task("a", "alfworld", "put a hot apple in fridge", "You are in a room.")
    features = Features(HashedEncoder(64), max_actions=4, horizon=50)

    def kept(*taken: str) -> tuple[list[str], int]:
        history = [Transition(task, n, "s", action, "s") for n, action in enumerate(taken)]
        actions, _, left_out = features.choices(ALFWORLD, Episode(task, "s", offered, history))
        return actions, left_out

    assert kept() == (["go to cabinet 1", "go to cabinet 2", "go to fridge 1", "take apple 1 from cabinet 1"], 3)
    assert kept("go to cabinet 1", "go to cabinet 2")[0][:2] == ["go to cabinet 3", "go to cabinet 4"]
    assert kept(*offered[:5])[0][:2] == ["go to cabinet 1", "go to cabinet 2"]
    wide = Features(HashedEncoder(64), max_actions=7, horizon=50)
    assert wide.choices(ALFWORLD, Episode(task, "s", offered))[::2] == (offered, 0)


def test_what_is_left_out_is_told() -> None:
    env = gym.make("DreamGymFeatures-v0", env_id="Real-WebShop-v0", max_actions=5)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="actions more than `max_actions` = 5"):
        _, _, _, _, info = env.step(0)
    assert (len(info["actions"]), info["actions_left_out"]) == (5, len(info["available_actions"]) - 5)
    assert info["actions_left_out"] > 0
    with pytest.raises(ValueError, match="`max_actions` must be >= 1, got 0"):
        gym.make("DreamGymFeatures-v0", env_id="Real-WebShop-v0", max_actions=0)


def test_it_is_a_gymnasium_environment() -> None:
    check_env(gym.make("DreamGymFeatures-v0", env_id="Real-WebShop-v0").unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings("ignore:a state offers")
def test_an_index_without_an_action_is_impossible_and_costs_a_step() -> None:
    env: Any = gym.make("DreamGymFeatures-v0", env_id="Real-WebShop-v0", horizon=2, max_actions=9)
    before, info = env.reset(seed=1)
    assert env.get_wrapper_attr("action_masks")().tolist() == [True] * len(info["actions"]) + [False] * (
        9 - len(info["actions"])
    )
    after, reward, terminated, truncated, info = env.step(8)
    assert (info["possible"], reward, terminated, truncated) == (False, 0.0, False, False)
    assert np.array_equal(after[:, len(SCALARS) :], before[:, len(SCALARS) :])
    cut, _, _, truncated, info = env.step(0)
    assert truncated
    assert info["actions"], "an episode that was cut off still has a value to tell"
    assert cut[1, 0] == 1


def make_vector(num_envs: int, **settings: Any) -> Any:
    return gym.make_vec("DreamGymFeatures-v0", num_envs=num_envs, **settings)


def dream_settings() -> dict[str, Any]:
    return {"experience_model": ShopModel(), "replay_buffer": None, "top_k": 0, "tasks": tasks_of("train", 1)}


@pytest.mark.parametrize("dreamed", [False, True])
def test_single_and_vector_are_equal_and_ends_reset_in_the_same_step(dreamed: bool) -> None:
    task = tasks_of("train", 1)[0]
    settings = dream_settings() if dreamed else {"env_id": "Real-WebShop-v0", "tasks": [task.task_id]}
    single, vector = gym.make("DreamGymFeatures-v0", **settings), make_vector(2, **settings)
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    first, info = single.reset(seed=0)
    seen, infos = vector.reset(seed=0)
    assert np.array_equal(seen, np.stack([first, first]))
    assert seen in vector.observation_space
    for action in ["search[x]", *actions_of(task)[1:]]:
        choice = info["actions"].index(action) if action in info["actions"] else 0
        alone, reward, terminated, _, info = single.step(choice)
        seen, rewards, ends, cuts, infos = vector.step(np.array([choice, 23]))
        assert (rewards[0], ends[0], cuts.any(), ends[1]) == (reward, terminated, False, False)
        if not terminated:
            assert np.array_equal(seen[0], alone)
            assert infos["actions"][0] == info["actions"]
    assert terminated
    assert (infos["final_info"]["success"][0], infos["_final_obs"].tolist()) == (info["success"], [True, False])
    assert np.array_equal(infos["final_obs"][0], alone)
    assert np.array_equal(seen[0], first)
    assert vector.action_masks()[0].sum() == len(infos["actions"][0])
    vector.close()


def test_dreams_stay_in_one_batch() -> None:
    settings = dream_settings()
    vector = make_vector(3, **settings, use_known=False)
    vector.reset(seed=0)
    vector.step(np.zeros(3, dtype=int))
    vector.step(np.array([3, 3, 23]))  # two open a product, one does what is impossible
    assert settings["experience_model"].batches == [3, 2]


def test_wrong_calls() -> None:
    vector = make_vector(2, env_id="Real-WebShop-v0")
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="one index for each of 2, got 3"):
        vector.step(np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="`encoder` must be 'embedded'"):
        make_vector(1, env_id="Real-WebShop-v0", encoder="words")
