"""One module for each signal: the log-odds that a record is anomalous, and the facts behind them."""
