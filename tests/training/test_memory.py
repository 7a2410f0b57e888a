"""The memory of a training, as the kernel sees it."""

import subprocess
import sys

import pytest

SCRIPT = """
import re
from pathlib import Path
import torch
from training.memory import keep_freed_memory

def flags_of(tensor):
    middle = tensor.data_ptr() + tensor.nbytes // 2
    for area in re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", area)
        if bounds and int(bounds[1], 16) <= middle < int(bounds[2], 16):
            return re.search("VmFlags: (.*)", area)[1].split()

print("hg" in flags_of(torch.ones(2**22)))
keep_freed_memory()
print("hg" in flags_of(torch.ones(2**22)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc, pages of Linux")
def test_large_tensors_ask_for_huge_pages() -> None:
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, encoding="utf-8"
    )
    assert found.stdout.split() == ["False", "True"]
