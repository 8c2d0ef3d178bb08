"""One file per witness. Each gives a `Signal`: log-odds that the record is anomalous, and the facts behind them."""
