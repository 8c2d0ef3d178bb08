"""Signals to a calibrated probability and a label."""
