"""How a model is measured: `python -m training.evaluate`; docs/reference/evaluation.md has the protocol."""
