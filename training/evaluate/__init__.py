"""How a model is measured: `python -m training.evaluate`; docs/training.md has the protocol."""
