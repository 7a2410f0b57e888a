"""A run on disk: checkpoints, resuming, recovering."""
