"""The list of changes that tests must catch is true to the code and to the documentation."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_mutations():
    """Import tests/mutations.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("mutations", ROOT / "tests" / "mutations.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict("sys.modules", {"mutations": module}):
        spec.loader.exec_module(module)
    return module


class TestMutations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mutations = load_mutations()

    def test_each_change_can_be_made(self):
        """A change whose text is gone from the code proves nothing any more."""
        for change in self.mutations.CHANGES:
            with self.subTest(change.breaks), tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / change.file
                copy.parent.mkdir()
                shutil.copy2(ROOT / change.file, copy)
                self.mutations.apply(change, Path(folder))
                compile(copy.read_text(encoding="utf-8"), change.file, "exec")

    def test_the_documentation_lists_them(self):
        """A reader of docs/testing.md sees the same ten changes and tests."""
        text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
        self.assertEqual(len(self.mutations.CHANGES), 10)
        for change in self.mutations.CHANGES:
            self.assertIn(change.breaks, text)
            self.assertIn(change.file, text)
            self.assertIn(change.test.rpartition("::")[2], text)

    @pytest.mark.slow
    def test_each_change_is_caught(self):
        """Each breaks its test and no healthy copy does."""
        self.assertEqual(self.mutations.main(), 0)


if __name__ == "__main__":
    unittest.main()
