"""The language model behind a server with OpenAI's interface: vLLM, llama.cpp's server, SGLang, TGI and others."""
