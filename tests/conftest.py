"""Set before any test imports torch."""

import os

# Two workers on two cores: torch's threads, which spin while they wait for each other, would take the other's core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
