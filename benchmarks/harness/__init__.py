"""What all benchmarks share: models, servers, timing, records and tables."""
