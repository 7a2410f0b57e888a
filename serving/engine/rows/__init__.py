"""The rows of a worker's loop runs, as arrays."""
