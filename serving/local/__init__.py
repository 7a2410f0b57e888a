"""A bundle in the caller's own process: no server, no connection, the same texts."""
