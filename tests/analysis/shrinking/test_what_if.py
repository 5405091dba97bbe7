"""How a shrinking technique is written down, and what is said of everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_analysis.errors import WhatIfError
from weighin_analysis.models.tensors import Role
from weighin_analysis.shrinking.what_if import (
    Dimension,
    Distill,
    EmbeddingWidth,
    Lora,
    Prune,
    PruneCount,
    PruneWidth,
    Quantize,
    ShareLayers,
    TieEmbeddings,
    WhatIf,
    parse_what_if,
)

ATTENTION = (Role.QUERY, Role.KEY, Role.VALUE, Role.ATTENTION_OUTPUT)


@pytest.mark.parametrize(
    ("text", "what_if"),
    [
        ("quantize=int8_block32", Quantize(scheme="int8_block32")),
        ("quantize=Q4_K_M", Quantize(scheme="Q4_K_M")),
        ("prune=0.5", Prune(sparsity=0.5)),
        ("prune=.75", Prune(sparsity=0.75)),
        ("prune=2:4", Prune(sparsity=0.5, two_of_four=True)),
        ("prune-layers=6", PruneCount(dimension=Dimension.LAYERS, removed=6)),
        ("prune-heads=4", PruneCount(dimension=Dimension.HEADS, removed=4)),
        ("prune-ffn=0.25", PruneWidth(dimension=Dimension.FFN, share=0.25)),
        ("prune-hidden=0.25", PruneWidth(dimension=Dimension.HIDDEN, share=0.25)),
        ("distill=DistilBERT", Distill(student="DistilBERT")),
        ("lora=16", Lora(rank=16, targets=(Role.QUERY, Role.VALUE), bytes_per_weight=2, merged=False)),
        ("lora=8:q,k,v,o", Lora(rank=8, targets=ATTENTION, bytes_per_weight=2, merged=False)),
        (
            "lora=4:fp32:down:merged",
            Lora(rank=4, targets=(Role.DOWN,), bytes_per_weight=4, merged=True),
        ),
        ("share-layers=1", ShareLayers(distinct=1)),
        ("tie-embeddings", TieEmbeddings()),
        ("embedding-width=128", EmbeddingWidth(width=128)),
        (" Embedding-Width = 128 ", EmbeddingWidth(width=128)),
    ],
)
def test_each_technique_is_written_in_one_way(text: str, what_if: WhatIf) -> None:
    assert parse_what_if(text) == what_if


def test_all_targets_are_attention_and_feed_forward_block() -> None:
    what_if = parse_what_if("lora=1:all")
    assert isinstance(what_if, Lora)
    assert what_if.targets == (*ATTENTION, Role.GATE, Role.UP, Role.DOWN)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write one of quantize=SCHEME"),
        ("shrink=2", "write one of quantize=SCHEME"),
        ("quantize", "write quantize=SCHEME"),
        ("prune=0", "no share between 0 and 1"),
        ("prune=1", "no share between 0 and 1"),
        ("prune=nan", "no share between 0 and 1"),
        ("prune=-0.5", "no share between 0 and 1"),
        ("prune=50%", "no share between 0 and 1"),
        ("prune=4:8", "prune=2:4"),
        ("prune-layers=0", "no whole number"),
        ("prune-layers=1.5", "no whole number"),
        ("prune-layers=٣", "no whole number"),
        ("prune-layers=99999999999999999999", "no whole number"),
        ("lora=", "no whole number"),
        ("lora=8:x", "no targets"),
        ("lora=8:q,q", "no targets"),
        ("lora=8:q:v", "given twice"),
        ("lora=8:fp16:fp32", "given twice"),
        ("lora=8:merged:merged", "given twice"),
        ("tie-embeddings=1", "takes no value"),
        ("distill=", "name is missing"),
    ],
)
def test_what_cannot_be_read_is_answered_by_one_line_that_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(WhatIfError, match=r"^[^\n]+$") as caught:
        parse_what_if(text)
    assert said in str(caught.value)


def test_a_long_text_is_cut_where_it_is_said_what_is_wrong_with_it() -> None:
    for form in ("lora=", "prune=", "prune-layers=", "lora=8:", ""):
        with pytest.raises(WhatIfError) as caught:
            parse_what_if(form + 100_000 * "\N{GRINNING FACE}")
        assert len(str(caught.value)) < 2000


@given(
    st.one_of(st.text(), st.text().map(lambda value: f"lora={value}"), st.text().map(lambda value: f"prune={value}"))
)
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        parse_what_if(text)
    except WhatIfError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 2000
