"""Ten changes that each break one behaviour, and the test that must catch each.

``python tests/mutations.py`` copies the package and its unit tests to a temporary folder, applies
one change at a time, runs the test named for it and expects it to fail. The checkout is not
touched. docs/testing.md lists the same changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("harden", "tests/unit", "conftest.py", "pyproject.toml")
TESTS_FAILED = 1


@dataclass(frozen=True)
class Change:
    """One edit of a source file.

    Attributes:
        breaks: the behaviour that is lost.
        file: what is edited, below the root.
        before: text that occurs once in it.
        after: what takes its place.
        test: the test that must fail then, as pytest names it below tests/unit.
    """

    breaks: str
    file: str
    before: str
    after: str
    test: str


CHANGES = (
    Change(
        "freed memory is measured",
        "harden/error_handler.py",
        '"memory_freed_mb": relief.freed_bytes / BYTES_PER_MB',
        '"memory_freed_mb": 100.0',
        "test_error_handler.py::TestErrorHandlerBasics"
        "::test_handle_oom_error_reports_the_measured_difference",
    ),
    Change(
        "a hook that fails costs the others nothing",
        "harden/error_events.py",
        "        except Exception as error:",
        "        except SystemError as error:",
        "test_error_handler.py::TestErrorHandlerEdgeCases"
        "::test_hooks_may_call_the_handler_again_and_may_fail",
    ),
    Change(
        "a success starts the count of errors anew",
        "harden/degradation.py",
        '"normal" if recovered else "degraded", 0, successes',
        '"normal" if recovered else "degraded", before.errors_in_a_row, successes',
        "test_error_handler.py::TestErrorHandlerGracefulDegradation"
        "::test_five_errors_in_a_row_degrade",
    ),
    Change(
        "answers of a server are not retried",
        "harden/retrying.py",
        "    if names & _ANSWERS:\n        return False\n",
        "",
        "test_error_handler.py::TestErrorHandlerNetworkRetry"
        "::test_only_transport_errors_are_retried",
    ),
    Change(
        "overlapping tensors are damage",
        "harden/corruption.py",
        "        if begin != end:\n",
        "        if begin > end:\n",
        "test_error_handler_properties.py::TestSafetensorsCorruption"
        "::test_each_flaw_of_a_header_is_named",
    ),
    Change(
        "one damaged entry costs no other",
        "harden/cache_entries.py",
        "    return cache.pop(key, _MISSING) is not _MISSING\n",
        "    return bool(cache) and cache.clear() is None\n",
        "test_error_handler.py::TestErrorHandlerCacheRecovery"
        "::test_recover_from_cache_corruption_removes_that_entry_only",
    ),
    Change(
        "tracebacks are redacted",
        "harden/redaction.py",
        "            record.exc_text = redact(record.exc_text, secrets=self._secrets)\n",
        "            pass\n",
        "test_redaction.py::TestRedactionFilter::test_traceback_and_stack",
    ),
    Change(
        "quoted paths may hold blanks",
        "harden/path_redaction.py",
        "    text = _QUOTED.sub(_redact_quoted, text)\n",
        "",
        "test_redaction_properties.py::test_a_quoted_path_may_hold_blanks",
    ),
    Change(
        "versions are compared as numbers",
        "harden/dependencies.py",
        "    return _sort_key(version) < _sort_key(than)\n",
        "    return version < than\n",
        "test_config_validator.py::TestConfigValidatorDependencies"
        "::test_versions_are_compared_as_numbers",
    ),
    Change(
        "every error of an environment is collected",
        "harden/config_validator.py",
        "                    errors.append(str(error))\n",
        "                    errors = [str(error)]\n",
        "test_config_validator.py::TestConfigValidatorComplete::test_every_error_is_collected",
    ),
)


def main() -> int:
    """Try each change; 1 if one of them goes unnoticed."""
    unnoticed = 0
    for change in CHANGES:
        with tempfile.TemporaryDirectory(prefix="harden-mutation-") as folder:
            copy = _copy(Path(folder))
            healthy = _run(copy, change.test) == 0
            apply(change, copy)
            caught = _run(copy, change.test) == TESTS_FAILED
        verdict = "caught" if healthy and caught else "NOT CAUGHT"
        unnoticed += verdict != "caught"
        sys.stdout.write(f"{verdict}: {change.breaks} ({change.test})\n")
    sys.stdout.write(f"{len(CHANGES) - unnoticed} of {len(CHANGES)} changes were caught\n")
    return 1 if unnoticed else 0


def apply(change: Change, root: Path) -> None:
    """Edit the file of a change below a root.

    Raises:
        ValueError: the text to replace does not occur exactly once.
    """
    file = root / change.file
    text = file.read_text(encoding="utf-8")
    if text.count(change.before) != 1:
        raise ValueError(f"{change.file} holds {text.count(change.before)} times: {change.before}")
    file.write_text(text.replace(change.before, change.after), encoding="utf-8")


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def _run(root: Path, test: str) -> int:
    """Run one test against the copy; the exit code of pytest."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"tests/unit/{test}"],
        cwd=root,
        env=environment,
        capture_output=True,
        check=False,
        timeout=300,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
