"""Other papers' methods as MODEL patches: Merge-Attend-Diffuse, SyncDiffusion, LiteFocus."""
