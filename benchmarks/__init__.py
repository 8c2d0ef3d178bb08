"""Quality and speed, side by side with bare engines: commands with their own targets in the Makefile."""
