"""Transfer, few labels, early verdicts, forgetting, bias, reasons: each a command with a table."""
