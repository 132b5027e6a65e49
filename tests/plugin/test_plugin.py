"""The pytest plugin in projects of its users."""

import os
import subprocess
import sys
from pathlib import Path

import harden

ONE_TEST = """
def test_it(mlx_server):
    answer = mlx_server.chat("hi", max_tokens=4)
    assert answer.status == 200 and answer.text
    assert mlx_server.metrics()["requests"]["received"] == 1
"""


def _run(folder, *arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "harden", *arguments],
        cwd=folder,
        env={**os.environ, "PYTEST_ADDOPTS": "", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_empty_project_with_one_test(tmp_path):
    """`pytest -p harden` and a test that takes mlx_server: nothing else is needed."""
    (tmp_path / "test_one.py").write_text(ONE_TEST)
    result = _run(tmp_path)
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_two_workers_have_two_servers(tmp_path):
    """Under -n 2 each worker counts its own requests on a server of its own."""
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text(ONE_TEST)
    result = _run(tmp_path, "-n", "2", "--dist", "loadfile")
    assert "2 passed" in result.stdout, result.stdout + result.stderr


def test_an_uninstalled_checkout(tmp_path):
    """With the folder on the path and no entry point, -p harden works all the same."""
    (tmp_path / "test_one.py").write_text(ONE_TEST)
    checkout = str(Path(harden.__file__).parent.parent)
    environment = {"PYTHONPATH": checkout, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    code = (
        "import importlib.metadata as m\n"
        "d = m.distributions\n"
        "m.distributions = lambda **k: (x for x in d(**k) if x.name != 'mlx-harden')\n"
        "import sys, pytest\n"
        "sys.exit(pytest.main(['-p', 'harden']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_every_option_has_an_ini_twin(pytester):
    """What the command line can say, the project's configuration can say."""
    result = pytester.runpytest_subprocess("--help")
    for name in ("url", "cmd", "model"):
        result.stdout.fnmatch_lines([f"*--harden-{name}=*"])
        result.stdout.fnmatch_lines([f"*harden_{name}*"])


def test_a_server_of_ones_own_by_url_and_by_ini(pytester, mlx_server):
    """--harden-url, or harden_url in the ini file, tests a server that is already there."""
    pytester.makepyfile(f"def test_it(mlx_server): assert mlx_server.url == {mlx_server.url!r}")
    by_flag = pytester.runpytest_subprocess(f"--harden-url={mlx_server.url}")
    by_flag.assert_outcomes(passed=1)
    pytester.makeini(f"[pytest]\nharden_url = {mlx_server.url}")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_server_that_cannot_start_is_an_error_with_its_last_lines(pytester):
    """A server that ends at once makes the test an error that shows what it wrote."""
    pytester.makepyfile("def test_it(mlx_server): pass")
    command = f"{sys.executable} -c \"import sys; sys.exit('no such luck {{port}}'[:12])\""
    result = pytester.runpytest_subprocess(f"--harden-cmd={command}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no such luck*"])
