"""Speed, memory and quality, side by side with what a user would pick instead: `python -m benchmarks.NAME`."""

import contextlib
import sys

import experiments  # noqa: F401 - sets what TensorFlow reads when it is imported

if "tensorflow" not in sys.modules:  # PyTorch's CUDA build brings triton, which crashes where TensorFlow came first
    with contextlib.suppress(ImportError):
        import triton.knobs  # noqa: F401
