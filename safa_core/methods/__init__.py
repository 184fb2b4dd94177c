"""Other papers' methods on torch alone: Merge-Attend-Diffuse, SyncDiffusion, LiteFocus."""
