import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from t2i_track import energy
from t2i_track.energy import CPU, METERED, Meter, PerBatch


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two processors, of which the first has a part of its own, and the whole machine."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    names = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:1": "package-1", "intel-rapl:2": "psys"}
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("1000000000\n")
        show(tmp_path, folder, 100)
    return tmp_path


def show(folder: Path, domain: str, joules: float) -> None:
    (folder / domain / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")


def test_processors_are_added_and_their_parts_are_not(powercap: Path) -> None:
    meter = Meter("cpu")
    for domain, joules in (
        ("intel-rapl:0", 130),
        ("intel-rapl:0:0", 500),
        ("intel-rapl:1", 120),
        ("intel-rapl:2", 900),
    ):
        show(powercap, domain, joules)
    assert meter.read() == {"cpu_joules": pytest.approx(50)}


def test_a_counter_that_starts_again_is_followed(powercap: Path) -> None:
    meter = Meter("cpu")
    show(powercap, "intel-rapl:0", 900)
    meter.read()
    show(powercap, "intel-rapl:0", 50)
    assert meter.read() == {"cpu_joules": pytest.approx(800 + 150)}


def test_without_a_meter_there_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert Meter("cpu").read() == {}


def test_what_may_not_be_read_is_no_meter(powercap: Path) -> None:
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    (powercap / "intel-rapl:1" / "energy_uj").mkdir()  # as unreadable as one that only root may read
    assert Meter("cpu").read() == {}


def test_a_meter_that_fails_later_is_left_out(powercap: Path) -> None:
    meter = Meter("cpu")
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read() == {}
    assert meter.read() == {}


def test_the_gpu_is_found_by_its_uuid(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    millijoules = iter((1000, 5000, 7500))
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-abc": "handle"}.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(millijoules) if handle == "handle" else None,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    cuda = SimpleNamespace(get_device_properties={"cuda:1": SimpleNamespace(uuid="abc")}.__getitem__)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert Meter("cuda:1").read() == {"cpu_joules": 0.0, "gpu_joules": pytest.approx(2.5)}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter("cuda:1").read() == {"cpu_joules": 0.0}


@pytest.mark.parametrize(("batches", "joules", "images"), [(3, 3.0, 24), (4, 3.0, 24), (5, 4.0, 32)])
def test_of_four_batches_the_first_is_left_out(powercap: Path, batches: int, joules: float, images: int) -> None:
    """It pays for what is done once: a compiled run took four times its energy."""
    spent = PerBatch(Meter("cpu"))
    assert spent.cost() == {}
    for batch in range(1, batches + 1):
        show(powercap, "intel-rapl:0", 100 + batch)
        spent.count(8 * batch)
    assert spent.cost() == {CPU: pytest.approx(joules), METERED: images}
