"""A command line: flags over file over preset over defaults, and nothing unknown passes."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import Parameter

from unroll.cli import Given, in_utf8, read_toml, run
from unroll.errors import ClosedError, InputError, SettingsError
from unroll.ranges import Range


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """Make tea."""

    hidden_size: int = 7
    """Size of the pot."""

    rate: float = 0.5
    """How fast."""

    name: str = "assam"
    """Which."""

    quick: bool = False
    """Whether to hurry."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Required:
    """Make coffee."""

    beans: Path
    """Where they are."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Let tea stand."""

    hidden_size: int = 0
    """For so many cups."""

    rate: float = 0.0
    """For so long."""

    name: str = ""
    """Which."""


class Brew(Enum):
    COLD = 1
    HOT_TWICE = 2


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Party:
    """Make much tea."""

    cups: Annotated[int, Range(1, 9)] = 1
    """How many."""

    spoons: int | None = None
    """Of sugar."""

    milk: Annotated[float | None, Range(0, below=1)] = None
    """Share of it."""

    quick: Annotated[bool, Parameter(negative=())] = False
    """Whether to hurry."""

    sort: Literal["black", "green"] = "black"
    """Of tea."""

    brew: Brew = Brew.COLD
    """How."""

    name: str = ""
    """Whose."""


@dataclass(frozen=True, kw_only=True)
class WholeNumbers:
    """Count spoons."""

    plain: int = 1
    ranged: Annotated[int, Range(0, 9)] = 1
    optional: int | None = None
    both: Annotated[int | None, Range(0, 9)] = None
    any_number: Annotated[float, Range(0, 9)] = 1.0


def presets(path: Path, name: str, given: Given) -> list[Path]:
    """Return the files of a preset, one of them for the size that was given."""
    files = path.with_name(f"{name}.{given('hidden_size')}.toml"), path.with_name(f"{name}.toml")
    return [file for file in files if file.is_file()]


def parsed(
    tokens: list[str],
    settings: type = Settings,
    preset: Path | None = None,
    together: tuple[str, ...] = (),
) -> object:
    """Return what the command line gave."""
    got: list[object] = []
    with pytest.raises(SystemExit) as ended:
        run(
            settings,
            got.append,
            name="tea",
            tokens=tokens,
            preset=None if preset is None else lambda name, given: presets(preset, name, given),
            together=together,
        )
    assert ended.value.code == 0
    assert len(got) == 1
    return got[0]


def refusal(
    tokens: list[str], capsys: pytest.CaptureFixture[str], settings: type = Settings
) -> str:
    """Return what standard error says of a refused command line."""
    with pytest.raises(SystemExit) as ended:
        run(settings, lambda _: pytest.fail("it ran"), name="tea", tokens=tokens)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tea: ")
    assert err.count("\n") == 1
    return err.removeprefix("tea: ").rstrip("\n")


def write(path: Path, text: str) -> Path:
    """Write a file and return where."""
    path.write_text(text, encoding="utf-8")
    return path


def test_no_flag_gives_the_defaults() -> None:
    assert parsed([]) == Settings()


def test_flags_win_over_the_file_over_the_preset_over_the_defaults(tmp_path: Path) -> None:
    preset = write(tmp_path / "strong.toml", 'hidden_size = 11\nrate = 0.25\nname = "preset"\n')
    file = write(tmp_path / "file.toml", 'rate = 0.125\nname = "file"\n')
    tokens = ["--preset", "strong", "--config", str(file), "--name", "flag"]
    expected = Settings(hidden_size=11, rate=0.125, name="flag", quick=False)
    assert parsed(tokens, preset=preset) == expected


@pytest.mark.parametrize(
    ("tokens", "rate"),
    [
        (["--hidden-size", "9"], 0.75),
        (["--hidden-size=9"], 0.75),
        (["--name=9"], 0.25),
        (["--hidden-size=9", "--rate=0.5"], 0.5),
        (["--config=file.toml"], 0.75),
        (["--config=file.toml", "--hidden-size=8"], 0.25),
    ],
)
def test_a_preset_may_depend_on_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: list[str], rate: float
) -> None:
    monkeypatch.chdir(tmp_path)
    preset = write(tmp_path / "strong.toml", "hidden_size = 11\nrate = 0.25\n")
    write(tmp_path / "strong.9.toml", "rate = 0.75\n")
    write(tmp_path / "file.toml", "hidden_size = 9\n")
    found = parsed(["--preset=strong", *tokens], preset=preset)
    assert isinstance(found, Settings)
    assert found.rate == rate


def test_flag_that_says_the_default_still_wins_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "file.toml", "hidden_size = 9\nquick = true\n")
    assert parsed(["--config", str(file), "--hidden-size", "7", "--no-quick"]) == Settings()


@pytest.mark.parametrize(
    ("tokens", "size_and_rate"),
    [
        ([], (0, 0.25)),
        (["--hidden-size", "9"], (9, 0.0)),
        (["--hidden-size=9"], (9, 0.0)),
        (["--hidden-size=9", "--rate=0.75"], (9, 0.75)),
        (["--config=size.toml"], (11, 0.0)),
        (["--config=size.toml", "--rate=0.75"], (0, 0.75)),
        (["--config=both.toml"], (13, 0.5)),
        (["--hidden-size=0"], (0, 0.25)),
        (["--name=green"], (0, 0.25)),
    ],
)
def test_settings_that_go_together_are_those_of_the_strongest_that_gives_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tokens: list[str],
    size_and_rate: tuple[int, float],
) -> None:
    monkeypatch.chdir(tmp_path)
    preset = write(tmp_path / "strong.toml", "rate = 0.25\n")
    write(tmp_path / "size.toml", "hidden_size = 11\n")
    write(tmp_path / "both.toml", "hidden_size = 13\nrate = 0.5\n")
    found = parsed(["--preset=strong", *tokens], Lengths, preset, ("hidden_size", "rate"))
    assert isinstance(found, Lengths)
    assert (found.hidden_size, found.rate) == size_and_rate


def test_required_setting_may_come_from_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "file.toml", 'beans = "cellar"\n')
    assert parsed(["--config", str(file)], Required) == Required(beans=Path("cellar"))


def test_missing_required_setting_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal([], capsys, Required)
    assert told == "--beans: must be given, a path; write --beans=VALUE"
    told = refusal(["--bean=cellar"], capsys, Required)
    assert told == "there is no option --bean; did you mean --beans?"


def test_unknown_key_of_a_file_is_refused_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "file.toml", "hiden_size = 9\n")
    told = refusal(["--config", str(file)], capsys)
    assert f"{file}: unknown key 'hiden_size'; did you mean 'hidden_size'?" in told


def test_unknown_key_like_no_other_is_refused_with_all_that_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "file.toml", "zzz = 9\n")
    assert "known: hidden_size, name, quick, rate" in refusal(["--config", str(file)], capsys)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ("--cups nine", "cups = 'nine': must be a whole number, 1 to 9; change --cups"),
        ("--cups=", "cups = '': must be a whole number, 1 to 9; change --cups"),
        ("--cups 1.5", "cups = '1.5': must be a whole number, 1 to 9; change --cups"),
        ("--spoons 1.5", "spoons = '1.5': must be a whole number; change --spoons"),
        (
            "--milk some",
            "milk = 'some': must be a number, at least 0 and below 1; change --milk",
        ),
        ("--quick=perhaps", "quick = 'perhaps': must be true or false; change --quick"),
        (
            "--sort grean",
            "sort = 'grean': must be 'black' or 'green' (did you mean 'green'?); change --sort",
        ),
        ("--sort red", "sort = 'red': must be 'black' or 'green'; change --sort"),
        ("--brew red", "brew = 'red': must be 'cold' or 'hot-twice'; change --brew"),
        ("--cup 3", "there is no option --cup; did you mean --cups?"),
        ("--cup=3", "there is no option --cup; did you mean --cups?"),
        ("--confg=tea.toml", "there is no option --confg; did you mean --config?"),
        ("--kettle", "there is no option --kettle; --help lists all"),
        ("-x", "there is no option -x; --help lists all"),
        ("--help=me", "--help: takes no value"),
        (
            "--cups",
            "--cups: needs a value, a whole number, 1 to 9; write --cups=VALUE",
        ),
        ("--sort --quick", "--sort: needs a value, 'black' or 'green'; write --sort=VALUE"),
        ("--name", "--name: needs a value, a text; write --name=VALUE"),
        ("--config", "--config: needs a value, a path; write --config=VALUE"),
        ("--cups 1 --cups 2", "--cups: is given twice; give it once"),
        ("stray word", "'stray' 'word': every setting has a flag before it"),
        ("--cups 3 4", "'4': every setting has a flag before it"),
    ],
)
def test_command_line_that_cannot_be_read_is_refused_in_one_line(
    tokens: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(tokens.split(), capsys, Party) == told


def test_word_without_a_flag_names_the_setting_it_is_probably_meant_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(Party, lambda _: None, name="tea", tokens=["oolong"], loose="name")
    told = "tea: 'oolong': every setting has a flag before it; did you mean --name 'oolong'?\n"
    assert capsys.readouterr().err == told


def test_misspelt_preset_is_known_where_there_are_presets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(Party, lambda _: None, name="tea", tokens=["--prest=x"], preset=lambda *_: [])
    assert "did you mean --preset?" in capsys.readouterr().err
    assert "--preset" not in refusal(["--prest=x"], capsys, Party)


@pytest.mark.parametrize("number", ["3", "3.0", "0x3"])
def test_whole_number_may_be_written_in_every_way(number: str) -> None:
    assert parsed([f"--cups={number}"], Party) == Party(cups=3)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('cups = "nine"', "cups = 'nine': must be a whole number, 1 to 9"),
        ("cups = [1, 2]", "cups = '[1, 2]': must be a whole number, 1 to 9"),
        ("cups = {a = 1}", "cups: takes a value, and no table"),
        ('sort = "grean"', "sort = 'grean': must be 'black' or 'green' (did you mean 'green'?)"),
    ],
)
def test_value_of_the_wrong_type_in_a_file_is_refused_by_name(
    line: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "file.toml", f"{line}\n")
    assert refusal(["--config", str(file)], capsys, Party) == f"{file}: {told}"


@pytest.mark.parametrize(
    "text", ["hidden_size = ", "\udce9", "x = " + "[" * 10**5], ids=["cut", "bytes", "deep"]
)
def test_file_that_is_no_toml_in_utf8_is_refused_by_path(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert f"{file}: is not TOML" in refusal(["--config", str(file)], capsys)


def test_missing_file_is_refused_by_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none.toml"
    told = refusal(["--config", str(file)], capsys)
    assert f"{file}: cannot be read: No such file or directory; give the name of" in told


def test_preset_of_a_command_without_presets_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "no presets" in refusal(["--preset", "strong"], capsys)


def test_stray_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stray" in refusal(["stray"], capsys)


@pytest.mark.parametrize("error", [SettingsError("too hot"), ClosedError("no water")])
def test_error_raised_on_purpose_ends_the_command_with_its_message(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: Settings) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(Settings, main, name="tea", tokens=[])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"tea: {error}\n"


def test_error_names_settings_by_their_flags(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: Settings) -> None:
        raise InputError("hidden_size", "must be below 9, or set hidden_size by cup_size")

    with pytest.raises(SystemExit):
        run(Settings, main, name="tea", tokens=[])
    told = "tea: --hidden-size: must be below 9, or set --hidden-size by cup_size\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    "given", ["'hidden_size'", '"hidden_size"', "a/hidden_size", "hidden_size/b", "hidden_size.txt"]
)
def test_error_leaves_what_was_given_as_it_is(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(_: Settings) -> None:
        raise InputError("name", f"no tea is called {given}; hidden_size.")

    with pytest.raises(SystemExit):
        run(Settings, main, name="tea", tokens=[])
    assert capsys.readouterr().err == f"tea: --name: no tea is called {given}; --hidden-size.\n"


def test_texts_are_read_as_utf8_and_paths_are_left() -> None:
    raw = "th\udcc3\udca9"  # of the bytes of `thé`, in a locale of ASCII
    assert in_utf8(Settings(name=raw)).name == "thé"
    assert in_utf8(Settings(name="thé")).name == "thé"
    assert in_utf8(Required(beans=Path(raw))).beans == Path(raw)
    assert in_utf8(Settings(name=raw), "rate").name == raw
    with pytest.raises(InputError, match=r"name: 'a\\udcff' is not UTF-8; give it in UTF-8"):
        in_utf8(Settings(name="a\udcff"))


def test_error_that_nobody_meant_is_not_hidden() -> None:
    def main(_: Settings) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Settings, main, name="tea", tokens=[])


def test_help_shows_every_setting_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(Settings, lambda _: pytest.fail("it ran"), name="tea", tokens=["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for words in ("Make tea.", "--hidden-size", "Size of the pot.", "--config", "--quick"):
        assert words in told


def test_help_shows_the_range_of_each_number_that_has_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(Party, lambda _: None, name="tea", tokens=["--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "How many. [1 to 9] [default: 1]" in told
    assert "Share of it. [at least 0 and below 1] --" in told
    assert "Of sugar. --" in told


def test_help_shows_defaults_that_say_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(Settings, lambda _: None, name="tea", tokens=["--help"])
    told = capsys.readouterr().out
    assert "Size of the pot. [default: 7]" in told
    assert "Whether to hurry." in told
    assert "False" not in told
    assert "Commands" not in told


@pytest.mark.parametrize("name", ["plain", "ranged", "optional", "both"])
def test_fraction_for_a_whole_number_is_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "settings.toml", f"{name} = 1.5\n")
    with pytest.raises(SettingsError, match=rf"{name} must be a whole number, got 1\.5"):
        read_toml(path, WholeNumbers)


def test_fraction_for_any_number_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "settings.toml", "any_number = 1.5\n")
    assert read_toml(path, WholeNumbers) == {"any_number": 1.5}


def test_ctrl_c_ends_a_command_in_one_line_with_status_130(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_: Settings) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run(Settings, interrupted, name="tea", tokens=[])
    assert (ended.value.code, capsys.readouterr().err) == (130, "tea: interrupted\n")
