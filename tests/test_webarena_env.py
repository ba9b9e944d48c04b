"""`Real-WebArena-v0`: its arguments, WebArena's own tasks and evaluators, the judge, and sites that go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from chat_endpoint import serving
from web_browser import make_local, missing, odd_site

pytest.importorskip("browsergym.core", reason="needs dreamgym-env[webarena]")

from dreamgym_env.domains.web_page import Element, WebPage
from dreamgym_env.types import DataError, Task
from dreamgym_env.wrappers.webarena.base import SiteError
from dreamgym_env.wrappers.webarena.configs import LITE, chosen, judged, read_configs, split_of, tokenized
from dreamgym_env.wrappers.webarena.evaluation import NAMES
from dreamgym_env.wrappers.webarena.sites import SiteMap, asks_login

pytestmark = pytest.mark.skipif(
    bool(missing("webarena", "text_generation")), reason=str(missing("webarena", "text_generation"))
)

AWAY = ("away", "new tab")
"""Links of the odd site that lead outside."""
REAL = {name: f"http://{name.replace('_', '-')}.test:{7000 + index}" for index, name in enumerate(NAMES)}
REAL["shopping_admin"] += "/admin"


def point(monkeypatch: pytest.MonkeyPatch, urls: dict[str, str]) -> None:
    for name, url in urls.items():
        monkeypatch.setenv(f"WA_{name.upper()}", url)


def make_real(**settings: Any) -> Any:
    return gym.make("Real-WebArena-v0", disable_env_checker=True, **settings).unwrapped


def test_missing_addresses_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"WA_{name.upper()}", raising=False)
    monkeypatch.setenv("WA_GITLAB", "http://x")
    with pytest.raises(
        ValueError, match=r"missing: WA_SHOPPING, WA_SHOPPING_ADMIN, WA_REDDIT, WA_WIKIPEDIA, WA_MAP, WA_HOMEPAGE\."
    ):
        make_real(task_id=1)


def test_all_812_tasks_and_the_lite_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    point(monkeypatch, REAL)
    configs = read_configs("real")
    assert len(configs) == 812
    assert len(LITE) == len(set(LITE)) == 165
    assert len({configs[f"webarena-{number}"]["intent_template_id"] for number in LITE}) == 165
    lite = chosen(configs, "lite", None, None)
    assert lite == chosen(configs, "all", "held_out", None) == [f"webarena-{number}" for number in LITE]
    assert len(chosen(configs, "all", None, None)) == 812 - 165
    assert {split_of(one, configs[one]) for one in lite} == {"held_out"}
    with pytest.raises(ValueError, match="must leave at least one task"):
        chosen(configs, "lite", "train", None)
    env = make_real(task_id=4)
    assert env.task_ids == ["webarena-4"]
    assert env.task_of("webarena-4") == Task(
        "webarena-4", "webarena", configs["webarena-4"]["intent"], "", split="held_out"
    )
    assert env.map.public(REAL["shopping_admin"] + "/sales/order?x=1") == "http://luma.com/admin/sales/order?x=1"
    assert env.map.private("http://luma.com/admin/sales") == REAL["shopping_admin"] + "/sales"
    assert env.map.private("http://gitlab.community/x") == "http://gitlab.community/x"
    assert env.map.inside(REAL["shopping_admin"].removesuffix("/admin") + "/static")
    assert not env.map.inside("http://example.com/")
    with pytest.raises(ValueError, match="sites='local', got 'oracle'"):
        env.demonstrator("oracle", 0)


def test_what_needs_a_judge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point(monkeypatch, REAL)
    configs = read_configs("real")
    asking = [one for one, config in configs.items() if judged(config)]
    assert len(asking) == 118
    with pytest.raises(
        ValueError, match=r"1 of 1 tasks \(webarena-\d+, ...\) are scored by a judge model: give judge="
    ):
        make_real(tasks=asking[:1])
    with pytest.raises(ValueError, match=r"`judge='leave_out'` must leave at least one task"):
        make_real(tasks=asking[:1], judge="leave_out")
    assert make_real(tasks=[asking[0], "webarena-4"], judge="leave_out").task_ids == ["webarena-4"]
    by_words = [one for one, config in configs.items() if tokenized(config)]
    assert by_words
    monkeypatch.setattr("dreamgym_env.wrappers.webarena.env.needs_tokenizer", lambda: True)
    with pytest.raises(ValueError, match=r"python -m nltk\.downloader punkt_tab"):
        make_real(tasks=by_words[:1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": "moon"}, "`sites` must be one of"),
        ({"subset": "half"}, "`subset` must be one of"),
        ({"split": "test"}, "`split` must be one of"),
        ({"timeout": 0}, "`timeout` must be > 0 seconds"),
        ({"subset": "lite"}, "local sites have no `subset`"),
        ({"tasks": ["webarena-1"]}, "a task id must be one of 'local-0'"),
        ({"task_id": 9999}, "a task id must be one of"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_real(**{"sites": "local"} | settings)


def test_wrong_task_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point(monkeypatch, REAL)
    for text in ("[", '[{"task_id": 1}]', "3"):
        (tmp_path / "tasks.json").write_text(text)
        with pytest.raises(DataError, match=r"tasks\.json must be a JSON list of tasks in WebArena's form"):
            make_real(task_file=str(tmp_path / "tasks.json"))


def config(number: int, **scored: Any) -> dict[str, Any]:
    """A task in WebArena's form that begins on the odd site."""
    empty = {"eval_types": ["url_match"], "reference_answers": None, "reference_url": "__MAP__/ok", "program_html": []}
    return {
        "sites": ["map"], "task_id": number, "require_login": False, "storage_state": None, "start_url": "__MAP__/",
        "geolocation": None, "intent_template": "x", "instantiation_dict": {}, "intent": f"Say {number}.",
        "require_reset": False, "eval": empty | scored, "intent_template_id": number,
    }  # fmt: skip


def shows(page: str) -> dict[str, Any]:
    """Scored by whether a page, or what a function says is one, has a word that each page of the odd site has."""
    return {
        "eval_types": ["program_html"],
        "program_html": [{"url": page, "locator": "", "required_contents": {"must_include": ["Odd"]}}],
    }


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings for tasks on real, misbehaving sites: task 1 needs a judge, 2 and 3 do not open, the evaluators of 4 to
    8 find a site that fails or asks for a login, of 9 one that does neither."""
    fuzzy = {"eval_types": ["string_match"], "reference_answers": {"fuzzy_match": ["two cats"]}}
    pages = ["__MAP__/error", "__REDDIT__/private", "func:shopping_get_latest_order_url()", "func:[][0]"]
    tasks = [
        config(0),
        config(1, **fuzzy),
        config(2) | {"start_url": "__MAP__/slow"},
        config(3) | {"start_url": "__MAP__/error"},
        *(config(4 + number, **shows(page)) for number, page in enumerate([*pages, "__MAP__/slow", "__MAP__/ok"])),
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    with odd_site() as url, odd_site() as other:
        point(monkeypatch, REAL | {"map": url, "reddit": other, "shopping": other + "/shop"})
        yield {"task_file": str(tmp_path / "tasks.json"), "settle": 0.0, "timeout": 4.0}


def follow(env: Any, name: str) -> tuple[Any, ...]:
    (number,) = [one.number for one in env.page.elements.values() if one.name == name]
    return tuple(env.step(f"click('{number}')"))


def test_real_sites_through_the_real_evaluators(odd: dict[str, Any]) -> None:
    env = make_real(tasks=["webarena-0"], **odd)
    state, info = env.reset(seed=0)
    assert state.split("\n")[:2] == ["Page: '/'", "URL: http://openstreetmap.org/"]
    assert (info["instruction"], info["task"].split) == ("Say 0.", "train")
    assert follow(env, "ok")[1:4] == (0.0, False, False)
    assert env.step("go_back()")[0] == state
    assert env.step("goto('http://openstreetmap.org/ok')")[0].split("\n")[1] == "URL: http://openstreetmap.org/ok"
    _, reward, terminated, truncated, info = env.step("send_msg_to_user('Done.')")
    assert (reward, terminated, truncated, info["end_reason"]) == (1.0, True, False, "success")
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step("report_infeasible('no')")
    assert (reward, terminated, info["end_reason"]) == (0.0, True, "failure")
    env.close()


@pytest.mark.parametrize("name", ["error", "slow", "half"])
def test_a_site_that_fails_ends_the_episode_without_reward(odd: dict[str, Any], name: str) -> None:
    env = make_real(tasks=["webarena-0"], **odd)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = follow(env, name)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["end_reason"], info["success"], info["available_actions"]) == ("site_error", False, [])
    assert {"error": "HTTP status 500", "slow": "no answer in 4 s", "half": "only half a page in 4 s"}[name] in info[
        "error"
    ]
    env.close()


def test_sites_that_are_down(odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_real(tasks=["webarena-0"], **odd)
    env.reset(seed=0)
    *_, truncated, info = env.step("goto('http://gitlab.com/')")  # its host does not exist
    assert (truncated, info["end_reason"]) == (True, "site_error")
    for task_id in ("webarena-2", "webarena-3"):
        state, info = env.reset(options={"task_id": task_id})
        assert "This page did not open." in state
        assert f"{task_id} does not open: " in info["error"]
        _, reward, terminated, truncated, info = env.step("click('1')")
        assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "site_error")
        assert f"{task_id} does not open: " in info["error"]
    assert env.reset(options={"task_id": "webarena-0"})[1]["end_reason"] is None
    assert follow(env, "ok")[1:4] == (0.0, False, False)
    fresh = make_real(tasks=["webarena-2"], **odd)
    with pytest.raises(SiteError, match="webarena-2 does not open: "):
        fresh.reset(seed=0)
    for one in (env, fresh):
        one.close()


@pytest.mark.parametrize(
    ("number", "end_reason", "error"),
    [
        (4, "site_error", "HTTP status 500"),
        (5, "login_expired", "a login is asked for"),
        (6, "site_error", "501 Server Error"),
        (7, "site_error", "the evaluator could not read the site: IndexError"),
        (8, "site_error", "Timeout 4000ms exceeded"),
        (9, "success", ""),
    ],
)
def test_what_evaluators_open_must_work(odd: dict[str, Any], number: int, end_reason: str, error: str) -> None:
    env = make_real(tasks=[f"webarena-{number}"], **odd)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step("send_msg_to_user('Done.')")
    assert info["end_reason"] == end_reason
    assert error in info["error"]
    won = end_reason == "success"
    assert (reward, terminated, truncated) == (float(won), won, not won)
    env.close()


def test_a_task_that_cannot_be_scored_does_not_begin(odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_real(tasks=["webarena-0"], **odd)
    with pytest.raises(ValueError, match="scored by a judge model"):
        env.reset(options={"task_id": "webarena-1"})
    monkeypatch.setattr("dreamgym_env.wrappers.webarena.env.tokenized", lambda config: True)
    monkeypatch.setattr("dreamgym_env.wrappers.webarena.env.needs_tokenizer", lambda: True)
    with pytest.raises(ValueError, match=r"python -m nltk\.downloader punkt_tab"):
        env.reset(seed=0)
    env.close()


def test_leaving_the_sites_ends_the_episode(odd: dict[str, Any]) -> None:
    env = make_real(tasks=["webarena-0"], **odd)
    for leave in (lambda: env.step("goto('http://example.com/')"), *(partial(follow, env, one) for one in AWAY)):
        env.reset(seed=0)
        _, reward, terminated, truncated, info = leave()
        assert (reward, terminated, truncated, info["end_reason"]) == (0.0, True, False, "left_sites")
    local: Any = make_local().unwrapped
    local.reset(seed=0)
    neighbour: Any = make_local().unwrapped
    assert local.step(f"goto({neighbour.map.urls['gitlab']!r})")[4]["end_reason"] == "left_sites"
    for one in (env, local, neighbour):
        one.close()


def test_an_expired_login_ends_the_episode() -> None:
    env: Any = make_local().unwrapped
    for site, task_id in {env.configs[one]["sites"][0]: one for one in env.task_ids}.items():
        env.reset(options={"task_id": task_id})
        env._world.log_out()
        number = next(iter(env.page.elements))
        _, reward, terminated, truncated, info = env.step(f"click('{number}')")
        assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "login_expired"), site
    env.close()


def test_login_pages() -> None:
    sites = SiteMap(REAL)
    form = WebPage("", "", (Element(1, "textbox", "Password"), Element(2, "button", "Sign in")))
    assert asks_login(form, REAL["shopping_admin"] + "/sales", sites)
    assert not asks_login(form, REAL["gitlab"] + "/x", sites)
    assert asks_login(WebPage("", ""), REAL["gitlab"] + "/users/sign_in?x=1", sites)
    assert asks_login(WebPage("", ""), REAL["shopping"] + "/customer/account/login/", sites)
    assert not asks_login(WebPage("", ""), "http://example.com/login", sites)


def test_the_judge_is_asked_and_its_failure_is_no_score(odd: dict[str, Any]) -> None:
    verdicts = ["correct", "incorrect", "who knows"]
    with serving(lambda messages: verdicts[len(ends)]) as endpoint:
        env = make_real(tasks=["webarena-1"], judge=f"openai:judge@{endpoint.url}", **odd)
        ends: list[tuple[float, str]] = []
        for _ in verdicts:
            env.reset(seed=0)
            _, reward, *_, info = env.step("send_msg_to_user('A pair of cats.')")
            ends.append((reward, info["end_reason"]))
        assert ends == [(1.0, "success"), (0.0, "failure"), (0.0, "model_error")]
        assert "the judge must say one of correct, same, different, got 'who knows'" in info["error"]
        assert "two cats" in endpoint.requests[0]["messages"][-1]["content"]
        assert "a pair of cats." in endpoint.requests[0]["messages"][-1]["content"]
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step("send_msg_to_user('A pair of cats.')")
    assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "model_error")
    env.close()


def test_success_at_the_horizon_counts() -> None:
    env: Any = make_local(horizon=3, task_id=5).unwrapped  # opens a product's page
    oracle = env.demonstrator("oracle", 0)
    env.reset(seed=0)
    for _ in range(3):
        _, reward, terminated, truncated, info = env.step(oracle.act(env))
    assert (reward, terminated, truncated, info["end_reason"]) == (1.0, True, False, "success")
    env.close()


def test_tabs_and_scrolling() -> None:
    env: Any = make_local(split="all").unwrapped
    first, _ = env.reset(options={"task_id": "local-10"})
    state, *_ = env.step("new_tab()")
    assert state.split("\n")[:3] == ["Page: ''", "URL: about:blank", "Tabs: 'Welcome - Market Hall' | '' (shown)"]
    assert "tab_focus(0)" in env.domain.available_actions(state, ())
    assert env.step("tab_focus(0)")[0].split("\n")[3:] == first.split("\n")[2:]
    env.step("tab_focus(1)")
    assert env.step("tab_close()")[0] == first
    env.step("goto('http://gitlab.com/paperboat/commits')")
    assert (env.page.above, env.page.below > 0) == (0, True)
    shown = {one.name for one in env.page.elements.values()}
    _, *_, info = env.step("scroll(0, 10000)")
    assert info["possible"]
    assert env.page.above > 0
    assert env.page.below == 0
    assert {one.name for one in env.page.elements.values()} - shown
    env.close()
