"""check_model_folder: every way in which a model folder is commonly broken, in plain words."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harden.model_files import check_model_folder
from harden.models.tiny import tiny_model_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole model folder of one's own, to break."""
    return Path(shutil.copytree(tiny_model_path(), tmp_path / "model"))


def found(folder: Path) -> list[str]:
    problems = check_model_folder(folder)
    assert all(problem.fix.endswith(".") for problem in problems)
    assert all("\n" not in problem.what for problem in problems)
    return [problem.what for problem in problems]


def tensors(offsets: object = (0, 4)) -> bytes:
    header = json.dumps({"t": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 4


def test_a_whole_folder_has_no_problem(model):
    """Neither the built-in model nor extra files in its folder are complained about."""
    (model / "README.md").write_text("words")
    (model / "images").mkdir()
    assert found(model) == []


def test_no_folder(tmp_path):
    """Missing, empty, a file, a name that no folder can have: each by its own words."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert found(tmp_path / "missing") == ["does not exist"]
    assert found(tmp_path / "empty") == ["is an empty folder"]
    assert found(tmp_path / "file") == ["is a file, not a folder"]
    assert found(tmp_path / "nul\0") == ["cannot be read: not a path"]
    assert found(tmp_path / ("long" * 100)) == ["cannot be read: File name too long"]


def test_a_folder_of_something_else(tmp_path):
    """A folder without any of a model's files lacks all three kinds."""
    (tmp_path / "notes.md").write_text("words")
    assert found(tmp_path) == [
        "is not a model folder: it has no config.json",
        "has no weights: no file is named model*.safetensors",
        "has no tokenizer: no tokenizer.json or tokenizer.model",
    ]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (b"", "as a JSON object"),
        (b"[1]", "as a JSON object"),
        (b"\xff\xfe\xfd", "as a JSON object"),
        (b"[" * 100_000, "as a JSON object"),
        (b"1" * 10_000, "as a JSON object"),
        (b'{"model_type": 7}', "without a model_type"),
        (b"{}", "without a model_type"),
    ],
)
def test_a_bad_config(model, config, what):
    """Whatever config.json holds, it is a problem in words and never an exception."""
    (model / "config.json").write_bytes(config)
    (problem,) = found(model)
    assert problem.startswith("has a config.json")
    assert problem.endswith(what)


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (b"", "are cut off or not safetensors"),
        (b"1234567", "are cut off or not safetensors"),
        (struct.pack("<Q", 2**63), "are cut off or not safetensors"),
        (tensors()[:20], "are cut off or not safetensors"),
        (tensors()[:-1], "are cut off after"),
        (struct.pack("<Q", 2) + b"[]", "have a damaged header"),
        (struct.pack("<Q", 4) + b"\xff{}]", "have a damaged header"),
        (tensors(5), "have a damaged header"),
        (tensors([0]), "have a damaged header"),
        (tensors([0, "4"]), "have a damaged header"),
        (tensors([0, True]), "have a damaged header"),
        (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "are only a Git LFS pointer"),
    ],
)
def test_damaged_weights(model, weights, what):
    """A header that is cut, unreadable or longer than the file is told from the first bytes."""
    (model / "model.safetensors").write_bytes(weights)
    (problem,) = found(model)
    assert problem.startswith(f"has weights that {what}")
    assert problem.endswith(": model.safetensors")


def test_the_exact_boundary_of_a_cut(model):
    """The last byte counts: with it the weights are whole, without it cut off."""
    weights = model / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    assert found(model) == [
        f"has weights that are cut off after {size - 1:,} of {size:,} bytes: model.safetensors"
    ]


def test_a_shard_that_the_index_names_is_missing(model):
    """The index says which files there should be."""
    shards = {f"tensor {n}": f"model-{n:05}-of-00005.safetensors" for n in range(1, 6)}
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    (model / "model.safetensors").rename(model / shards["tensor 1"])
    (problem,) = found(model)
    assert problem.startswith("lacks 4 of 5 weight files: model-00002-of-00005.safetensors, ")
    assert problem.endswith(" and 1 more")
    for content in ("{", "[]", '{"weight_map": []}'):
        index.write_text(content)
        assert found(model) == ["has a model.safetensors.index.json that cannot be read"]


def test_a_numbered_shard_is_missing_and_there_is_no_index(model):
    """`-00001-of-00003` alone tells that two are missing."""
    (model / "model.safetensors").rename(model / "model-00001-of-00003.safetensors")
    assert found(model) == ["lacks 2 of 3 weight files: model-…-of-00003.safetensors"]


def test_an_index_may_name_anything(model):
    """Names in the index that no file can have are missing files, printed harmlessly."""
    index = {"weight_map": {"a": "\ud800\n", "b": 5, "c": "../../secret", "d": "\0"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    (problem,) = found(model)
    assert problem.startswith("lacks 3 of 3 weight files")
    assert problem.isprintable()


def test_dangling_links(model):
    """A hub cache whose blobs were removed keeps links that lead nowhere."""
    for name in ("config.json", "model.safetensors"):
        (model / name).unlink()
        (model / name).symlink_to(model / "blobs" / "gone")
    (model / "README.md").symlink_to(model / "gone too")
    assert found(model) == ["holds links to files that are gone: config.json, model.safetensors"]


def test_an_unfinished_download_in_the_folder(model):
    """A part that never became a file."""
    (model / "model-00002.safetensors.incomplete").write_text("")
    assert found(model) == ["is half-downloaded: model-00002.safetensors.incomplete"]


@pytest.mark.parametrize("parts", ["snapshots/1/.cache/huggingface/download", "blobs"])
def test_an_unfinished_download_that_the_hub_client_keeps(tmp_path, parts):
    """Parts kept elsewhere explain weights that are missing, and are no problem beside whole ones.

    They may be another revision's.
    """
    model = Path(shutil.copytree(tiny_model_path(), tmp_path / "snapshots" / "1"))
    (tmp_path / parts).mkdir(parents=True)
    (tmp_path / parts / "0a1b.incomplete").write_text("")
    assert found(model) == []
    (model / "model.safetensors").unlink()
    assert found(model)[0] == "is half-downloaded: 0a1b.incomplete"


def test_no_tokenizer(model):
    """Other kinds of tokenizer files are as good."""
    (model / "tokenizer.json").unlink()
    assert found(model) == ["has no tokenizer: no tokenizer.json or tokenizer.model"]
    (model / "qwen.tiktoken").write_text("")
    assert found(model) == []


def test_a_pipe_is_never_opened(model):
    """Opening a pipe would wait for a writer for ever."""
    for name in ("config.json", "model.safetensors"):
        (model / name).unlink()
        os.mkfifo(model / name)
    assert found(model)[0] == "is not a model folder: it has no config.json"


def test_files_without_permission(model, monkeypatch):
    """Files that may not be read are a problem, not an exception."""

    def refuse(path, *_arguments):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert found(model) == [
        "has a config.json that cannot be read as a JSON object",
        "has weights that cannot be read (Permission denied): model.safetensors",
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["config.json", "model.safetensors", "model.safetensors.index.json"]),
    data=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["weight_map", "model_type", "data_offsets", "t"]), x)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    framed=st.booleans(),
)
def test_no_bytes_make_it_raise(model, name, data, framed):
    """Any content of any file that is read gives problems or none, never an exception."""
    framing = struct.pack("<Q", len(data)) if framed else b""
    (model / name).write_bytes(framing + data)
    found(model)


def test_a_cut_at_any_byte_is_noticed(model):
    """No prefix of a safetensors file passes for the whole."""
    whole = tensors()
    for length in range(len(whole)):
        (model / "model.safetensors").write_bytes(whole[:length])
        assert len(found(model)) == 1, length
    (model / "model.safetensors").write_bytes(whole)
    assert found(model) == []


def test_numbers_in_names_cost_nothing(model):
    """Names that claim 99,999 shards each are counted, not spelled out."""
    for number in range(100):
        (model / f"model{number}-00001-of-99999.safetensors").write_bytes(tensors())
    tracemalloc.start()
    try:
        assert len(found(model)) == 100
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
