"""Labelled cases to a fitted source."""
