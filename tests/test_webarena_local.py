"""The local WebArena: its sites over HTTP, its tasks as data, and every template solved in a real browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import urlencode

import gymnasium as gym
import pytest
from web_browser import make_local, missing

from dreamgym_env.domains.web import WEBARENA
from dreamgym_env.domains.web_page import read
from dreamgym_env.domains.web_trail import target_key
from dreamgym_env.types import Trajectory, Transition
from dreamgym_env.wrappers.webarena.configs import chosen, filled, read_configs, split_of
from dreamgym_env.wrappers.webarena.local.content import PASSWORD, USERS
from dreamgym_env.wrappers.webarena.local.server import SITES, LocalSites
from dreamgym_env.wrappers.webarena.local.tasks import local_configs, plan_of

CONFIGS = local_configs()
FIRST = {config["intent_template_id"]: f"local-{config['task_id']}" for config in reversed(CONFIGS)}
"""The first task of each template."""
browser = pytest.mark.skipif(
    bool(missing("webarena", "text_generation")), reason=str(missing("webarena", "text_generation"))
)


@pytest.fixture
def sites() -> Iterator[LocalSites]:
    world = LocalSites()
    yield world
    world.close()


def ask(url: str, cookie: str = "login=start", **form: str) -> tuple[int, str, str]:
    """Status, text and the address that it came from, after redirects."""
    body = urlencode(form).encode() if form else None
    request = urllib.request.Request(url, body, {"Cookie": cookie})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode(), answer.url
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.url


def test_every_site_asks_for_a_login(sites: LocalSites) -> None:
    for name, url in sites.urls.items():
        status, text, where = ask(url, cookie="")
        assert (status, where) == (200, url + SITES[name].login)
        assert "type=password" in text
        assert ask(url)[2] == url
        user = USERS[name]
        assert ask(url + SITES[name].login, cookie="", user=user, password="wrong")[2] == url + SITES[name].login
        request = urllib.request.Request(
            url + SITES[name].login, urlencode({"user": user, "password": PASSWORD}).encode()
        )
        with pytest.raises(urllib.error.HTTPError) as moved:
            urllib.request.build_opener(NoRedirect).open(request)
        assert moved.value.headers["Set-Cookie"].startswith("login=start; Path=/w")
    sites.log_out()
    assert "type=password" in ask(sites.urls["gitlab"])[1]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Shows a redirect instead of following it."""

    def redirect_request(self, *_: Any) -> None:
        return None


def test_every_menu_leads_somewhere(sites: LocalSites) -> None:
    for name, url in sites.urls.items():
        for path in SITES[name].menu.values():
            status, text, _ = ask(url + path)
            assert (status, "Not found" in text) == (200, False), (name, path)
        assert ask(url + "/nowhere/at/all")[0] == 404
    assert ask(sites.urls["gitlab"].rpartition("/")[0] + "/map")[0] == 404
    for path in ("/order/000000999", "/product/X1"):
        assert ask(sites.urls["shopping"] + path)[0] == ask(sites.urls["shopping_admin"] + path)[0] == 404
    for path in (
        "/nothing",
        "/nothing/commits",
        "/nothing/issues",
        "/nothing/members",
        "/paperboat/issue/99",
        "/paperboat/commit/0",
    ):
        assert ask(sites.urls["gitlab"] + path)[0] == 404
    assert ask(sites.urls["reddit"] + "/f/none")[0] == ask(sites.urls["reddit"] + "/f/nightsky/9999")[0] == 404


def test_what_is_typed_is_text(sites: LocalSites) -> None:
    evil = "<b>x</b>\"'&"
    url = sites.urls["reddit"]
    _, text, where = ask(url + "/submit", forum="nightsky", title=evil, body=evil)
    assert where.startswith(url + "/f/nightsky/")
    assert "<b>x" not in text
    assert text.count("&lt;b&gt;x&lt;/b&gt;") == 3
    for path, values in {
        "/me": {"bio": evil},
        f"/f/nightsky/{where.rpartition('/')[2]}/comment": {"body": evil},
    }.items():
        assert "<b>x" not in ask(url + path, **values)[1]
    assert "<b>x" not in ask(sites.urls["gitlab"] + "/paperboat/issues", title=evil, body=evil, label="bug")[1]
    assert "<b>x" not in ask(f"{sites.urls['shopping']}/search?{urlencode({'q': evil})}")[1]


def test_wrong_forms_change_nothing(sites: LocalSites) -> None:
    shop, admin, forge = (sites.urls[name] for name in ("shopping", "shopping_admin", "gitlab"))
    before = list(sites.db.iterdump())
    ask(shop + "/cart/add/K100", quantity="-1")
    ask(shop + "/review/K100", stars="9", title="x", body="")
    ask(admin + "/product/K100", price="cheap", stock="3")
    ask(forge + "/paperboat/members", user="nobody", role="Guest")
    ask(forge + "/paperboat/issues", title="", body="", label="bug")
    ask(sites.urls["reddit"] + "/submit", forum="none", title="x", body="")
    assert list(sites.db.iterdump()) == before


def test_worlds_are_apart_and_begin_anew(sites: LocalSites) -> None:
    other = LocalSites()
    ask(sites.urls["gitlab"] + "/tidepool/star", x="")
    assert "tidepool</a>" in ask(sites.urls["gitlab"] + "/starred")[1]
    assert "tidepool</a>" not in ask(other.urls["gitlab"] + "/starred")[1]
    sites.reset()
    assert "tidepool</a>" not in ask(sites.urls["gitlab"] + "/starred")[1]
    other.close()
    assert ask(other.urls["gitlab"])[0] == 404


def test_tasks_are_of_webarenas_form() -> None:
    configs = read_configs("local")
    templates = {config["intent_template_id"]: config["intent_template"] for config in configs.values()}
    assert len(configs) >= 60
    assert len(templates) == len(set(templates.values())) >= 15
    assert len({config["intent"] for config in configs.values()}) == len(configs)
    kinds = Counter(kind for config in configs.values() for kind in config["eval"]["eval_types"])
    assert set(kinds) == {"string_match", "url_match", "program_html"}
    assert min(kinds.values()) >= 10
    assert {site for config in configs.values() for site in config["sites"]} == set(SITES)
    for task_id, config in configs.items():
        text = json.dumps(filled(config, {site: f"http://x/{site}" for site in SITES}))
        assert "__" not in text, task_id
        assert plan_of(config["task_id"])[-1].verb == "send_msg_to_user"


def test_train_and_held_out_templates_are_apart() -> None:
    configs = read_configs("local")
    splits = ("train", "valid_seen", "held_out")
    of = {split: chosen(configs, "all", split, None) for split in splits}
    assert {split: {split_of(one, configs[one]) for one in ids} for split, ids in of.items()} == {
        "train": {"train"}, "valid_seen": {"held_out"}, "held_out": {"held_out"},
    }  # fmt: skip
    assert sorted(chain(*of.values())) == sorted(configs)
    templates = {split: {configs[one]["intent_template_id"] for one in ids} for split, ids in of.items()}
    assert not templates["train"] & templates["held_out"]
    assert templates["valid_seen"] < templates["train"]
    first = [one for one in of["train"] if configs[one]["task_id"] < 491]  # what came later is for training alone
    assert 0.2 < len(of["valid_seen"]) / (len(first) + len(of["valid_seen"])) < 0.25
    assert len(of["train"]) > 3 * len(first)
    assert len({config["intent"] for config in configs.values()}) == len(configs)
    assert len(templates["held_out"]) >= 5
    assert {site for one in of["held_out"] for site in configs[one]["sites"]} == set(SITES)


def play(env: Any, policy: Any, task_id: str) -> tuple[Trajectory, list[str]]:
    """One episode, and all states that it showed."""
    env.reset(options={"task_id": task_id})
    while env.end_reason is None:
        env.step(policy.act(env))
    steps = env.transitions
    return Trajectory(env.task, tuple(steps), env.end_reason), [steps[0].state, *(one.next_state for one in steps)]


def check_solved(env: Any, task_ids: list[str]) -> None:
    for task_id in task_ids:
        trajectory, states = play(env, env.demonstrator("oracle", 0), task_id)
        assert trajectory.success, (task_id, trajectory.task.instruction, trajectory.end_reason, states[-1])
        assert all(step.possible for step in trajectory.transitions), task_id
        expected = env.configs[task_id]["eval"]["reference_answers"] or {}
        for text in expected.get("must_include", []):
            assert any(text in state for state in states), f"{task_id}: no page shows {text!r}"
        if "exact_match" in expected:
            assert any(f"{expected['exact_match']} " in state for state in states), task_id


@browser
def test_the_oracle_solves_a_task_of_every_template() -> None:
    env: Any = make_local(split="all").unwrapped
    check_solved(env, list(FIRST.values()))
    env.close()


@browser
@pytest.mark.slow
def test_the_oracle_solves_every_task() -> None:
    env: Any = make_local(split="all").unwrapped
    check_solved(env, env.task_ids)
    env.close()


@browser
def test_saying_done_at_once_wins_nothing() -> None:
    env: Any = make_local(split="all").unwrapped
    for task_id in FIRST.values():
        env.reset(options={"task_id": task_id})
        _, reward, terminated, _, info = env.step("send_msg_to_user('Done.')")
        assert (reward, terminated, info["end_reason"]) == (0.0, True, "failure"), task_id
    env.close()


@browser
def test_demonstrators() -> None:
    env: Any = make_local().unwrapped
    slipping, _ = play(env, env.demonstrator("slips-0.4", 3), "local-10")
    assert not all(step.possible for step in slipping.transitions) or len(slipping.transitions) > len(plan_of(10))
    aimless, _ = play(env, env.demonstrator("random", 1), "local-10")
    assert not aimless.success
    crawled, states = play(env, env.demonstrator("crawler", 2), "local-10")
    again, _ = play(env, env.demonstrator("crawler", 2), "local-10")
    assert again.transitions == crawled.transitions
    opened = [state.split("\n")[1] for state in states]
    assert len(set(opened)) >= min(5, len(opened) // 2), "pages are not opened over and over"
    followed = Counter[Any]()
    for seed in range(3):
        surveyed, _ = play(env, env.demonstrator("surveyor", seed), "local-10")
        for step in surveyed.transitions:
            call, page = WEBARENA.call_of(step.state, step.action), read(step.state)
            if call and call.name == "click":
                followed[target_key(page, page.elements[call.targets[0]])] += 1
    assert len(followed) > 10
    assert set(followed.values()) == {1}, "a link is opened once in all episodes"
    for name in ("nobody", "slips", "oracle-0.3", "slips-2"):
        with pytest.raises(ValueError, match="`policy` must be oracle, crawler, surveyor, random, slips-P or"):
            env.demonstrator(name, 0)
    env.close()


@browser
def test_figure_6_is_dreamed_as_it_is_for_real() -> None:
    dream: Any = gym.make("DreamGym-WebArena-v0", split="held_out").unwrapped
    (task,) = [one for one in dream.tasks if one.instruction.endswith("first commit of April 2023 in paperboat?")]
    real: Any = make_local(split="held_out").unwrapped
    reader, history = real.reader(0.0, 0), list[Transition]()
    dreamed, _ = dream.reset(seed=0, options={"task": task})
    state, info = real.reset(seed=0, options={"task_id": task.task_id})
    while info["end_reason"] is None:
        assert dreamed == state
        action = reader.act(task, dreamed, info["available_actions"], history)
        dreamed, _, _, _, said = dream.step(action)
        history.append(Transition(task, len(history), state, action, dreamed, 0.0, False))
        state, _, _, _, info = real.step(action)
        assert said["end_reason"] == info["end_reason"]
    assert info["end_reason"] == "success"
    assert history[-1].action == "send_msg_to_user('Its message is: Rename the progress bar')"
    real.close()
