"""What structured pruning, sharing and factorised embeddings leave of real models."""

from dataclasses import replace

import pytest

from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.catalogue import catalogue, entry
from weighin_analysis.models.entry import ModelEntry
from weighin_analysis.models.shape import Shape
from weighin_analysis.shrinking.reshape import Reshaping, reshaped, shape_of
from weighin_analysis.shrinking.what_if import parse_what_if
from weighin_analysis.shrinking.work import active_parameters, matrices_passed

BERT, LLAMA = entry("BERT"), entry("Llama-3.1-8B")


def after(text: str, model: ModelEntry) -> ModelEntry:
    what_if = parse_what_if(text)
    assert isinstance(what_if, Reshaping)
    return reshaped(what_if, model)


def shape_after(text: str, model: ModelEntry) -> Shape:
    return shape_of(after(text, model))


def multiply_adds(model: ModelEntry) -> int:
    return sum(matrix.weight_count for matrix in matrices_passed(shape_of(model)))


def test_six_layers_of_bert_are_distilbert_and_what_it_left_out() -> None:
    """DistilBERT has no pooler and no token types: 768 x 769 and 2 x 768 parameters."""
    halved, student = after("prune-layers=6", BERT), entry("DistilBERT")
    assert halved.parameters is not None
    assert student.parameters is not None
    assert halved.parameters - student.parameters == 768 * 769 + 2 * 768


def test_pruned_layers_are_gone_from_everything_that_counts_them() -> None:
    halved = shape_after("prune-layers=16", LLAMA).architecture
    whole = shape_of(LLAMA).architecture
    assert halved.layers * 2 == whole.layers
    assert halved.kv_cache_bytes(2048, 2) * 2 == whole.kv_cache_bytes(2048, 2)


def test_a_group_of_heads_leaves_with_its_keys_and_values() -> None:
    arch = shape_after("prune-heads=8", LLAMA).architecture
    assert (arch.heads, arch.kv_heads, arch.head_dim) == (24, 6, 128)


def test_where_all_heads_share_one_pair_of_keys_and_values_it_stays() -> None:
    arch = shape_after("prune-heads=4", entry("Gemma-2B")).architecture
    assert (arch.heads, arch.kv_heads) == (4, 1)


def test_pruned_channels_leave_whole_blocks() -> None:
    assert shape_after("prune-ffn=0.3", LLAMA).architecture.ffn == 10016  # 10,035 are 313.6 blocks of 32


def test_every_kind_of_feed_forward_block_of_a_mixture_gets_narrower() -> None:
    whole = shape_of(entry("Qwen3-30B-A3B"))
    assert whole.experts is not None
    mixed = replace(entry("Qwen3-30B-A3B"), shape=replace(whole, experts=replace(whole.experts, shared_ffn=2048)))
    narrow = shape_after("prune-ffn=0.5", mixed)
    assert narrow.experts is not None
    assert (narrow.architecture.ffn, narrow.experts.shared_ffn, narrow.experts.dense_ffn) == (384, 1024, 0)


def test_active_parameters_follow_the_shape() -> None:
    for name in ("Mixtral-8x7B", "Qwen3-30B-A3B"):
        model = entry(name)
        assert model.active_parameters == active_parameters(shape_of(model))
        fewer = after("prune-layers=1", model).active_parameters
        assert fewer is not None
        assert fewer < model.active_parameters


def test_shared_layers_are_stored_once_and_computed_every_time() -> None:
    shared = after("share-layers=1", BERT)
    assert shared.parameters is not None
    assert BERT.parameters is not None
    assert BERT.parameters - shared.parameters == 11 * 7_087_872  # of the twelve layers of BERT-base
    assert multiply_adds(shared) == multiply_adds(BERT)


def test_pruning_a_model_whose_layers_share_their_weights_saves_work_and_no_bytes() -> None:
    shared = after("share-layers=1", BERT)
    pruned = after("prune-layers=6", shared)
    assert pruned.parameters == shared.parameters
    assert multiply_adds(pruned) < multiply_adds(shared)


def test_tied_embeddings_save_one_table() -> None:
    tied = after("tie-embeddings", LLAMA)
    assert tied.parameters is not None
    assert LLAMA.parameters is not None
    assert LLAMA.parameters - tied.parameters == 128_256 * 4096
    assert multiply_adds(tied) == multiply_adds(LLAMA)


def test_a_second_copy_of_a_tied_table_can_go() -> None:
    model = entry("Llama-3.2-1B")
    copied = replace(model, shape=replace(shape_of(model), copied_head=True))
    assert not shape_after("tie-embeddings", copied).copied_head


def test_a_narrow_embedding_narrows_the_head_that_shares_it() -> None:
    model = entry("Llama-3.2-1B")
    narrow = after("embedding-width=512", model)
    saved = 128_256 * (2048 - 512) - 2 * 512 * 2048  # projected from the table, and to it again before the logits
    assert multiply_adds(model) - multiply_adds(narrow) == saved


def test_a_model_of_another_shape_is_not_mistaken_for_the_published_one() -> None:
    changed = after("embedding-width=128", after("share-layers=1", BERT))
    assert changed.name == "BERT-base-uncased, layers sharing the weights of 1, then embedding of width 128"
    assert changed.name not in catalogue()
    assert changed.aliases == ()
    assert changed.teacher is None


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("prune-layers=12", "BERT", "at least one must be left"),
        ("prune-heads=12", "BERT", "at least one must be left"),
        ("prune-heads=1", "Llama-3.1-8B", "multiple of 4"),
        ("prune-ffn=0.999", "BERT", "no block of 32 left"),
        ("prune-hidden=0.99", "BERT", "no block of 32 left"),
        ("share-layers=12", "BERT", "share those of fewer"),
        ("tie-embeddings", "BERT", "is an encoder"),
        ("tie-embeddings", "Llama-3.2-1B", "share one table already"),
        ("embedding-width=768", "BERT", "give a smaller one"),
        ("prune-layers=1", "Gemma-3n-E2B", "not known in full"),
    ],
)
def test_what_a_model_cannot_undergo_is_refused_with_the_reason(text: str, name: str, said: str) -> None:
    with pytest.raises(WhatIfError, match=said):
        after(text, entry(name))
