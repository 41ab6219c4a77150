"""The protocol with no network in it: bytes to events and back, requests as values."""
