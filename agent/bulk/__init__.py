"""Records by the million: each template is judged once, the rest runs over whole chunks."""
