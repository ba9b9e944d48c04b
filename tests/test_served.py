"""The policy and the experience model behind servers that really serve our small checkpoints."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from guessing_world import make_checkpoint, make_policy, run_settings  # noqa: E402

from dreamgym_env.language_model import TransformersModel  # noqa: E402
from dreamgym_env.loading import embedded_model_path  # noqa: E402
from dreamgym_env.trainers import grpo, ppo  # noqa: E402
from dreamgym_env.trainers.grpo_config import GRPOConfig  # noqa: E402
from dreamgym_env.trainers.logs import read_metrics  # noqa: E402
from dreamgym_env.trainers.ppo_config import PPOConfig  # noqa: E402
from dreamgym_env.trainers.rounds import collect_groups  # noqa: E402
from dreamgym_env.trainers.run import prepare  # noqa: E402
from dreamgym_env.trainers.served import ServedPolicy, read_sampler  # noqa: E402
from dreamgym_env.types import ModelError, Sampling  # noqa: E402


class IdServer(ThreadingHTTPServer):
    """Serves the checkpoint in `folder` as vLLM and SGLang do: token ids in and out, weights read anew on demand."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), IdHandler)
        self.folder, self.lock = "", threading.Lock()
        self.model: Any = None
        self.calls: list[tuple[str, Any]] = []
        self.said: dict[tuple[int, ...], tuple[float, ...]] = {}
        """Prompt and answer to the server's own log-probabilities."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class IdHandler(BaseHTTPRequestHandler):
    """Completions from the server's model; every other path is noted, and those that renew weights do so."""

    server: IdServer

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            status, answer = self.complete(body) if self.path == "/v1/completions" else self.control(body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def control(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.server.calls.append((self.path, body))
        folder = body.get("model_path") or self.server.folder
        if self.path in ("/collective_rpc", "/update_weights_from_disk"):
            if not Path(folder).is_dir():
                return 400, {"error": "no such folder"}
            self.server.model = TransformersModel.load(folder, device="cpu")
        return 200, {}

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        assert body["return_token_ids"] is True
        assert body["top_k"] == -1
        model = self.server.model
        model.seed(body["seed"])
        found = model.generate([body["prompt"]], Sampling(body["temperature"], body["top_p"], body["max_tokens"]))[0]
        self.server.said[(*body["prompt"], *found.token_ids)] = found.logprobs
        choice = {"index": 0, "text": found.text, "finish_reason": found.finish_reason}
        choice |= {"token_ids": list(found.token_ids), "logprobs": None}
        return 200, {"id": "x", "object": "text_completion", "created": 1, "model": body["model"], "choices": [choice]}


@pytest.fixture
def server() -> Iterator[IdServer]:
    made = IdServer()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def settings(policy: Path, tmp_path: Path) -> dict[str, Any]:
    return run_settings(policy, tmp_path / "run", tasks_per_update=2, group_size=4)


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_server_gets_the_weights_of_every_update(
    server: IdServer, settings: dict[str, Any], kind: str, lora_rank: int
) -> None:
    served = Path(settings["output"]).resolve() / "served"
    server.folder = str(served)
    folder = grpo.train(GRPOConfig(**settings, sampler=f"{kind}@{server.url}", lora_rank=lora_rank))
    renewals = [path for path, _ in server.calls if path in ("/collective_rpc", "/update_weights_from_disk")]
    assert len(renewals) == 3, "before the first update and after each"
    trained = TransformersModel.load(str(folder), device="cpu").model.state_dict()
    start = TransformersModel.load(settings["policy"], device="cpu").model.state_dict()
    sampling = server.model.model.state_dict()
    assert all(torch.equal(tensor, sampling[name]) for name, tensor in trained.items())
    assert any(not torch.equal(tensor, sampling[name]) for name, tensor in start.items())
    rows = read_metrics(Path(settings["output"]) / "metrics.jsonl")
    assert max(row["train/sampler_gap"] for row in rows) < 1e-5
    assert all(row["train/optimizer_steps"] >= 1 for row in rows)


def test_log_probabilities_of_a_servers_tokens_are_those_that_it_sampled_with(
    server: IdServer, settings: dict[str, Any]
) -> None:
    server.folder = str(Path(settings["output"]).resolve() / "served")
    run = prepare(GRPOConfig(**settings, sampler=f"vllm@{server.url}", temperature=0.7))
    for group in collect_groups(run, 2):
        for rollout in group:
            before: list[int] = []
            for turn in rollout.turns:
                before += [*turn.prompt_ids, *turn.response_ids]
                assert turn.response_logprobs == pytest.approx(server.said[tuple(before)], abs=1e-4)


def test_ppo_samples_from_a_server_in_windows_too(server: IdServer, settings: dict[str, Any]) -> None:
    server.folder = str(Path(settings["output"]).resolve() / "served")
    ppo.train(PPOConfig(**{**settings, "updates": 1}, sampler=f"vllm@{server.url}", history=1))
    row = read_metrics(Path(settings["output"]) / "metrics.jsonl")[-1]
    assert row["train/sampler_gap"] < 1e-5
    assert row["train/tokens"] > 0


def test_a_server_that_is_not_there_or_refuses_is_told_with_its_remedy(
    server: IdServer, settings: dict[str, Any]
) -> None:
    with pytest.raises(
        ModelError, match=r"nobody answers at .*start it with `VLLM_SERVER_DEV_MODE=1 vllm serve /.*/ser"
    ):
        prepare(GRPOConfig(**settings, sampler="vllm@http://127.0.0.1:1/v1"))
    assert (Path(settings["output"]) / "served" / "model.safetensors").exists(), "there to start it with"
    server.folder = "/nowhere"
    with pytest.raises(ModelError, match=r"must read new weights, got status 400: .*no such folder"):
        prepare(GRPOConfig(**settings, sampler=f"vllm@{server.url}"))


@pytest.mark.parametrize("text", ["vllm", "http://x/v1", "tgi@http://x/v1", "vllm@localhost:8000"])
def test_a_sampler_has_a_kind_and_a_url(text: str) -> None:
    with pytest.raises(ValueError, match="`sampler` must be KIND@URL with KIND one of vllm, sglang, transformers"):
        GRPOConfig(sampler=text)
    assert read_sampler("vllm@http://x:1/v1/") == ("vllm", "http://x:1/v1")


def test_text_for_a_server_that_tokenizes_is_this_prompt_again(tmp_path: Path) -> None:
    model = TransformersModel.load(str(make_checkpoint(tmp_path / "base", "llama")), device="cpu")
    policy = ServedPolicy("transformers@http://127.0.0.1:1/v1", tmp_path / "served", model)
    prompt = model.encode([{"role": "user", "content": "Say a word"}])
    assert model.tokenizer(policy._as_text(prompt))["input_ids"] == prompt
    answer = model.tokenizer.encode("say[moon]")
    assert policy._encode("say[moon]", ended=True) == [*answer, model.tokenizer.eos_token_id]
    assert policy._encode("say[moon]", ended=False) == answer


@pytest.fixture(scope="module")
def transformers_serve() -> Iterator[str]:
    """`transformers serve`, a program of its own."""
    pytest.importorskip("fastapi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(program, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200, process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(answers: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        try:
            if answers():
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


@pytest.mark.slow
def test_grpo_samples_from_transformers_serve(transformers_serve: str, settings: dict[str, Any]) -> None:
    folder = grpo.train(GRPOConfig(**settings, sampler=f"transformers@{transformers_serve}"))
    rows = read_metrics(Path(settings["output"]) / "metrics.jsonl")
    assert len(rows) == 2
    assert all(row["train/sampler_gap"] < 1e-5 for row in rows)
    assert sum(row["collect/invalid_actions"] for row in rows) < sum(row["collect/actions"] for row in rows) / 2
    model = TransformersModel.load(str(folder), device="cpu")
    policy = ServedPolicy(f"transformers@{transformers_serve}", Path(settings["output"]) / "served", model, False)
    prompt = model.encode([{"role": "system", "content": "Say words"}, {"role": "user", "content": "Say a word"}])
    greedy = Sampling(0.0, max_tokens=8)
    assert policy.generate([prompt], greedy)[0].token_ids == model.generate([prompt], greedy)[0].token_ids


@pytest.mark.slow
def test_an_experience_model_dreams_behind_transformers_serve(transformers_serve: str) -> None:
    import gymnasium as gym

    model = f"openai:{embedded_model_path('webshop')}@{transformers_serve}"
    env: Any = gym.make("DreamGym-WebShop-v0", experience_model=model, temperature=0.0, open_temperature=0.0)
    _, info = env.reset(seed=0)
    words = info["instruction"].split()[-3:]
    state, _, _, _, info = env.step(f"search[{' '.join(words)}]")
    assert info["end_reason"] is None
    assert state.startswith("Page 1 (Total results: 50)"), state
    assert len([action for action in info["available_actions"] if action.startswith("click[B0")]) == 10
    assert info["reasoning_trace"]
    assert env.unwrapped.experience_model.language_model.usage.requests >= 1
    env.close()
