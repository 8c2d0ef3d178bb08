"""The language model in this process, by llama.cpp."""
