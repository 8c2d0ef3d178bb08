"""Prompt texts as data files; `agent.core.prompts` renders them."""
