"""Language models behind LangChain's chat interface, and where their weights come from."""
