"""resolve_model: from the name that a user gives to a whole folder, or one clear line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harden.exceptions import DependencyError, HardenError, ValidationError
from harden.models.hub import fetch_model, is_hub_id
from harden.models.resolve import ResolvedModel, resolve_model
from harden.models.tiny import tiny_model_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
import sys
from harden.exceptions import HardenError
from harden.models.resolve import resolve_model
try:
    model = resolve_model(sys.argv[1], progress=print)
    print(model.name, model.path)
except HardenError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache home of one's own."""
    monkeypatch.setenv("HARDEN_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def resolve_offline(name: str, hub_cache: Path) -> subprocess.CompletedProcess[str]:
    """Resolve in a process whose hub is a port where nobody listens."""
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(hub_cache)}
    return subprocess.run(
        [sys.executable, "-c", RESOLVE, name],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def put_in_hub_cache(hub_cache: Path, model_id: str) -> Path:
    """Lay a model out as the hub's client keeps it: blobs, a reference, a snapshot of links."""
    storage = hub_cache / "hub" / f"models--{model_id.replace('/', '--')}"
    snapshot = storage / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    shutil.copytree(tiny_model_path(), storage / "blobs")
    for blob in (storage / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        ("tiny", {}, "tiny"),
        ("tiny-sliding", {}, "tiny-sliding"),
        (None, {}, "tiny"),
        (None, {"MLX_MODEL": "tiny-sliding"}, "tiny-sliding"),
        (" ", {"MLX_MODEL": " "}, "tiny"),
        ("tiny", {"MLX_MODEL": "tiny-sliding"}, "tiny"),
    ],
)
def test_built_in_names(home, name, environment, expected):
    """A name wins over MLX_MODEL, which wins over the default; blank counts as missing."""
    variables = environment | {"HARDEN_CACHE_HOME": str(home)}
    model = resolve_model(name, environment=variables)
    variant = "sliding" if expected == "tiny-sliding" else "plain"
    assert model == ResolvedModel(expected, tiny_model_path(variant, home))


def test_the_build_is_reported(home):
    """The first start says what takes time, the second has nothing to say."""
    lines: list[str] = []
    resolve_model("tiny", progress=lines.append)
    resolve_model("tiny", progress=lines.append)
    assert len(lines) == 1


def test_a_folder(tmp_path, monkeypatch):
    """A folder by any spelling; clients see its last part only."""
    folder = Path(shutil.copytree(tiny_model_path(), tmp_path / "org" / "my model"))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in (str(folder), "my model", "./my model", f"{folder}/", "../org/my model"):
        assert resolve_model(spelling) == ResolvedModel("my model", folder)
    assert resolve_model("~/link") == ResolvedModel("link", tmp_path / "link")
    monkeypatch.chdir(folder)
    assert resolve_model(".") == ResolvedModel("my model", folder)


def test_a_folder_of_a_built_in_name(home, tmp_path, monkeypatch):
    """`tiny` is the built-in model even beside a folder of that name; `./tiny` is the folder."""
    shutil.copytree(tiny_model_path(), tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("tiny").path.is_relative_to(home)
    assert resolve_model("./tiny").path == tmp_path / "tiny"


def test_a_folder_that_looks_like_a_hub_id(tmp_path, monkeypatch):
    """An existing folder wins over a hub id: nothing is downloaded."""
    folder = Path(shutil.copytree(tiny_model_path(), tmp_path / "org" / "model"))
    monkeypatch.chdir(tmp_path)
    assert resolve_model("org/model") == ResolvedModel("model", folder)


def without(model: Path, name: str) -> None:
    shutil.copytree(tiny_model_path(), model)
    (model / name).unlink()


def cut(model: Path) -> None:
    shutil.copytree(tiny_model_path(), model)
    os.truncate(model / "model.safetensors", 1_000_000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _model: None, "does not exist. Check the spelling"),
        (lambda model: model.mkdir(), "is an empty folder. Give the folder"),
        (lambda model: model.write_text(""), "is a file, not a folder. Give the folder"),
        (lambda model: without(model, "config.json"), "is not a model folder: it has no config"),
        (lambda model: without(model, "model.safetensors"), "has no weights"),
        (lambda model: without(model, "tokenizer.json"), "has no tokenizer"),
        (cut, "are cut off after 1,000,000 of"),
    ],
)
def test_a_folder_that_is_not_whole(tmp_path, make, message):
    """One line: which model, what is wrong, what to do; the error carries each by itself."""
    folder = tmp_path / "model"
    make(folder)
    with pytest.raises(ValidationError, match=message) as caught:
        resolve_model(str(folder))
    error = caught.value
    assert str(error).startswith(f"The model {folder} ")
    assert "\n" not in str(error)
    assert (error.setting, error.value) == ("--model", str(folder))
    assert str(error).endswith(error.fix)


def test_the_error_names_where_the_value_came_from(tmp_path):
    """A bad MLX_MODEL is not blamed on the flag."""
    with pytest.raises(ValidationError) as caught:
        resolve_model(None, environment={"MLX_MODEL": str(tmp_path / "none")})
    assert caught.value.setting == "MLX_MODEL"


def test_a_name_that_means_nothing():
    """The error lists what a name can be, on one line even for a name of several."""
    with pytest.raises(ValidationError, match=r"no model gpt-5\. Use a folder, a hub id .*'tiny'"):
        resolve_model("gpt-5")
    with pytest.raises(ValidationError, match=r"no model 'a\\nb'\. Use"):
        resolve_model("a\nb")


@pytest.mark.parametrize("name", ["org/model", "mlx-community/Llama-3.2-1B-Instruct-4bit", "a/b_c"])
def test_hub_ids(name):
    """The form that hubs use."""
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["model", "a/b/c", "/a", "a/", "./a", "../a", "~/a", "a/b c", ""])
def test_not_hub_ids(name):
    """Paths are never looked up on a hub."""
    assert not is_hub_id(name)


@given(st.text())
def test_no_text_raises_anything_else(text):
    """Any name gives a model or an error of ours; the hub is never asked for here."""
    with mock.patch("harden.models.resolve.fetch_model", return_value=tiny_model_path()):
        try:
            answer = resolve_model(text, environment={"MLX_MODEL": text}).name
        except HardenError as error:
            answer = str(error)
    assert answer.isprintable()


def test_a_model_in_the_hub_cache_needs_no_network(tmp_path):
    """A restart without a network serves the cached model, under its hub id."""
    snapshot = put_in_hub_cache(tmp_path, "acme/small")
    done = resolve_offline("acme/small", tmp_path)
    assert (done.stdout, done.stderr) == (f"acme/small {snapshot}\n", "")


def test_an_unreachable_hub(tmp_path):
    """One clear line within seconds, no traceback."""
    done = resolve_offline("acme/none", tmp_path)
    assert done.returncode == 1
    assert done.stdout == "Downloading acme/none from the hub\n"
    assert done.stderr.startswith("The model acme/none is no folder here and not in the local")
    assert done.stderr.count("\n") == 1


def test_a_damaged_hub_cache_and_no_network(tmp_path):
    """A half-downloaded model is not served; the error says what it lacks."""
    snapshot = put_in_hub_cache(tmp_path, "acme/half")
    (snapshot / "model.safetensors").resolve().unlink()
    done = resolve_offline("acme/half", tmp_path)
    assert done.returncode == 1
    assert "holds links to files that are gone: model.safetensors" in done.stderr
    assert done.stderr.count("\n") == 1


def refused(error: Exception) -> ValidationError:
    with (
        mock.patch("huggingface_hub.snapshot_download", side_effect=[FileNotFoundError(), error]),
        pytest.raises(ValidationError) as caught,
    ):
        fetch_model("acme/model")
    assert str(caught.value).isprintable()
    return caught.value


def test_what_the_hub_refuses():
    """Each refusal says what to do about it: accept, sign in, check the name, free the disk."""
    from huggingface_hub import errors

    response = mock.Mock()
    response.headers = {}
    gated = refused(errors.GatedRepoError("403\nmore", response=response))
    assert "accepted its terms" in str(gated)
    missing = refused(errors.RepositoryNotFoundError("404\nmore", response=response))
    assert "does not exist on the hub, or is private" in str(missing)
    full = refused(OSError(28, "No space left on device"))
    assert "No space left on device" in str(full)
    assert "RuntimeError" in str(refused(RuntimeError("a line\nanother")))


def test_downloads_only_what_is_not_cached():
    """A whole cached copy is used as it is; anything else is fetched, and reported."""
    lines: list[str] = []
    whole = tiny_model_path()
    with mock.patch("huggingface_hub.snapshot_download", return_value=str(whole)) as download:
        assert fetch_model("acme/model", progress=lines.append) == whole
        assert download.call_count == 1
        assert download.call_args.kwargs["local_files_only"]
        assert lines == []
    replies = [FileNotFoundError(), str(whole)]
    with mock.patch("huggingface_hub.snapshot_download", side_effect=replies) as download:
        assert fetch_model("acme/model", progress=lines.append) == whole
        assert "local_files_only" not in download.call_args.kwargs
        assert lines == ["Downloading acme/model from the hub"]


def test_the_hub_client_is_missing(monkeypatch):
    """The error names the package and the extra to install."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"huggingface_hub.*mlx-harden\[server\]"):
        fetch_model("acme/model")
