"""The protocol without any I/O: converts bytes to events and back, and describes requests."""
