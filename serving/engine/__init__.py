"""Continuous batching: many sequences in one compiled loop."""
