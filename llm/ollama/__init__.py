"""The language model behind Ollama servers."""
