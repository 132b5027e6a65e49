"""harden.preflight and `harden check`: every problem at once, with a fix, and nothing started."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import pytest

from harden.cli import check, main
from harden.dependencies import REQUIREMENTS, Requirement, find_unmet
from harden.listening_address import bind_problem, is_loopback
from harden.preflight import Problem, find_problems
from harden.settings import add_arguments

HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 8
FULL_DISK = mock.Mock(free=1000)


def settings(*flags):
    parser = argparse.ArgumentParser()
    add_arguments(parser, {})
    return parser.parse_args(["--port=0", *flags])


def problems(*flags, **environment):
    return find_problems(settings(*flags), environment, built_in_models=("tiny",))


def found(*flags, **environment):
    """Return (setting, severity) of each problem."""
    return [(p.setting, p.severity) for p in problems(*flags, **environment)]


def write_model(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": WEIGHTS,
    }
    for name, content in {**contents, **files}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return str(folder)


class WithFolder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="harden-test-")))


class TestAddress(unittest.TestCase):
    def test_defaults_are_ready_to_serve(self):
        """On loopback no key is needed."""
        self.assertEqual(problems(), [])
        self.assertEqual(problems("--host=localhost"), [])

    def test_another_host_needs_a_key_or_a_word(self):
        """Open to the network only on purpose."""
        self.assertEqual(found("--host=0.0.0.0"), [("--host", "error")])
        self.assertIn("HARDEN_API_KEY", problems("--host=0.0.0.0")[0].fix)
        self.assertEqual(found("--host=0.0.0.0", HARDEN_API_KEY=" "), [("--host", "error")])
        self.assertEqual(found("--host=0.0.0.0", HARDEN_API_KEY="k"), [])
        self.assertEqual(found("--host=0.0.0.0", "--insecure"), [])

    def test_loopback(self):
        """Only what this machine alone can reach counts."""
        for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost"):
            self.assertTrue(is_loopback(host), host)
        for host in ("0.0.0.0", "::", "", "192.168.0.7", "example.org", "127.0.0.1.example.org"):
            self.assertFalse(is_loopback(host), host)

    def test_a_port_in_use(self):
        """The port is tried, and let go of again."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.assertEqual(found(f"--port={port}"), [("--port", "error")])
            self.assertIn(f"{port} is in use", problems(f"--port={port}")[0].what)
        self.assertEqual(found(f"--port={port}"), [])

    def test_a_host_that_is_not_ours(self):
        """A name that nobody knows and an address of somebody else are the host's fault."""
        unknown = bind_problem("nowhere.invalid", 0)
        self.assertIn("no address of this machine", unknown.what)
        foreign = bind_problem("192.0.2.1", 0)
        self.assertIn("192.0.2.1 cannot be listened on", foreign.what)
        self.assertFalse(unknown.about_the_port or foreign.about_the_port)
        self.assertEqual(found("--host=192.0.2.1", "--insecure"), [("--host", "error")])

    def test_privileged_ports(self):
        """For an administrator they are worth a warning, for others they are an error."""
        with mock.patch("socket.socket.bind"):
            self.assertEqual(found("--port=80"), [("--port", "warning")])
        with mock.patch("socket.socket.bind", side_effect=PermissionError(13, "denied")):
            self.assertIn("administrator", problems("--port=80")[0].what)
            self.assertEqual(found("--port=80"), [("--port", "error")])


class TestModel(WithFolder):
    def test_a_whole_folder(self):
        """Nothing is wrong with it."""
        self.assertEqual(found(f"--model={write_model(self.folder)}"), [])

    def test_every_problem_of_a_folder(self):
        """Half a download has more than one."""
        model = write_model(
            self.folder, **{"tokenizer.json": None, "model.safetensors": WEIGHTS[:-1]}
        )
        self.assertEqual(found(f"--model={model}"), [("--model", "error")] * 2)

    def test_weights_larger_than_the_memory_limit(self):
        """They could never be loaded; as many bytes as the weights are not refused here."""
        model = write_model(self.folder)
        size = len(WEIGHTS)
        self.assertEqual(found(f"--model={model}", f"--memory-limit={size}"), [])
        refused = problems(f"--model={model}", f"--memory-limit={size - 1}")
        self.assertEqual([p.setting for p in refused], ["--memory-limit"])
        self.assertIn(f"{size} bytes of the weights", refused[0].what)

    def test_a_name_that_is_nothing(self):
        """A misspelt embedded model is not a hub id."""
        self.assertEqual(found("--model=tinny"), [("--model", "error")])
        self.assertIn("(tiny)", problems("--model=tinny")[0].what)

    def test_a_hub_model_that_is_not_here_yet(self):
        """It is downloaded when serving, unless that is forbidden."""
        home = {"HF_HOME": str(self.folder)}
        self.assertEqual(found("--model=org/model", **home), [("--model", "warning")])
        offline = problems("--model=org/model", HF_HUB_OFFLINE="1", **home)
        self.assertEqual([p.severity for p in offline], ["error"])
        self.assertIn("HF_HUB_OFFLINE forbids", offline[0].what)

    def test_a_hub_model_in_the_local_cache(self):
        """A whole copy is used as it is, half a download is named."""
        repository = self.folder / "hub" / "models--org--model"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("abc")
        snapshot = repository / "snapshots" / "abc"
        write_model(snapshot)
        cache = {"HF_HUB_CACHE": str(self.folder / "hub")}
        self.assertEqual(found("--model=org/model", **cache), [])
        self.assertEqual(
            found("--model=org/model", "--memory-limit=1", **cache), [("--memory-limit", "error")]
        )
        (snapshot / "model.safetensors").unlink()
        (snapshot / "model.safetensors").symlink_to("gone")
        warned = problems("--model=org/model", **cache)
        self.assertEqual([p.severity for p in warned], ["warning"])
        self.assertIn("links to files that are gone", warned[0].what)

    def test_another_backend_brings_its_own_model(self):
        """Then the model is its business, and its command needs a place for the port."""
        self.assertEqual(found("--model=tinny", "--backend=serve {model} --port {port}"), [])
        self.assertEqual(found("--backend=serve"), [("--backend", "error")])


class TestCacheOnDisk(WithFolder):
    def test_a_folder_that_can_be_made(self):
        """The first folder that exists decides."""
        self.assertEqual(found(f"--cache-dir={self.folder / 'new' / 'cache'}"), [])

    def test_a_file_in_its_place(self):
        """A file cannot hold a cache."""
        (self.folder / "file").touch()
        self.assertEqual(
            found(f"--cache-dir={self.folder / 'file' / 'x'}"), [("--cache-dir", "error")]
        )

    def test_a_disk_too_small(self):
        """What the cache holds already is not counted against it."""
        (self.folder / "entry").write_bytes(b"x" * 500)
        with mock.patch("shutil.disk_usage", return_value=FULL_DISK):
            flags = f"--cache-dir={self.folder}"
            self.assertEqual(found(flags, "--cache-bytes=1500"), [])
            self.assertEqual(found(flags, "--cache-bytes=1501"), [("--cache-bytes", "error")])
            self.assertEqual(found(flags), [("--cache-dir", "warning")])


class TestPackages(unittest.TestCase):
    def unmet(self, version, **limits):
        requirement = Requirement("json", "some-package", reason="it ends", **limits)
        with mock.patch("importlib.metadata.version", return_value=version):
            return find_unmet(requirement)

    def test_versions_that_will_not_do(self):
        """Too old, too new; a version that is unknown is not refused."""
        self.assertIsNone(self.unmet("0.32.1", min_version="0.32.1", below_version="0.33"))
        self.assertIn("0.32.0 will not do", self.unmet("0.32.0", min_version="0.32.1"))
        self.assertIn(
            "0.32.1 or newer, below 0.33 is needed: it ends",
            self.unmet("0.33.0", min_version="0.32.1", below_version="0.33"),
        )
        self.assertIsNone(find_unmet(Requirement("json", "never-published", "", "1")))

    def test_all_that_is_missing_is_named_at_once(self):
        """A newcomer reads one list and one command for each."""
        with mock.patch("importlib.util.find_spec", return_value=None):
            missing = problems()
            other_backend = problems("--backend=serve {port}")
        self.assertEqual([p.setting for p in missing], [r.distribution for r in REQUIREMENTS])
        self.assertIn("pip install --upgrade 'mlx-harden[server]'", missing[-1].fix)
        self.assertFalse({"mlx", "mlx-lm"} & {p.setting for p in other_backend})
        with mock.patch("importlib.util.find_spec", side_effect=ValueError):
            self.assertEqual(len(problems()), len(missing))

    def test_limits_are_those_of_the_parts_that_set_them(self):
        """One number, written twice: where mlx_lm is replaced and where it is looked for."""
        from harden.mlx.upstream import SUPPORTED

        mlx_lm = next(r for r in REQUIREMENTS if r.module == "mlx_lm")
        numbers = [
            tuple(map(int, v.split("."))) for v in (mlx_lm.min_version, mlx_lm.below_version)
        ]
        self.assertEqual([(*n, 0)[:3] for n in numbers], list(SUPPORTED))


class TestCommand(unittest.TestCase):
    def run_check(self, *flags, environment=None, stream=None):
        """Return the exit code and what was printed."""
        stream = stream or io.StringIO()
        with (
            mock.patch.dict(os.environ, environment or {}, clear=True),
            contextlib.redirect_stdout(stream),
        ):
            return main(["check", "--port=0", *flags]), stream.getvalue()

    def test_ready(self):
        """Exit code 0, and what to run next."""
        self.assertEqual(
            self.run_check(), (0, "Ready to serve: run harden serve with the same flags.\n")
        )

    def test_every_problem_is_a_line_with_its_fix(self):
        """A bad variable is a problem among others, not the end of the check."""
        code, text = self.run_check(
            "--host=0.0.0.0", environment={"MLX_PORT": "http", "HARDEN_API_KEY": "a b"}
        )
        self.assertEqual(code, 1)
        self.assertRegex(text, r"error: MLX_PORT: 'http' is not .* unset it\.\n")
        self.assertRegex(text, r"error: HARDEN_API_KEY: the key holds .*\n")
        self.assertIn("2 problems to solve first", text)
        self.assertNotIn("a b", text.replace("holds a blank", ""))

    def test_json(self):
        """For programs: the verdict and the same problems; warnings alone are valid."""
        code, text = self.run_check("--json", "--model=org/model", environment={"HF_HOME": "/x"})
        answer = json.loads(text)
        self.assertEqual((code, answer["valid"]), (0, True))
        self.assertEqual(answer["problems"][0]["severity"], "warning")
        code, text = self.run_check("--json", "--model=tinny")
        self.assertEqual((code, json.loads(text)["valid"]), (1, False))

    def test_a_terminal_gets_a_table(self):
        """Markup in a value is shown, not obeyed; without rich there are lines."""
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        code, text = self.run_check("--model=[red]x", stream=terminal)
        self.assertEqual(code, 1)
        self.assertIn("what to do", text)
        self.assertIn("[red]x", text)
        with mock.patch.dict("sys.modules", {"rich.console": None}):
            stream = io.StringIO()
            stream.isatty = lambda: True
            check.report_problems([Problem("--x", "wrong", "Do it.")], stream)
        self.assertEqual(stream.getvalue(), "error: --x: wrong. Do it.\n")

    def test_usage_errors_exit_with_2(self):
        """A flag that does not exist or does not parse is a mistake of typing."""
        for flags in (["--nope"], ["--max-running=x"]):
            said = io.StringIO()
            with contextlib.redirect_stderr(said), pytest.raises(SystemExit, match="2"):
                self.run_check(*flags)
            self.assertTrue(re.search("--nope|not a whole number", said.getvalue()))

    def test_serve_is_kept_from_starting_by_errors_only(self):
        """Warnings are for `harden check`."""
        with mock.patch("socket.socket.bind"):
            self.assertEqual(check.preflight(settings("--port=80"), {}), [])
        refused = check.preflight(settings("--host=0.0.0.0"), {})
        self.assertEqual([p.setting for p in refused], ["--host"])
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            check.report_problems(refused)
        self.assertIn("error: --host: 0.0.0.0 is open", said.getvalue())


if __name__ == "__main__":
    unittest.main()
