"""Diagnose the connection to a server, step by step."""
