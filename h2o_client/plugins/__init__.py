"""The package in other people's tools."""
