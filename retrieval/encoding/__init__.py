"""Records to vectors."""
