"""The agent's chat as tokens, reading actions, and episodes collected in groups."""

from __future__ import annotations

import itertools
from typing import Any

import guessing_world
import gymnasium as gym
import pytest
from guessing_world import DOMAIN, TEMPLATE, make_task, make_tokenizer

from dreamgym_env.trainers.agent import AgentChat, Rollout, Turn, read_action, read_thought, write_response
from dreamgym_env.trainers.pools import SingleEnvPool, open_pool
from dreamgym_env.trainers.rollout import Collector, collect
from dreamgym_env.trainers.text_play import ScriptedAgent, play_texts
from dreamgym_env.types import Completion, ModelError, Sampling, Task, Trajectory


class Script:
    """A model that answers by rule from what it is shown, and remembers the prompts it saw."""

    def __init__(self, answer: Any, cut: bool = False) -> None:
        self.tokenizer, self.answer, self.cut = make_tokenizer(), answer, cut
        self.prompts: list[list[list[int]]] = []

    def seed(self, seed: int) -> None: ...

    def forget(self) -> None: ...

    def generate(self, prompts: list[list[int]], sampling: Sampling) -> list[Completion]:
        self.prompts.append([list(prompt) for prompt in prompts])
        completions = []
        for prompt in prompts:
            text = self.answer(self.tokenizer.decode(prompt))
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            ids += () if self.cut else (self.tokenizer.eos_token_id,)
            reason: Any = "length" if self.cut else "stop"
            completions.append(Completion(text, reason, ids, tuple(-0.5 - i for i in range(len(ids)))))
        return completions


def pool(size: int = 4, **settings: Any) -> Any:
    return open_pool("guessing_world:Guess-v0", size, **settings)


@pytest.mark.parametrize(
    ("response", "action"),
    [
        ("<think>hm</think>\n<action>click[Buy Now]</action>", "click[Buy Now]"),
        ("<action>a</action> no: <action> b </action>", "b"),
        ("<think><action>a</action></think><action>b</action>", "b"),
        ("I will go on.\n\nclick[Next >]\n", "click[Next >]"),
        ("<action>click[", ""),
        ("<think>never ends", ""),
        ("", ""),
        (write_response("say[sun]", "why not"), "say[sun]"),
    ],
)
def test_read_action(response: str, action: str) -> None:
    assert read_action(response) == action


def test_chat_deltas_rebuild_the_rendered_conversation() -> None:
    tokenizer = make_tokenizer()
    chat = AgentChat(tokenizer, "Say words")
    answers = [write_response("say[sun]"), write_response("say[star]", "word")]
    ids: list[int] = list(chat.first_ids(make_task(0), "Say a word"))
    for answer, state in zip(answers, ["Not sun", "Not star"], strict=True):
        ids += chat.response_ids(answer)
        ids += chat.next_ids(state, ids[-1])
    conversation = [
        {"role": "system", "content": "Say words"},
        {"role": "user", "content": "Task: Find the word\nState:\nSay a word"},
        {"role": "assistant", "content": answers[0]},
        {"role": "user", "content": "State:\nNot sun"},
        {"role": "assistant", "content": answers[1]},
        {"role": "user", "content": "State:\nNot star"},
    ]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert ids == tokenizer.encode(text, add_special_tokens=False)


def test_a_cut_response_gets_its_end_of_turn_from_the_prompt() -> None:
    chat = AgentChat(make_tokenizer(), "Say words")
    end = chat.tokenizer.eos_token_id
    assert chat.next_ids("Not sun", chat.tokenizer.encode("say")[-1])[0] == end
    assert chat.next_ids("Not sun", end)[0] != end


def test_templates_that_rewrite_the_past_are_refused() -> None:
    strip = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}")
    with pytest.raises(ModelError, match=r"append-only.*`<think>` block"):
        AgentChat(make_tokenizer(strip), "Say words")
    with pytest.raises(ModelError, match="must have a chat template"):
        AgentChat(make_tokenizer(""), "Say words")


def test_a_template_without_system_role_gets_the_instruction_in_the_first_turn() -> None:
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    chat = AgentChat(make_tokenizer(refuse), "Say words")
    assert chat.tokenizer.decode(chat.first_ids(make_task(0), "Say a word")).startswith(
        "<|im_start|>user\nSay words\n\nTask"
    )


def test_groups_come_in_order_and_batches_shrink() -> None:
    model = Script(lambda shown: write_response("say[moon]" if "Not sun" in shown else "say[sun]"))
    tasks = [make_task(0), make_task(1)]
    groups = collect(Collector(model, pool(3), Sampling(max_tokens=16)), tasks, group_size=2)
    assert [[r.trajectory.task for r in group] for group in groups] == [[t, t] for t in tasks]
    # Four episodes of two steps in three environments: three twice, then the fourth alone.
    assert [len(prompts) for prompts in model.prompts] == [3, 3, 1, 1]
    for rollout in itertools.chain.from_iterable(groups):
        assert rollout.trajectory.end_reason == "success"
        assert [t.action for t in rollout.trajectory.transitions] == ["say[sun]", "say[moon]"]
        assert (rollout.reward, rollout.invalid_actions, rollout.impossible_actions) == (1.0, 0, 0)


def test_thoughts_are_noted_and_never_reach_the_environment() -> None:
    model = Script(lambda shown: write_response("say[moon]") if "Not sun" in shown else write_response("say[sun]", "x"))
    (group,) = collect(Collector(model, pool(1), Sampling(max_tokens=24)), [make_task(0)])
    assert [(t.thought, t.action) for t in group[0].trajectory.transitions] == [("x", "say[sun]"), ("", "say[moon]")]


@pytest.mark.parametrize(
    ("response", "thought"),
    [
        (write_response("a", "why not"), "why not"),
        ("<think>one</think> or <think>\n two \n</think><action>a</action>", "two"),
        ("<think>never ends", ""),
        ("<action>a</action>", ""),
    ],
)
def test_read_thought(response: str, thought: str) -> None:
    assert read_thought(response) == thought


def test_tokens_go_back_in_as_they_came_out() -> None:
    model = Script(lambda shown: write_response("say[sun]"))
    (rollout,) = collect(Collector(model, pool(1), Sampling(max_tokens=16)), [make_task(0)])[0]
    first, second = rollout.turns
    assert model.prompts[1][0] == [*first.prompt_ids, *first.response_ids, *second.prompt_ids]
    assert rollout.token_ids == model.prompts[1][0] + list(second.response_ids)
    assert rollout.response_tokens == sum(rollout.response_mask) == len(first.response_ids) * 2
    kept = [value for value, mine in zip(rollout.logprobs, rollout.response_mask, strict=True) if mine]
    assert kept == [*first.response_logprobs, *second.response_logprobs]


def test_invalid_impossible_and_cut_responses_are_counted() -> None:
    invalid = collect(Collector(Script(lambda _: "word word"), pool(1), Sampling(max_tokens=16)), [make_task(0)])[0][0]
    assert (invalid.invalid_actions, invalid.impossible_actions) == (2, 0)
    assert invalid.trajectory.transitions[0].action == "word word"
    shouting = Script(lambda _: write_response("shout[sun]"), cut=True)
    loud = collect(Collector(shouting, pool(1), Sampling(max_tokens=16)), [make_task(0)])[0][0]
    assert (loud.invalid_actions, loud.impossible_actions, loud.cut_responses) == (0, 2, 2)
    assert not any(transition.possible for transition in loud.trajectory.transitions)


def test_a_full_context_ends_the_episode_and_says_so() -> None:
    model = Script(lambda _: write_response("say[sun]"))
    first = len(AgentChat(model.tokenizer, DOMAIN.agent_instruction).first_ids(make_task(0), "Say a word"))
    tight = Collector(model, pool(1), Sampling(max_tokens=16), context_tokens=first + 20)
    (rollout,) = collect(tight, [make_task(0)])[0]
    assert rollout.trajectory.end_reason == "context_overflow"
    assert (rollout.context_overflow, len(rollout.turns)) == (True, 1)
    with pytest.raises(ValueError, match=r"`context_tokens` must hold .* got 20"):
        collect(Collector(model, pool(1), Sampling(max_tokens=16), context_tokens=20), [make_task(0)])


def test_a_broken_episode_is_no_failure() -> None:
    model = Script(lambda _: write_response("say[star]"))
    (rollout,) = collect(Collector(model, pool(1, break_word="star"), Sampling(max_tokens=16)), [make_task(0)])[0]
    assert rollout.trajectory.end_reason == "model_error"
    assert (len(rollout.turns), len(rollout.trajectory.transitions)) == (1, 0)


def test_per_turn_values_reach_their_response_tokens_alone() -> None:
    turns = (Turn((1, 2), (3,)), Turn((4,), (5, 6), trained=False))
    rollout = Rollout(Trajectory(make_task(0), (), "failure"), turns)
    assert rollout.per_token([0.5, -1.0]) == [0, 0, 0.5, 0, -1, -1]
    assert rollout.response_mask == [False, False, True, False, False, False]
    assert rollout.per_step_tokens == 3 + 6


def test_pools_need_tasks_and_a_size() -> None:
    class Bare(gym.Env[str, str]): ...

    with pytest.raises(ValueError, match="must offer its tasks"):
        SingleEnvPool([Bare()])
    with pytest.raises(ValueError, match="`size` must be >= 1"):
        pool(0)
    assert guessing_world.GuessingEnv(split="held_out").tasks[0].split == "held_out"


class Unopened(guessing_world.GuessingEnv):
    """Knows what a task asks for only once its page is opened, as MiniWoB++ does."""

    task_ids = ("closed-0",)

    def task_of(self, task_id: str) -> Task:
        return Task(task_id, DOMAIN.name, "", "")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        state, info = super().reset(seed=seed, options=options)
        self.task = Task(self.task.task_id, DOMAIN.name, "Find the word", state)
        return state, info | {"task": self.task}


def test_a_task_is_what_it_says_once_it_is_opened() -> None:
    pool = SingleEnvPool([Unopened()])
    assert [task.instruction for task in pool.tasks] == [""]
    model = Script(lambda prompt: write_response("say[moon]"))
    ((rollout,),) = collect(Collector(model, pool, Sampling(max_tokens=20)), pool.tasks)
    assert "Task: Find the word\n" in model.tokenizer.decode(model.prompts[0][0])
    asked: list[str] = []
    script = type("Asking", (), {"act": lambda self, task, *rest: asked.append(task.instruction) or "say[moon]"})()
    (read,) = play_texts(pool, pool.tasks, ScriptedAgent(script), "asking")
    assert asked == ["Find the word"]
    for trajectory in (rollout.trajectory, read.trajectory):
        assert (trajectory.task.initial_state, trajectory.success) == ("Say a word", True)
        assert all(step.task == trajectory.task for step in trajectory.transitions)
