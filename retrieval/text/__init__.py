"""Text before it is embedded: masking, template identity, prompt injection."""
