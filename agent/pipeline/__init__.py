"""A record to its verdict; read `pipeline` first."""
