"""The field's systems beside Precedent on the same split: `python -m benchmarks.systems`."""
