"""M_task (Eq. 6, arXiv:2511.03773): the experience model's language model, asked for variations of seed tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dreamgym_env.domain import Domain
from dreamgym_env.types import Completion, Conversation, LanguageModel, Sampling, Task

RollOut = Callable[[Sequence[Task], int], Sequence[Sequence[float]]]
"""(tasks, n) to the outcome rewards of n quick dreams of each task, shape [len(tasks)][n]. A dream that broke (model
error) has no reward, so that a row may be shorter than n."""

GENERIC_INSTRUCTION = (
    "You write tasks for an agent. You are shown tasks that it sometimes solves and sometimes does not. Write one new "
    "task of the same kind: keep the form, vary what is asked for, and ask for nothing that the same environment could "
    "not offer. Answer with <task>the instruction</task> and nothing else."
)
_TASK = re.compile(r"<task>(.*?)</task>", re.DOTALL)
_MAX_LENGTH = 2_000


def task_messages(domain: Domain, seed_tasks: Sequence[Task]) -> Conversation:
    """The conversation that asks for one variation: the domain's `task_instruction` where it has one, else a generic
    instruction, then the seed tasks' instructions, one a line.

    Raises:
        ValueError: no seed tasks.
    """
    if not seed_tasks:
        raise ValueError("`seed_tasks` must hold at least one task, got none")
    system = getattr(domain, "task_instruction", "") or GENERIC_INSTRUCTION
    lines = "\n".join(_one_line(task.instruction) for task in seed_tasks)
    return [{"role": "system", "content": system}, {"role": "user", "content": lines}]


def task_answer(instruction: str) -> str:
    """What the assistant answers to `task_messages`; M_task is trained on it."""
    return f"<task>{_one_line(instruction)}</task>"


def parse_task(text: str) -> str | None:
    """The instruction in a completion, on one line, or None unless there is exactly one `<task>...</task>` with
    something in it."""
    found = _TASK.findall(text)
    instruction = _one_line(found[0]) if len(found) == 1 else ""
    return instruction if instruction and len(instruction) <= _MAX_LENGTH and "<task>" not in instruction else None


def normalised(instruction: str) -> str:
    """What two instructions share that differ in case, spacing and punctuation alone."""
    return " ".join(re.findall(r"[\w$%]+(?:[.,]\d+)*", instruction.casefold()))


class TaskGenerator:
    """Proposes variations of tasks and checks them.

    A proposal is turned down, and counted in `rejections` by reason, when the model gave nothing ("model_error"), when
    it does not parse ("unparsed"), when its text is known ("duplicate": a task given as known, one shown in the prompt,
    or an earlier proposal), or when the domain says that it is no task of its own ("invalid"). `feasible` adds
    "infeasible" (no dream succeeded), "too_easy" (all did) and "undreamed" (all broke).

    Args:
        language_model: that of the experience model: M_task shares its parameters.
        domain: gives the instruction and `task_problem`.
        sampling: temperature above 0, or the same prompt gives the same task again.
        max_attempts: rounds of completions, at least 1; each round asks again for what is missing.
        known: tasks whose text must not be proposed again: all training tasks and, so that none leaks, the held-out.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        domain: Domain,
        sampling: Sampling | None = None,
        max_attempts: int = 3,
        known: Iterable[Task] = (),
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"`max_attempts` must be >= 1, got {max_attempts}")
        self.language_model, self.domain, self.max_attempts = language_model, domain, max_attempts
        self.sampling = sampling or Sampling(temperature=1.0, max_tokens=128)
        self.rejections: Counter[str] = Counter()
        self._texts: set[str] = set()
        self._numbers: Counter[str] = Counter()
        self.know(known)

    def know(self, tasks: Iterable[Task]) -> None:
        """Never proposes these instructions or ids again; call it with the generated tasks of a run that resumes."""
        for task in tasks:
            self._texts.add(normalised(task.instruction))
            parent, mark, number = task.task_id.rpartition("~")
            if mark and number.isdigit():
                self._numbers[parent] = max(self._numbers[parent], int(number))

    def propose(self, seed_tasks: Sequence[Task], shown: int = 3) -> list[Task]:
        """At most one variation of each seed task, in order; fewer where the attempts ran out.

        The prompt for a seed task shows it last, after up to `shown - 1` of its successors in `seed_tasks` (Eq. 6 asks
        from m seed tasks); it is the parent. A variation starts where its parent starts, has origin "generated" and the
        id `{parent id}~{n}`, n counting from 1.

        Raises:
            ValueError: a held-out seed task, which would leak, or `shown` < 1.
        """
        if shown < 1:
            raise ValueError(f"`shown` must be >= 1, got {shown}")
        for task in seed_tasks:
            if task.split == "held_out":
                raise ValueError(f"task {task.task_id!r} is held out and must not be varied")
        self.know(seed_tasks)
        prompts = [
            task_messages(self.domain, _shown(seed_tasks, position, shown)) for position in range(len(seed_tasks))
        ]
        made: dict[int, Task] = {}
        for _ in range(self.max_attempts):
            missing = [position for position in range(len(seed_tasks)) if position not in made]
            if not missing:
                break
            completions = self.language_model.complete([prompts[position] for position in missing], self.sampling)
            for position, completion in zip(missing, completions, strict=True):
                if variation := self._checked(completion, seed_tasks[position]):
                    made[position] = variation
        return [made[position] for position in sorted(made)]

    def feasible(self, tasks: Sequence[Task], roll_out: RollOut, n: int = 4, need_failure: bool = True) -> list[Task]:
        """Those of the tasks that quick dreams show to be feasible: at least one of the n succeeds (reward > 0) and,
        unless `need_failure` is False, at least one fails, so that there is something to learn.

        Raises:
            ValueError: n < 1, or `roll_out` gave rewards for another number of tasks.
        """
        if n < 1:
            raise ValueError(f"`n` must be >= 1, got {n}")
        rewards = roll_out(tasks, n) if tasks else []
        if len(rewards) != len(tasks):
            raise ValueError(f"`roll_out` must give rewards for {len(tasks)} tasks, got {len(rewards)}")
        kept = []
        for task, outcomes in zip(tasks, rewards, strict=True):
            reason = _infeasible(outcomes, need_failure)
            if reason:
                self.rejections[reason] += 1
            else:
                kept.append(task)
        return kept

    def _checked(self, completion: Completion, parent: Task) -> Task | None:
        instruction = parse_task(completion.text)
        if completion.finish_reason == "error" or instruction is None:
            self.rejections["model_error" if completion.finish_reason == "error" else "unparsed"] += 1
            return None
        if normalised(instruction) in self._texts:
            self.rejections["duplicate"] += 1
            return None
        task = self._variation(parent, instruction)
        if self.domain.task_problem(task) is not None:
            self.rejections["invalid"] += 1
            return None
        self.know([task])
        return task

    def _variation(self, parent: Task, instruction: str) -> Task:
        task_id = f"{parent.task_id}~{self._numbers[parent.task_id] + 1}"
        return replace(
            parent,
            task_id=task_id,
            instruction=instruction,
            origin="generated",
            parent_id=parent.task_id,
            split="train",
        )


def _shown(seed_tasks: Sequence[Task], position: int, shown: int) -> list[Task]:
    others = [seed_tasks[(position + step) % len(seed_tasks)] for step in range(1, min(shown, len(seed_tasks)))]
    return [*others, seed_tasks[position]]


def _infeasible(rewards: Sequence[float], need_failure: bool) -> str | None:
    if not rewards:
        return "undreamed"
    if max(rewards) <= 0:
        return "infeasible"
    return "too_easy" if need_failure and min(rewards) > 0 else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
