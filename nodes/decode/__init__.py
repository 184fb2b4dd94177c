"""Latents to sound and pictures, around loops too, and loops to files."""
