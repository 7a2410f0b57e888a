"""Workers: who runs what when, loop runs, and what goes out after them."""
