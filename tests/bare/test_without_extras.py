"""What works, and what is said, where only the core dependencies are installed.

`tox -e bare` runs this where that is so; elsewhere the extras are made impossible to import.
"""

import subprocess
import sys

import pytest

EXTRAS = ("aiohttp", "huggingface_hub", "locust", "mlx", "mlx_lm", "numpy", "pydantic", "rich")


def _run(code):
    hide = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))"
    command = [sys.executable, "-c", f"{hide}\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_library_imports():
    """The public names need nothing but the core dependencies."""
    result = _run("import harden\nfor name in harden.__all__: getattr(harden, name)")
    assert result.returncode == 0, result.stderr


def test_the_metrics_work():
    """A server of one's own can measure with the core alone."""
    result = _run(
        "from harden import MetricsCollector\n"
        "collector = MetricsCollector()\n"
        "collector.record_latency(5.0)\n"
        "assert collector.get_latency_stats()['count'] == 1\n"
        "assert 'cache_hit_total' in collector.export_metrics_prometheus()\n"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["serve", "stress", "check"])
def test_a_command_that_needs_an_extra_says_which(command):
    """No traceback: one line that says what to install."""
    result = _run(f"from harden.cli import main; sys.exit(main([{command!r}]))")
    assert result.returncode in (1, 4), result.stderr
    assert "Traceback" not in result.stderr
    assert "pip install" in result.stderr + result.stdout
