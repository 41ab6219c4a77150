"""What is found at an address, step by step."""
