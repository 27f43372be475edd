"""The picture of a month: a PNG whatever publishers are called, of those that are off the most."""

import base64
import io
import warnings
from typing import Any

import matplotlib.figure
import matplotlib.image
import pytest

from finance_os.backtest import chart
from finance_os.backtest.chart import MOST, as_markdown, as_png
from finance_os_tests.backtest.test_exports import result_of

PNG = b"\x89PNG\r\n\x1a\n"


def labels_of(monkeypatch: pytest.MonkeyPatch, **month: Any) -> tuple[list[str], str]:
    """The publishers beside the bars, from the top, and the title."""
    drawn: list[matplotlib.figure.Figure] = []
    save = matplotlib.figure.Figure.savefig

    def kept(figure: matplotlib.figure.Figure, *given: Any, **named: Any) -> None:
        drawn.append(figure)
        save(figure, *given, **named)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", kept)
    as_png(result_of(**month))
    [axes] = drawn[0].axes
    return [label.get_text() for label in reversed(axes.get_yticklabels())], axes.get_title()


def test_a_picture_is_a_png_in_markdown() -> None:
    result = result_of({"a": 10**7, "b": 2 * 10**7}, {"a": 7 * 10**6, "c": 5})
    shown = as_markdown(result)
    assert shown.startswith("![2026-03](data:image/png;base64,")
    content = base64.b64decode(shown.partition("base64,")[2].removesuffix(")"), validate=True)
    assert content.startswith(PNG)
    pixels = matplotlib.image.imread(io.BytesIO(content))
    assert pixels.shape[0] > 150
    assert pixels.shape[1] == 720
    assert len({tuple(pixel) for line in pixels for pixel in line[:, :3].round(2)}) > 10  # something is drawn


def test_a_month_without_rows_has_a_picture() -> None:
    assert as_png(result_of({})).startswith(PNG)


@pytest.mark.parametrize("name", ["$\\frac{$", "a$b$c", "\x00\n\t", "x" * 5_000, "<script>", "_^{}"])
def test_publishers_may_be_called_anything(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_png(result_of({name: 10**6, "other": 5})).startswith(PNG)


def test_only_those_that_are_off_the_most_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    publishers = [f"p{number:02}" for number in range(30)]
    spends = dict.fromkeys(publishers, 10**9)
    baseline = {key: 7 * 10**8 - number * 10**6 for number, key in enumerate(publishers)}
    labels, title = labels_of(monkeypatch, spends=spends, baseline=baseline)
    assert labels == publishers[10:]
    assert title == f"acme, 2026-03: events and baseline accrual, the {MOST} that are off the most of 30"
    labels, title = labels_of(monkeypatch, spends={"b": 5, "a": 6}, baseline={})
    assert (labels, title) == (["a", "b"], "acme, 2026-03: events and baseline accrual")


def test_every_class_has_a_colour_of_its_own() -> None:
    colours = chart._COLOURS
    assert set(colours) == set(chart.Class)
    assert len(set(colours.values())) == len(colours)
