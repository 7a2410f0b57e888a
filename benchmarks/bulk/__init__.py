"""Many short texts beside the engine's steady rate."""
