"""Wrong configurations: one line that says what is wrong and what to do, and no traceback."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from harden.models.tiny import tiny_model_path


def _harden(*arguments, **environment):
    result = subprocess.run(
        [sys.executable, "-m", "harden", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in result.stderr
    return result


def _one_line(result):
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def _empty(folder):
    folder.mkdir()


def _half_downloaded(folder):
    shutil.copytree(tiny_model_path(), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda _: None, "does not exist"),
        (_empty, "empty"),
        (_half_downloaded, "model.safetensors"),
    ],
    ids=["missing", "empty", "half-downloaded"],
)
def test_a_model_folder_that_cannot_work(tmp_path, make, word):
    """A folder that is missing, empty or half-downloaded is refused by name, with exit code 1."""
    folder = tmp_path / "my-model"
    make(folder)
    result = _harden("serve", "--model", str(folder))
    assert result.returncode == 1
    assert word in _one_line(result)


def test_a_port_that_is_taken():
    """The port is named, and another one is suggested."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = _harden("serve", "--port", str(port))
    assert result.returncode == 1
    assert str(port) in _one_line(result)


def test_an_open_host_without_a_key():
    """A server that other machines can reach needs a key, or --insecure in so many words."""
    result = _harden("serve", "--host", "0.0.0.0", HARDEN_API_KEY="")
    assert result.returncode == 1
    assert "HARDEN_API_KEY" in _one_line(result)


def test_a_backend_without_a_port():
    """--backend says where its port goes."""
    result = _harden("serve", "--backend", "vllm-mlx serve m")
    assert result.returncode == 1
    assert "{port}" in _one_line(result)


@pytest.mark.parametrize("arguments", [["serve", "--modle", "tiny"], ["serve", "--port", "x"], []])
def test_a_wrong_command_line_is_exit_code_2(arguments):
    """Unknown flags and values that cannot be are usage errors."""
    result = _harden(*arguments)
    assert result.returncode == 2
    assert "usage:" in result.stderr


def test_the_model_of_the_environment_is_checked_too():
    """MLX_MODEL is honoured, and blamed by its name."""
    result = _harden("serve", MLX_MODEL="/nowhere/at/all")
    assert result.returncode == 1
    assert "does not exist" in _one_line(result)


def test_stress_of_nobody():
    """An unreachable --url proves nothing: INVALID, exit code 4."""
    result = _harden("stress", "--url", "http://127.0.0.1:9")
    assert result.returncode == 4
    assert "127.0.0.1:9" in result.stdout + result.stderr


def test_stress_of_an_unknown_scenario():
    """An unknown scenario is a usage error that lists the known ones."""
    result = _harden("stress", "--scenario", "nonsense")
    assert result.returncode == 2
    assert "sequential" in result.stderr
