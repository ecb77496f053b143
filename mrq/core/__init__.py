"""The pure core: no I/O, no clock, no randomness, no threads. Same state and same event, same result."""
