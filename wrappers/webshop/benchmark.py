"""Steps per second of the native WebShop under a random policy: `python -m dreamgym_env.wrappers.webshop.benchmark`.

Seconds are CPU seconds of this process (it uses one thread), so that a busy machine does not blur the figures.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from typing import get_args

from .env import ObservationMode, WebShopEnv

ORIGINAL_STEPS_PER_SECOND = {"state": 83.0, "text": 38.0, "text_rich": 83.0}
"""The original on 1,000 products on two cores (`text_rich` 71 to 83, with bm25s in place of Lucene). It has no abstract
state; its best figure stands in."""


@dataclass(frozen=True)
class Speed:
    """One observation mode: steps per second, episode starts included, and how many times the original's figure."""

    mode: ObservationMode
    steps_per_second: float

    @property
    def ratio(self) -> float:
        return self.steps_per_second / ORIGINAL_STEPS_PER_SECOND[self.mode]


def load_time(data_dir: str | None = None) -> float:
    """Seconds to the first search result of this process: files, goals and index. Only the first call is honest."""
    start = time.process_time()
    env = WebShopEnv(data_dir=data_dir, split="all")
    env.shop.search(("lamp",), random.Random(0))
    return time.process_time() - start


def measure(mode: ObservationMode, seconds: float = 3.0, data_dir: str | None = None, seed: int = 0) -> Speed:
    """Walks at random for that long; each search uses words of the instruction."""
    env, rng = WebShopEnv(data_dir=data_dir, split="all", observation_mode=mode), random.Random(seed)
    steps, start = 0, time.process_time()
    _, info = env.reset(seed=seed)
    while (elapsed := time.process_time() - start) < seconds:
        action = rng.choice(info["available_actions"])
        if action.startswith("search"):
            words = info["instruction"].split()
            action = f"search[{' '.join(rng.sample(words, min(4, len(words))))}]"
        *_, info = env.step(action)
        steps += 1
        if info["end_reason"] is not None:
            _, info = env.reset()
    return Speed(mode, steps / elapsed)


def main() -> None:
    """Command line: `[--data-dir DIR] [--seconds S]`."""
    parser = argparse.ArgumentParser(description="Measure the native WebShop.")
    parser.add_argument("--data-dir", default=None, help="folder with WebShop's files (default: the sample catalogue)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each observation mode")
    arguments = parser.parse_args()
    print(f"load and index: {load_time(arguments.data_dir):.2f} s")
    for mode in get_args(ObservationMode):
        speed = measure(mode, arguments.seconds, arguments.data_dir)
        print(f"{mode}: {speed.steps_per_second:,.0f} steps/s, {speed.ratio:.0f} times the original")


if __name__ == "__main__":
    main()
