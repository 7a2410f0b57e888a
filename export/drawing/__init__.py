"""How a loop's graph draws the next symbol: biases of automata, filters, the sampler."""
