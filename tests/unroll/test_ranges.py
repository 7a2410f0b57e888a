"""Ranges of settings: what is allowed, how it is told, what is refused."""

import inspect
import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from report.settings import ReportSettings
from serving.settings import ServerSettings
from training.evaluate.settings import EvaluationSettings
from training.settings import TrainingSettings
from unroll.client.commands.settings import GenerateSettings
from unroll.errors import SettingsError
from unroll.ranges import Range, check_ranges, ranges_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    pot_size: Annotated[int, Range(1, 64)] = 7
    rate: Annotated[float, Range(above=0, most=10)] = 0.5
    share: Annotated[float | None, Range(0, below=1)] = None
    name: str = "assam"


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (Range(1, 64), [1, 64], [0, 65]),
        (Range(above=0, most=10), [1e-300, 10], [0.0, -1.0, 10.000001]),
        (Range(0, below=1), [0, 0.999], [-1e-300, 1]),
        (Range(3), [3, 1e300], [2]),
        (Range(1, 2, also=0), [0, 1, 2], [-1, 0.5, 3]),
    ],
)
def test_range_holds_its_inclusive_bounds_and_not_the_others(
    allowed: Range, inside: list[float], outside: list[float]
) -> None:
    assert [value in allowed for value in inside] == [True] * len(inside)
    assert [value in allowed for value in outside] == [False] * len(outside)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_range_holds_what_is_not_finite(value: float) -> None:
    assert value not in Range(0)
    assert value not in Range(most=5)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Range(1, 65535), "1 to 65535"),
        (Range(above=0, most=0.5), "above 0 and at most 0.5"),
        (Range(0, below=1), "at least 0 and below 1"),
        (Range(3), "at least 3"),
        (Range(1e-3, 1e3, also=0), "0 or 0.001 to 1000"),
        (Range(99_999, 10**9), "99999 to 1,000,000,000"),
    ],
)
def test_range_is_told_in_words(allowed: Range, words: str) -> None:
    assert str(allowed) == words


def test_settings_within_their_ranges_pass() -> None:
    check_ranges(Settings())
    check_ranges(Settings(pot_size=64, rate=10, share=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(pot_size=65), "pot_size = 65: must be 1 to 64; change --pot-size"),
        (Settings(rate=0.0), "rate = 0.0: must be above 0 and at most 10; change --rate"),
        (Settings(share=1.0), "share = 1.0: must be at least 0 and below 1; change --share"),
        (Settings(rate=math.nan), "rate = nan: must be above 0 and at most 10; change --rate"),
    ],
)
def test_error_names_setting_value_range_and_flag(settings: Settings, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_ranges(settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "settings",
    [ServerSettings, TrainingSettings, EvaluationSettings, GenerateSettings, ReportSettings],
)
def test_every_required_number_of_a_command_has_a_range(settings: type) -> None:
    hints = {
        name: hint
        for each in settings.__mro__
        for name, hint in inspect.get_annotations(each).items()
    }
    numbers = {name for name, hint in hints.items() if hint in {int, float}}
    assert numbers == set()
    assert ranges_of(settings)
