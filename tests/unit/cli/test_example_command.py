"""The command that CONTRIBUTING.md shows works as it is printed there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

from helpers import MODEL, SPECS

from git_theta_ext.cli.discovery import GROUPS
from git_theta_ext.cli.parser import parser_of

CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"


def test_the_command_that_contributors_are_shown_works(at, capsys):
    (code,) = re.findall(r"## Commands\n.*?```python\n(.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    command = ModuleType("count")
    exec(compile(code, str(CONTRIBUTING), "exec"), command.__dict__)
    assert command.GROUP in GROUPS
    at.write_model()
    at.commit("model")
    parser = parser_of("count", command)
    capsys.readouterr()
    assert command.run(parser.parse_args([f"HEAD:{MODEL}", "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == len(SPECS)
    assert command.run(parser.parse_args([f"HEAD:{MODEL}"])) == 0
    assert capsys.readouterr().out == f"{len(SPECS)} parameters\n"
