"""The policy behind an endpoint that samples in place of the learner's own process, with its weights renewed there.

    vllm serve OUTPUT/served      python -m sglang.launch_server --model-path OUTPUT/served      transformers serve

The learner writes its weights into one folder whenever they have changed and has the server read them. It asks for
token ids where the server gives them and computes the log-probabilities itself: a server's are of another precision,
and before the temperature or after, as it was started.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamgym_env.chat_model import ChatModel, Unusable
from dreamgym_env.types import Completion, ModelError, Sampling

from .checkpoint import PARTIAL, save_policy
from .disk import writing


@dataclass(frozen=True)
class Server:
    """How a kind of server is spoken to: the calls that make it read its folder anew (beside `/v1`), whether a prompt
    may be token ids, and further fields of a request."""

    renew: tuple[tuple[str, Mapping[str, Any]], ...]
    takes_ids: bool
    fields: Mapping[str, Any]
    start: str


FOLDER = "<folder>"
SERVERS = {
    "vllm": Server(
        (("/collective_rpc", {"method": "reload_weights"}), ("/reset_prefix_cache", {})),
        True,
        {"top_k": -1, "return_token_ids": True, "skip_special_tokens": False},
        f"VLLM_SERVER_DEV_MODE=1 vllm serve {FOLDER}",
    ),
    "sglang": Server(
        (("/update_weights_from_disk", {"model_path": FOLDER}),),
        True,
        {"top_k": -1, "return_token_ids": True, "skip_special_tokens": False},
        f"python -m sglang.launch_server --model-path {FOLDER} --served-model-name {FOLDER}",
    ),
    "transformers": Server((("/reset", {}),), False, {}, "transformers serve"),
}


def read_sampler(text: str) -> tuple[str, str]:
    """Kind and URL of "KIND@URL".

    Raises:
        ValueError: it is not of this form, or the kind is unknown.
    """
    found = re.fullmatch(r"(\w+)@(https?://.+)", text)
    if found is None or found[1] not in SERVERS:
        raise ValueError(f"`sampler` must be KIND@URL with KIND one of {', '.join(SERVERS)}, got {text!r}")
    return found[1], found[2].rstrip("/")


class ServedPolicy(ChatModel):
    """A `rollout.TokenModel` whose answers come from an endpoint.

    Args:
        sampler: "KIND@URL", see `read_sampler`.
        folder: where the weights are written for the server, which must see the same files.
        local: the `TransformersModel` with the learner's weights and the tokenizer.
        writes: whether this process writes the weights and renews the server.

    Answers have no log-probabilities. Where the server gives no token ids (`transformers serve`), its text is encoded,
    and an answer that ended by itself gets the end-of-turn token.
    """

    def __init__(self, sampler: str, folder: Path, local: Any, writes: bool = True, **options: Any) -> None:
        kind, url = read_sampler(sampler)
        self.server, self.folder, self.local, self.writes = SERVERS[kind], folder.resolve(), local, writes
        super().__init__(str(self.folder), url, **options)
        self.tokenizer, self.max_context = local.tokenizer, int(local.max_context)
        self._seed = self._asked = 0

    def seed(self, seed: int) -> None:
        """Makes the next requests ask for other draws. Repeatable only as far as the server is."""
        self._seed, self._asked = seed % (1 << 31), 0

    def forget(self) -> None:
        """Nothing: what the server keeps is its own affair."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
        """One answer to each prompt of token ids, in order."""
        numbered = [(prompt, self._seed + self._asked + number) for number, prompt in enumerate(prompts)]
        self._asked += len(prompts)
        return self._answer_all(numbered, sampling)

    def renew(self) -> None:
        """Writes the learner's weights and has the server read them.

        Raises:
            DataError: they cannot be written; the server keeps those that it has.
            ModelError: nobody answers, or the server refuses; says how it is started.
        """
        if not self.writes:
            return
        partial = self.folder.with_name(f"{PARTIAL}{self.folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        with writing(self.folder, cleared=partial):
            save_policy(partial, self.local.model, self.tokenizer)
            self.folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(partial.iterdir()):
            os.replace(file, self.folder / file.name)  # a server never reads half a file
        partial.rmdir()
        for path, fields in self.server.renew:
            self._post(path, {k: str(self.folder) if v == FOLDER else v for k, v in fields.items()})

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        import httpx

        assert self.base_url is not None, "given"
        url = self.base_url.removesuffix("/v1") + path
        start = self.server.start.replace(FOLDER, str(self.folder))
        try:
            answer = httpx.post(url, json=dict(body), timeout=600.0)
        except httpx.HTTPError as error:
            raise ModelError(
                f"`sampler` must be a server that runs, but nobody answers at {url} ({error}); the weights are in "
                f"{self.folder}: start it with `{start}`, then give this command again"
            ) from error
        if answer.is_error:
            said = answer.text[:300]
            raise ModelError(
                f"{url} must read new weights, got status {answer.status_code}: {said}; is it a server started with "
                f"`{start}`?"
            )

    def _request(self, asked: Any, sampling: Sampling) -> Completion:
        prompt, seed = asked
        fields: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prompt) if self.server.takes_ids else self._as_text(prompt),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
        }
        more = dict(self.server.fields) if self.server.takes_ids else {"generation_config": self._drawing(sampling)}
        response = self._client.completions.create(**fields, extra_body=more)
        self._count_tokens(response.usage)
        if not response.choices:
            raise Unusable(f"the response has no choices: {str(response)[:200]!r}")
        choice = response.choices[0]
        given = getattr(choice, "token_ids", None) or getattr(choice, "response_token_ids", None)
        reason = "length" if choice.finish_reason == "length" else "stop"
        ids = [int(token) for token in given] if given else self._encode(choice.text, reason == "stop")
        return Completion(self.local.decode(ids), reason, tuple(ids))  # type: ignore[arg-type]

    def _as_text(self, prompt: Sequence[int]) -> str:
        """The text that the server's tokenizer makes this prompt of: without what it puts before every text itself."""
        before = self.tokenizer("")["input_ids"]
        own = len(before) if before and list(prompt[: len(before)]) == list(before) else 0
        return str(self.tokenizer.decode(prompt[own:], clean_up_tokenization_spaces=False))

    def _drawing(self, sampling: Sampling) -> str:
        """All of a generation's settings, so that none of the checkpoint's own, such as a top-k, cuts what is drawn."""
        drawn = sampling.temperature > 0
        own: dict[str, Any] = {
            "do_sample": drawn,
            "max_new_tokens": sampling.max_tokens,
            "eos_token_id": sorted(self.local.stop_ids),
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        return json.dumps(own | ({"temperature": sampling.temperature, "top_k": 0} if drawn else {}))

    def _encode(self, text: str, ended: bool) -> list[int]:
        ids = [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]
        end = self.tokenizer.eos_token_id
        return [*ids, end] if ended and end is not None and ids[-1:] != [end] else ids
