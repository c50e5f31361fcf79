"""The HTTP server: requests that wait for one sub-model decode together."""
