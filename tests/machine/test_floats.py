import platform
import subprocess
import sys

import pytest

# in a process of its own: another test may have loaded a library that flushes
CODE = """
import threading
import numpy as np
from ccnet.machine.floats import flush_subnormals

def product():
    return float(np.float32(1e-30) * np.float32(1e-10))

assert product() > 0
flush_subnormals()
assert np.float32(1.5) * np.float32(2) == 3
found = [product()]
thread = threading.Thread(target=lambda: found.append(product()))
thread.start()
thread.join()
assert found == [0, 0], found
np.finfo(np.float32), np.finfo(np.float64)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 flushes subnormal numbers")
def test_products_below_the_normal_numbers_are_zero_in_this_thread_and_in_later_ones():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
