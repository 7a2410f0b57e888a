"""What a model does along a text, and which of its units tell something."""
