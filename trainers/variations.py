"""Task variations for the curriculum: proposed by the experience model's language model, checked by quick dreams."""

from __future__ import annotations

from collections.abc import Sequence

from dreamgym_env.task_generator import TaskGenerator
from dreamgym_env.types import Sampling, Task

from .rounds import VaryTasks, play
from .run import Run
from .run_config import RunConfig


def dreamed_variations(run: Run[RunConfig]) -> VaryTasks:
    """Proposes a variation of each task (Eq. 6) and keeps those that the present policy sometimes solves in the dream.

    Raises:
        ValueError: the run trains in a real environment, which cannot play tasks that it does not have.
    """
    experience = getattr(run.pool, "experience_model", None)
    if experience is None:
        raise ValueError(f"`lam` must be 0 where tasks cannot be dreamed, got {run.config.lam} in {run.config.env_id}")
    known = [*run.pool.tasks, *(task for pool in run.eval_pools.values() for task in pool.tasks), *run.proposed]
    generator = TaskGenerator(experience.language_model, run.pool.domain, known=known)
    sampling = Sampling(temperature=run.config.temperature, max_tokens=run.config.max_tokens)

    def vary(tasks: Sequence[Task], seed: int) -> Sequence[Task]:
        run.pool.seed(seed)
        proposed = _same_everywhere(run, generator.propose(tasks))
        run.proposed += proposed

        def roll_out(chosen: Sequence[Task], n: int) -> list[list[float]]:
            groups = play(run, run.pool, chosen, n, sampling, seed)
            steps = sum(len(rollout.turns) for group in groups for rollout in group)
            run.carried["variation_steps"] = run.carried.get("variation_steps", 0.0) + steps
            whole = [[one for one in group if not one.trajectory.broken] for group in groups]
            return [[rollout.reward for rollout in group] for group in whole]

        return generator.feasible(proposed, roll_out, run.config.variation_dreams)

    return vary


def _same_everywhere(run: Run[RunConfig], tasks: list[Task]) -> list[Task]:
    """The first process's tasks."""
    if run.accelerator.num_processes == 1:
        return tasks
    from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]

    shared: list[Task] = broadcast_object_list([tasks])[0]
    return shared
