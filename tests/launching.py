"""Programs on two processes, as `accelerate launch` starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_LAUNCHER = [sys.executable, "-m", "accelerate.commands.launch"]
_TWO = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]


def launch(program: Path, *words: str) -> str:
    """What the program prints that runs with these words on two CPU processes; where it fails, what it wrote last."""
    command = [*_LAUNCHER, *_TWO, "--dynamo_backend", "no", str(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"{program.name} {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-6000:]}"
    )
    return done.stdout
