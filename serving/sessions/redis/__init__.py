"""Sessions in a Redis or Valkey, where the servers of several machines find them."""
