"""Architecture, how-to pages, decisions, and the reference pages that `docs.generate` writes."""
