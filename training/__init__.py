"""Train recurrent language models in torch: corpus -> vocabulary -> model -> checkpoint."""

import os

# OpenMP's idle threads sleep instead of spinning, which would take the processors from the threads
# of training/recurrence for milliseconds (a seventh of a GRU's update). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
