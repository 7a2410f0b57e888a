"""A load generator for any server of this project: `unroll load`."""
