"""Who may call: callers, tokens, certificates and the files that hold them."""
