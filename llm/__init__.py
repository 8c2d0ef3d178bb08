"""Language models behind LangChain's chat interface, and the files of their weights."""
