"""How-to pages, decisions, and the reference, which `docs.generate` makes from the code."""
