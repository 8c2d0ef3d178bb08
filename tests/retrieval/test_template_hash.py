"""Lines with the same skeleton say the same thing, masked; and it is short only where that stays so."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.text.masking import mask
from retrieval.text.prompt_injection import find_injections
from retrieval.text.template_hash import template_skeleton, template_skeletons

PIECES = st.one_of(
    st.from_regex(r"0[xX][0-9a-fA-F]{1,9}", fullmatch=True),
    st.from_regex(r"\d{1,5}", fullmatch=True),
    st.sampled_from([*" :.-/@x,_=([TZ+é٣¼"]),
    st.sampled_from(["Jan ", "2026-01-02", "03:04:05", "deadbeef", "10.0.0.1"]),
    st.sampled_from(["case ", "c12", "label", "normal", "answer ", "UTC", "a@b.de", "g"]),
    st.uuids().map(str),
)  # fmt: skip
LINES = st.lists(PIECES, max_size=14).map("".join)


@settings(max_examples=1_500)
@given(LINES)
def test_a_skeleton_is_masked_like_its_line(line: str) -> None:
    (among_others, _) = template_skeletons(f"{line}\nanother\n".encode())
    for skeleton in (among_others, template_skeleton(line)):
        assert mask(skeleton) == mask(line)
        assert bool(find_injections(skeleton)) == bool(find_injections(line))


def test_lines_that_differ_in_numbers_and_addresses_have_one_skeleton() -> None:
    lines = [f"node {n:02} core.{n * 37 + 1000} at 0x{n * 7919:08x} from 10.0.0.{n % 10}" for n in range(60)]
    assert len(set(template_skeletons("\n".join(lines).encode()))) == 1
    assert template_skeletons(b"10x5 0Xg 0x12@a").to_list() == ["10x1 0Xg 0x11@a"]
