"""Several server processes as one server."""
