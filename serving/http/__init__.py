"""The HTTP door: JSON over the same gate, into the same engines."""
