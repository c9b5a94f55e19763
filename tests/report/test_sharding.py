"""Two processes give the report of one, and the error of one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import audit_script
import pytest
import torch

from stackelberg.errors import StackelbergError
from stackelberg.report import Report
from stackelberg.report.auditing import _gathered


def timeless(report: Report) -> dict[str, Any]:
    rows = {"__all__": {"seconds"}}
    return report.model_dump(exclude={"environment": True, "attacks": rows, "certificates": rows})


def test_two_processes_give_the_same_report_as_one(tmp_path: Path) -> None:
    command = [sys.executable, audit_script.__file__, "2", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    two = Report.from_json(tmp_path / "two" / "report.json")
    assert timeless(two) == timeless(audit_script.audited(None, tmp_path / "one"))
    assert two.environment.processes == 2
    assert (tmp_path / "two" / "report.html").is_file()


def test_an_error_in_one_process_is_raised_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather(parts: list[Any], own: Any) -> None:
        parts[:] = [own, StackelbergError("input 3 of the batch holds NaN")]

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    with pytest.raises(StackelbergError, match="input 3"):
        _gathered(list, 2)
