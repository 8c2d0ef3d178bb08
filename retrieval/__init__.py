"""Retrieval: masking, embedding, and the casebook (cases in a relational store, vectors in Chroma)."""
