"""How good verdicts are on public data, beside each signal alone and plain baselines: `make bench-quality`."""
