"""phi(s, a) of the replay buffer (Section 4.1.1, arXiv:2511.03773): state-action texts to unit vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dreamgym_env.hashed_encoder import STATE_MARK, HashedEncoder, Vectors, unit
from dreamgym_env.types import ModelError


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into unit vectors. `name` tells stores of different encoders apart."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), d], every row of length 1. An empty sequence gives shape [0, d]."""
        ...


def state_action_text(state: str, action: str) -> str:
    """The text of one (state, action) for any encoder. The action comes first, where a length limit cannot cut it."""
    return f"Action: {' '.join(action.split())}{STATE_MARK}{state}"


def load_encoder(spec: str) -> Encoder:
    """The encoder called `"embedded"`, `"sentence-transformers:NAME"` or `"openai:MODEL@URL"` (`@URL` may be left out).

    Raises:
        ValueError: none of these.
        ImportError: sentence-transformers is not installed.
        ModelError: the checkpoint cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if spec == "embedded":
        return HashedEncoder()
    if kind == "sentence-transformers" and rest:
        return SentenceTransformerEncoder(rest)
    if kind == "openai" and rest:
        model, _, url = rest.partition("@")
        return EndpointEncoder(model, url or None)
    raise ValueError(f"`encoder` must be 'embedded', 'sentence-transformers:NAME' or 'openai:MODEL@URL', got {spec!r}")


class SentenceTransformerEncoder:
    """A sentence-transformers checkpoint, by hub name or folder.

    Raises:
        ImportError: the library is not installed.
        ModelError: the checkpoint cannot be loaded.
    """

    def __init__(self, model: str, batch_size: int = 64, device: str | None = None) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                f"encoder 'sentence-transformers:{model}' needs a library; run `pip install sentence-transformers`"
            ) from error
        try:
            self._model: Any = SentenceTransformer(model, device=device)
        except (OSError, ValueError) as error:
            raise ModelError(f"{model} cannot be loaded as a sentence-transformers checkpoint: {error}") from error
        self.name = f"sentence-transformers:{model}"
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), d], every row of length 1."""
        vectors = self._model.encode(
            ["", *texts], batch_size=self._batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return _checked_unit(vectors[1:], self.name)  # the extra row gives the right d for no texts


class EndpointEncoder:
    """An OpenAI-compatible `/v1/embeddings` endpoint (vLLM, Ollama, hosted).

    Args:
        model: the endpoint's name of the model.
        base_url: up to and with `/v1`; None is the openai library's own default (`OPENAI_BASE_URL`).
        api_key_variable: environment variable that holds the key; unset, as for local servers, sends "none".
        batch_size: texts in one request, at least 1.
        max_retries: further tries of a request that failed for a reason that may pass (time-out, 429, 5xx), >= 0.
        timeout: of one request, in seconds.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        api_key_variable: str = "OPENAI_API_KEY",
        batch_size: int = 128,
        max_retries: int = 4,
        timeout: float = 60.0,
    ) -> None:
        import openai

        if batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, got {batch_size}")
        self._key = os.environ.get(api_key_variable) or "none"
        self._client = openai.OpenAI(base_url=base_url, api_key=self._key, max_retries=max_retries, timeout=timeout)
        self._errors = openai.OpenAIError
        self.name = f"openai:{model}"
        self._model, self._batch_size = model, batch_size

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), d], every row of length 1.

        Raises:
            ModelError: the endpoint failed after the retries, or its answer does not fit the request.
        """
        rows: list[list[float]] = []
        for start in range(0, max(len(texts), 1), self._batch_size):
            rows += self._request(list(texts[start : start + self._batch_size]) or [" "])
        vectors = _checked_unit(np.asarray(rows, dtype=np.float32), f"{self._model} at {self._client.base_url}")
        return vectors[: len(texts)]

    def _request(self, batch: list[str]) -> list[list[float]]:
        where = f"{self._model} at {self._client.base_url}"
        try:
            # Endpoints refuse empty texts.
            answer = self._client.embeddings.create(
                model=self._model, input=[text or " " for text in batch], encoding_format="float"
            )
        except self._errors as error:
            reason = str(error).replace(self._key, "***") if self._key != "none" else str(error)
            raise ModelError(f"embeddings of {where} failed: {reason}") from None  # the cause may quote the key
        data = sorted(answer.data or [], key=lambda one: one.index)
        if [one.index for one in data] != list(range(len(batch))) or len({len(one.embedding) for one in data}) != 1:
            raise ModelError(
                f"{where} must give {len(batch)} embeddings of one length, got {len(data)} that do not fit"
            )
        return [one.embedding for one in data]


def _checked_unit(vectors: Vectors, where: str) -> Vectors:
    if not (np.isfinite(vectors).all() and np.abs(vectors).max(axis=1, initial=0).all()):
        raise ModelError(f"{where} gave an embedding that is zero or not finite")
    return unit(np.asarray(vectors, dtype=np.float32))
