"""The examples in docstrings are true."""

from __future__ import annotations

import doctest

from retrieval.text import masked_forms, masking, prompt_injection, template_hash


def test_examples_in_docstrings() -> None:
    for module in (masked_forms, masking, prompt_injection, template_hash):
        failed, attempted = doctest.testmod(module)
        assert attempted
        assert not failed
