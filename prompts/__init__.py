"""Prompt texts as data files; `agent.prompting` renders them."""
