"""The command: exit codes, one line a fault, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inferwatch import __version__
from inferwatch.reference import Reference
from inferwatch_cli.main import main
from inferwatch_detectors.registry import DETECTORS
from inferwatch_explainers.registry import METHODS


def allowed(kind: str) -> str:
    """The methods of a kind, as a fault lists them."""
    return ", ".join(method for of_kind, method in DETECTORS if of_kind == kind)


COMMANDS = ("up", "proxy", "check", "ledger", "demo", "reference build", "dashboards build")


class Ran:
    """What a run of the command left: its exit code and the lines of its output."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output.splitlines()
        self.errors = errors.splitlines()


Runner = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    def runner(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["inferwatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ran(code or 0, *capsys.readouterr())

    return runner


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reference.csv"
    path.write_text("age,job\n" + "".join(f"{30 + row % 40},{'ab'[row % 2]}\n" for row in range(400)), encoding="utf-8")
    return path


def config(directory: Path, text: str) -> Path:
    path = directory / "inferwatch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
models:
  - name: income
    reference: reference.csv
    detectors:
      - {kind: drift, method: histogram, on: inputs, window: {rows: 100}}
      - {kind: outlier, method: mahalanobis, false_alarm_rate: 0.05}
    explainers: [{method: kernel_shap, predictor: "http://income"}]
"""


def test_the_installed_command_runs() -> None:
    command = [sys.executable, "-m", "inferwatch_cli", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"inferwatch {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Runner, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert ran.errors == []
    assert f"Usage: inferwatch {command}" in " ".join(" ".join(ran.output).split())
    described = [line for line in ran.output if line.startswith("  --")]
    assert described
    assert all(len(line.split()) > 2 for line in described)


def test_help_lists_every_command_in_whole_sentences(run: Runner) -> None:
    output = "\n".join(run("--help").output)
    assert all(command.split()[0] in output for command in COMMANDS)
    assert "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("check",),
        ("check", "--speed", "3"),
        ("up", "--config", "x", "--port", "99999"),
        ("reference",),
    ],
)
def test_wrong_usage_exits_with_2_and_tells_on_standard_error(run: Runner, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.errors or arguments == ("reference",)  # which prints its help


def test_a_good_configuration_passes(run: Runner, tmp_path: Path, table: Path) -> None:
    assert table.exists()
    before = sorted(tmp_path.iterdir())
    path = config(tmp_path, GOOD)
    ran = run("check", "--config", path)
    assert (ran.code, ran.output, ran.errors) == (0, [f"{path}: good; models: 1, detectors: 2"], [])
    assert sorted(tmp_path.iterdir()) == sorted([*before, path])


def test_a_burn_in_that_may_miss_a_season_is_noted(run: Runner, tmp_path: Path, table: Path) -> None:
    assert table.exists()
    seasonal = GOOD.replace("    detectors:", "    segments: [{by: {hours: 4}}]\n    detectors:", 1)
    ran = run("check", "--config", config(tmp_path, seasonal))
    assert ran.code == 0
    assert ran.output[1].startswith("note: models[0].burn_in_rows: unset, so at most 3,000: where less than 24 hours")


@pytest.mark.parametrize("command", ["check", "up"])
def test_every_fault_is_told_in_a_line_of_its_own(run: Runner, tmp_path: Path, command: str) -> None:
    text = """
ingest: {max_body_bytes: 5}
models:
  - {name: a, reference: none.csv, detectors: [{kind: drift, method: tarot, window: {rows: 1}}]}
  - {name: b, explainers: [{method: oracle, predictor: nowhere}]}
"""
    ran = run(command, "--config", config(tmp_path, text))
    assert (ran.code, ran.output) == (2, [])
    assert [line.removeprefix("inferwatch: ") for line in ran.errors] == [
        "ingest.max_body_bytes: 5: input should be greater than or equal to 1024",
        "models[0].detectors[0].window.rows: 1: input should be greater than or equal to 2",
        "models[1].reference: is required and absent",
        r"models[1].explainers[0].predictor: 'nowhere': string should match pattern '^https?://[^\s/]+'",
        f"models[0].detectors[0].method: 'tarot': unknown method; allowed here: {allowed('drift')}",
        f"models[0].reference: there is no file {tmp_path / 'none.csv'}",
        f"models[1].explainers[0].method: 'oracle': unknown method; allowed here: {', '.join(METHODS)}",
    ]


def test_faults_beyond_the_settings_are_told_all_at_once(run: Runner, tmp_path: Path, table: Path) -> None:
    text = f"""
models:
  - {{name: a, reference: none.csv, detectors: [{{kind: outlier, method: histogram}}]}}
  - {{name: b, reference: {table.name}, features: [{{name: wage, kind: numeric}}]}}
  - name: c
    reference: {table.name}
    false_alarms: {{expected_run_length_windows: 1.0e+12}}
    detectors: [{{kind: outlier, method: mahalanobis}}, {{kind: drift, method: histogram, window: {{rows: 2}}}}]
"""
    ran = run("check", "--config", config(tmp_path, text))
    told = [line.removeprefix("inferwatch: ") for line in ran.errors]
    assert (ran.code, len(told)) == (2, 5)
    assert told[0] == f"models[0].detectors[0].method: 'histogram': unknown method; allowed here: {allowed('outlier')}"
    assert told[1] == f"models[0].reference: there is no file {tmp_path / 'none.csv'}"
    assert told[2].startswith("models[1].reference: ")
    assert "feature 'wage' is not among the columns: age, job" in told[2]
    assert told[3].startswith("models[2].detectors[0]: a false-alarm")
    assert told[4].startswith("models[2].detectors[1]: one false alarm in 1e+12 windows needs a reference of at least")


def test_certificates_that_cannot_be_used_are_told_with_the_rest(run: Runner, tmp_path: Path) -> None:
    key = tmp_path / "tls.key"
    key.write_text("no key")
    text = "capture: {tls: {ca_file: none.pem}, redact: [{header: x, action: hash, key_file: none.txt}]}"
    ran = run("check", "--config", config(tmp_path, text))
    assert ran.code == 2
    assert [line.partition(" ")[2].partition(":")[0] for line in ran.errors] == [
        "capture.redact",
        "capture.tls.ca_file",
    ]
    assert str(tmp_path / "none.pem") in ran.errors[1]
    ran = run("check", "--config", config(tmp_path, "capture: {tls: {key_file: tls.key}}"))
    assert ran.errors == ["inferwatch: capture.tls: a key needs the certificate that it belongs to"]
    ran = run("check", "--config", config(tmp_path, f"capture: {{tls: {{certificate_file: {key}}}}}"))
    assert ran.errors[0].startswith(f"inferwatch: capture.tls.certificate_file: {key} cannot be used: ")


def test_a_file_that_is_no_configuration_is_one_line(run: Runner, tmp_path: Path) -> None:
    for path in (config(tmp_path, "models: ["), tmp_path / "none.yaml", tmp_path):
        ran = run("check", "--config", path)
        assert (ran.code, len(ran.errors)) == (2, 1)
        assert ran.errors[0].startswith(f"inferwatch: {path}: ")


def test_a_reference_is_built_and_known_by_its_content(run: Runner, tmp_path: Path, table: Path) -> None:
    out = tmp_path / "saved"
    ran = run("reference", "build", "--input", table, "--out", out, "--rows", 50)
    reference = Reference.load(out)
    assert (ran.code, ran.errors) == (0, [])
    assert ran.output == [f"{out}: 400 rows, 2 features, id {reference.id}"]
    assert (reference.count, len(reference.rows)) == (400, 50)


def test_what_cannot_be_read_or_written_is_one_line_and_exit_1(run: Runner, tmp_path: Path, table: Path) -> None:
    ran = run("reference", "build", "--input", tmp_path / "none.csv", "--out", tmp_path / "out")
    assert (ran.code, ran.errors) == (1, [f"inferwatch: there is no file {tmp_path / 'none.csv'}"])
    lost = tmp_path / "none" / "out"
    ran = run("reference", "build", "--input", table, "--out", lost)
    assert (ran.code, ran.errors) == (1, [f"inferwatch: {lost}: No such file or directory"])
    ran = run("dashboards", "build", "--out", table)
    assert (ran.code, ran.errors) == (1, [f"inferwatch: {table}: File exists"])


def test_dashboards_are_written_where_they_are_wanted(run: Runner, tmp_path: Path) -> None:
    out = tmp_path / "boards"
    ran = run("dashboards", "build", "--out", out)
    assert (ran.code, ran.errors) == (0, [])
    assert sorted(ran.output) == sorted(map(str, out.iterdir()))
    assert ran.output
