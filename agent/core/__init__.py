"""The nouns, and what every other package needs."""
