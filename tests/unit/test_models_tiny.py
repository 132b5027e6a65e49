"""The tiny model's folder: the same bytes everywhere, whole or not there, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harden.exceptions import DependencyError, ValidationError
from harden.models.tiny import tiny_model_folder, tiny_model_path
from harden.models.tiny.build import model_files
from harden.models.tiny.corpus import TEXT
from harden.models.tiny.folder import find_cache_home, is_whole
from harden.models.tiny.recipe import RECIPES
from harden.models.tiny.tokenizer import spoken_token_ids, train_tokenizer

BUILD = [sys.executable, "-m", "harden.models.tiny"]

# A build that kills itself at the Nth fsync: the points at which a file or folder is on disk.
KILLED_BUILD = """
import os, signal, sys
from harden.models.tiny import tiny_model_path
calls, sync = 0, os.fsync
def fsync(descriptor):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
os.fsync = fsync
tiny_model_path()
"""


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"HARDEN_CACHE_HOME": str(home)}


def run_build(home: Path, *arguments: str) -> Path:
    command = [*BUILD, *arguments]
    done = subprocess.run(
        command, env=environment(home), capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("variant", sorted(RECIPES))
def test_two_processes_build_the_same_bytes(tmp_path, variant):
    """Two builds in fresh cache homes and separate processes agree in every byte."""
    one, two = (run_build(tmp_path / name, "--variant", variant) for name in ("one", "two"))
    assert one.name == two.name
    assert content(one) == content(two)
    assert set(content(one)) >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_every_parameter_is_part_of_the_folder_name():
    """A changed recipe never finds an older recipe's folder."""
    assert len({recipe.folder_name for recipe in RECIPES.values()}) == len(RECIPES)


def test_built_once(tmp_path):
    """The second call builds nothing: it reports nothing and leaves every file as it is."""
    lines: list[str] = []
    folder = tiny_model_path(cache_home=tmp_path, progress=lines.append)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert tiny_model_path(cache_home=tmp_path, progress=lines.append) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert len(lines) == 1
    assert "tiny model" in lines[0]


def test_a_cached_model_is_found_without_the_libraries_that_build_it(tmp_path):
    """A process that only needs the folder, such as the gateway, stays light."""
    tiny_model_path(cache_home=tmp_path)
    code = (
        "import sys; from harden.models.tiny import tiny_model_path; print(tiny_model_path());"
        "print(sorted({'mlx', 'numpy', 'tokenizers', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [str(tiny_model_folder(cache_home=tmp_path)), "[]"]


def test_building_needs_no_mlx(tmp_path):
    """The build runs where mlx is missing or broken."""
    code = (
        "import sys; sys.modules['mlx'] = None;"
        "from harden.models.tiny import tiny_model_path; tiny_model_path()"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True)
    assert is_whole(tiny_model_folder(cache_home=tmp_path))


@pytest.mark.parametrize("damaged_first", [False, True])
def test_four_processes_at_once(tmp_path, damaged_first):
    """Of four processes that race one builds; all four end with the same whole folder."""
    if damaged_first:
        (tiny_model_path(cache_home=tmp_path) / "tokenizer.json").unlink()
    racers = [
        subprocess.Popen(
            BUILD,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [racer.communicate() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    (folder,) = {Path(output.strip()) for output, _ in outputs}
    assert is_whole(folder)
    assert sum(errors.count("Building") for _, errors in outputs) == 1
    assert drafts(folder) == []


def drafts(folder: Path) -> list[Path]:
    return list(folder.parent.glob(f".{folder.name}.new-*"))


def killed_at(home: Path, fsync: int) -> int:
    command = [sys.executable, "-c", KILLED_BUILD, str(fsync)]
    return subprocess.run(command, env=environment(home), check=False).returncode


@pytest.mark.parametrize("damaged_first", [False, True])
def test_a_build_killed_at_any_instant_leaves_nothing_that_is_used(tmp_path, damaged_first):
    """SIGKILL at the Nth fsync, N = 1, 2, …: no half a folder, and the next build works."""
    rounds = 0
    while True:
        home = tmp_path / str(rounds)
        folder = tiny_model_folder(cache_home=home)
        if damaged_first:
            (tiny_model_path(cache_home=home) / "model.safetensors").write_bytes(b"")
        status = killed_at(home, rounds + 1)
        if status == 0:
            break
        rounds += 1
        assert status == -signal.SIGKILL
        assert damaged_first or not folder.exists() or is_whole(folder)
        assert is_whole(tiny_model_path(cache_home=home))
        assert drafts(folder) == []
    assert rounds >= len(model_files(RECIPES["plain"]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / "model.safetensors", 5000),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        lambda folder: (folder / "manifest.json").write_text('{"sha256": {}}'),
        lambda folder: (folder / "manifest.json").write_text('{"sha256": 5}'),
        lambda folder: flip_one_bit(folder / "model.safetensors"),
    ],
)
def test_a_damaged_folder_is_rebuilt(tmp_path, damage):
    """A file that is missing, shorter or changed by one bit makes the folder be built again."""
    folder = tiny_model_path(cache_home=tmp_path)
    good = content(folder)
    damage(folder)
    assert not is_whole(folder)
    assert tiny_model_path(cache_home=tmp_path) == folder
    assert content(folder) == good


def flip_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_something_else_in_the_folders_place_is_replaced(tmp_path):
    """Even a plain file of the folder's name does not keep the model from being built."""
    folder = tiny_model_folder(cache_home=tmp_path)
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")
    assert is_whole(tiny_model_path(cache_home=tmp_path))


def test_a_new_cache_home_is_private(tmp_path):
    """Folders that we make have mode 0700; one that exists keeps its mode."""
    (tmp_path / "shared").mkdir(mode=0o755)
    fresh = tiny_model_path(cache_home=tmp_path / "shared" / "fresh")
    for folder in (fresh, fresh.parent, fresh.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    tiny_model_path(cache_home=tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_where_the_cache_home_is(monkeypatch):
    """HARDEN_CACHE_HOME, else XDG_CACHE_HOME, else the platform's; blank or relative is unset."""
    monkeypatch.setenv("HOME", "/home/u")
    assert find_cache_home({"HARDEN_CACHE_HOME": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert find_cache_home({"HARDEN_CACHE_HOME": "~/a"}) == Path("/home/u/a")
    assert find_cache_home({"HARDEN_CACHE_HOME": " ", "XDG_CACHE_HOME": "/b"}) == Path("/b/harden")
    for variables in ({}, {"XDG_CACHE_HOME": "relative"}, {"XDG_CACHE_HOME": ""}):
        monkeypatch.setattr(sys, "platform", "linux")
        assert find_cache_home(variables) == Path("/home/u/.cache/harden")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert find_cache_home(variables) == Path("/home/u/Library/Caches/harden")


def test_no_home_folder(monkeypatch):
    """Without any home folder the error names the variable to set."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ValidationError, match="HARDEN_CACHE_HOME"):
        find_cache_home({})


def test_a_cache_home_that_cannot_be_written(tmp_path):
    """One line names the folder, the reason and the variable to set."""
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "cache"
    with pytest.raises(
        ValidationError, match=r"(Not a directory|File exists).*HARDEN_CACHE_HOME"
    ) as caught:
        tiny_model_path(cache_home=home)
    assert caught.value.setting == "HARDEN_CACHE_HOME"
    assert caught.value.value == str(home)
    failed = subprocess.run(
        BUILD, env=environment(home), capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr == f"{caught.value}\n"


def test_a_full_disk_leaves_no_draft(tmp_path, monkeypatch):
    """A write that fails removes what was written, and says why."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValidationError, match="No space left"):
        tiny_model_path(cache_home=tmp_path)
    folder = tiny_model_folder(cache_home=tmp_path)
    assert not folder.exists()
    assert drafts(folder) == []


def test_an_unknown_variant():
    """The error lists the variants that exist."""
    with pytest.raises(ValidationError, match="plain, sliding") as caught:
        tiny_model_path("huge")
    assert caught.value.value == "huge"


def test_a_missing_package(tmp_path, monkeypatch):
    """Without tokenizers the error names the package and the extra to install."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DependencyError, match=r"tokenizers.*mlx-harden\[server\]"):
        tiny_model_path(cache_home=tmp_path)


def test_the_vocabulary_is_exactly_as_large_as_the_config_says():
    """An embedding row for every token, and a token for every row."""
    recipe = RECIPES["plain"]
    tokenizer = train_tokenizer(recipe.vocabulary_size)
    assert tokenizer.get_vocab_size() == recipe.vocabulary_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(recipe.vocabulary_size))


@pytest.mark.parametrize("text", [TEXT, "é ü 漢字 🦊", "a\x00b\tc\r\n", "  two  spaces "])
def test_any_text_survives_the_tokenizer(text):
    """Encoding and decoding give back every character."""
    tokenizer = train_tokenizer(RECIPES["plain"].vocabulary_size)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_what_the_model_may_say_is_whole_words():
    """Each spoken token is printable text by itself, so that it streams as one chunk."""
    tokenizer = train_tokenizer(RECIPES["plain"].vocabulary_size)
    spoken = [tokenizer.decode([token]) for token in spoken_token_ids(tokenizer)]
    assert len(spoken) > 300
    assert all(word[0] == " " and word[1:].isascii() and word[1:].isalpha() for word in spoken)


def test_the_weights_are_about_a_megabyte():
    """Small enough to build, load and compare in no time."""
    assert 0.5e6 < len(model_files(RECIPES["plain"])["model.safetensors"]) < 2e6


def test_the_sliding_variant_says_so_in_its_config():
    """mlx_lm takes layer_types and sliding_window from config.json."""
    config = json.loads(model_files(RECIPES["sliding"])["config.json"])
    assert config["layer_types"] == ["sliding_attention", "full_attention"]
    assert config["sliding_window"] == 64
    assert "sliding_window" not in json.loads(model_files(RECIPES["plain"])["config.json"])


def test_the_command_prints_only_the_folder(tmp_path, monkeypatch, capsys):
    """The folder goes to stdout, progress to stderr, so that a caller can read the one."""
    from harden.models.tiny.__main__ import main

    monkeypatch.setenv("HARDEN_CACHE_HOME", str(tmp_path))
    assert main(["--variant", "sliding"]) == 0
    output = capsys.readouterr()
    assert output.out == f"{tiny_model_folder('sliding', tmp_path)}\n"
    assert output.err.startswith("Building")
    assert is_whole(tiny_model_folder("sliding", tmp_path))
