"""The doctor must answer on any machine, and say what to do about what is missing."""

import json

import pytest

from ash_core import cli, doctor


@pytest.fixture(scope="module")
def findings() -> list[doctor.Finding]:
    return doctor.examine()


def test_this_machine_can_render(findings: list[doctor.Finding]) -> None:
    assert doctor.is_fit(findings), [f for f in findings if f.needed]


def test_every_group_answers(findings: list[doctor.Finding]) -> None:
    assert {f.group for f in findings} == set(doctor.PROBES)
    assert not [f for f in findings if f.name == "probe"]


def test_what_is_missing_has_a_cure(findings: list[doctor.Finding]) -> None:
    assert not [f for f in findings if f.state == "missing" and not f.cure]


def test_each_package_is_examined_once(findings: list[doctor.Finding]) -> None:
    """The extra `all` repeats the requirements of the others."""
    names = [f.name for f in findings if f.group == "packages"]
    assert {"av", "isal", "imgui-bundle"} <= set(names)
    assert len(names) == len(set(names))


def test_every_video_format_writes(findings: list[doctor.Finding]) -> None:
    codecs = {f.name.split()[0]: f.state for f in findings if f.group == "codecs"}
    assert codecs == {".mp4": "ok", ".webm": "ok", ".mov": "ok"}


def test_a_probe_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[doctor.Finding]:
        raise RuntimeError("the driver is on fire")

    monkeypatch.setattr(doctor, "PROBES", {"GPU": broken, "CPU rendering": broken})
    gpu, cpu = doctor.examine()
    assert gpu.value == "RuntimeError: the driver is on fire"
    assert gpu.state == cpu.state == "missing"
    assert not doctor.is_fit([cpu])
    assert doctor.is_fit([gpu])


def test_missing_package_names_its_extra() -> None:
    finding = doctor._examine_package("no-such-package", "studio")
    assert finding.cure.endswith("pip install 'ash-studio[studio]'")
    assert not finding.needed
    assert doctor._examine_package("no-such-package", None).needed


@pytest.mark.parametrize("fit", [True, False])
def test_command_prints_and_exits_by_fitness(
    fit: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state: doctor.State = "ok" if fit else "missing"
    finding = doctor.Finding("CPU rendering", "torch", "2", state, "" if fit else "do it", True)
    monkeypatch.setattr(doctor, "PROBES", {"CPU rendering": lambda: [finding]})
    assert cli.main(["doctor"]) == (0 if fit else 1)
    assert "torch" in capsys.readouterr().out
    cli.main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["state"] == state
