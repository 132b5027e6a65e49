"""The process clients talk to: it never runs model code, and it outlives the one that does."""
