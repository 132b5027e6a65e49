"""The contract with mlx_lm.server: a new upstream fails loudly and at once."""

import types

import mlx_lm
import mlx_lm.server
import pytest

import harden.mlx
from harden.exceptions import UnsupportedUpstreamError
from harden.mlx import upstream
from harden.mlx.handler import APIHandler


def _copy():
    """A module with upstream's attributes, so that nothing here changes the real one."""
    module = types.ModuleType("mlx_lm.server")
    module.__dict__.update(vars(mlx_lm.server))
    return module


def test_the_installed_upstream_has_all_we_rely_on():
    """Every attribute that harden.mlx overrides, calls or reads is there, with its parameters."""
    assert upstream.missing_names(mlx_lm.server) == ()
    upstream.check(mlx_lm.server, mlx_lm.__version__)


@pytest.mark.parametrize(
    ("owner", "name"), [(o, n) for o, names in upstream.CONTRACT.items() for n in names]
)
def test_each_missing_name_is_refused_by_name(owner, name):
    """A name that upstream dropped is what the error says."""
    module = _copy()
    if owner:
        bare = type(owner, (), {n: None for n in upstream.CONTRACT[owner] if n != name})
        setattr(module, owner, bare)
    else:
        delattr(module, name)
    with pytest.raises(UnsupportedUpstreamError) as caught:
        upstream.check(module, mlx_lm.__version__)
    assert f"{owner}.{name}".lstrip(".") in caught.value.missing


@pytest.mark.parametrize("version", ["0.32.1", "0.33.0", "1.0", "0.31.9", ""])
def test_an_unknown_version_is_refused_with_what_to_install(version):
    """Only versions that were read and tested are subclassed."""
    with pytest.raises(UnsupportedUpstreamError, match=r"pip install 'mlx-lm>=0\.32\.2,<0\.33\.0'"):
        upstream.check(mlx_lm.server, version)


def test_install_twice_is_install_once():
    """A second call changes nothing but the options."""
    module = _copy()
    harden.mlx.install(module)
    classes = (module.APIHandler, module.ResponseGenerator, module.LRUPromptCache)
    harden.mlx.install(module)
    assert classes == (module.APIHandler, module.ResponseGenerator, module.LRUPromptCache)
    assert module.APIHandler is APIHandler


def test_a_refused_upstream_is_left_as_it_was():
    """Nothing is replaced in a module that is not the one we know."""
    module = _copy()
    del module.get_system_fingerprint
    with pytest.raises(UnsupportedUpstreamError):
        harden.mlx.install(module)
    assert module.APIHandler is mlx_lm.server.APIHandler
