"""`ChatModel` against a real HTTP server on loopback that misbehaves on request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from chat_endpoint import Endpoint, serving

from dreamgym_env.chat_model import ChatModel, ChatUsage
from dreamgym_env.language_model import load_language_model
from dreamgym_env.types import LanguageModel, ModelError, Sampling


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


def chat(endpoint: Endpoint, **options: Any) -> ChatModel:
    return ChatModel("tiny", endpoint.url, **{"backoff": 0.01, "timeout": 5.0, **options})


def say(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_order_is_kept_and_requests_run_at_once_up_to_the_limit(endpoint: Endpoint) -> None:
    endpoint.delay = 0.05
    model = chat(endpoint, concurrency=3)
    texts = [f"text {number}" for number in range(9)]
    completions = model.complete(say(*texts), Sampling())
    assert [completion.text for completion in completions] == [text.upper() for text in texts]
    assert endpoint.most_active == 3
    assert isinstance(model, LanguageModel)


def test_sampling_reaches_the_endpoint(endpoint: Endpoint) -> None:
    model = chat(endpoint, options={"extra_body": {"top_k": 5}})
    model.complete(say("a"), Sampling(temperature=0.3, top_p=0.9, max_tokens=17, stop=("\n", "END")))
    sent = endpoint.requests[0]
    assert {name: sent[name] for name in ("model", "temperature", "top_p", "max_tokens", "stop", "top_k")} == {
        "model": "tiny", "temperature": 0.3, "top_p": 0.9, "max_tokens": 17, "stop": ["\n", "END"], "top_k": 5,
    }  # fmt: skip
    chat(endpoint, token_limit_name="max_completion_tokens").complete(say("a"), Sampling(max_tokens=8))
    assert endpoint.requests[1]["max_completion_tokens"] == 8
    assert "max_tokens" not in endpoint.requests[1]
    assert "stop" not in endpoint.requests[1]


@pytest.mark.parametrize("fault", ["429", "500", "drop", "garbage", "empty", "slow"])
def test_what_may_pass_is_tried_again(endpoint: Endpoint, fault: str) -> None:
    endpoint.faults = [fault]
    model = chat(endpoint, timeout=0.3 if fault == "slow" else 5.0)
    begin = time.monotonic()
    (completion,) = model.complete(say("hello"), Sampling())
    assert (completion.text, completion.finish_reason) == ("HELLO", "stop")
    assert (model.usage.requests, model.usage.retries, model.usage.errors) == (2, 1, 0)
    if fault == "429":
        assert time.monotonic() - begin >= 0.2  # Retry-After


def test_a_fault_that_stays_becomes_an_error_value_and_spares_the_others(endpoint: Endpoint) -> None:
    endpoint.faults = ["500"] * 3
    model = chat(endpoint, max_retries=2, concurrency=1)
    first, second = model.complete(say("a", "b"), Sampling())
    assert (first.text, first.finish_reason) == ("", "error")
    assert "3 attempts" in first.error
    assert "oops" in first.error
    assert second.text == "B"
    assert model.usage == ChatUsage(4, 2, 1, 10, 3, 4)


def test_a_refused_request_is_not_repeated_and_the_key_stays_secret(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    endpoint.faults = ["400"]
    model = chat(endpoint, api_key_env="MY_KEY")
    (completion,) = model.complete(say("a"), Sampling())
    assert completion.finish_reason == "error"
    assert len(endpoint.requests) == 1
    assert endpoint.keys == ["Bearer sk-very-secret"]
    assert "sk-very-secret" not in completion.error + repr(model) + str(vars(model))


def test_a_conversation_that_is_too_long_is_told_from_other_refusals(endpoint: Endpoint) -> None:
    endpoint.faults = ["long", "code", "400", "500"]
    told = [chat(endpoint, max_retries=0).complete(say("context length"), Sampling())[0] for _ in range(5)]
    assert [one.finish_reason for one in told] == ["error"] * 4 + ["stop"]
    assert [one.overflow for one in told] == [True, True, False, False, False]
    assert len(endpoint.requests) == 5


def test_length_and_content_filter(endpoint: Endpoint) -> None:
    endpoint.faults = ["length", "filter"]
    cut, withheld = chat(endpoint, concurrency=1).complete(say("a", "b"), Sampling())
    assert (cut.text, cut.finish_reason) == ("CUT", "length")
    assert withheld.finish_reason == "error"
    assert "filter" in withheld.error


def test_usage_and_cost_by_hand(endpoint: Endpoint) -> None:
    model = chat(endpoint, prices=(2.0, 0.5, 8.0))
    model.complete(say("a", "b"), Sampling())
    assert model.usage == ChatUsage(requests=2, prompt_tokens=20, completion_tokens=6, cached_tokens=8)
    assert model.cost == pytest.approx((12 * 2.0 + 8 * 0.5 + 6 * 8.0) / 1e6)
    assert chat(endpoint).cost is None


def test_an_answer_has_its_tokens_counted_where_the_endpoint_tells_them(endpoint: Endpoint) -> None:
    endpoint.faults = ["length"]
    assert [one.tokens for one in chat(endpoint, concurrency=1).complete(say("a", "b"), Sampling())] == [3, 3]
    endpoint.tells_usage, endpoint.faults = False, ["", "400"]
    told = chat(endpoint, concurrency=1).complete(say("a", "b"), Sampling())
    assert [(one.finish_reason, one.tokens) for one in told] == [("stop", None), ("error", None)]


def test_inside_a_running_event_loop(endpoint: Endpoint) -> None:
    async def cell() -> str:
        return chat(endpoint).complete(say("notebook"), Sampling())[0].text

    with ThreadPoolExecutor(1) as thread:  # Playwright, in other tests, leaves a loop running in this one
        assert thread.submit(asyncio.run, cell()).result() == "NOTEBOOK"


def test_nobody_listens() -> None:
    model = ChatModel("tiny", "http://127.0.0.1:9/v1", backoff=0.01, max_retries=1, timeout=2.0)
    (completion,) = model.complete(say("a"), Sampling())
    assert completion.finish_reason == "error"
    assert model.complete([], Sampling()) == []


def test_keys_and_arguments(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        ChatModel("gpt-x")
    chat(endpoint).complete(say("a"), Sampling())
    assert endpoint.keys == ["Bearer EMPTY"]
    for bad in ({"concurrency": 0}, {"max_retries": -1}, {"timeout": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
            chat(endpoint, **bad)


def test_spec_of_an_endpoint(endpoint: Endpoint) -> None:
    model = load_language_model(f"openai:org/name-7b@{endpoint.url}", backoff=0.01)
    assert isinstance(model, ChatModel)
    assert (model.model, model.base_url) == ("org/name-7b", endpoint.url)
    assert model.complete(say("via spec"), Sampling())[0].text == "VIA SPEC"
    with pytest.raises(ValueError, match="openai:MODEL@URL"):
        load_language_model("no-such-thing")
