"""harden.config_validator: every wrong setting is named, with its value and a fix."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from harden.config_validator import ConfigValidator, DependencyError, ValidationError

HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 8


def environment(**variables):
    """Replace the whole environment."""
    return mock.patch.dict(os.environ, variables, clear=True)


def listening():
    """Return a socket that listens on a free loopback port, and that port."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


class WithFolder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="harden-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def model(self, **files):
        """Write a whole model, then what is different about this one (None: left out)."""
        contents = {
            "config.json": json.dumps({"model_type": "llama"}).encode(),
            "tokenizer.json": b"{}",
            "model.safetensors": WEIGHTS,
        }
        for name, content in {**contents, **files}.items():
            if content is not None:
                (self.folder / name).write_bytes(content)
        return str(self.folder)


class TestConfigValidatorBasics(unittest.TestCase):
    def test_validate_port_accepts_numbers_and_numeric_text(self):
        """Ports come from code and from the environment."""
        for port in (8080, "8080", " 8080 ", 1024, 65535, "65535"):
            result = ConfigValidator().validate_port(port)
            self.assertEqual(result, {"valid": True, "port": int(port)})

    def test_validate_port_warns_below_1024(self):
        """A privileged port works for an administrator only; 1024 is the first that is not."""
        self.assertIn("privileged", ConfigValidator().validate_port(1023)["warning"])
        self.assertNotIn("warning", ConfigValidator().validate_port(1024))

    def test_validate_port_refuses_the_rest(self):
        """The message holds the value and the range; the error carries both as data."""
        for port in (0, -1, 65536, "http", "", "80.5", 80.5, None, True, "9" * 5000, "٨٠"):
            with self.subTest(str(port)[:20]), self.assertRaises(ValidationError) as refused:
                ConfigValidator().validate_port(port)
            self.assertIn("whole number from 1 to 65535", str(refused.exception))
            self.assertIs(refused.exception.value, port)
            self.assertEqual(refused.exception.fix, "Use a whole number from 1 to 65535.")
            self.assertLess(len(str(refused.exception)), 150)


class TestConfigValidatorEnvironmentVariables(unittest.TestCase):
    def setUp(self):
        self.validator = ConfigValidator()

    def test_a_set_variable_has_its_value(self):
        """Text is taken as it stands."""
        with environment(NAME=" as it is "):
            result = self.validator.validate_env_var("NAME")
        self.assertEqual(result, {"valid": True, "value": " as it is "})

    def test_a_missing_one_has_its_default(self):
        """Not set is not wrong, unless it is required."""
        with environment():
            self.assertEqual(
                self.validator.validate_env_var("NAME"), {"valid": True, "default": None}
            )
            self.assertEqual(self.validator.validate_env_var("NAME", default=7)["default"], 7)

    def test_a_missing_required_one_is_refused(self):
        """The message says which, and how to set it."""
        with environment(), self.assertRaisesRegex(ValidationError, "export NAME=") as refused:
            self.validator.validate_env_var("NAME", required=True)
        self.assertEqual(refused.exception.setting, "NAME")

    def test_a_blank_one_counts_as_missing(self):
        """`NAME= command` sets it, and means nothing by it."""
        with environment(NAME="  "):
            self.assertIn("default", self.validator.validate_env_var("NAME"))
            with self.assertRaises(ValidationError):
                self.validator.validate_env_var("NAME", required=True)

    def test_int(self):
        """Whole numbers only."""
        with environment(NAME="-42", WRONG="4.2"):
            self.assertEqual(self.validator.validate_env_var("NAME", var_type="int")["value"], -42)
            with self.assertRaisesRegex(ValidationError, "WRONG: '4.2' is not a whole number"):
                self.validator.validate_env_var("WRONG", var_type="int")

    def test_int_range(self):
        """Both ends are included, and the message states the range."""
        required = True
        with environment(NAME="5"):
            for low, high in ((5, 5), (None, 5), (5, None)):
                result = self.validator.validate_env_var("NAME", required, "int", low, high)
                self.assertEqual(result["value"], 5)
            for low, high, range_ in (
                (6, 9, "from 6 to 9"),
                (None, 4, "at most 4"),
                (6, None, "at least 6"),
            ):
                with self.assertRaisesRegex(ValidationError, range_):
                    self.validator.validate_env_var("NAME", required, "int", low, high)

    def test_bool_in_any_case(self):
        """Six words, and no guess about others."""
        for text, value in (
            ("1", True),
            ("TRUE", True),
            ("Yes", True),
            ("0", False),
            ("False", False),
            ("no", False),
        ):
            with environment(NAME=text):
                result = self.validator.validate_env_var("NAME", var_type="bool")
            self.assertIs(result["value"], value)
        with environment(NAME="on"), self.assertRaisesRegex(ValidationError, "1, true, yes"):
            self.validator.validate_env_var("NAME", var_type="bool")

    def test_an_unknown_type_is_refused(self):
        """A mistake in the caller's code is named as one."""
        with (
            environment(NAME="1"),
            self.assertRaisesRegex(ValidationError, "'str', 'int' or 'bool'"),
        ):
            self.validator.validate_env_var("NAME", var_type="float")


class TestConfigValidatorModelPath(WithFolder):
    def test_a_whole_model(self):
        """Everything is there, and it is said piece by piece."""
        self.assertEqual(
            ConfigValidator().validate_model_path(self.model()),
            {
                "valid": True,
                "exists": True,
                "has_config": True,
                "has_tokenizer": True,
                "has_weights": True,
                "is_symlink": False,
            },
        )

    def test_a_missing_folder(self):
        """The message holds the path as it was given."""
        with self.assertRaisesRegex(ValidationError, "nowhere does not exist"):
            ConfigValidator().validate_model_path(self.folder / "nowhere")

    def test_a_file_is_no_folder(self):
        """A user may point at the weights themselves."""
        self.model()
        with self.assertRaisesRegex(ValidationError, "is not a folder. Give the folder"):
            ConfigValidator().validate_model_path(self.folder / "model.safetensors")

    def test_a_folder_without_config(self):
        """It is not a model's folder at all."""
        path = self.model(**{"config.json": None})
        with self.assertRaisesRegex(ValidationError, r"no config\.json"):
            ConfigValidator().validate_model_path(path)

    def test_missing_tokenizer_or_weights(self):
        """An incomplete model is not valid, and one sees what it lacks."""
        path = self.model(**{"tokenizer.json": None, "model.safetensors": None})
        result = ConfigValidator().validate_model_path(path)
        self.assertEqual(
            (result["valid"], result["has_config"], result["has_tokenizer"], result["has_weights"]),
            (False, True, False, False),
        )

    def test_a_link_is_followed_and_named(self):
        """A hub's cache is made of links."""
        link = Path(f"{self.model()}-link")
        link.symlink_to(self.folder)
        self.addCleanup(link.unlink)
        result = ConfigValidator().validate_model_path(link)
        self.assertTrue(result["valid"])
        self.assertTrue(result["is_symlink"])


class TestConfigValidatorPortConflicts(unittest.TestCase):
    def test_a_port_in_use(self):
        """Somebody answers there."""
        listener, port = listening()
        with listener:
            result = ConfigValidator().check_port_available(port)
        self.assertEqual(result, {"available": False, "in_use": True})

    def test_a_free_port(self):
        """Nobody answers where nobody listens."""
        listener, port = listening()
        listener.close()
        self.assertEqual(ConfigValidator().check_port_available(port), {"available": True})

    def test_an_attempt_that_times_out_counts_as_available(self):
        """Silence is nobody; the socket is closed either way."""
        with mock.patch("socket.socket") as factory:
            factory.return_value.connect_ex.side_effect = TimeoutError
            self.assertEqual(ConfigValidator().check_port_available(8080), {"available": True})
        factory.return_value.close.assert_called_once_with()

    def test_find_available_port(self):
        """The first free one of the range, or none; a range the wrong way round is refused."""
        listener, port = listening()
        with listener:
            found = ConfigValidator().find_available_port(port, port)
            self.assertEqual(found, {"found": False})
            with mock.patch.object(
                ConfigValidator, "check_port_available", lambda _, p: {"available": p == 9002}
            ):
                found = ConfigValidator().find_available_port(9000, 9005)
        self.assertEqual(found, {"found": True, "port": 9002})
        with self.assertRaisesRegex(ValidationError, "lower one first"):
            ConfigValidator().find_available_port(9005, 9000)


class TestConfigValidatorDependencies(unittest.TestCase):
    def imported(self, **attributes):
        return mock.patch("importlib.import_module", return_value=mock.Mock(**attributes))

    def test_an_installed_package(self):
        """Its own version is reported."""
        with self.imported(__version__="1.2.3"):
            result = ConfigValidator().check_dependency("package")
        self.assertEqual(result, {"installed": True, "version": "1.2.3", "version_ok": True})

    def test_a_missing_package(self):
        """Missing or broken is no exception, but a fact."""
        for error in (ImportError, RuntimeError):
            with mock.patch("importlib.import_module", side_effect=error):
                result = ConfigValidator().check_dependency("package", "1.0")
            self.assertEqual(result, {"installed": False, "version": None, "version_ok": False})

    def test_versions_are_compared_as_numbers(self):
        """0.10 is newer than 0.9, and a pre-release is older than its release."""
        for version, wanted in (
            ("0.10", "0.9"),
            ("1.0", "1"),
            ("2.0.1.dev3", "2.0"),
            ("1.0.post1", "1.0"),
        ):
            with self.subTest(version), self.imported(__version__=version):
                self.assertTrue(ConfigValidator().check_dependency("package", wanted)["version_ok"])
        for version, wanted in (("0.9", "0.10"), ("1.0rc1", "1.0"), ("1.0.dev1", "1.0.0")):
            with (
                self.subTest(version),
                self.imported(__version__=version),
                self.assertRaises(DependencyError) as old,
            ):
                ConfigValidator().check_dependency("package", wanted)
            self.assertEqual((old.exception.installed, old.exception.required), (version, wanted))
            self.assertIn(f"pip install --upgrade 'package>={wanted}'", str(old.exception))

    def test_a_package_without_version(self):
        """It is there, but nobody can say whether it is new enough."""
        with self.imported(__version__=None):
            result = ConfigValidator().check_dependency("nowhere-installed".replace("-", "_"))
            self.assertEqual(result, {"installed": True, "version": "unknown", "version_ok": True})
            result = ConfigValidator().check_dependency("nowhere_installed", "1.0")
        self.assertFalse(result["version_ok"])
        self.assertRegex(ConfigValidator().check_dependency("tenacity")["version"], r"^\d+\.")

    def test_several_packages(self):
        """All that are missing are named at once."""
        result = ConfigValidator().check_all_dependencies(["json", "not_there", "nor.this"])
        self.assertEqual(result, {"all_installed": False, "missing": ["not_there", "nor.this"]})
        self.assertTrue(ConfigValidator().check_all_dependencies(["json"])["all_installed"])


class TestConfigValidatorComplete(WithFolder):
    def test_a_good_environment(self):
        """Values are parsed, keys are not repeated, nothing is imported."""
        with environment(
            MLX_MODEL=self.model(), MLX_PORT="9000", KV_CACHE_WARMUP="yes", HARDEN_API_KEY="s3cret"
        ):
            result = ConfigValidator().validate_complete_config()
        self.assertEqual(result["errors"], [])
        self.assertTrue(result["valid"])
        self.assertEqual(result["port"], 9000)
        self.assertTrue(result["environment_vars"]["KV_CACHE_WARMUP"])
        self.assertEqual(result["environment_vars"]["HARDEN_API_KEY"], "set")
        self.assertEqual(result["dependencies"], {"all_installed": True, "missing": []})

    def test_every_error_is_collected(self):
        """One run shows everything that has to be changed, and raises nothing."""
        model = self.model(**{"tokenizer.json": None, "model.safetensors": WEIGHTS[:-1]})
        wrong = {
            "MLX_MODEL": model,
            "MLX_PORT": "http",
            "KV_CACHE_WARMUP": "x",
            "HARDEN_API_KEY": "a b",
        }
        with mock.patch("importlib.util.find_spec", return_value=None):
            result = ConfigValidator(wrong).validate_complete_config()
        self.assertFalse(result["valid"])
        text = "\n".join(result["errors"])
        for part in (
            "MLX_PORT: 'http'",
            "KV_CACHE_WARMUP: 'x'",
            "HARDEN_API_KEY: the key holds a blank",
            "no tokenizer",
            "cut off",
            "mlx is not installed; run: pip install --upgrade 'mlx-harden[server]'",
        ):
            self.assertIn(part, text)
        self.assertIsNone(result["port"])
        self.assertIn("aiohttp", result["dependencies"]["missing"])


class TestConfigValidatorEdgeCases(WithFolder):
    def test_the_environment_may_be_handed_over(self):
        """A supervisor checks what its child will see, not its own variables."""
        with environment(NAME="own"):
            result = ConfigValidator({"NAME": "given"}).validate_env_var("NAME")
        self.assertEqual(result["value"], "given")

    def test_names_that_cannot_be_are_missing(self):
        """A lone surrogate or a NUL is no variable, and no crash."""
        for name in ("\ud800", "a\0b", "", "a=b"):
            self.assertIn("default", ConfigValidator().validate_env_var(name))

    def test_paths_that_cannot_be_are_refused(self):
        """Odd text is shown in ASCII, on one line, and shortened."""
        for path, shown in (
            ("", "''"),
            (None, "None"),
            ("a\0b", r"'a\x00b'"),
            ("\ud800", r"'\ud800'"),
            ("x" * 5000, "x…"),
            ("two\nlines", r"'two\nlines'"),
        ):
            with self.subTest(shown), self.assertRaises(ValidationError) as refused:
                ConfigValidator().validate_model_path(path)
            self.assertIn(shown, str(refused.exception))
            self.assertTrue(str(refused.exception).isprintable())
            self.assertLess(len(str(refused.exception)), 200)

    def test_a_folder_that_may_not_be_read(self):
        """No permission is told from no model; a folder that vanishes meanwhile is no crash."""
        path = self.model()
        with (
            mock.patch("os.access", return_value=False),
            self.assertRaisesRegex(ValidationError, "cannot be read. Check its permissions"),
        ):
            ConfigValidator().validate_model_path(path)
        with (
            mock.patch("os.listdir", side_effect=FileNotFoundError),
            self.assertRaisesRegex(ValidationError, "cannot be listed"),
        ):
            ConfigValidator().validate_model_path(path)

    def test_the_home_folder_is_understood(self):
        """A shell expands ~, an environment file does not."""
        self.model()
        with environment(HOME=str(self.folder.parent)):
            self.assertTrue(ConfigValidator().validate_model_path(f"~/{self.folder.name}")["valid"])

    def test_odd_versions_and_modules(self):
        """Neither a version that is none nor a module name that is none ends in a traceback."""
        with self.assertRaisesRegex(DependencyError, "'newest' is not a version"):
            ConfigValidator().check_dependency("json", "newest")
        for module in ("", ".", "..x", "a b", "os; import this", "\ud800"):
            self.assertFalse(ConfigValidator().check_dependency(module)["installed"])

    def test_model_names_are_not_taken_for_folders(self):
        """Hub ids and embedded models are resolved when serving; a path must exist before."""
        for model in ("tiny", "org/model", " "):
            self.assertEqual(self.errors(MLX_MODEL=model), [])
        for model in ("./nowhere", "~/nowhere", "/nowhere", "a/b/c", r"C:\nowhere"):
            self.assertIn("does not exist", self.errors(MLX_MODEL=model)[0])

    def test_a_refused_key_is_not_repeated(self):
        """What validate_complete_config says may be logged."""
        errors = self.errors(HARDEN_API_KEY="hunter2 hunter2")
        self.assertEqual(len(errors), 1)
        self.assertNotIn("hunter2", errors[0])

    def errors(self, **variables):
        return ConfigValidator(variables).validate_complete_config()["errors"]


if __name__ == "__main__":
    unittest.main()
