"""Recurrent layers on the CPU, with back-propagation through time written out by hand.

For the other rooms: `stack.run_stack`, `dropout.dropout` and `threads_apart.run_apart`. All else is
of this room alone; a test holds it.
"""
