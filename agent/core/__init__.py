"""Records, requests, errors, settings, and what every other package needs."""
