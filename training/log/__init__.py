"""How a training is told: progress, curves, metrics."""
