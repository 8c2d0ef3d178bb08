"""Verdicts that are given again hold for other texts of the template only."""

from __future__ import annotations

from agent.core.records import Provenance, Record, Verdict
from agent.core.requests import TextRequest
from agent.pipeline.verdict_cache import VerdictCache
from retrieval.encoding.representation import Representation
from retrieval.store.sources import SourceSnapshot
from retrieval.text.kept_numbers import KeptNumbers, KeptPlace


def cache_of(kept: KeptNumbers = ()) -> VerdictCache:
    representation = Representation(prose=(), field_encoder=None, kept=kept)
    row = SourceSnapshot("log", "", "nobody", 1, 1, None, representation, None, None, {})
    return VerdictCache(row)


def put(cache: VerdictCache, text: str) -> None:
    provenance = Provenance.model_construct(casebook_version=1)
    verdict = Verdict.model_construct(
        id="v1", source="log", label="normal", probability=0.1, unsure_band=(0.2, 0.6), explanation="", precedents=(),
        signals={}, record=Record(text=text), provenance=provenance, degraded=(), elapsed_ms=1.0,
    )  # fmt: skip
    cache.put(TextRequest(text=text), verdict, is_case=False)


def found(cache: VerdictCache, *texts: str) -> list[bool]:
    return [verdict is not None for verdict in cache.of_templates([TextRequest(text=text) for text in texts])]


def test_lines_of_a_template_get_its_verdict_whatever_their_numbers() -> None:
    cache = cache_of()
    put(cache, "job 17 ended at 10.0.0.7 after 12.5 s")
    texts = ["job 4 ended at 10.0.0.251 after 3 s", "job 123456 ended at 1.2.3.4 after 0.25 s", "job 18 failed"]
    for _ in range(2):
        assert found(cache, *texts) == [True, True, False]
    assert found(cache, *texts * 40) == [True, True, False] * 40


def test_together_texts_get_what_they_get_alone() -> None:
    text = "user 1 of 10.0.0.7 read\n12 pages at 0x7f"
    for template in (text, "user 1 logged in", "Überlauf in Block 7", "mail 1 of a1@b.de"):
        others = [template.replace("1", number) for number in ("5", "123", "45678")]
        unlike = [f"{other}!" for other in others]
        together, alone = cache_of(), cache_of()
        for cache in (together, alone):
            put(cache, template)
        texts = [*others, "another", *unlike, *others]
        one_by_one = [found(alone, each)[0] for each in texts]
        assert found(together, *texts) == one_by_one
        assert one_by_one[0]


def test_numbers_that_distinguish_templates_are_told_apart() -> None:
    cache = cache_of((KeptPlace("code ", frozenset({"0", "7"})),))
    put(cache, "job 17 ended with code 0")
    for _ in range(2):
        assert found(cache, "job 18 ended with code 0", "job 18 ended with code 7") == [True, False]


def test_a_text_that_is_judged_in_segments_is_not_of_the_template() -> None:
    cache = cache_of()
    put(cache, "number " + "1 " * 20)
    assert found(cache, "number " + "22 " * 20, "number " + "1" * 980 + " 1" * 19) == [True, False]
