"""Set before any test imports torch."""

import os

# As `dreamgym` does: with two workers on two cores, threads that wait for each other would spin on the other's core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
