"""Rows of a source of texts that have one verdict, but for its id: of one template, with equivalent values beside it.

All that `agent.pipeline.pipeline` reads of such a row beside its masked text are its numbers, and which of the values
that the cases have its categories hold.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.core.requests import LONG
from agent.pipeline.context import AppContext
from agent.pipeline.steps import Steps
from retrieval.arrays import Bools, Ints
from retrieval.encoding.field_columns import Column, FieldColumns
from retrieval.text.masked_forms import masked_forms
from retrieval.text.prompt_injection import plain
from retrieval.text.template_hash import column_hashes

if TYPE_CHECKING:
    from agent.data.record_block import RecordBlock

# stands for all values that no case has
_NEW = "\0new"
_CONTROL = r"[\x00-\x1f]"


class EquivalentRows:
    """Finds equivalent rows of one source as it is now.

    Attributes
    ----------
    is_able : bool
        Whether nothing else may decide about the source's records.
    """

    def __init__(self, context: AppContext, steps: Steps, name: str) -> None:
        source, fitted = steps.fitted_source(name)
        model, self._representation = source.model, source.representation
        self._name, self._casebook, self._seed = name, context.casebook, secrets.randbits(63)
        others = model.only or model.detectors or fitted.installed
        self.is_able = self._representation.field_encoder is None and not others
        # of templates that no case has the very words and numbers of a text count
        self._templates = context.casebook.templates(name) if model.by_text else None
        numbers, self._known = set[str](), dict[str, set[str]]()
        for encoder in (source.normal_encoder, fitted.fields.columns.encoder if fitted.fields else None):
            if encoder is not None:
                numbers.update(encoder.numbers)
                for column, values in encoder.categories.items():
                    self._known.setdefault(column, set()).update(values)
        for column, shares in fitted.fields.columns.shares.items() if fitted.fields else ():
            self._known.setdefault(column, set()).update(shares)
        # where new values are seldom, the verdict names them
        self._exact = numbers.union(source.expectations.values if source.expectations else ())

    def keys(self, block: RecordBlock) -> Sequence[Hashable]:
        """Keys of n records, equal for those that are equivalent: the hash of the content where nothing else is."""
        fields, keys = block.features, list[Hashable](block.hashes)
        if not isinstance(fields, FieldColumns):
            return keys
        texts, chosen = self._texts(block, fields)
        chosen &= block.plain & ~self._are_cases(block.hashes)
        chosen &= ~(texts.str.contains(_CONTROL) | (texts.str.len_chars() > LONG)).to_numpy()
        indices = np.flatnonzero(chosen)
        texts = texts.gather(indices)
        forms = masked_forms(texts, longest=LONG, keeps_numbers=bool(self._representation.kept))
        known = np.flatnonzero(self._have_known_templates(texts, forms))
        indices, texts, forms = indices[known], texts.gather(known), forms.gather(known)
        columns = {"form": forms} | {f"of {name}": self._values(name, fields[name], indices) for name in fields.names}
        if kept := self._representation.kept:
            columns["kept"] = pl.Series(column_hashes(texts, kept, self._seed))
        for index, key in zip(indices.tolist(), pl.DataFrame(columns).hash_rows(self._seed).to_list(), strict=True):
            keys[index] = key
        return keys

    def _texts(self, block: RecordBlock, fields: FieldColumns) -> tuple[pl.Series, Bools]:
        """What is compared of n records, and which have it; see `Representation.full_text`."""
        columns = [fields[name] for name in self._representation.prose]
        if not columns:
            return pl.Series(block.texts(np.arange(len(block))), dtype=pl.String), np.ones(len(block), bool)
        parts = pl.DataFrame({str(number): _written(column) for number, column in enumerate(columns)})
        texts = parts.select(pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()
        return texts, np.logical_or.reduce([column.filled for column in columns])

    def _are_cases(self, hashes: Sequence[str]) -> Bools:
        cases = self._casebook.hashes_of_cases(self._name, hashes)
        return np.array([content in cases for content in hashes], bool)

    def _have_known_templates(self, texts: pl.Series, forms: pl.Series) -> Bools:
        """Which of n texts have a template by which they are judged, whatever their words and numbers."""
        if self._templates is None:
            return np.ones(len(texts), bool)
        _, first, copies = np.unique(forms.to_numpy(), return_index=True, return_inverse=True)
        keys = (self._representation.template_key(plain(text)) for text in texts.gather(first))
        return np.array([key in self._templates for key in keys], bool)[copies]

    def _values(self, name: str, column: Column, indices: Ints) -> pl.Series:
        """The values of some records, those between which no model tells as one."""
        if name in self._exact:
            return _written(column).gather(indices)
        codes, words = column.written
        known = self._known.get(name, ())
        return _gathered([word if word in known else _NEW for word in words], codes[indices])


def _written(column: Column) -> pl.Series:
    codes, words = column.written
    return _gathered(words, codes)


def _gathered(words: Sequence[str], codes: NDArray[np.int32]) -> pl.Series:
    """The words of n codes, null for -1."""
    return pl.Series([*words, None], dtype=pl.String).gather(np.where(codes < 0, len(words), codes))
