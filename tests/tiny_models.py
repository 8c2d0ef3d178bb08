"""Transformers of a few thousand weights, made here: what they answer is of no interest before they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_WORDS = ("fire", "good", "morning", "This", "record", "is", ":", ".", "normal", "anomaly")


def tiny_bert(folder: Path, labels: Mapping[int, str], words: Sequence[str] = _WORDS) -> Path:
    """A BERT for sequences with these labels, two layers of 16 numbers, whose tokens are ``words``."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(known), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label=dict(labels), label2id={name: i for i, name in labels.items()},
        num_labels=len(labels),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder
