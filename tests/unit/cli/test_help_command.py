"""``git theta help`` shows pages that are installed with the package, and errors name them."""

from __future__ import annotations

import json
import re

import pytest

from git_theta_ext import errors
from git_theta_ext.cli.discovery import command_names
from git_theta_ext.cli.main import main
from git_theta_ext.cli.output import Output
from git_theta_ext.cli.topics import page, plain, topics
from git_theta_ext.errors import RemoteError, ThetaError, to_theta_error

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ThetaError)]


def test_a_topic_is_shown_as_it_was_written_unless_on_a_terminal(capsys):
    assert main(["help", "merging"]) == 0
    assert capsys.readouterr().out == page("merging")


@pytest.mark.parametrize("topic", topics())
def test_no_page_shows_comments(topic, capsys):
    assert main(["help", f"{topic}.md", "--json"]) == 0
    assert "<!--" not in json.loads(capsys.readouterr().out)["text"]
    assert main(["help", f"{topic}.md"]) == 0
    assert "<!--" not in capsys.readouterr().out


def test_no_comment_leaves_a_second_blank_line(capsys):
    assert main(["help", "tutorials/fine-tune"]) == 0
    assert "pip install transformers peft`.\n\n```sh\n" in capsys.readouterr().out


def test_a_command_wins_over_a_page_of_its_name(capsys):
    assert main(["help", "diff"]) == 0
    assert capsys.readouterr().out.startswith("usage: git theta diff ")
    assert main(["help", "diff.md"]) == 0
    assert capsys.readouterr().out.startswith("# Compare versions\n")


def test_topics_are_listed_with_the_commands_and_for_programs(capsys):
    assert main(["help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"\b{topic}\b", shown) for topic in topics())
    assert main(["help", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["topics"]["store"] == "Store"


def test_an_unknown_topic_is_answered_with_a_similar_one(capsys):
    assert main(["help", "mergin"]) == 2
    assert capsys.readouterr().err == "error: there is no page about 'mergin'\nhint: did you mean merging?\n"


def test_on_a_terminal_links_become_names_of_topics(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["help", "history"]) == 0
    shown = capsys.readouterr().out
    assert "](" not in shown
    assert "git theta help models" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("topic", topics())
def test_no_page_keeps_links_or_comments_on_a_terminal(topic):
    text = re.sub(r"^( *)```.*?^\1```", "", plain(topic), flags=re.MULTILINE | re.DOTALL)
    assert "<!--" not in text
    assert ".md)" not in text
    named = re.findall(r"`git theta help ([^`]+)`", text.partition("## See also")[2])
    assert set(named) <= set(topics())


def test_every_page_that_an_error_names_exists():
    named = {kind.topic for kind in KINDS} - {None}
    assert len(named) > 8
    assert named <= topics().keys()
    assert not named & {*command_names()}  # whose help would be shown instead


def test_a_full_disk_and_too_little_memory_have_pages_that_help():
    assert to_theta_error(OSError(28, "No space left on device")).topic == "maintenance"
    assert to_theta_error(MemoryError()).topic == "scale"
    assert to_theta_error(KeyError("bug")).topic is None


def test_an_error_names_the_page_that_explains_it(capsys):
    Output("human").error(RemoteError("no answer", hint="git theta fetch"))
    assert capsys.readouterr().err.splitlines() == [
        "error: no answer",
        "hint: git theta fetch",
        "more: git theta help remotes",
    ]
    Output("json").error(RemoteError("no answer"))
    assert json.loads(capsys.readouterr().err)["help"] == "git theta help remotes"
