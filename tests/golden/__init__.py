"""Verdicts of a fixed set of records, compared with those that an earlier commit gave."""
