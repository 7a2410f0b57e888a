"""The trainer beside its matrix products and torch's own loops."""

import training  # noqa: F401 - before torch, for it says how OpenMP's threads wait
