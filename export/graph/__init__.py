"""What graphs are made of: nodes and weights, operators, arithmetic, cells."""
