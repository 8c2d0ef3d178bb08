"""How good verdicts are on public data, beside each witness alone and plain baselines: `make bench-quality`."""
