"""Wire protocols as state machines: bytes in, events out, no input or output of their own."""
