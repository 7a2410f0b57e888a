"""What serving costs: the real server beside the engine alone (`make bench-served`)."""
