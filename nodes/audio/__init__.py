"""Audio models from their folders: text encoders, UNet, VAE and vocoder as the host's CLIP, MODEL and VAE."""
