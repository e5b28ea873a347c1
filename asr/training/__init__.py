"""Training: everything that needs torch lives here and in `export`."""

import os

# Read once, when torch is imported. Threads that spin while they wait for others take the cores
# away from loader processes and from whoever else computes: a step can take many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
