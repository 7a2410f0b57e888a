"""Sessions in a Redis or Valkey."""
