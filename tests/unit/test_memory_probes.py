"""harden.memory_probes and memory_cgroup: right figures, and a clear word where there are none."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from harden import memory_probes
from harden.exceptions import HardenError
from harden.memory_cgroup import (
    CgroupPaths,
    cgroup_limit_bytes,
    parse_cgroup_paths,
    parse_limit_bytes,
)
from harden.memory_probes import MemoryProbeError, MlxMemory, ProcessMemory
from harden.memory_tracker import MemoryReading

MB = 1024 * 1024
ON_LINUX = unittest.skipUnless(sys.platform == "linux", "reads /proc")

STATUS = """\
Name:\tpython
VmRSS:\t  300000 kB
RssAnon:\t  200000 kB
RssFile:\t  100000 kB
VmSwap:\t    1000 kB
Threads:\t4
"""


def mlx_core(active, cache, peak):
    """Stand in for mlx.core, as far as the probe asks it."""
    core = types.ModuleType("mlx.core")
    core.get_active_memory = lambda: active
    core.get_cache_memory = lambda: cache
    core.get_peak_memory = lambda: peak
    return mock.patch.dict(sys.modules, {"mlx.core": core})


def without_mlx():
    modules = {name: module for name, module in sys.modules.items() if name != "mlx.core"}
    return mock.patch.dict(sys.modules, modules, clear=True)


class TestProcessMemory(unittest.TestCase):
    def test_touched_memory_shows(self):
        """64 MB written to raise resident and anonymous size by about as much."""
        before = memory_probes.process_memory()
        with mmap.mmap(-1, 64 * MB) as block:
            for offset in range(0, 64 * MB, mmap.PAGESIZE):
                block[offset] = 1
            after = memory_probes.process_memory()
        self.assertGreater(after.rss_bytes - before.rss_bytes, 48 * MB)

    @ON_LINUX
    def test_anonymous_memory_of_this_process(self):
        """On Linux the anonymous part is known, and a heap block raises it."""
        before = memory_probes.process_memory().anonymous_bytes
        block = bytearray(os.urandom(MB) * 64)
        after = memory_probes.process_memory().anonymous_bytes
        self.assertGreater(after - before, 48 * MB)
        self.assertLessEqual(len(block), after)

    def test_of_another_process(self):
        """A process id asks for that process."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            ours, theirs = (memory_probes.process_memory(pid) for pid in (None, child.pid))
            child.communicate(b"\n")
        self.assertGreater(theirs.rss_bytes, 0)
        self.assertNotEqual(theirs, ours)

    def test_a_process_that_is_gone(self):
        """A process that ended is an error that names it and says what to check."""
        with subprocess.Popen([sys.executable, "-c", ""]) as child:
            child.wait()
        with self.assertRaisesRegex(MemoryProbeError, f"process {child.pid} .*NoSuchProcess"):
            memory_probes.process_memory(child.pid)

    def test_broken_psutil(self):
        """Any failure of psutil, its absence too, is one error of ours without its text."""
        for broken in (
            mock.patch("psutil.Process", side_effect=OSError("/proc/stat: gone")),
            mock.patch.dict(sys.modules, {"psutil": None}),
        ):
            with self.subTest(broken=broken), broken:
                with self.assertRaisesRegex(MemoryProbeError, "unavailable") as caught:
                    memory_probes.process_memory()
                self.assertNotIn("/proc", str(caught.exception))
                self.assertIsInstance(caught.exception, HardenError)


class TestAnonymousMemory(unittest.TestCase):
    def test_anonymous_is_own_pages_and_swap(self):
        """RssAnon and VmSwap add up, in KiB; pages of files do not count."""
        self.assertEqual(memory_probes.parse_anonymous_bytes(STATUS), 201_000 * 1024)

    def test_a_kernel_that_does_not_say(self):
        """A status without these lines, as of a kernel thread, is not known, not zero."""
        self.assertIsNone(memory_probes.parse_anonymous_bytes("Name:\tkthreadd\nThreads:\t1\n"))

    def test_unreadable_status(self):
        """Where /proc cannot be read the resident size is still there."""
        with mock.patch.object(Path, "read_text", side_effect=PermissionError):
            memory = memory_probes.process_memory()
        self.assertGreater(memory.rss_bytes, 0)
        self.assertIsNone(memory.anonymous_bytes)


class TestDarwin(unittest.TestCase):
    def test_phys_footprint_is_the_eighth_figure(self):
        """The footprint is ri_phys_footprint of rusage_info_v0: after a UUID and seven figures."""
        asked = []

        def proc_pid_rusage(pid, flavor, buffer):
            asked.append((pid, flavor, len(buffer)))
            figures = (ctypes.c_uint64 * 12).from_buffer(buffer)
            uuid, resident_and_before, after = (0, 0), (1, 2, 3, 4, 5, 6, 555 * MB), (9, 10)
            figures[:] = (*uuid, *resident_and_before, 777 * MB, *after)
            return 0

        found = memory_probes.phys_footprint_bytes(42, proc_pid_rusage)
        self.assertEqual(found, 777 * MB)
        self.assertEqual(asked, [(42, 0, 96)])

    def test_a_process_that_may_not_be_asked(self):
        """A refusal of the system is "not known"."""
        self.assertIsNone(memory_probes.phys_footprint_bytes(1, lambda *_: -1))

    def test_on_macos_anonymous_is_the_footprint(self):
        """On macOS the figure comes from libproc, found through the running process."""
        library = mock.Mock()

        def proc_pid_rusage(_pid, _flavor, buffer):
            ctypes.c_uint64.from_buffer(buffer, 72).value = 5 * MB
            return 0

        library.proc_pid_rusage = proc_pid_rusage
        with mock.patch("sys.platform", "darwin"), mock.patch("ctypes.CDLL", return_value=library):
            self.assertEqual(memory_probes.process_memory().anonymous_bytes, 5 * MB)


class TestMlxMemory(unittest.TestCase):
    def test_without_mlx(self):
        """Where MLX is not loaded its figures are None, and it is not loaded to find out."""
        with without_mlx():
            self.assertIsNone(memory_probes.mlx_memory())
            self.assertNotIn("mlx.core", sys.modules)

    def test_figures_of_a_loaded_mlx(self):
        """Active, cached and peak bytes are MLX's own."""
        with mlx_core(10, 20, 30):
            self.assertEqual(memory_probes.mlx_memory(), MlxMemory(10, 20, 30))

    def test_real_mlx_counts_its_arrays(self):
        """The calls are those of the installed MLX: an array of 8 MB shows as active."""
        code = (
            "import mlx.core as mx; from harden.memory_probes import mlx_memory\n"
            "before = mlx_memory(); block = mx.zeros((2, 1024, 1024)); mx.eval(block)\n"
            "after = mlx_memory(); print(after.active_bytes - before.active_bytes)"
        )
        try:
            import mlx.core  # noqa: F401 - only whether it is there
        except ImportError:
            self.skipTest("mlx is not installed")
        answer = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
        self.assertGreaterEqual(int(answer.stdout), 8 * MB)


class TestFootprint(unittest.TestCase):
    def test_anonymous_stands_before_resident(self):
        """Swapped-out memory counts; pages of files do not, as long as the system says."""
        self.assertEqual(memory_probes.footprint_bytes(ProcessMemory(100, 150)), 150)
        self.assertEqual(memory_probes.footprint_bytes(ProcessMemory(100, 40)), 40)
        self.assertEqual(memory_probes.footprint_bytes(ProcessMemory(100, None)), 100)

    def test_the_larger_of_system_and_mlx(self):
        """Neither what MLX does not see nor what the system does not charge is missed."""
        process = ProcessMemory(100, 150)
        self.assertEqual(memory_probes.footprint_bytes(process, MlxMemory(100, 60, 0)), 160)
        self.assertEqual(memory_probes.footprint_bytes(process, MlxMemory(100, 40, 900)), 150)

    def test_kinds_of_this_process(self):
        """By kind, this process has its system figures and MLX's."""
        with mlx_core(1, 2, 3):
            kinds = memory_probes.memory_by_kind()
        self.assertGreater(kinds.pop("rss"), 0)
        kinds.pop("anonymous", None)
        self.assertEqual(kinds, {"mlx_active": 1, "mlx_cache": 2, "mlx_peak": 3})

    def test_kinds_that_cannot_be_read_are_left_out(self):
        """What is not known is missing, not zero; MLX's figures are never another process's."""
        with mlx_core(1, 2, 3), mock.patch("psutil.Process", side_effect=OSError):
            self.assertEqual(
                set(memory_probes.memory_by_kind()), {"mlx_active", "mlx_cache", "mlx_peak"}
            )
            self.assertEqual(memory_probes.memory_by_kind(os.getpid()), {})

    def test_kinds_where_only_the_resident_size_is_known(self):
        """Where the system does not tell the anonymous part there is none."""
        memory = ProcessMemory(100, None)
        with without_mlx(), mock.patch.object(memory_probes, "process_memory", return_value=memory):
            self.assertEqual(memory_probes.memory_by_kind(), {"rss": 100})

    def test_growth_of_nothing(self):
        """A first record of zero bytes, as of a process that ends, is no growth."""
        self.assertEqual(MemoryReading(5, 5, 0).growth_percent, 0.0)
        self.assertEqual(MemoryReading(5, 5, 4).growth_percent, 25.0)


class TestCgroup(unittest.TestCase):
    def setUp(self):
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def test_paths_of_both_versions(self):
        """Version 2 is hierarchy 0 without controllers, version 1 the one named memory."""
        hybrid = "9:cpu,memory:/a/b\n4:name=systemd:/x\n0::/c:d\n"
        self.assertEqual(parse_cgroup_paths(hybrid), CgroupPaths(unified="/c:d", memory="/a/b"))
        self.assertEqual(parse_cgroup_paths("0::/\n"), CgroupPaths(unified="/"))
        self.assertEqual(parse_cgroup_paths(""), CgroupPaths())

    def test_limits_and_no_limits(self):
        """Both versions' words for "no limit" are None, as is what is not a number."""
        self.assertEqual(parse_limit_bytes("1073741824\n"), 1 << 30)
        for text in ("max\n", "9223372036854771712\n", "", "-1", "²", "9" * 5_000):
            with self.subTest(text=text[:20]):
                self.assertIsNone(parse_limit_bytes(text))

    @given(st.text())
    def test_any_text_is_parsed(self, text):
        """No text makes the parsers raise."""
        parse_cgroup_paths(text)
        parse_limit_bytes(text)

    def test_version_2_takes_the_lowest_limit_around(self):
        """A group is limited by those around it too."""
        self.write("proc/self/cgroup", "0::/pod/container\n")
        self.write("sys/fs/cgroup/pod/container/memory.max", "max\n")
        self.write("sys/fs/cgroup/pod/memory.max", "2000000\n")
        self.assertEqual(cgroup_limit_bytes(self.root), 2_000_000)
        self.write("sys/fs/cgroup/pod/container/memory.max", "1000000\n")
        self.assertEqual(cgroup_limit_bytes(self.root), 1_000_000)

    def test_version_1(self):
        """Version 1 has its own mount and file name."""
        self.write("proc/self/cgroup", "5:memory:/docker/1\n4:pids:/docker/1\n")
        self.write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3000000\n")
        self.assertEqual(cgroup_limit_bytes(self.root), 3_000_000)

    def test_a_container_that_sees_only_its_own_group(self):
        """Inside a container the path of the host is not mounted: the mount's root counts."""
        self.write("proc/self/cgroup", "5:memory:/docker/1\n")
        self.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000\n")
        self.assertEqual(cgroup_limit_bytes(self.root), 4_000_000)

    def test_no_control_groups(self):
        """Without /proc, as on macOS, or without a limit there is none."""
        self.assertIsNone(cgroup_limit_bytes(self.root))
        self.write("proc/self/cgroup", "0::/\n")
        self.assertIsNone(cgroup_limit_bytes(self.root))


if __name__ == "__main__":
    unittest.main()
