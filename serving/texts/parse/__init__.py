"""From requests in plain values to the engine's own requests, with the contract's defaults."""
