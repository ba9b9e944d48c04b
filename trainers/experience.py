"""`dreamgym train-experience`: fine-tunes the experience model on annotated offline trajectories (Eq. 5).

    L = E[ -log p(R* | s, a, H, D_k) - log p(s' | s, a, R*, H, D_k) ]          (Eq. 5, arXiv:2511.03773)

Trace, next state and outcome are one answer, so both terms are one token sum; history H, demonstrations D_k and
recalled lines are context and carry no loss. A whole trajectory is one sequence. From a base checkpoint (a small one of
`dreamgym train-base`, whose vocabulary is exchanged for one fitted to the corpus, or any pretrained causal LM, fully or
by LoRA) or from scratch. Run: `python -m dreamgym_env.trainers.experience --data runs/train.jsonl --base runs/base`.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dreamgym_env.domain import Domain, load_domain
from dreamgym_env.hashed_encoder import unit
from dreamgym_env.prompts import FAILURE, SUCCESS, answer, experience_messages, user_turn
from dreamgym_env.replay_buffer import ReplayBuffer
from dreamgym_env.task_generator import task_answer, task_messages
from dreamgym_env.trajectories import read_trajectories
from dreamgym_env.types import Message, StepContext, Trajectory, Transition

from .scratch import END, SmallConfig, build_model, build_tokenizer, fit_vocabulary, graft, name_classes, widened
from .supervised import Example, SupervisedConfig, Trainer, answer_spans, encode_chat, show_progress


@dataclass(frozen=True)
class ExperienceTrainingConfig:
    """Settings of `dreamgym train-experience`."""

    data: tuple[Path, ...] = (Path("runs/train.jsonl"),)
    """Trajectory files with reasoning traces; held-out tasks in them are left out."""
    out: Path = Path("runs/experience")
    """Folder of the checkpoint."""
    domain: str = "webshop"
    base: str | None = None
    """Checkpoint to start from; None trains from scratch."""
    vocabulary: Literal["fit", "keep"] = "fit"
    """"fit" gives a small model a tokenizer of this corpus; "keep" leaves a pretrained one its own."""
    widen: int | None = None
    """Tokens that the convolutions of an LFM2 `base` shall see, where that is more than they do; nothing is lost."""
    lora_rank: int = 0
    """Rank of LoRA adapters on all linear layers; 0 trains every weight."""
    million_tokens: float = 10.0
    """Training tokens, padding included, in millions."""
    max_minutes: float | None = None
    """Stops earlier, with the learning rate decayed by then."""
    top_k: int = 1
    """Demonstrations in each prompt, >= 0."""
    longest: int = 2048
    """Longer conversations are left out, in tokens."""
    buffer_trajectories: int = 1000
    """Trajectories, from the first on, that demonstrations are retrieved from: as many as the dream will have."""
    demonstration_share: float = 0.8
    """Share of the sequences that show demonstrations."""
    recall_share: float = 0.85
    """Share of the sequences that recall earlier lines."""
    trace_share: float = 1.0
    """Share of the sequences with reasoning traces; 0 is the ablation without."""
    impossible_share: float = 0.3
    """Share of the sequences that keep the steps whose action was impossible. The rules answer those, and a dream's
    conversation leaves them out."""
    permute_share: float = 0.4
    """Share of the sequences whose names are exchanged at random, so that they must be looked up (small models)."""
    open_weight: float = 0.3
    """Loss weight of what no history determines (which products a search returns), in (0, 1]; all else weighs 1."""
    outcome_weight: float = 1.0
    """Loss weight of the answers that end an episode, > 0: few tokens, on which every reward rests."""
    tasks_share: float = 0.03
    """Share of further sequences that teach to vary tasks (M_task, Eq. 6)."""
    resume: bool = False
    """Goes on from the newest checkpoint in `out`/checkpoints, if there is one."""
    seed: int = 0
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""
    model: SmallConfig = field(default_factory=SmallConfig)
    training: SupervisedConfig = field(default_factory=SupervisedConfig)

    def __post_init__(self) -> None:
        for name in (
            "demonstration_share",
            "recall_share",
            "trace_share",
            "impossible_share",
            "permute_share",
            "tasks_share",
            "open_weight",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}")
        if self.outcome_weight <= 0:
            raise ValueError(f"`outcome_weight` must be > 0, got {self.outcome_weight}")
        if self.lora_rank and self.vocabulary == "fit":
            raise ValueError("`lora_rank` needs `vocabulary='keep'`: adapters cannot learn a new vocabulary")


def contexts_of(trajectory: Trajectory) -> list[StepContext]:
    """The step context before each transition."""
    steps = trajectory.transitions
    return [StepContext(trajectory.task, steps[:index], step.state, step.action) for index, step in enumerate(steps)]


def conversation(
    domain: Domain, trajectory: Trajectory, shown: Sequence[Sequence[Transition]], recall: bool, traces: bool
) -> list[Message]:
    """A trajectory as the chat the experience model would have had; `shown` are each step's demonstrations."""
    steps: list[Transition] = []
    for context, step, demonstrations in zip(contexts_of(trajectory), trajectory.transitions, shown, strict=True):
        context = replace(context, history=tuple(steps))
        action = domain.parse_action(step.state, step.action)
        recalled = domain.recall(context) if recall else []
        prompt = user_turn(action.text if action else step.action, recalled, demonstrations)
        steps.append(replace(step, prompt=prompt, reasoning_trace=step.reasoning_trace if traces else ""))
    last = steps[-1]
    messages = experience_messages(
        domain, StepContext(last.task, tuple(steps[:-1]), last.state, last.action), last.prompt
    )
    reply = answer(last.reasoning_trace, last.next_state, last.reward, last.terminated)
    return [*messages, {"role": "assistant", "content": reply}]


_ENDS = tuple(f"<outcome>{how}</outcome>" for how in (SUCCESS, FAILURE))
_OPEN_ACTIONS = ('Action: "search[', 'Action: "click[Next ')
_LIKE_ONE_OF = 64  # tasks among which a variation is looked for: enough that some are about the same kind of thing


class Corpus:
    """Training conversations drawn from trajectories with retrieval, recall and augmentation as the config says."""

    def __init__(self, config: ExperienceTrainingConfig, trajectories: Sequence[Trajectory]) -> None:
        self.config, self.trajectories = config, trajectories
        self.domain = load_domain(config.domain)
        self.rng = random.Random(config.seed)
        self.buffer = ReplayBuffer("memory", domain=self.domain, include_impossible=False)
        if config.top_k:
            self.buffer.add(trajectories[: config.buffer_trajectories], held_out="skip")
        self.order: list[int] = []

    def examples(
        self, tokenizer: Any, count: int, exchange: Callable[[Example], Example] = lambda example: example
    ) -> list[Example]:
        """The next `count` conversations as token ids and weights, those that are too long left out.

        `tasks_share` of them are M_task's. The others go through `exchange`, which may put other names for theirs; a
        task's names cannot be looked up anywhere, and must go together.
        """
        tasks = sum(self.rng.random() < self.config.tasks_share for _ in range(count))
        steps = (exchange(self._weighted(encode_chat(tokenizer, chat), chat)) for chat in self.draw(count - tasks))
        drawn = [*steps, *(encode_chat(tokenizer, chat) for chat in self.task_chats(tasks))]
        return [example for example in drawn if len(example) <= self.config.longest]

    def _weighted(self, example: Example, chat: Sequence[Message]) -> Example:
        """Takes weight off the answers to searches, whose rows are open, and puts it on the outcomes."""
        asked = [message["content"].rpartition("\n")[2] for message in chat if message["role"] == "user"]
        said = [message["content"] for message in chat if message["role"] == "assistant"]
        weights = example.weights.copy()
        for (start, end), question, reply in zip(answer_spans(weights), asked, said, strict=True):
            if question.startswith(_OPEN_ACTIONS):
                weights[start:end] *= self.config.open_weight
            elif reply.endswith(_ENDS):
                weights[start:end] *= self.config.outcome_weight
        return Example(example.ids, weights)

    def draw(self, count: int) -> list[list[Message]]:
        """The next `count` trajectories as conversations; every one once before any comes again."""
        chosen = []
        for _ in range(count):
            if not self.order:
                self.order = self.rng.sample(range(len(self.trajectories)), len(self.trajectories))
            trajectory = self.trajectories[self.order.pop()]
            possible = tuple(step for step in trajectory.transitions if step.possible)
            if possible and self.rng.random() >= self.config.impossible_share:
                trajectory = replace(trajectory, transitions=possible)
            chosen.append(trajectory)
        return self._chats(chosen)

    def _chats(self, chosen: Sequence[Trajectory]) -> list[list[Message]]:
        config = self.config
        known, wanted, owners = [], [], []
        for trajectory in chosen:
            contexts = contexts_of(trajectory)
            known.append([self.domain.known(context) is not None for context in contexts])
            asked = [context for context, skip in zip(contexts, known[-1], strict=True) if not skip]
            wanted += asked
            owners += [trajectory.trajectory_id] * len(asked)
        found = self.buffer.retrieve(wanted, config.top_k, exclude_trajectory_ids=owners) if config.top_k else []
        rows = iter([[one.transition for one in row] for row in found] or [[] for _ in wanted])
        chats = []
        for trajectory, skipped in zip(chosen, known, strict=True):
            shown = [[] if skip else next(rows) for skip in skipped]
            if self.rng.random() >= config.demonstration_share:
                shown = [[] for _ in shown]
            recall = self.rng.random() < config.recall_share
            chats.append(conversation(self.domain, trajectory, shown, recall, self.rng.random() < config.trace_share))
        return chats

    def task_chats(self, count: int) -> list[list[Message]]:
        """M_task's examples (Eq. 6): three tasks of the corpus, and one like the last of them as its variation."""
        return [self._task_chat() for _ in range(count)]

    def _task_chat(self) -> list[Message]:
        shown = [self.rng.choice(self.trajectories).task for _ in range(3)]
        others = [self.rng.choice(self.trajectories).task for _ in range(_LIKE_ONE_OF)]
        texts = [task.instruction for task in (shown[-1], *others)]
        vectors = self.buffer.encoder.encode(texts)
        vectors = unit(vectors - vectors.mean(axis=0))  # the words that all tasks share say nothing
        likeness = np.where([text == texts[0] for text in texts], -1.0, vectors @ vectors[0])
        messages = list(task_messages(self.domain, shown))
        return [*messages, {"role": "assistant", "content": task_answer(texts[int(likeness.argmax())])}]


def permuted(example: Example, classes: Sequence[Sequence[int]], size: int, rng: random.Random) -> Example:
    """The example with the ids of each class exchanged by one random bijection throughout."""
    table = np.arange(size, dtype=np.int32)
    for members in classes:
        table[np.asarray(members)] = rng.sample(list(members), len(members))
    return Example(table[example.ids], example.weights)


def common_pieces(tokenizer: Any, examples: Iterable[Example], share: float = 0.15) -> frozenset[str]:
    """Pieces that stand in at least this share of the examples: the words of the format, which keep their meaning."""
    counts: Counter[int] = Counter()
    total = 0
    for example in examples:
        counts.update(set(example.ids.tolist()))
        total += 1
    common = [index for index, count in counts.items() if count >= share * total]
    return frozenset(tokenizer.convert_ids_to_tokens(common))


def format_words(tokenizer: Any, examples: Iterable[Example], instructions: Sequence[str]) -> frozenset[str]:
    """Pieces that keep their meaning when names are exchanged: those common in the examples but not what tasks ask for.

    A word that some instructions say and some do not (`kosher`) is a name, however many pages it stands on.
    """
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in instructions]
    asked = [Example(np.asarray(ids, np.int32), np.zeros(len(ids), np.float32)) for ids in encoded]
    names = common_pieces(tokenizer, asked, share=0.0) - common_pieces(tokenizer, asked, share=0.5)
    return common_pieces(tokenizer, examples) - names


def load_model(config: ExperienceTrainingConfig, corpus: Corpus) -> tuple[Any, Any, dict[str, int]]:
    """The model to train, its tokenizer, and how many pieces a graft moved each way."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if config.vocabulary == "keep":
        if config.base is None:
            raise ValueError("`vocabulary='keep'` needs `base`, a pretrained checkpoint")
        model = AutoModelForCausalLM.from_pretrained(config.base, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(config.base)
        model = widened(model, config.widen) if config.widen else model
        return (_with_adapters(model, config.lora_rank) if config.lora_rank else model), tokenizer, {}
    fitted = build_tokenizer(fit_vocabulary(texts_of(corpus)))
    if config.base is None:
        return build_model(config.model, fitted), fitted, {}
    model = AutoModelForCausalLM.from_pretrained(config.base, use_safetensors=True)
    ways = graft(model, AutoTokenizer.from_pretrained(config.base), fitted, config.seed)
    return model, fitted, ways


def texts_of(corpus: Corpus) -> Iterator[str]:
    """Up to 3,000 conversations as text, each with the agent's and M_task's instructions, so that one vocabulary
    serves the policy too."""
    domain = corpus.domain
    extra = [domain.agent_instruction, domain.task_instruction]
    for chat in corpus.draw(min(3000, 3 * len(corpus.trajectories))):
        yield END.join([*(message["content"] for message in chat), *extra])


def _with_adapters(model: Any, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def read_training_data(config: ExperienceTrainingConfig) -> list[Trajectory]:
    """Trajectories of training tasks that did not break.

    Raises:
        ValueError: none is left.
    """
    found = [trajectory for path in config.data for trajectory in read_trajectories(path)]
    kept = [t for t in found if t.task.split == "train" and t.transitions and not t.broken]
    if not kept:
        raise ValueError(
            f"`data` must hold trajectories of training tasks, got {len(found)} in {config.data}, none usable"
        )
    return kept


def main(config: ExperienceTrainingConfig) -> dict[str, Any]:
    """Trains and saves; returns what is written to the card."""
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    trajectories = read_training_data(config)
    corpus = Corpus(config, trajectories)
    model, tokenizer, ways = load_model(config, corpus)
    rng = random.Random(config.seed + 1)
    sample = [encode_chat(tokenizer, chat) for chat in corpus.draw(min(400, len(trajectories)))]
    fixed = format_words(tokenizer, sample, [one.task.instruction for one in trajectories])
    classes = name_classes(tokenizer, fixed) if config.permute_share else []

    def exchange(example: Example) -> Example:
        chosen = rng.random() < config.permute_share
        return permuted(example, classes, len(tokenizer), rng) if chosen else example

    def supply(_: int) -> list[Example]:
        return corpus.examples(tokenizer, 128, exchange)

    trainer = Trainer(model, tokenizer, config.training)
    checkpoints = config.out / "checkpoints"
    if config.resume:
        trainer.resume(checkpoints)
    seconds = config.max_minutes and config.max_minutes * 60
    with show_progress("experience model", config.out / "metrics.jsonl") as on_log:
        trainer.run(supply, int(config.million_tokens * 1e6), seconds, on_log, checkpoints)
    card = {
        "kind": "experience",
        "experience": {"top_k": config.top_k, "max_tokens": 400},  # the longest page is about 250 tokens
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trajectories": len(trajectories),
        "transitions": sum(len(trajectory.transitions) for trajectory in trajectories),
        "tokens": trainer.tokens,
        "mean_example_tokens": float(np.mean([len(example) for example in sample])),
        "graft": ways,
    }
    trainer.save(config.out, card)
    return card


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(ExperienceTrainingConfig, description=__doc__)), indent=2))
