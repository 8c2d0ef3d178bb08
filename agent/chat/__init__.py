"""The conversation about records and verdicts."""
