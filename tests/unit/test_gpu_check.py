"""The check of CUDA devices also runs on the CPU, and says which part failed, or that there is no device."""

import json

import pytest
import torch
from benchmarks import gpu


def test_without_a_device_nothing_is_checked_and_the_exit_code_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == gpu.NO_DEVICE
    written = capsys.readouterr()
    assert written.out == ""
    assert "finds no CUDA device: nothing was checked" in written.err


def test_the_check_itself_runs_on_the_processor(tmp_path, capsys):
    parts = ["bus", "counts", "pieces", "lanes", "matrices", "tests", "decode"]
    assert gpu.main(["--device", "cpu", "--json", str(tmp_path / "figures.json"), *parts]) == 0
    assert "all parts passed" in capsys.readouterr().out
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["failed"] == []
    assert found["figures"].keys() == {"counts", "pieces", "lanes", "matrices", "decode"}
    assert {row["method"] for row in found["figures"]["matrices"]} == {"iso_c", "tsv_m", "actmat", "knots"}


def test_a_part_that_fails_is_named_and_the_others_run(monkeypatch, capsys):
    def fail(check):
        raise RuntimeError("CUDA error: unspecified launch failure")

    ran = []
    monkeypatch.setattr(gpu, "PARTS", {"bus": fail, "counts": lambda check: ran.append(check.device)})
    assert gpu.main(["--device", "cpu"]) == 1
    written = capsys.readouterr()
    assert written.out == "failed: bus\n"
    assert "unspecified launch failure" in written.err
    assert ran == ["cpu"]


def test_other_bits_than_the_processors_fail(monkeypatch):
    check = gpu.Check("cpu", small=True, deadline=float("inf"))
    before = gpu.counts
    monkeypatch.setattr(gpu, "counts", lambda vector, within: before(vector, within) + isinstance(vector, torch.Tensor))
    with pytest.raises(RuntimeError, match="differ from those of numpy"):
        gpu.PARTS["counts"](check)


def test_what_would_begin_too_late_does_not_run(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "LIMIT", 0)
    assert gpu.main(["--device", "cpu", "counts"]) == 1
    assert capsys.readouterr().out == "counts: no time is left\nfailed: counts\n"
