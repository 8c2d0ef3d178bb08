"""A plain retrieval-augmented chain, as tutorials of LangChain build it: what `benchmarks.speed` compares with.

Labelled lines go into a vector store; for each line to judge, the four nearest go into a prompt, and the language model
answers with a verdict and an explanation. Nothing is cached, fused or calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from agent.core.settings import settings
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.weights.catalog import default_model
from llm.weights.resolver import resolve

_NEAREST, _TOKENS = 4, 80
_PROMPT = ChatPromptTemplate.from_template(
    "You check the log of a supercomputer. These are similar lines with their labels:\n{context}\n\n"
    "Is this line normal or anomalous? Begin with that one word, then explain why in a sentence.\n{line}"
)


class _MiniLM(Embeddings):
    def __init__(self, path: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(path))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(x) for x in vector] for vector in self._model.encode(texts, normalize_embeddings=True)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def judged_by_rag(learned: Sequence[str], judged: Sequence[str]) -> list[bool]:
    """Whether the chain calls each ``judged`` line anomalous; lines begin with their labels, ``-`` for normal."""
    chosen = settings()
    store = InMemoryVectorStore(_MiniLM(resolve(chosen.embedder, cache=chosen.cache, offline=chosen.offline).path))
    store.add_documents([_document(line) for line in learned])
    weights = resolve(default_model(), cache=chosen.cache, offline=chosen.offline)
    model = EmbeddedChatModel(model_path=weights.path, model_sha256=weights.sha256, max_tokens=_TOKENS)
    retriever = store.as_retriever(search_kwargs={"k": _NEAREST})
    chain = {"context": retriever | _context, "line": RunnablePassthrough()} | _PROMPT | model | StrOutputParser()
    try:
        return [_is_anomalous(chain.invoke(line.split(" ", 1)[1].strip())) for line in judged]
    finally:
        model.close()


def _document(line: str) -> Document:
    label, text = line.split(" ", 1)
    return Document(text.strip(), metadata={"label": "normal" if label == "-" else "anomalous"})


def _context(documents: Sequence[Document]) -> str:
    return "\n".join(f"{document.metadata['label']}: {document.page_content}" for document in documents)


def _is_anomalous(answer: str) -> bool:
    answer = answer.lower()
    return "anomal" in answer and not answer.lstrip().startswith("normal")
