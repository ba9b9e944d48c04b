"""What trains and measures: the `dreamgym` command and its jobs."""

import os

# Threads that wait for each other sleep instead of spinning: beside any other work they would take its cores, and wait
# for it all the longer. Read when torch is first imported, so after that it changes nothing; a value that is set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
