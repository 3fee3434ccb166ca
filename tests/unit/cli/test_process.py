"""What a command's process prepares before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = "import os, sys; from git_theta_ext.cli.process import begin; begin(); "


def run(code, **variables):
    env = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code, b"p\xe8\xc3\xa8\x8e"], env=env, capture_output=True, check=False
    )


def test_paths_are_the_same_text_in_a_locale_that_is_not_utf8():
    code = "sys.stdout.write(f'{ascii(sys.argv[1])} {sys.argv[1]} {sys.getfilesystemencoding()}')"
    for variables in ({}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}):
        done = run(code, **variables)
        assert (done.stdout, done.stderr) == (b"'p\\udce8\\xe8\\udc8e' p\xe8\xc3\xa8\x8e utf-8", b"")


def test_names_without_bytes_are_escaped_and_all_others_are_printed_as_they_are():
    code = r"sys.stdout.write('\udce8\ud800\xe8'); sys.stderr.write('\udce8\ud800\xe8')"
    done = run(code)
    assert done.stdout == done.stderr == b"\xe8\\ud800\xc3\xa8"
    assert run(code, PYTHONIOENCODING="ascii").stdout == b"\xe8\\ud800\\xe8"


def test_messages_that_nobody_reads_are_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    code = "sys.stderr.write('a note\\n'); print('another', file=sys.stderr); print('done')"
    done = subprocess.run([sys.executable, "-c", BEGIN + code], stdout=subprocess.PIPE, stderr=writing, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"done\n")


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_program_that_was_started_without_a_standard_file_opens_no_other_in_its_place(descriptor, tmp_path):
    code = "print('out'); print('err', file=sys.stderr); sys.stdin.read(); print(os.open(sys.argv[1], os.O_RDONLY))"
    (tmp_path / "file").touch()
    log = tmp_path / "log"
    words = f'exec "$0" -c "$1" "$2" </dev/null >"$3" 2>&1 {descriptor}>&-'
    done = subprocess.run(
        ["sh", "-c", words, sys.executable, BEGIN + code, str(tmp_path / "file"), str(log)], check=False
    )
    assert done.returncode == 0
    assert "Traceback" not in log.read_text()


def test_what_confuses_the_git_commands_that_we_run_is_dropped(tmp_path):
    kept = str(tmp_path / "trace")
    variables = {"GIT_INTERNAL_SUPER_PREFIX": "sub/", "GIT_TRACE": "1", "GIT_TRACE_SETUP": "true", "GIT_TRACE2": kept}
    done = run(
        "print({k: v for k, v in os.environ.items() if k.startswith(('GIT_TRACE', 'GIT_INTERNAL'))})", **variables
    )
    assert done.stdout == f"{{'GIT_TRACE2': {kept!r}}}\n".encode()


@pytest.mark.parametrize(("variables", "timeout"), [({}, "4"), ({"OPENBLAS_THREAD_TIMEOUT": "20"}, "20")])
def test_threads_of_numpy_sleep_while_they_wait_unless_the_user_says_otherwise(variables, timeout, monkeypatch):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    done = run("sys.stdout.write(os.environ['OPENBLAS_THREAD_TIMEOUT'])", **variables)
    assert done.stdout == timeout.encode()
