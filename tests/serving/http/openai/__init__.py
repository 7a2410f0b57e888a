"""OpenAI's door, by its own clients."""
