"""Speed and memory, side by side with what a user would pick instead."""

import experiments  # noqa: F401 - sets what TensorFlow reads when it is imported
