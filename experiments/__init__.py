"""Programs that reproduce the paper's tables and figures; run from a clone as `python -m experiments.NAME`.

The package sets, before TensorFlow is imported, what TensorFlow reads only then.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no start-up chatter
# Processors without AVX-512 get Eigen's convolutions by default, which are slower than oneDNN's.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
