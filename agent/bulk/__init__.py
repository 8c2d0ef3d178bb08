"""Judging many records: each template is judged once, and lines are read and written by the chunk."""
