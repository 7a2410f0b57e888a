"""How a model is measured: docs/reference/evaluation.md has the protocol."""
