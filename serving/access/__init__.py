"""Who may call: callers, tokens, certificates and the files they stand in."""
