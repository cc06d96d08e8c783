"""Trainers, one file each, around one loop."""
