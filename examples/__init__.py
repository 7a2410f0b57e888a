"""Short scripts that show the client; each takes the server's address as its first argument."""
