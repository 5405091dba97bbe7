"""The size of LoRA adapters, against published ones."""

import pytest

from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.catalogue import entry
from weighin_analysis.shrinking.adapter import Adapter, adapter
from weighin_analysis.shrinking.reshape import Reshaping, reshaped, shape_of
from weighin_analysis.shrinking.what_if import Lora, parse_what_if


def adapter_of(text: str, name: str, *changes: str) -> Adapter:
    what_if, model = parse_what_if(text), entry(name)
    assert isinstance(what_if, Lora)
    for change in map(parse_what_if, changes):
        assert isinstance(change, Reshaping)
        model = reshaped(change, model)
    return adapter(what_if, model.name, shape_of(model))


def test_an_adapter_has_rank_times_inputs_and_outputs_of_each_matrix() -> None:
    found = adapter_of("lora=8:v", "Llama-3.1-8B")
    assert found.parameters == 32 * 8 * (4096 + 1024)  # layers x rank x (hidden + keys' and values' heads)
    assert found.active_parameters == found.parameters


def test_its_bytes_are_those_of_its_type() -> None:
    assert adapter_of("lora=8:fp32", "BERT").bytes == 2 * adapter_of("lora=8", "BERT").bytes


def test_every_expert_has_an_adapter_of_which_the_active_ones_are_passed() -> None:
    found = adapter_of("lora=8:down", "Mixtral-8x7B")
    assert found.parameters == 32 * 8 * 8 * (4096 + 14_336)
    assert found.active_parameters * 4 == found.parameters  # two of eight


def test_a_shared_layer_has_one_adapter_which_every_layer_passes() -> None:
    found = adapter_of("lora=8:q", "BERT", "share-layers=1")
    assert found.parameters == 8 * (768 + 768)
    assert found.active_parameters == 12 * found.parameters


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("lora=8:gate", "BERT", "has no gate matrices"),
        ("lora=256:v", "Gemma-2B", "no lower than that of a matrix with 256"),
    ],
)
def test_what_a_matrix_cannot_carry_is_refused(text: str, name: str, said: str) -> None:
    with pytest.raises(WhatIfError, match=said):
        adapter_of(text, name)
