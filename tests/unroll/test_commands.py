"""The command `unroll`, as a user meets it."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.running import ENDLESS, PATIENCE, RunningServer, wait_for
from training.settings import Cell
from unroll.__main__ import COMMANDS, main
from unroll.client.client import Client
from unroll.options import GenerateOptions

Call = Callable[..., int]
ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def call(shared_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Ask the server by a command, in this process; returns its exit status."""

    def run(command: str, *arguments: str, stdin: bytes = b"") -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return run_command(command, "--target", shared_server.address, *arguments)

    return run


def run_command(*arguments: str) -> int:
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def run_server(*arguments: str) -> int:
    return run_command("serve", *arguments)


def python(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_loads_none(capfd: Captured) -> None:
    heavy = {"torch", "onnx", "onnxruntime", "grpc", "numpy", "training", "serving", "export"}
    done = python(
        "import sys; from unroll.__main__ import main\n"
        "try: main(['--help'])\n"
        f"finally: print('loaded', sorted({heavy} & set(sys.modules)))"
    )
    assert "loaded []" in done.stdout, done.stderr
    for name, command in COMMANDS.items():
        assert f" {name} " in done.stdout
        assert command.help in done.stdout


@pytest.mark.parametrize("moment", ["numpy", "export.compiler"])
def test_ctrl_c_while_a_command_is_imported_ends_it_in_one_line(moment: str) -> None:
    done = python(
        "import signal, sys\n"
        "class Moment:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {moment!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Moment())\n"
        "from unroll.__main__ import main\n"
        "main(['export', '--help'])"
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "unroll export: interrupted\n"


def test_version_names_the_runtime_too(capfd: Captured) -> None:
    assert run_command("--version") == 0
    pattern = r"unroll \d+\.\d+\.\d+\S*, ONNX Runtime \d+\.\d+\.\d+\n"
    assert re.fullmatch(pattern, capfd.readouterr().out)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "report"])
def test_every_command_has_help_of_its_own(name: str, capfd: Captured) -> None:
    assert run_command(name, "--help") == 0
    assert capfd.readouterr().out.startswith(f"Usage: unroll {name} ")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("serv", "there is no command 'serv'; did you mean 'serve'?"),
        ("xyz", f"there is no command 'xyz'; known: {', '.join(sorted(COMMANDS))}"),
        ("--versio", "there is no option --versio; did you mean --version?"),
    ],
)
def test_unknown_command_names_the_nearest(word: str, told: str, capfd: Captured) -> None:
    assert run_command(word) == 2
    assert capfd.readouterr().err == f"unroll: {told}\n"


def test_command_tells_what_it_cannot_read_as_all_its_errors(capfd: Captured) -> None:
    assert run_command("generate", "--temperature", "hot") == 2
    told = "temperature = 'hot': must be a number, 0 or 0.001 to 1000; change --temperature"
    assert capfd.readouterr().err == f"unroll generate: {told}\n"


# A command, what it lacks, the extra that brings it. Each lets the next one's be loaded.
LACKING = [
    ("train", "torch", "train"),
    ("evaluate", "torch", "train"),
    ("export", "onnx", "cpu,export"),
    ("train", "numba", "train"),
    ("report", "jinja2", "report"),
    ("report", "matplotlib", "report"),
]
HIDING = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == lacking:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
lacking = None
sys.meta_path.insert(0, Hidden())
from unroll.__main__ import main
for command, lacking, _ in %r:
    try:
        main([command, '--help'])
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
"""


@pytest.mark.slow
def test_command_without_its_extra_says_which_to_install() -> None:
    done = python(HIDING % LACKING)
    assert done.stderr == "".join(
        f"unroll: unroll {command} needs {module}, which is not installed; "
        f"`pip install -c constraints.txt '.[{extra}]'` in a clone of unroll brings it\n2\n"
        for command, module, extra in LACKING
    )


def test_text_goes_to_stdout_and_the_facts_to_stderr(
    call: Call, client: Client, capfd: Captured
) -> None:
    assert (
        call(
            "generate", "--prompt", "abc", "--seed", "5", "--max-new-symbols", "40", "--top-k", "6"
        )
        == 0
    )
    output, errors = capfd.readouterr()
    options = GenerateOptions(seed=5, max_new_symbols=40, top_k=6)
    assert output == client.generate("abc", options).text + "\n"
    assert errors.startswith("seed 5, ended by length, 40 symbols, ")
    assert errors.endswith(" symbols/s\n")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
def test_texts_pass_whole_where_the_locale_says_nothing(shared_server: RunningServer) -> None:
    asked = ["--prompt", "a£", "--logit-bias", "£=100", "--max-new-symbols", "3"]
    command = [sys.executable, "-m", "unroll", "generate", "--target", shared_server.address]
    done = subprocess.run(
        [*command, *asked], cwd=ROOT, env={**os.environ, **ASCII}, capture_output=True, check=True
    )
    assert done.stdout == "£££\n".encode()


def test_unknown_symbols_are_told_with_the_flag_that_lets_them_pass(
    call: Call, capfd: Captured
) -> None:
    assert call("score", "--text", "a한") == 2
    assert "remove them, or set --unknown-symbols to skip or replace\n" in capfd.readouterr().err
    assert call("score", "--text", "a한", "--unknown-symbols", "skip") == 0


def test_prompt_comes_from_standard_input(call: Call, client: Client, capfd: Captured) -> None:
    assert call("generate", "--prompt", "-", "--seed", "5", stdin="a£\n".encode()) == 0
    assert capfd.readouterr().out == client.generate("a£\n", GenerateOptions(seed=5)).text + "\n"
    assert call("generate", "--prompt", "-", stdin=b"a\xa3") == 2
    assert "standard input is not UTF-8 at byte 1" in capfd.readouterr().err


def test_stop_strings_can_be_repeated(call: Call, client: Client, capfd: Captured) -> None:
    options = GenerateOptions(seed=5, stop=("a ", "-", "b"))
    assert call("generate", "--seed", "5", "--stop", "a ", "--stop", "-", "--stop", "b") == 0
    output, errors = capfd.readouterr()
    assert output == client.generate("", options).text + "\n"
    assert "ended by stop" in errors


def test_score_and_models_are_told(call: Call, client: Client, capfd: Captured) -> None:
    assert call("score", "--text", "abc abc") == 0
    bits = client.score("abc abc").bits_per_character
    assert capfd.readouterr().out == f"{bits:.4f} bits per character over 7 symbols\n"
    assert call("models") == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["small", "lstm"]
    assert "gru 7x3" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "한글"], "'한' (U+D55C) at 0"),
        (["--prompt", "-한"], "'-' (U+002D) at 0"),
        (["--logit-bias", "a=101"], "unroll generate: --logit-bias: must be between -100 and 100"),
        (["--model", "smal"], "did you mean 'small'?"),
        (["--timeout", "-1"], "timeout = -1.0: must be 0 to 2,592,000; change --timeout"),
    ],
)
def test_error_is_one_line_and_status_2(
    call: Call, capfd: Captured, arguments: list[str], message: str
) -> None:
    assert call("generate", *arguments) == 2
    errors = capfd.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert errors.startswith("unroll generate: ")


@pytest.mark.parametrize("where", [["--target", "127.0.0.1:1"], ["--bundle", "nowhere"]], ids=str)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature = -1.0: must be 0 or 0.001 to 1000; change"),
        (["--temperature", "nan"], "temperature = nan: must be 0 or 0.001 to 1000; change"),
        (["--top-k", "-1"], "top_k = -1: must be at least 0; change --top-k"),
        (["--top-p", "0"], "top_p = 0.0: must be above 0 and at most 1; change --top-p"),
        (["--seed", "-1"], "seed = -1: must be at least 0; change --seed"),
        (["--seed", str(2**63)], "--seed: must be 0 to 2^63 - 1, got"),
        (["--stop", "a", "--stop", ""], "--stop: must have 1 to 256 symbols, has 0"),
    ],
)
def test_options_out_of_their_ranges_are_refused_before_anything_is_asked_or_loaded(
    capfd: Captured, where: list[str], arguments: list[str], message: str
) -> None:
    assert run_command("generate", *where, *arguments) == 2
    assert message in capfd.readouterr().err


def test_device_of_another_name_is_not_guessed(capfd: Captured) -> None:
    assert run_command("generate", "--bundle", "nowhere", "--device", "gpu") == 2
    told = "unroll generate: device = 'gpu': must be 'cpu' or 'cuda'; change --device\n"
    assert capfd.readouterr().err == told


def test_help_shows_the_ranges_of_sampling(capfd: Captured) -> None:
    assert run_command("generate", "--help") == 0
    told = capfd.readouterr().out
    assert "[0 or 0.001 to 1000]" in told
    assert "[above 0 and at most 1]" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_text_tells_the_seed_that_makes_it_again(
    shared_server: RunningServer, client: Client, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "unroll", "generate", "--target", shared_server.address]
    with subprocess.Popen(
        [*command, "--max-new-symbols", str(ENDLESS)],
        bufsize=0,  # what is read ahead would be lost to communicate
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        begin = b"".join(process.stdout.read(1) for _ in range(20))
        process.send_signal(number)
        rest, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    found = re.fullmatch(r"interrupted; seed (\d+), ([\d,]+) symbols\n", told.decode())
    assert found is not None, told
    written = (begin + rest).decode().removesuffix("\n")
    assert int(found[2].replace(",", "")) >= len(written)  # the last piece may be cut off
    options = GenerateOptions(seed=int(found[1]), max_new_symbols=len(written))
    assert client.generate("", options).text == written


def test_text_that_fails_halfway_tells_its_seed(call: Call, capfd: Captured) -> None:
    flags = ("--seed", "5", "--timeout", "0.5", "--max-new-symbols", str(ENDLESS))
    assert call("generate", *flags) == 2
    *others, last = capfd.readouterr().err.splitlines()
    assert last.startswith("unroll generate: ")
    assert "eadline" in last
    assert all(line.startswith("interrupted; seed 5, ") for line in others)  # if any was written


def test_symbols_that_were_passed_over_are_counted(call: Call, capfd: Captured) -> None:
    for command, name in (("generate", "--prompt"), ("score", "--text")):
        assert call(command, name, "a한b글", "--unknown-symbols", "skip") == 0
        assert capfd.readouterr().err.endswith("2 symbols skipped\n")
        flags = ("--unknown-symbols", "replace", "--replacement-symbol", "a")
        assert call(command, name, "a한b", *flags) == 0
        assert capfd.readouterr().err.endswith("1 symbol replaced\n")
        assert call(command, name, "ab", "--unknown-symbols", "skip") == 0
        assert "skipped" not in capfd.readouterr().err


@pytest.mark.parametrize(("command", "name"), [("generate", "--prompt"), ("score", "--text")])
def test_replacing_without_a_symbol_to_replace_by_names_its_flag(
    call: Call, capfd: Captured, command: str, name: str
) -> None:
    assert call(command, name, "한", "--unknown-symbols", "replace") == 2
    assert "needs --replacement-symbol, one symbol of the model's voc" in capfd.readouterr().err


def test_check_tells_by_its_status_whether_the_server_is_ready(call: Call, capfd: Captured) -> None:
    assert call("health") == 0
    assert capfd.readouterr() == ("", "")
    assert run_command("health", "--target", "127.0.0.1:1", "--timeout", "0.2") == 2
    assert "127.0.0.1:1: no server was ready there within 0.2 s" in capfd.readouterr().err


def test_server_that_is_not_there_is_named(capfd: Captured) -> None:
    assert run_command("generate", "--target", "127.0.0.1:1") == 2
    assert "127.0.0.1:1: UNAVAILABLE" in capfd.readouterr().err


def test_word_without_a_flag_is_told_which_it_needs(capfd: Captured) -> None:
    for command, flag in (("generate", "--prompt"), ("score", "--text"), ("serve", "--model")):
        assert run_command(command, "the word") != 0
        assert f"did you mean {flag} 'the word'?" in capfd.readouterr().err


def test_unknown_flag_names_the_nearest(call: Call, capfd: Captured) -> None:
    assert call("generate", "--promt", "abc") != 0
    assert "--prompt" in capfd.readouterr().err
    assert run_server("--modle", "x") != 0
    assert "--model" in capfd.readouterr().err


def test_unknown_key_in_a_file_names_the_nearest(tmp_path: Path, capfd: Captured) -> None:
    file = tmp_path / "server.toml"
    file.write_text("slot = 3\n", encoding="utf-8")
    assert run_server("--config", str(file)) == 2
    assert "unknown key 'slot'; did you mean 'slots'?" in capfd.readouterr().err


def test_settings_come_from_a_file_and_flags_win(
    tmp_path: Path,
    tiny_bundles: dict[Cell, Path],
    capfd: Captured,
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'model = ["{tiny_bundles["gru"]}"]\nslots = 0\nport = 70000\n', "utf-8")
    assert run_server("--config", str(file), "--port", "0") == 2
    assert "slots = 0: must be 1 to 65536; change --slots" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no bundle to serve; name one with --model"),
        (["--model", "nowhere"], "nowhere: no bundle there"),
        (["--model", "=x"], "must be NAME=FOLDER"),
        (["--model", "BUNDLE", "--device", "cuda"], "cuda was asked for"),
        (["--model", "BUNDLE", "--port-file", "/nowhere/port", "--port", "0"], "cannot be written"),
        (
            ["--model", "BUNDLE", "--host", "999.1.1.1", "--plaintext-anywhere"],
            "cannot listen on 999.1.1.1:50051",
        ),
    ],
)
def test_server_that_cannot_start_says_why_in_one_line(
    tiny_bundles: dict[Cell, Path],
    capfd: Captured,
    arguments: list[str],
    message: str,
) -> None:
    given = [str(tiny_bundles["gru"]) if word == "BUNDLE" else word for word in arguments]
    assert run_server(*given) == 2
    errors = capfd.readouterr().err
    assert message in errors
    *others, last = errors.splitlines()
    assert last.startswith("unroll serve: ")
    assert all("add_port.cc" in line for line in others)  # grpc's own line about an address


def test_reader_that_leaves_ends_the_client_quietly(shared_server: RunningServer) -> None:
    command = [sys.executable, "-m", "unroll", "generate", "--target", shared_server.address]
    with subprocess.Popen(
        [*command, "--max-new-symbols", str(ENDLESS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(3)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 0
    wait_for(lambda: len(shared_server.sequences()) == 0)
