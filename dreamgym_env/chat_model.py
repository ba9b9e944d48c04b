"""`ChatModel`: any OpenAI-compatible chat endpoint (vLLM, SGLang, Ollama, llama.cpp, hosted) as a language model."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from dreamgym_env.types import Completion, Conversation, ModelError, Sampling

_RETRIED_STATUS = frozenset({408, 409, 425, 429})  # and everything from 500 on
_TOO_LONG = re.compile(r"context[ _]length|context window|prompt.{0,60}too long", re.IGNORECASE)


@dataclass(frozen=True)
class ChatUsage:
    """What an endpoint has been asked for so far.

    `requests` counts every attempt and `retries` those after the first; `errors` counts conversations given up.
    `cached_tokens` are the prompt tokens that the server said it had kept.
    """

    requests: int = 0
    retries: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Unusable(Exception):
    """A response that came but holds no answer; worth another try."""


class ChatModel:
    """Completes chats through an endpoint, several at once, trying again what may work the second time.

    Retried with exponential back-off and jitter (and `Retry-After` obeyed): 408, 409, 425, 429, 5xx, time-outs, dropped
    connections, responses without an answer. What fails for good becomes a `Completion` with `finish_reason` "error".

    Args:
        model: the model's name at the endpoint.
        base_url: "http://host:port/v1"; None is the `openai` client's own default.
        api_key_env: environment variable that holds the key. Where it is unset and `base_url` is given, "EMPTY" is
            sent, which local servers accept.
        concurrency: requests under way at once, >= 1.
        max_retries: further attempts after the first, >= 0.
        timeout: seconds to wait for the connection, and for each part of the response.
        backoff: seconds before the first retry, doubled each time up to `max_backoff`.
        prices: US dollars per million (prompt, cached prompt, completion) tokens, for `cost`.
        token_limit_name: how the endpoint calls the limit; some hosted models insist on "max_completion_tokens".
        options: further fields of every request, such as `{"extra_body": {"top_k": 20}}`.
        seed: of the jitter.

    Raises:
        ValueError: an argument is out of range.
        ModelError: there is neither a key nor a `base_url`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        max_retries: int = 5,
        timeout: float = 120.0,
        backoff: float = 0.5,
        max_backoff: float = 30.0,
        prices: tuple[float, float, float] | None = None,
        token_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        _check("concurrency", concurrency, 1)
        _check("max_retries", max_retries, 0)
        _check("backoff", backoff, 0)
        if timeout <= 0:
            raise ValueError(f"`timeout` must be > 0 seconds, got {timeout}")
        self.model, self.base_url, self.concurrency, self.max_retries = model, base_url, concurrency, max_retries
        self.backoff, self.max_backoff, self.prices = backoff, max_backoff, prices
        self._limit_name, self._options = token_limit_name, dict(options or {})
        self._jitter = random.Random(seed)
        self._usage = ChatUsage()
        self._lock = threading.Lock()
        self._client = _client(base_url, api_key_env, timeout)

    def __repr__(self) -> str:
        return f"ChatModel({self.model!r}, base_url={self.base_url!r})"

    @property
    def usage(self) -> ChatUsage:
        """What has been asked for so far."""
        return self._usage

    @property
    def cost(self) -> float | None:
        """US dollars so far, or None where no `prices` were given."""
        if self.prices is None:
            return None
        fresh = self._usage.prompt_tokens - self._usage.cached_tokens
        amounts = fresh, self._usage.cached_tokens, self._usage.completion_tokens
        return sum(price * amount for price, amount in zip(self.prices, amounts, strict=True)) / 1e6

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        """One completion for each conversation, in order; threads, so it also works inside a running event loop."""
        return self._answer_all(conversations, sampling)

    def _answer_all(self, asked: Sequence[Any], sampling: Sampling) -> list[Completion]:
        if not asked:
            return []
        pool = ThreadPoolExecutor(min(self.concurrency, len(asked)), thread_name_prefix="chat-model")
        try:
            return list(pool.map(lambda one: self._complete_one(one, sampling), asked))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _complete_one(self, asked: Any, sampling: Sampling) -> Completion:
        import openai

        delay = self.backoff
        for attempt in range(self.max_retries + 1):
            self._count(requests=1, retries=int(attempt > 0))
            try:
                return self._request(asked, sampling)
            except (openai.OpenAIError, Unusable, json.JSONDecodeError) as error:
                wait = _retry_after(error)
                if not _worth_retrying(error) or attempt == self.max_retries:
                    return self._give_up(error, attempt + 1)
            time.sleep(min(self.max_backoff, max(wait, delay * self._jitter.uniform(0.5, 1.0))))
            delay = min(self.max_backoff, 2 * delay)
        raise AssertionError("the loop returns")

    def _request(self, asked: Any, sampling: Sampling) -> Completion:
        """One attempt at a conversation; raises what `openai` raises, or `Unusable`."""
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in asked],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._limit_name: sampling.max_tokens,
        }
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        response = self._client.chat.completions.create(**{**fields, **self._options})
        usage = getattr(response, "usage", None)
        self._count_tokens(usage)
        choices = getattr(response, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise Unusable(f"the response has no choices: {str(response)[:200]!r}")
        text, reason = choices[0].message.content or "", choices[0].finish_reason
        if reason == "content_filter":
            return self._give_up(Unusable("the endpoint's content filter withheld the answer"), 1)
        tokens = getattr(usage, "completion_tokens", None)
        return Completion(text, "length" if reason == "length" else "stop", tokens=tokens)

    def _give_up(self, error: Exception, attempts: int) -> Completion:
        self._count(errors=1)
        said = f"{type(error).__name__}: {error}".replace(self._client.api_key, "***")
        found = f"{self.model} gave no answer in {attempts} attempts; {said}"
        return Completion("", "error", error=found, overflow=_says_too_long(error))

    def _count(self, **more: int) -> None:
        with self._lock:
            now = {name: getattr(self._usage, name) + number for name, number in more.items()}
            self._usage = replace(self._usage, **now)

    def _count_tokens(self, usage: Any) -> None:
        details = getattr(usage, "prompt_tokens_details", None)
        self._count(
            prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
            completion_tokens=getattr(usage, "completion_tokens", None) or 0,
            cached_tokens=getattr(details, "cached_tokens", None) or 0,
        )


def _check(name: str, value: float, low: float) -> None:
    if value < low:
        raise ValueError(f"`{name}` must be >= {low}, got {value}")


def _client(base_url: str | None, api_key_env: str, timeout: float) -> Any:
    import openai

    key = os.environ.get(api_key_env) or ("EMPTY" if base_url else "")
    if not key:
        raise ModelError(f"set the environment variable {api_key_env} to the endpoint's key, or give `base_url`")
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=0)


def _says_too_long(error: Exception) -> bool:
    """Whether a refused request was longer than the model's context: OpenAI has a code for it, vLLM, SGLang and others
    say it in words."""
    if getattr(error, "status_code", None) not in (400, 413, 422):
        return False
    return getattr(error, "code", None) == "context_length_exceeded" or bool(_TOO_LONG.search(str(error)))


def _worth_retrying(error: Exception) -> bool:
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in _RETRIED_STATUS or error.status_code >= 500
    if isinstance(error, openai.OpenAIError):
        return isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError)
    return True


def _retry_after(error: Exception) -> float:
    """Seconds that the server asks to wait, 0 where it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
