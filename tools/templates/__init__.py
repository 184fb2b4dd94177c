"""The table of ComfyUI's own templates, run with SaFa in them."""
