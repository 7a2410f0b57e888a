"""Call a server: `blocking.Client`, `aio.AsyncClient`, and a command line."""
