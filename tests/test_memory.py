"""A program that starts itself anew does so once, with its own arguments."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsep

PROGRAM = """
import os, sys
from jaxsep import memory
memory.restart_with_huge_pages()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="a setting of glibc"
)
@pytest.mark.parametrize("given", [None, "glibc.malloc.perturb=0"])
def test_a_program_starts_anew_with_huge_pages(tmp_path, given):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    root = str(Path(jaxsep.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {"PYTHONPATH": root} | ({"GLIBC_TUNABLES": given} if given else {})
    ended = subprocess.run(
        [sys.executable, str(script), "--a", "b c"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [given or "glibc.malloc.hugetlb=1", "--a", "b", "c"]
