"""What stands where in a chart: an absurd value does not squeeze all others together, and every chart can be drawn."""

import re
from datetime import datetime

import pytest

from weighin_analysis.card import Basis, Estimate, Verdict
from weighin_analysis.limits import current_limits
from weighin_analysis.report.cards import CardLine, DeviceDetail, RunFacts
from weighin_analysis.report.charts import DotChart, MemoryChart, ScatterChart, draw
from weighin_analysis.report.charts.memory_chart import Need, Stock
from weighin_analysis.report.devices import device_view
from weighin_analysis.report.figures import decode_figure, device_speed_figure
from weighin_analysis.report.findings import DeviceLine

EDGE = "A value more than 1,000 times beyond the limits is drawn at the edge."


def row(
    size_class: str = "1B",
    decode: float = 30,
    *,
    scheme: str = "int4_block32",
    basis: Basis = Basis.LAYER_PROBE,
    is_best: bool = True,
) -> CardLine:
    run = basis in {Basis.LAYER_PROBE, Basis.MEASURED}
    return CardLine(
        size_class=size_class,
        architecture="Model",
        architecture_kind="decoder",
        scheme=scheme,
        execution_provider="cpu",
        runtime="onnxruntime",
        threads=4,
        decode_tokens_per_second=Estimate(value=decode, low=decode / 1.2, high=decode * 1.2),
        prefill_tokens_per_second=Estimate(value=300, low=250, high=350),
        time_to_first_token_seconds=Estimate(value=1.7, low=1.5, high=2),
        latency_seconds=None,
        memory_bytes=2**30,
        memory_available_bytes=2**33,
        download_bytes=10**9,
        basis=basis,
        counts=True,
        computed=not run,
        is_best=is_best,
        verdict=Verdict.COMFORTABLE,
        reasons=(),
        notes=(),
    )


def device(*rows: CardLine) -> DeviceDetail:
    line = DeviceLine(
        device_id="0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10",
        run_id="0b6f1c1e-6a51-7d0c-9d7e-2f4f5a7c9b10",
        run_count=1,
        hardware_id=None,
        name="A device",
        form_factor=None,
        source="native",
        memory_total_bytes=None,
        accelerator_model=None,
        disturbed=False,
        tiers=("1B",),
        tier_probability=None,
        usable_tier="1B",
        limited_by="compute",
        decode_tokens_per_second=30,
    )
    run = RunFacts(
        observe_time=datetime(2026, 3, 1),
        receive_time=None,
        elapsed_seconds=None,
        source="native",
        agent_version=None,
        suite=None,
        suite_version=None,
        memory_available_bytes=None,
        read_bandwidth_bytes_per_second=None,
        single_thread_read_bandwidth_bytes_per_second=None,
        storage_free_bytes=None,
        before=None,
        after=None,
    )
    return DeviceDetail(
        line=line, hardware=None, run=run, rows=rows, failures=(), gaps=(), foreign_cpu_share=None, unreadable=()
    )


@pytest.mark.parametrize(("absurd", "edge"), [(1e45, 5000.0), (1e-45, 0.005)])
def test_an_absurd_value_is_drawn_at_the_edge_and_the_caption_says_so(absurd: float, edge: float) -> None:
    detail = device(row("0.5B", 20), row("1B", absurd))
    figure = decode_figure(detail, current_limits())
    assert figure is not None
    assert isinstance(figure.chart, DotChart)
    assert [point.value for point in figure.chart.points] == [20, edge]
    assert [point.text for point in figure.chart.points] == ["20.0", "off axis"]
    assert EDGE in figure.caption
    scatter = device_speed_figure(detail, current_limits())
    assert scatter is not None
    assert isinstance(scatter.chart, ScatterChart)
    assert [mark.text for mark in scatter.chart.marks] == ["0.5B", "off axis"]


def test_a_chart_without_absurd_values_shows_all_and_says_nothing() -> None:
    figure = decode_figure(device(row("0.5B", 0.01), row("1B", 4000)), current_limits())
    assert figure is not None
    assert isinstance(figure.chart, DotChart)
    assert [point.value for point in figure.chart.points] == [0.01, 4000]
    assert EDGE not in figure.caption


@pytest.mark.parametrize("width", [960, 264])
def test_a_chart_is_a_picture_without_script_role_or_address(width: int) -> None:
    figure = decode_figure(device(row()), current_limits())
    assert figure is not None
    svg = draw(figure.chart, width=width)
    assert svg.startswith("<svg")
    assert "var(--comfortable)" in svg
    assert not {"<script", "role=", "aria-", "href"} & {
        one for one in ("<script", "role=", "aria-", "href") if one in svg
    }


def test_computed_rows_of_classes_that_were_run_are_left_out_and_counted() -> None:
    """Four bit was run in all classes, eight bit in three: the rest of eight bit would hide what was run."""
    detail = device(
        row("2B"),
        row("2B", scheme="int8_dynamic", basis=Basis.FORMULA, is_best=False),
        row("4B", scheme="int8_dynamic", basis=Basis.FORMULA),
    )
    view = device_view(detail, current_limits())
    assert [(one.how.split(";")[0], one.computed) for one in view.rows] == [
        ("decoder, int4_block32 on cpu, 4 threads", False),
        ("decoder, int8_dynamic on cpu, 4 threads", True),
    ]
    assert view.rows_note == "1 computed row is left out, of classes in which another row is better or was run."


@pytest.mark.parametrize("width", [960, 264])
def test_the_least_that_a_class_takes_is_written_at_its_dot_and_not_where_its_line_ends(width: int) -> None:
    needs = (
        Need(size_class="0.1B", least=0.11, most=1.3, text="0.11 GiB"),
        Need(size_class="7B", least=4.1, most=9.8, text="4.1 GiB"),
    )
    svg = draw(MemoryChart(axis_title="GiB", needs=needs, stocks=(Stock(value=5, text="all have"),)), width=width)
    dots = re.findall(r'<path transform="translate\(([0-9.]+),', svg)
    texts = re.findall(r'<text text-anchor="end" transform="translate\(([0-9.]+),[^>]*>([0-9.]+ GiB)', svg)
    assert [text for _, text in texts] == ["0.11 GiB", "4.1 GiB"]
    assert [float(dot) - float(end) for dot, (end, _) in zip(dots, texts, strict=True)] == pytest.approx([8, 8])
    assert float(texts[0][0]) > 50, "no class of the axis is written over"
