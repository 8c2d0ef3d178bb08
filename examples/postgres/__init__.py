"""The demo source: a PostgreSQL server log with real faults, and the recorder that made it."""
