"""What importing harden costs."""

import subprocess
import sys

import pytest

HEAVY = ("mlx", "mlx_lm", "pytest", "locust", "aiohttp", "numpy", "huggingface_hub")


def _modules_after(statement):
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import harden",
        "from harden import *",
        "import harden.server_process, harden.server_handle, harden.settings",
        "import harden.cli",
    ],
)
def test_the_library_loads_nothing_heavy(statement):
    """Importing harden pulls in neither mlx, pytest, locust nor aiohttp."""
    assert not _modules_after(statement) & set(HEAVY)


def test_the_plugin_loads_no_server_code():
    """Every pytest run pays for the plugin, so it loads neither mlx, aiohttp nor locust."""
    loaded = _modules_after("import harden.pytest_plugin")
    assert not loaded & {"mlx", "mlx_lm", "locust", "aiohttp", "psutil"}


def test_the_gateway_room_needs_no_mlx():
    """The gateway's code can be imported on a machine without MLX."""
    assert not _modules_after("import harden.gateway.server") & {"mlx", "mlx_lm", "locust"}


def test_public_names_are_sorted_and_exist():
    """__all__ is the list of the promised names, each of which can be had."""
    import harden

    assert sorted(harden.__all__) == harden.__all__
    for name in harden.__all__:
        assert getattr(harden, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = harden.nothing
