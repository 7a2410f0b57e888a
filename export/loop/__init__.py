"""The graphs of a bundle, each compiled from a checkpoint's weights."""
