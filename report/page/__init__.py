"""The report's page and its charts."""
