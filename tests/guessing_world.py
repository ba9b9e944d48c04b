"""A real text world small enough for tests: say the secret word within two guesses. Also builds tiny checkpoints."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamgym_env.domain import Action
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.spaces import Unicode
from dreamgym_env.trainers.agent import Rollout, Turn
from dreamgym_env.types import (
    Completion,
    Conversation,
    EndReason,
    Prediction,
    Sampling,
    Split,
    StepContext,
    Task,
    Trajectory,
    Transition,
)
from dreamgym_env.vector_env import DreamGymVectorEnv

WORDS = ("sun", "moon", "star")
INSTRUCTION = "Say words"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_task(number: int) -> Task:
    split: Split = "held_out" if number % 3 == 2 else "train"
    return Task(f"guess-{number}", "guessing_world:DOMAIN", "Find the word", "Say a word", split=split)


@dataclass
class GuessingDomain:
    """`say[word]` is the grammar; `shout[word]` is of the grammar but never possible."""

    name: str = "guessing"
    agent_instruction: str = INSTRUCTION
    experience_instruction: str = INSTRUCTION
    task_instruction: str = "Write another task inside <task></task>."
    horizon: int = 2

    def parse_action(self, state: str, action: str) -> Action | None:
        match = re.fullmatch(r"(say|shout)\[(\w+)\]", action.strip())
        return Action(match[1], match[2], action.strip()) if match else None

    def is_possible(self, context: StepContext, action: Action) -> bool:
        return action.name == "say"

    def impossible_response(self, state: str, action: str) -> str:
        return state

    def available_actions(self, state: str, history: tuple[Transition, ...]) -> list[str]:
        return [f"say[{word}]" for word in WORDS]

    def recall(self, context: StepContext) -> list[str]:
        return []

    def known(self, context: StepContext) -> Prediction | None:
        return None

    def is_open(self, context: StepContext) -> bool:
        return False

    def contradiction(self, context: StepContext, prediction: Prediction) -> str | None:
        return None

    def task_problem(self, task: Task) -> str | None:
        return None


DOMAIN = GuessingDomain()


class GuessingEnv(gym.Env[str, str]):
    """Reward 1.0 and the end for the secret word; the second wrong or impossible action truncates.

    `break_word`: an action with this word ends the episode as a broken dream would.
    """

    def __init__(self, secret: str = "moon", split: str | None = "train", break_word: str = "", tasks: int = 6) -> None:
        self.secret, self.break_word = secret, break_word
        self.domain = DOMAIN
        self.tasks = tuple(t for t in map(make_task, range(tasks)) if split in (None, t.split))
        self.observation_space = self.action_space = Unicode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.task, self.state, self.steps = (options or {}).get("task", self.tasks[0]), "Say a word", 0
        return self.state, self._info(True, None)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        parsed = DOMAIN.parse_action(self.state, action)
        possible = parsed is not None and DOMAIN.is_possible(StepContext(self.task, (), self.state, action), parsed)
        word = parsed.argument if parsed and possible else ""
        if word and word == self.break_word:
            return self.state, 0.0, False, True, self._info(possible, "model_error")
        won = word == self.secret
        self.state = f"Not {word}" if word in WORDS and not won else self.state
        truncated = not won and self.steps >= 2
        reason = "success" if won else "time_limit" if truncated else None
        return self.state, float(won), won, truncated, self._info(possible, reason)

    def _info(self, possible: bool, end_reason: str | None) -> dict[str, Any]:
        return {"task": self.task, "possible": possible, "success": end_reason == "success", "end_reason": end_reason}


gym.register(id="Guess-v0", entry_point="guessing_world:GuessingEnv")


class GuessingDream:
    """An experience model's language model for the guessing world, as rules; the secret is "star". What it answers
    depends on what it is asked alone, so that a job which was killed and goes on gets the same answers."""

    def complete(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Completion]:
        answers = []
        for index, conversation in enumerate(conversations):
            if "<task>" in conversation[0]["content"]:
                number = 1000 * index + zlib.crc32(repr(conversation).encode()) % 1000
                answers.append(Completion(f"<task>Find the word {number}</task>"))
                continue
            word = re.findall(r"say\[(\w+)\]", conversation[-1]["content"])[-1]
            outcome = "success" if word == "star" else "continue"
            answers.append(Completion(f"<state>Not {word}</state>\n<outcome>{outcome}</outcome>"))
        return answers


@contextmanager
def dream_registered() -> Iterator[str]:
    """The id of a dream of the guessing world, while it is registered."""

    def make(num_envs: int = 1, experience_model: str = "rules", **settings: Any) -> DreamGymVectorEnv:
        buffer = ReplayBuffer("memory", domain="guessing_world:DOMAIN")
        tasks = [make_task(number) for number in range(6)]
        return DreamGymVectorEnv(num_envs, DOMAIN, GuessingDream(), buffer, tasks, **settings)

    entry: Any = make
    gym.register(id="GuessDream-v0", entry_point="dreamgym_env.env:DreamGymEnv", vector_entry_point=entry)
    yield "GuessDream-v0"
    del gym.registry["GuessDream-v0"]


def make_tokenizer(template: str = TEMPLATE) -> Any:
    """A word-level tokenizer whose tokens, put together, give the text back exactly."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    words = ["<unk>", *WORDS, "<action>", "</action>", "<think>", "</think>", "say", "shout", "[", "]", "\n", " ", ":"]
    words += ["system", "user", "assistant", "Say", "words", "Task", "Find", "the", "word", "a", "Not"]
    vocabulary = {token: index for index, token in enumerate(special + words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?\w+>|\w+|\s|[^\w\s]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>", unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = template
    return tokenizer


def make_checkpoint(folder: Path, kind: str = "lfm2", seed: int = 0) -> Path:
    """A tiny random checkpoint (about 20,000 parameters) with its tokenizer, saved as transformers saves one.

    `kind`: "lfm2", "qwen3", "llama", "gemma2" or "gemma3".
    """
    import torch
    import transformers

    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    config, network, more = {
        "lfm2": ("Lfm2Config", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"]}),
        "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 16}),
        "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
        "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {"head_dim": 16}),
        "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {"head_dim": 16}),
    }[kind]
    if kind == "lfm2":
        shape["block_auto_adjust_ff_dim"] = False
    model: Any = getattr(transformers, network)(getattr(transformers, config)(**shape, **more))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_settings(policy: Path, output: Path, /, **changes: Any) -> dict[str, Any]:
    """Settings of a small run of RL in this world, in seconds on a CPU."""
    return {
        "policy": str(policy), "env_id": "guessing_world:Guess-v0", "output": str(output), "updates": 2,
        "max_tokens": 12, "context_tokens": 256, "learning_rate": 3e-3, "mini_batch": 16, "token_budget": 1024,
        "eval_every": 0, "device": "cpu", "tensorboard": False,
    } | changes  # fmt: skip


def make_policy(folder: Path, kind: str = "lfm2") -> Path:
    """A policy that knows the form of an answer and says random words."""
    from dreamgym_env.trainers.sft import SFTConfig, train

    base = make_checkpoint(folder / "base", kind)
    config = SFTConfig(
        str(base), ("demonstrations",), str(folder / "sft"), success_only=False, epochs=10, learning_rate=1e-2,
        batch_tokens=1024, warmup_steps=5, bf16=False,
    )  # fmt: skip
    train(config, demonstrations(96))
    return folder / "sft"


def make_episode(
    reason: EndReason, turns: Sequence[Turn], number: int = 0, closing_ids: Sequence[int] = (), windowed: bool = False
) -> Rollout:
    """An episode of so many turns, with the reward that belongs to its end."""
    task, broken = make_task(number), reason == "model_error"
    steps = tuple(
        Transition(task, step, "a", "say[sun]", "b", float(reason == "success" and step == len(turns) - 1))
        for step in range(len(turns) - broken)
    )
    return Rollout(Trajectory(task, steps, reason), tuple(turns), tuple(closing_ids), windowed)


def demonstrations(count: int, seed: int = 0, words: tuple[str, ...] = WORDS) -> list[Trajectory]:
    """Episodes of a policy that says random words: the form of an answer, no knowledge of the secret."""
    rng, trajectories = np.random.default_rng(seed), []
    for number in range(count):
        env = GuessingEnv()
        task = env.tasks[number % len(env.tasks)]
        state, _ = env.reset(options={"task": task})
        steps: list[Transition] = []
        info: dict[str, Any] = {"end_reason": None}
        while info["end_reason"] is None:
            action = f"say[{rng.choice(words)}]"
            after, reward, end, _, info = env.step(action)
            steps.append(Transition(task, len(steps), state, action, after, reward, end))
            state = after
        trajectories.append(Trajectory(task, tuple(steps), info["end_reason"], "random", f"random-{number}"))
    return trajectories
