"""Tests of the service and the client."""
