"""harden.config_validator: any text gives an answer or one of its own errors, nothing else."""

from __future__ import annotations

import contextlib
import tempfile
import unittest
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harden.config_validator import ConfigValidator, DependencyError, ValidationError
from harden.dependencies import is_older

any_text = st.text(st.characters(codec=None)) | st.binary().map(lambda b: b.decode("latin-1"))
anything = any_text | st.none() | st.integers() | st.floats() | st.booleans() | st.binary()
versions = st.lists(st.integers(0, 10**6), min_size=1, max_size=5)
own_errors = contextlib.suppress(ValidationError, DependencyError)


class TestAnyValue(unittest.TestCase):
    @given(anything)
    def test_ports(self, port):
        """A port is accepted exactly if it is a whole number from 1 to 65535."""
        try:
            result = ConfigValidator().validate_port(port)
        except ValidationError:
            result = None
        if type(port) is int:
            assert (result is not None) == (1 <= port <= 65535)
        if result is not None:
            assert result["port"] == int(port)

    @given(st.integers(1, 65535))
    def test_every_port_is_accepted(self, port):
        """As a number and as text."""
        for given_ in (port, str(port)):
            assert ConfigValidator().validate_port(given_)["port"] == port

    @given(
        any_text,
        any_text,
        st.sampled_from(["str", "int", "bool"]) | any_text,
        st.tuples(st.none() | st.integers(), st.none() | st.integers()),
        st.booleans(),
    )
    def test_variables(self, name, text, var_type, range_, required):
        """Any name with any value of any type."""
        with own_errors:
            result = ConfigValidator({name: text}).validate_env_var(
                name, required, var_type, *range_
            )
            assert ("value" in result) == bool(text.strip())

    @given(anything)
    def test_model_paths(self, path):
        """Any path in an empty world."""
        with own_errors:
            ConfigValidator().validate_model_path(path)

    @given(
        st.dictionaries(
            st.sampled_from(["config.json", "tokenizer.json", "model.safetensors"]), st.binary()
        )
    )
    def test_model_folders(self, contents):
        """Files of any content in a model's folder."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
            with own_errors:
                ConfigValidator().validate_model_path(folder)
            result = ConfigValidator({"MLX_MODEL": folder}).validate_complete_config()
        assert not result["valid"]

    @given(any_text, any_text)
    def test_dependencies(self, module, version):
        """Any module of any version; names that are none are never imported."""
        with own_errors:
            ConfigValidator().check_dependency(f"{module}.", version)
            ConfigValidator().check_dependency("json", version)

    @given(any_text, any_text, any_text, any_text)
    def test_the_whole_environment(self, model, port, warmup, key):
        """Nothing is raised, every error is one line, and the key is in none of them."""
        key = f"q{key}z"
        result = ConfigValidator(
            {"MLX_MODEL": model, "MLX_PORT": port, "KV_CACHE_WARMUP": warmup, "HARDEN_API_KEY": key}
        ).validate_complete_config()
        assert result["valid"] == (not result["errors"])
        assert all(error.isprintable() for error in result["errors"])
        if len(key) > 8:
            assert not any(key in error for error in result["errors"])


class TestVersions(unittest.TestCase):
    @given(versions, versions)
    def test_releases_are_ordered_as_their_numbers(self, first, second):
        """Missing numbers are zeros."""

        def padded(numbers):
            return numbers + [0] * (5 - len(numbers))

        texts = (".".join(map(str, numbers)) for numbers in (first, second))
        assert is_older(*texts) == (padded(first) < padded(second))


if __name__ == "__main__":
    unittest.main()
