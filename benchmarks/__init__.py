"""Speed and memory, side by side with what a user would pick instead."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up chatter
