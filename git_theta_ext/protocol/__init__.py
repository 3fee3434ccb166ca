"""Wire protocols as state machines: bytes in, events out, without input or output."""
