"""The trainer beside its matrix products and torch's own loops."""
