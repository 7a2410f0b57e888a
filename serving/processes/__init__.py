"""Several server processes on one port, as one server."""
