"""Nearest vectors, by Chroma or exactly."""
