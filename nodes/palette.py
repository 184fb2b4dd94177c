"""Colours of the pictures that nodes draw."""

BACK, INK, FAINT = "#1e1f24", "#e8e8ea", "#8a8d96"
EMPTY = "#2a2c33"  # where a prompt has no weight
VIEWS = ("#4a78c2", "#6d5bb8")  # neighbouring views take turns
MIDDLE, OVERLAP = "#3f8f6b", "#d98e32"  # covered by one view, and by several
REFERENCE, SEAM = "#8fa8ff", "#c85a8a"
GLOW = "#7fe3ff"  # overlaps on a spectrogram, whose own colours are dark and warm
PROMPTS = ("#3f8f6b", "#b8643c", "#8a63b8", "#b09a3a", "#3d8fa8", "#b85a86")
