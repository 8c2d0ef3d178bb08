"""Decision trees as an ONNX model, which ONNX Runtime computes: it is imported and run faster than what fitted them.

The model has one operator, `TreeEnsemble
<https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html>`_. It is written here because the packages that write
any model (onnx, skl2onnx) are large, and write trees in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Bools, Floats, Ints

INPUT, OUTPUT = "x", "sum"
# versions of the format, and of the sets of operators
_FORMAT, _OPERATORS, _TREES = 10, 21, 5
_DOMAIN = "ai.onnx.ml"
# numbers of ONNX for kinds of attributes and of elements
_OF_INT, _OF_TENSOR, _OF_INTS = 2, 4, 7
_DOUBLE, _BYTE = 11, 2
_ELEMENTS = {np.dtype(np.float64): _DOUBLE, np.dtype(np.uint8): _BYTE}


@dataclass(frozen=True)
class Tree:
    """One tree of n nodes, the first of which is the root.

    Parameters
    ----------
    column, threshold : shape (n,)
        What an inner node compares: values up to the threshold go left.
    left, right : shape (n,)
        Its children; -1 in a leaf.
    missing_left : shape (n,)
        Whether missing values (NaN) go left.
    value : shape (n,)
        Of the leaves.
    """

    column: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    value: Floats


def trees_to_onnx(trees: Sequence[Tree], width: int) -> bytes:
    """A model that adds up the values of the leaves that rows of ``width`` numbers end in, in the order of the trees.

    Its input has shape (rows, width), its output shape (rows, 1), both of double precision.
    """
    roots, nodes, leaves = list[int](), list[list[NDArray[Any]]](), list[Floats]()
    first_node = first_leaf = 0
    for tree in trees:
        is_leaf = tree.left < 0
        place = np.where(is_leaf, first_leaf + np.cumsum(is_leaf) - 1, first_node + np.cumsum(~is_leaf) - 1)
        inner = np.flatnonzero(~is_leaf)
        children = tree.left[inner], tree.right[inner]
        if not len(inner):
            # a root is no leaf: both sides are
            inner, children = np.zeros(1, np.int64), (np.zeros(1, np.int64), np.zeros(1, np.int64))
        sides = [part for side in children for part in (place[side], is_leaf[side].astype(np.int64))]
        columns = np.maximum(tree.column[inner], 0)
        nodes.append([columns, tree.threshold[inner], tree.missing_left[inner].astype(np.int64), *sides])
        leaves.append(tree.value[is_leaf])
        roots.append(first_node)
        first_node, first_leaf = first_node + len(inner), first_leaf + int(is_leaf.sum())
    column, threshold, missing_left, left, is_left_leaf, right, is_right_leaf = map(
        np.concatenate, zip(*nodes, strict=True)
    )
    attributes = [
        _int("aggregate_function", 1),
        _int("n_targets", 1),
        _int("post_transform", 0),
        _ints("tree_roots", np.array(roots)),
        # all nodes compare by "less or equal"
        _tensor("nodes_modes", np.zeros(len(column), np.uint8)),
        _ints("nodes_featureids", column),
        _tensor("nodes_splits", threshold),
        _ints("nodes_missing_value_tracks_true", missing_left),
        _ints("nodes_truenodeids", left),
        _ints("nodes_trueleafs", is_left_leaf),
        _ints("nodes_falsenodeids", right),
        _ints("nodes_falseleafs", is_right_leaf),
        _ints("leaf_targetids", np.zeros(first_leaf, np.int64)),
        _tensor("leaf_weights", np.concatenate(leaves)),
    ]
    node = _text(1, INPUT) + _text(2, OUTPUT) + _text(4, "TreeEnsemble") + _text(7, _DOMAIN)
    node += b"".join(_part(5, attribute) for attribute in attributes)
    graph = _part(1, node) + _text(2, "trees")
    graph += _part(11, _matrix(INPUT, width)) + _part(12, _matrix(OUTPUT, 1))
    operators = (_text(1, name) + _number(2, version) for name, version in ((_DOMAIN, _TREES), ("", _OPERATORS)))
    return _number(1, _FORMAT) + _part(7, graph) + b"".join(_part(8, each) for each in operators)


def _int(name: str, value: int) -> bytes:
    return _text(1, name) + _number(3, value) + _number(20, _OF_INT)


def _ints(name: str, values: Ints) -> bytes:
    return _text(1, name) + _part(8, _varints(values)) + _number(20, _OF_INTS)


def _tensor(name: str, values: Floats | NDArray[np.uint8]) -> bytes:
    body = _number(1, len(values)) + _number(2, _ELEMENTS[values.dtype]) + _part(9, values.tobytes())
    return _text(1, name) + _part(5, body) + _number(20, _OF_TENSOR)


def _matrix(name: str, width: int) -> bytes:
    shape = _part(1, _text(2, "rows")) + _part(1, _number(1, width))
    return _text(1, name) + _part(2, _part(1, _number(1, _DOUBLE) + _part(2, shape)))


def _number(field: int, value: int) -> bytes:
    """A field of a message of Protocol Buffers that is an integer, of at least 0."""
    return _varints(np.array([field << 3])) + _varints(np.array([value]))


def _part(field: int, content: bytes) -> bytes:
    """A field that has a length: a message, a text, or packed numbers."""
    return _varints(np.array([field << 3 | 2])) + _varints(np.array([len(content)])) + content


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _varints(values: Ints) -> bytes:
    """Integers of at least 0, seven bits a byte, each in as many bytes as the greatest one needs."""
    width = max(1, -(-int(values.max(initial=0)).bit_length() // 7))
    parts = (values[:, None] >> (7 * np.arange(width))) & 127
    parts[:, :-1] |= 128
    return parts.astype(np.uint8).tobytes()
