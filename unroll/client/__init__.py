"""Call a server: `blocking.Client`, `aio.AsyncClient`, their sessions, and a command line."""
