"""HTTP: requests in, bytes out, errors ours. The only folder that knows requests and urllib3."""
