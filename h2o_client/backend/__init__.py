"""One server as a session sees it: requests, detection, settings, cleanup."""
