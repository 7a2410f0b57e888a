"""A load generator for any server of this project (`python -m benchmarks.load --help`)."""
