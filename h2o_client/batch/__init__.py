"""Thousands of prompts: each is answered once, whatever ends the program in between."""
