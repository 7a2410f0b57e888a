"""Call a server: `client.Client`, `aio.AsyncClient` and their sessions."""
